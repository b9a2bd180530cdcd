"""Whether a rewritten text says what the text said: what words alone can tell."""

import re

from humpback_jax.corpus.filters.words import ngrams, words

RUN = 2  # words
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_SHORTEST, _LONGEST = 0.25, 1.5  # of the text's length


def kept_wording(rewritten: str, text: str) -> float:
    """Share of the rewriting's runs of two words that the text has, 0 to 1; 0 where it has no such run."""
    runs, present = list(ngrams(words(rewritten), RUN)), set(ngrams(words(text), RUN))
    return sum(run in present for run in runs) / len(runs) if runs else 0.0


def unfaithful_reason(rewritten: str, text: str, least_kept: float, instruction: str = "") -> str | None:
    """Why a rewriting is not taken, or None.

    Args:
      rewritten: what the model made of the text.
      text: as it stood on its page.
      least_kept: bound of `kept_wording`.
      instruction: whose numbers an answer may repeat.
    """
    if not rewritten:
        return "empty_rewriting"
    if rewritten.split() == text.split():
        return "unchanged"
    if not _SHORTEST * len(text) <= len(rewritten) <= _LONGEST * len(text):
        return "other_length"
    if set(_NUMBER.findall(_without_list_marks(rewritten))) - set(_NUMBER.findall(f"{text}\n{instruction}")):
        return "new_number"
    return None if kept_wording(rewritten, text) >= least_kept else "other_wording"


def _without_list_marks(text: str) -> str:
    """The text without the numbers of its lists, which a rewriting may add."""
    return re.sub(r"^\s*\d{1,3}[.)]\s", "", text, flags=re.MULTILINE)
