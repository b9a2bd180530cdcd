"""The scale of a rubric: what a rating may be, and what it counts."""

import dataclasses
import re

LEAST_OPTIONS, MOST_OPTIONS = 2, 101
COMMON_LOW, COMMON_HIGH = 1.0, 5.0  # the paper's scale, which the curator's features are on
_DASHES = r"(?:-|–|—|‐|‑|…|\.{2,3}|~|～|〜|to|bis|through|à|a|til|tot|до|到|至|から)"
_RANGE = re.compile(rf"\s*(\d+|[^\W\d_])\s*{_DASHES}\s*(\d+|[^\W\d_])\s*")
RANGE_INSIDE = re.compile(rf"(?<![\w.,-])(\d+|[A-Z])\s*{_DASHES}\s*(\d+|[A-Z])(?![\w%]|[.,-]\w)")


@dataclasses.dataclass(frozen=True)
class RatingScale:
    """What a rubric lets a scorer say.

    Attributes:
      options: as they are written, from the worst to the best: `1` … `5`, `E` … `A`.
      values: what they count, ascending: the numbers themselves, or 1, 2, … where the options are no numbers.
      counts_down: whether a lower number is better; it counts as low + high - number then.
    """

    options: tuple[str, ...]
    values: tuple[int, ...]
    counts_down: bool = False

    @property
    def low(self) -> int:
        """What the worst option counts."""
        return self.values[0]

    @property
    def high(self) -> int:
        """What the best option counts."""
        return self.values[-1]

    @property
    def is_numeric(self) -> bool:
        """Whether the options are numbers, of which halves may be said as well."""
        return self.options[0].isdecimal()

    def value_of(self, said: str) -> float | None:
        """What a rating counts as it was said; None where it is none of this scale.

        Numbers go in steps of a half, as the paper keeps 4.5.
        """
        if not self.is_numeric:
            # One letter is itself only: "Grade: a good answer" is no A.
            named = {option if len(option) == 1 else option.lower(): i for i, option in enumerate(self.options)}
            place = named.get(said if said in named else said.lower() if len(said) > 1 else said)
            return None if place is None else float(self.values[place])
        if not re.fullmatch(r"(?:0|[1-9][0-9]*)(?:\.[05]0*)?", said) or not self.low <= float(said) <= self.high:
            return None
        return self.low + self.high - float(said) if self.counts_down else float(said)

    def in_words(self) -> str:
        """`1 to 5`."""
        return f"{self.options[0]} to {self.options[-1]}"


PAPER_SCALE = RatingScale(("1", "2", "3", "4", "5"), (1, 2, 3, 4, 5))


def on_common_scale(value: float, low: float, high: float) -> float:
    """A rating of a scale from `low` to `high`, mapped to 1 to 5 in proportion."""
    if (low, high) == (COMMON_LOW, COMMON_HIGH):
        return value
    return round(COMMON_LOW + (COMMON_HIGH - COMMON_LOW) * (value - low) / (high - low), 6)


def parse_scale(text: str, best: str | None = None) -> RatingScale:
    """The scale that a rubric or a setting declares: `1-10`, `0–4`, `A-E`, or `poor, fair, good`, the worst first.

    Args:
      text: a range of whole numbers or of letters, or a list.
      best: which of its ends is the best; by default the highest number, the first letter of the alphabet, the last
        of a list.

    Raises:
      ValueError: no such scale, or `best` is not one of its ends.
    """
    options = _options(text)
    if not LEAST_OPTIONS <= len(options) <= MOST_OPTIONS or len({each.lower() for each in options}) < len(options):
        raise _no_scale(text)
    if best is not None:
        if best.strip() not in (options[0], options[-1]):
            raise ValueError(f"best: {best!r} is no end of the scale {text!r}; write {options[0]} or {options[-1]}")
        if best.strip() == options[0]:
            options = options[::-1]
    if all(each.isdecimal() for each in options):
        values = sorted(map(int, options))
        if values != list(range(values[0], values[-1] + 1)) or [int(each) for each in options] not in (
            values,
            values[::-1],
        ):
            raise _no_scale(text)
        return RatingScale(tuple(options), tuple(values), counts_down=int(options[0]) > int(options[-1]))
    if any(each.isdecimal() for each in options):
        raise _no_scale(text)
    return RatingScale(tuple(options), tuple(range(1, len(options) + 1)))


def _options(text: str) -> list[str]:
    """What stands in a declared scale, from the worst to the best."""
    match = _RANGE.fullmatch(text)
    if match is None:
        return [part.strip() for part in re.split(r"[,，、;|]", text) if part.strip()]
    first, last = match.groups()
    if first.isdecimal() and last.isdecimal():
        low, high = sorted((int(first), int(last)))
        return [str(number) for number in range(low, high + 1)] if high - low < MOST_OPTIONS else []
    if first.isdecimal() or last.isdecimal() or first.isupper() != last.isupper():
        return []
    low, high = sorted((ord(first), ord(last)))
    return [chr(code) for code in range(high, low - 1, -1)] if high - low < MOST_OPTIONS else []


def _no_scale(text: str) -> ValueError:
    return ValueError(
        f"scale: {text!r} is no scale; write whole numbers as in `1-10`, letters as in `A-E`, or a list of "
        f"{LEAST_OPTIONS} to {MOST_OPTIONS} ratings, the worst first, as in `poor, fair, good`"
    )
