"""Text that a page does not show until its scripts run: the state that frameworks leave in <script> elements."""

import re
from collections.abc import Iterator

_LEAST_STRING = 80  # characters of a string that may be prose
_LEAST_TEXT = 400  # characters of such strings, from which a page has its text in its scripts
_MIN_LETTERS = 0.75  # share of letters and spaces in prose

_TAG = re.compile(r"<(/?)script\b", re.IGNORECASE)
# Ends and begins of strings. (One expression for a whole string costs the square of a run of backslashes.)
_QUOTE = re.compile(r'(?<!\\)"')
_ESCAPED_LETTER = re.compile(r"(?<!\\)\\++u([0-9a-fA-F]{4})")


def has_text_in_scripts(markup: str) -> bool:
    """Whether the strings of a page's scripts hold prose enough for a text. Linear in the size of the markup."""
    size = 0
    for script in _scripts(markup):
        for string in _QUOTE.split(script)[1::2]:
            if len(string) < _LEAST_STRING:
                continue
            text = _ESCAPED_LETTER.sub(_letter, string)
            if _is_prose(text):
                size += len(text)
                if size >= _LEAST_TEXT:
                    return True
    return False


def _scripts(markup: str) -> Iterator[str]:
    """The content of every <script> that is closed."""
    begin = -1
    for tag in _TAG.finditer(markup):
        if begin < 0 and not tag.group(1):
            begin = markup.find(">", tag.end()) + 1 or len(markup)
        elif begin >= 0 and tag.group(1):
            yield markup[begin : tag.start()]
            begin = -1


def _letter(escaped: re.Match[str]) -> str:
    return chr(int(escaped.group(1), 16))


def _is_prose(text: str) -> bool:
    """Words of ordinary length with spaces between them; code, addresses and encoded data have other proportions."""
    letters = sum(map(str.isalpha, text))
    spaces = text.count(" ")
    if letters + spaces < _MIN_LETTERS * len(text):
        return False
    # Scripts without spaces say with one sign what takes a word elsewhere.
    return 3 * spaces <= letters <= 12 * spaces or not text[:_LEAST_STRING].isascii()
