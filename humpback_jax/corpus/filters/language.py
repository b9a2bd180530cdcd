"""Which language a text is in: a fast look at every text, and an exact one where the fast one gives an unwanted word.

The fast look is resiliparse's (15 µs for a segment). On 1,911 English segments of real pages it takes 37 for something
else: tables, code, capitals, names. The exact look is py3langid's (0.25 ms for 400 characters), which takes none of
these for something else; it is asked only about texts that would be rejected otherwise, unless the page itself says
that it is in the language that the fast look found.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence

from py3langid.langid import MODEL_FILE, LanguageIdentifier
from resiliparse.parse.lang import detect_fast

EXACT_CHARS = 600
UNKNOWN = ""
# What the fast look says of texts that it knows nothing about, and of a third of the Japanese ones.
_NOT_BELIEVED = frozenset(("unknown", "zh"))
_LEAST_CHARS, _MOST_ANSWERS = 40, 1000


@dataclasses.dataclass(frozen=True)
class Language:
    """A language as ISO 639 code (empty: none found) and the probability of the exact look, 1.0 where it was spared."""

    code: str
    probability: float = 1.0


class LanguageFinder:
    """The two identifiers; the exact one is loaded when it is asked first."""

    def __init__(self) -> None:
        self._exact: LanguageIdentifier | None = None

    def find(self, text: str, wanted: frozenset[str] = frozenset(), declared: str = "") -> Language:
        """The language of a text.

        Args:
          text: some hundred characters or more.
          wanted: what would be kept; without any the fast look is enough.
          declared: what the page says, such as "en-US"; believed only where the fast look finds the same.
        """
        # It takes capitals for signs that it does not know.
        code = detect_fast(text.lower())[0]
        if code not in _NOT_BELIEVED and (not wanted or code in wanted or code == declared.lower()[:2]):
            return Language(code)
        return self.find_exactly(text)

    def find_exactly(self, text: str) -> Language:
        """The word of the slow identifier on the first characters of a text."""
        if self._exact is None:
            self._exact = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        code, probability = self._exact.classify(text[:EXACT_CHARS])
        return Language(UNKNOWN if code in ("zxx", "und") else str(code), round(float(probability), 3))


def language_reason(language: Language, wanted: frozenset[str], least_probability: float | None) -> str | None:
    """`other_language`, or `uncertain_language` where the exact look is less sure than that; None for a wanted one."""
    if not wanted:
        return None
    if language.code not in wanted:
        return "other_language"
    return "uncertain_language" if least_probability and language.probability < least_probability else None


def seed_languages(answers: Sequence[str], least_share: float = 0.1) -> tuple[str, ...]:
    """The languages that at least that share of the seed answers is in, the most frequent first.

    Looks at 1,000 of them at even distances, and at none below 40 characters: those are names and numbers.
    """
    long_enough = [answer for answer in answers if len(answer) >= _LEAST_CHARS]
    step = -(-len(long_enough) // _MOST_ANSWERS) or 1
    finder = LanguageFinder()
    found = Counter(finder.find_exactly(answer).code for answer in long_enough[::step])
    found.pop(UNKNOWN, None)
    return tuple(code for code, number in found.most_common() if number >= least_share * found.total())
