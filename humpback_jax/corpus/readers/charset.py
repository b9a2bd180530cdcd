"""Bytes of a page to text: the declared charset where it fits the bytes, the detected one where it does not."""

import base64
import codecs
import re
import unicodedata
from collections.abc import Iterable, Iterator

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

# Above this share of undecodable characters the charset is wrong, not the odd byte.
MAX_UNDECODABLE_SHARE = 0.005

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# The longer mark first: that of UTF-32 begins with that of UTF-16.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_META_CHARSET = re.compile(rb"<meta[^>]{0,300}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_XML_CHARSET = re.compile(rb"\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]{1,40})", re.IGNORECASE)
_META_BYTES = 4096
_WIDE_BYTES = 512  # enough markup to see where its NUL bytes stand
# What browsers read for these labels: each is a superset that real pages make use of.
_SUPERSET = {
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "iso8859-11": "cp874",
    "iso2022_jp": "iso2022_jp_ext",
}
# Labels that the HTML standard has and the detector's table lacks, and older ones that mean one thing only.
_MORE_LABELS = {
    "x-mac-cyrillic": "mac_cyrillic",
    "x-mac-ukrainian": "mac_cyrillic",
    "mac-cyrillic": "mac_cyrillic",
    "x-mac-ce": "mac_latin2",
    "x-mac-centraleurroman": "mac_latin2",
    "x-mac-greek": "mac_greek",
    "x-mac-turkish": "mac_turkish",
    "x-mac-icelandic": "mac_iceland",
    "latin9": "iso8859-15",
    "latin-9": "iso8859-15",
    "johab": "johab",
    "x-johab": "johab",
    "cp1361": "johab",
    "ms1361": "johab",
    "windows-1361": "johab",
    "utf-32": "utf-32-le",
    "utf-32le": "utf-32-le",
    "utf-32be": "utf-32-be",
    "kz-1048": "kz1048",
    "ptcp154": "ptcp154",
}
_DOS_LABEL = re.compile(r"(?:x-)?(?:cp|ibm|dos|pc)-?(437|737|775|85[02578]|86[0-59])")
# No codec reads these, and any other would make other letters of their bytes.
_UNREADABLE_LABELS = frozenset(
    {"viscii", "tcvn", "tcvn-5712", "x-viet-tcvn5712", "vps", "x-viet-vps", "armscii-8", "geostd8", "iso-2022-cn"}
)
# Charsets of 7-bit bytes, which pass for ASCII: by the escapes that switch them, never by a label alone.
_ISO_2022_KR = re.compile(rb"\x1b\$\)C")
_ISO_2022_JP = re.compile(rb"\x1b(?:\$[@B]|\(J|\(I|\$\(D)")
_ISO_2022 = re.compile(rb"\x1b(?:\$|[()][A-Z0-9])")
_HZ_RUN = re.compile(rb"~\{((?:[\x21-\x7d][\x21-\x7e])+)(?:~\}|(?=\r?\n))")
_HZ_OTHER = re.compile(rb"~(?:~|\n)")
_UTF_7_RUN = re.compile(rb"\+([A-Za-z0-9/]*)-?")
_MIN_HZ_BYTES = 16


class UndecodableError(ValueError):
    """No charset, declared or detected, gives readable text."""


def decode_page(body: bytes, declared: str | None) -> str:
    """The text of `body`; `declared` is the charset of the HTTP header, if any.

    Order: byte order mark, valid UTF-8 with non-ASCII characters, the HTTP header, the page's own meta tag, detection.
    The first that leaves at most 0.5 % of the characters undecodable is taken. Raises UndecodableError if none does.
    """
    for mark, name in BYTE_ORDER_MARKS:
        if body.startswith(mark):
            body = body[len(mark) :]
            try:
                return _readable(body, [name])
            except UndecodableError:
                # A mark that an editor wrote before text of another charset.
                if name != "utf-8":
                    raise
                return _readable(body, _candidates(body, declared))
    wide = _wide_charset(body[:_WIDE_BYTES])
    if wide:
        return _readable(body, [wide])
    if body.isascii():
        return _seven_bit(body, declared)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return _readable(body, _candidates(body, declared))
    if _is_readable(text):
        return text
    return _readable(body, _candidates(body, declared))


def _labels(body: bytes, declared: str | None) -> list[str]:
    """The charset labels of header, meta tag and XML declaration, in lower case."""
    start = body[:_META_BYTES]
    matches = (_META_CHARSET.search(start), _XML_CHARSET.match(start))
    found = [declared, *(match[1].decode("ascii", errors="replace") for match in matches if match)]
    return [label.strip().strip("\"'").lower() for label in found if label]


def _candidates(body: bytes, declared: str | None) -> Iterator[str]:
    labels = _labels(body, declared)
    for label in labels:
        if label in _UNREADABLE_LABELS:
            raise UndecodableError(f"no codec for charset {label}")
        name = _known_charset(label)
        # A page whose meta tag can be read byte by byte is not UTF-16, whatever it says.
        if name and not (name.startswith(("utf-16", "utf-32")) and b"\0" not in body[:_META_BYTES]):
            yield name
    detected = _known_charset(detect_encoding(body) or "")
    if detected:
        yield detected
    yield "utf-8"


def _known_charset(label: str) -> str | None:
    """The codec of a charset label; None for any label that pages do not use (Python's own codecs included)."""
    if label in _MORE_LABELS:
        return _MORE_LABELS[label]
    name = map_encoding_to_html5(label, fallback_utf8=False)
    if name:
        return _SUPERSET.get(name, name)
    dos = _DOS_LABEL.fullmatch(label)
    return f"cp{dos[1]}" if dos else None


def _wide_charset(start: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark: markup is ASCII, whose NUL bytes stand at fixed places."""
    if b"\0" not in start or len(start) < 8:
        return None
    length = len(start) // 4
    zeros = [start[place : 4 * length : 4].count(0) / length for place in range(4)]
    if min(zeros[2:]) > 0.9 and zeros[0] < 0.1:
        return "utf-32-le"
    if min(zeros[:2]) > 0.9 and zeros[3] < 0.1:
        return "utf-32-be"
    if min(zeros[1::2]) > 0.05 and max(zeros[::2]) < 0.02:
        return "utf-16-le"
    if min(zeros[::2]) > 0.05 and max(zeros[1::2]) < 0.02:
        return "utf-16-be"
    return None


def _seven_bit(body: bytes, declared: str | None) -> str:
    """The text of ASCII bytes: ASCII, or a charset that switches inside them."""
    if b"\x1b" in body and _ISO_2022.search(body):
        if _ISO_2022_KR.search(body):
            return _readable(body, ["iso2022_kr"])
        if _ISO_2022_JP.search(body):
            return _readable(body, ["iso2022_jp_ext"])
        raise UndecodableError("an ISO 2022 charset that no codec reads")
    labels = _labels(body, declared)
    if b"~{" in body and ("hz-gb-2312" in labels or _is_hz(body)):
        return _checked(_HZ_RUN.sub(_hz_to_utf8, _HZ_OTHER.sub(_hz_tilde, body)).decode("utf-8"), ["hz-gb-2312"])
    if "utf-7" in labels or "unicode-1-1-utf-7" in labels:
        return _checked(_UTF_7_RUN.sub(_utf_7_to_utf8, body).decode("utf-8"), ["utf-7"])
    return body.decode("ascii")


def _is_hz(body: bytes) -> bool:
    """Whether runs that are closed hold some Chinese: scripts have such escapes too, but not of letters all over."""
    runs = b"".join(run[1] for run in _HZ_RUN.finditer(body) if run[0].endswith(b"~}"))
    if len(runs) < _MIN_HZ_BYTES:
        return False
    try:
        bytes(byte | 0x80 for byte in runs).decode("gb2312")
    except UnicodeDecodeError:
        return False
    return True


def _hz_to_utf8(run: re.Match[bytes]) -> bytes:
    return bytes(byte | 0x80 for byte in run[1]).decode("gb2312", errors="replace").encode()


def _hz_tilde(escape: re.Match[bytes]) -> bytes:
    return b"~" if escape[0] == b"~~" else b""


def _utf_7_to_utf8(run: re.Match[bytes]) -> bytes:
    """Base64 of UTF-16; what is none (`a+b-c` in a script) stays."""
    if not run[1]:
        return b"+"
    try:
        units = base64.b64decode(run[1] + b"A" * (-len(run[1]) % 4))
        units = units[: len(run[1]) * 6 // 16 * 2]
        is_exact = base64.b64encode(units).rstrip(b"=") == run[1]
        return units.decode("utf-16-be").encode() if is_exact else run[0]
    except ValueError:
        return run[0]


def _readable(body: bytes, names: Iterable[str]) -> str:
    tried = []
    for name in names:
        text = body.decode(name, errors="replace")
        if _is_readable(text):
            # Vietnamese letters come in parts.
            return unicodedata.normalize("NFC", text) if name == "cp1258" else text
        tried.append(name)
    raise _undecodable(tried)


def _checked(text: str, names: list[str]) -> str:
    if not _is_readable(text):
        raise _undecodable(names)
    return text


def _is_readable(text: str) -> bool:
    return _REPLACEMENT not in text or text.count(_REPLACEMENT) <= MAX_UNDECODABLE_SHARE * len(text)


def _undecodable(tried: list[str]) -> UndecodableError:
    return UndecodableError(
        f"more than {MAX_UNDECODABLE_SHARE:.1%} of the text cannot be decoded as {', '.join(tried)}"
    )
