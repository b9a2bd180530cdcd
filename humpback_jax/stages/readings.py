"""The signals of a pair that a model gives, from three readings of it.

    rating prompt                                    rating: the digits after `Score: `
    user turn: instruction and tag, answer's head    log p(instruction), log p(head | instruction)
    user turn: tag alone, answer's head and tail     log p(head | neutral prompt), log p(end | tail)

What an instruction says about an answer shows in the answer's first tokens: later ones follow from the answer itself.
So the head alone is read again, and the tail where the end is asked for: together less than half of the rating prompt.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from humpback_jax.curation.diversity import projected, vector_to_text
from humpback_jax.curation.signals import text_signals
from humpback_jax.inference.engine import Engine, shared_prefix
from humpback_jax.inference.requests import Reading
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.stages.items import Prompted
from humpback_jax.stages.model import ModelHandle

READINGS = 2  # of a pair, beside its rating prompt
_DIGITS = 4


@dataclasses.dataclass(frozen=True)
class Readings:
    """Reads pairs for their signals.

    Attributes:
      model: who reads.
      prompts: the tag, and the template whose leaks are looked for.
      head_tokens: of an answer, whose likelihood is measured.
      tail_tokens: of an answer, after which the end is asked for.
      vectors: also what the model made of instruction and head: the mean of its final hidden states.
    """

    model: ModelHandle
    prompts: Prompts
    head_tokens: int
    tail_tokens: int
    vectors: bool = False

    def signals(
        self,
        engine: Engine,
        items: Sequence[Prompted],
        ratings: Sequence[float | None],
        progress: Callable[[int], None],
    ) -> list[dict[str, Any]]:
        """All signals of every item, in their order; see `columns`."""
        return [each["signals"] for each in self.columns(engine, items, ratings, progress)]

    def columns(
        self,
        engine: Engine,
        items: Sequence[Prompted],
        ratings: Sequence[float | None],
        progress: Callable[[int], None],
    ) -> list[dict[str, Any]]:
        """`signals` of every item, in their order, and its `vector` as a text where it is wanted.

        Args:
          engine: of the model.
          items: pairs.
          ratings: what the rating prompts said of each.
          progress: called with the number of readings that were just finished, `READINGS` for every item.
        """
        asked = self._asked(items)
        forward = [each.forward for each in asked]
        with_instruction = _read(engine, forward, self._shared_ids(), progress, self.vectors)
        without = _read(engine, [each.neutral for each in asked], self._neutral_ids()[:-1], progress)
        rows = zip(items, asked, ratings, with_instruction, without, strict=True)
        found: list[dict[str, Any]] = [{"signals": self._signals(*row)} for row in rows]
        if self.vectors and found:
            hidden = np.stack([values[len(forward[0].spans) :] for values in with_instruction])
            for row, vector in zip(found, projected(hidden), strict=True):
                row["vector"] = vector_to_text(vector)
        return found

    def _signals(
        self, item: Prompted, asked: "_Asked", rating: float | None, forward: np.ndarray, neutral: np.ndarray
    ) -> dict[str, Any]:
        (_, instruction_tokens), (_, head_tokens) = asked.forward.spans
        instruction, head = float(forward[0]) / max(1, instruction_tokens), float(forward[1]) / head_tokens
        alone = float(neutral[0]) / head_tokens
        fit = round(head - alone, _DIGITS)
        return {
            "rating": rating,
            "fit": fit,
            "ifd": round(math.exp(-fit), _DIGITS),
            "completeness": round(float(neutral[1]), _DIGITS),
            "instruction_log_prob": round(instruction, _DIGITS),
            "answer_log_prob": round(alone, _DIGITS),
        } | text_signals(*item.pair, self.prompts)

    def _asked(self, items: Sequence[Prompted]) -> list["_Asked"]:
        chat_format, tokenizer = self.model.chat_format, self.model.tokenizer
        end, neutral = self.model.stop_ids[0], self._neutral_ids()
        prompts = self.model.all_prompt_ids([self.prompts.tagged(item.pair[0], ("seed",)) for item in items])
        asked = []
        for item, prompt in zip(items, prompts, strict=True):
            answer = chat_format.answer_ids(item.pair[1], tokenizer)[:-1]
            head = answer[: self.head_tokens]
            tail = answer[max(len(head), len(answer) - self.tail_tokens) :]
            spans = (_what_differs(prompt, neutral), (len(prompt), len(head)))
            forward = Reading(item.id, (*prompt, *head), spans, ())
            without = Reading(item.id, (*neutral, *head, *tail), ((len(neutral), len(head)),), (end,))
            asked.append(_Asked(forward, without))
        return asked

    def _neutral_ids(self) -> tuple[int, ...]:
        """The neutral prompt: a user turn of the seed tag alone."""
        return self.model.prompt_ids(self.prompts.seed_tag)

    def _shared_ids(self) -> tuple[int, ...]:
        """What prompts begin with whatever the instruction, but for the last token, which says what comes first."""
        return shared_prefix([self._neutral_ids(), self.model.prompt_ids(self.prompts.tagged("0", ("seed",)))])[:-1]


@dataclasses.dataclass(frozen=True)
class _Asked:
    """The two short readings of a pair."""

    forward: Reading
    neutral: Reading


def _read(
    engine: Engine,
    readings: Sequence[Reading],
    prefix_ids: tuple[int, ...],
    progress: Callable[[int], None],
    mean_hidden: bool = False,
) -> list[np.ndarray]:
    """What each reading asks. What several pairs ask alike is read once, as the answer of a segment's candidates is.

    Args:
      engine: of the model.
      readings: all with the same number of spans and of candidates.
      prefix_ids: what nearly all of them begin with; the others are read without it.
      progress: called with the number of readings that were just finished.
      mean_hidden: whether the mean of the hidden states is asked for as well.
    """
    once = {_question(reading): reading for reading in readings}
    progress(len(readings) - len(once))
    found: dict[tuple, np.ndarray] = {}
    for prefix in (prefix_ids, ()):
        group = [reading for key, reading in once.items() if key not in found and _begins_with(reading, prefix)]
        if group:
            values = engine.read_spans(group, prefix, progress, mean_hidden)
            found |= zip(map(_question, group), values, strict=True)
    return [found[_question(reading)] for reading in readings]


def _question(reading: Reading) -> tuple:
    return reading.token_ids, reading.spans


def _begins_with(reading: Reading, prefix_ids: tuple[int, ...]) -> bool:
    """Whether the prefix is the reading's own, and none of its spans needs what is in it."""
    length = len(prefix_ids)
    return reading.token_ids[:length] == prefix_ids and all(start > length for start, _ in reading.spans)


def _what_differs(prompt: Sequence[int], neutral: Sequence[int]) -> tuple[int, int]:
    """Where the instruction stands in a prompt, (start, length): what lies between what the neutral prompt shares."""
    start = 1  # nothing comes before the first token, so nothing says how likely it is
    while start < min(len(prompt), len(neutral)) and prompt[start] == neutral[start]:
        start += 1
    behind = 0
    while behind < len(neutral) - start and prompt[-1 - behind] == neutral[-1 - behind]:
        behind += 1
    return start, max(0, len(prompt) - behind - start)
