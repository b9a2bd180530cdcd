"""What a row of a seed file becomes: a candidate for a pair, or the reason why it is none."""

import dataclasses
import math
import re
from typing import Any


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A pair, or the reason why it is none.

    Attributes:
      where: file and row, for messages.
      id, instruction, output, source: of the pair.
      reason: why there is no pair; `detail` says more.
      quality: orders candidates under a limit.
      notes: what was done to a pair that is counted, such as `with_system`.
    """

    where: str
    id: str = ""
    instruction: str = ""
    output: str = ""
    source: str = ""
    reason: str | None = None
    detail: str = ""
    quality: float = 0.0
    notes: tuple[str, ...] = ()


class UnusableError(ValueError):
    """A row makes no pair: the reason that is counted, and what to say of it."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


# Half of a surrogate pair, which UTF-8 cannot hold, and the character that ends a text in C.
_BROKEN = {"lone_surrogate": re.compile("[\ud800-\udfff]"), "nul_character": re.compile("\0")}


def text_of(value: Any, name: str) -> str:
    """A text without outer whitespace; a number as it is written, null and NaN as nothing.

    Raises:
      UnusableError: it is something else, or holds what is no text.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise UnusableError("not_a_text", f"{name!r} must be a text, found {type(value).__name__}")
    for reason, pattern in _BROKEN.items():
        if pattern.search(value):
            raise UnusableError(reason, f"{name!r} holds a {reason.replace('_', ' ')}")
    return value.strip()
