"""Bytes of a page to text: the declared charset where it fits the bytes, the detected one where it does not."""

import codecs
import re
from collections.abc import Iterator

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

# Above this share of undecodable characters the charset is wrong, not the odd byte.
MAX_UNDECODABLE_SHARE = 0.005

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META_CHARSET = re.compile(rb"<meta[^>]{0,300}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_META_BYTES = 4096
# What browsers read for these labels: each is a superset that real pages make use of.
_SUPERSET = {"gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}


class UndecodableError(ValueError):
    """No charset, declared or detected, gives readable text."""


def decode_page(body: bytes, declared: str | None) -> str:
    """The text of `body`; `declared` is the charset of the HTTP header, if any.

    Order: byte order mark, valid UTF-8 with non-ASCII characters, the HTTP header, the page's own meta tag, detection.
    The first that leaves at most 0.5 % of the characters undecodable is taken. Raises UndecodableError if none does.
    """
    for mark, name in _BYTE_ORDER_MARKS:
        if body.startswith(mark):
            return _readable(body[len(mark) :], [name])
    return _readable(body, _candidates(body, declared))


def _candidates(body: bytes, declared: str | None) -> Iterator[str]:
    if not body.isascii() and _is_utf8(body):
        yield "utf-8"
    meta = _META_CHARSET.search(body[:_META_BYTES])
    for label in (declared, meta.group(1).decode("ascii") if meta else None):
        name = _known_charset(label)
        # A page whose meta tag can be read byte by byte is not UTF-16, whatever it says.
        if name and not (name.startswith("utf-16") and b"\0" not in body[:_META_BYTES]):
            yield name
    detected = _known_charset(detect_encoding(body))
    if detected:
        yield detected
    yield "utf-8"


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _known_charset(label: str | None) -> str | None:
    """The codec of a charset label of the HTML standard; None for any other label (Python's own codecs included)."""
    if not label:
        return None
    name = map_encoding_to_html5(label.strip().strip("\"'").lower(), fallback_utf8=False)
    return _SUPERSET.get(name, name) if name else None


def _readable(body: bytes, names: Iterator[str] | list[str]) -> str:
    tried = []
    for name in names:
        text = body.decode(name, errors="replace")
        if text.count(_REPLACEMENT) <= MAX_UNDECODABLE_SHARE * len(text):
            return text
        tried.append(name)
    raise UndecodableError(f"more than {MAX_UNDECODABLE_SHARE:.1%} of the text cannot be decoded as {', '.join(tried)}")
