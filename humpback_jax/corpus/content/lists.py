"""Markers of list items: numbers, letters and Roman numerals as the list's attributes ask for them."""

import dataclasses
import re
from collections.abc import Mapping

_MAX_INDENT = 12
_INTEGER = re.compile(r"[+-]?[0-9]{1,6}")
_ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"))
_ROMAN_UNITS = ((9, "ix"), (5, "v"), (4, "iv"), (1, "i"))
_STYLES = {"lower-alpha": "a", "lower-latin": "a", "upper-alpha": "A", "upper-latin": "A", "lower-roman": "i"}
_LIST_STYLE = re.compile(r"list-style(?:-type)?\s*:[^;]*?((?:lower|upper)-(?:alpha|latin|roman))")


@dataclasses.dataclass(slots=True)
class OpenList:
    """A list while its items are read. `marker` is that of the open item until its first line has taken it."""

    ordered: bool
    number: int = 1
    step: int = 1
    style: str = "1"
    indent: int = 0
    marker: str = ""
    marker_width: int = 0

    def open_item(self, value: str | None) -> None:
        """Begins an item; `value` is what <li value> says."""
        if self.ordered:
            self.number = parse_integer(value, self.number)
            self.marker = f"{ordinal(self.number, self.style)}. "
            self.number += self.step
        else:
            self.marker = "- "
        self.marker_width = len(self.marker)

    def stand_aside(self) -> None:
        """A card in a list: its header stands in for the marker and the margin."""
        self.marker, self.marker_width, self.indent = "", 0, 0

    def indented(self, text: str) -> str:
        """A block of the open item: its first line after the marker, the others under it."""
        margin = " " * (self.indent + self.marker_width)
        first = " " * self.indent + self.marker if self.marker else margin
        self.marker = ""
        if "\n" not in text:
            return first + text
        lines = text.split("\n")
        return "\n".join([first + lines[0], *(margin + line if line else "" for line in lines[1:])])


def open_list(tag: str, attributes: Mapping[str, str | None], items: int, outer: OpenList | None) -> OpenList:
    """A list of `items` items that opens inside an item of `outer`."""
    indent = min(outer.indent + outer.marker_width, _MAX_INDENT) if outer else 0
    if tag != "ol":
        return OpenList(False, indent=indent)
    backwards = "reversed" in attributes
    style = attributes.get("type") or ""
    if found := _LIST_STYLE.search(attributes.get("style") or ""):
        style = _STYLES.get(found.group(1), "I")
    number = parse_integer(attributes.get("start"), items if backwards else 1)
    return OpenList(True, number, -1 if backwards else 1, style, indent)


def parse_integer(text: str | None, default: int) -> int:
    """The integer that `text` is, at most six digits; `default` where it is none."""
    return int(text) if text and _INTEGER.fullmatch(text.strip()) else default


def ordinal(number: int, style: str) -> str:
    """A number as <ol type> writes it: `1`, `a`, `A`, `i` or `I`; digits where letters cannot."""
    if style in ("a", "A") and number > 0:
        letters = ""
        while number > 0:
            number, rest = divmod(number - 1, 26)
            letters = chr(ord(style) + rest) + letters
        return letters
    if style in ("i", "I") and 0 < number < 4000:
        numeral = _roman(number)
        return numeral if style == "i" else numeral.upper()
    return str(number)


def _roman(number: int) -> str:
    numeral = ""
    for value, letters in (*_ROMAN, *_ROMAN_UNITS):
        count, number = divmod(number, value)
        numeral += letters * count
    return numeral
