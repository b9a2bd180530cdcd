"""The head of a record: the named fields of WARC (0.17 to 1.1), the one line of ARC (versions 1 and 2)."""

import dataclasses
import re
from typing import Literal

from humpback_jax.corpus.readers.byte_views import ByteView

ArchiveKind = Literal["warc", "arc"]

# A head may hold a URL of many kilobytes; what is longer is no head.
MAX_HEAD_BYTES = 256 << 10
PAGE_KINDS = frozenset({"response", "resource", "conversion"})

_KINDS = PAGE_KINDS | {"warcinfo", "request", "metadata", "revisit", "continuation"}
_HEAD_ENDS = {"warc": re.compile(rb"\n\r?\n"), "arc": re.compile(rb"\n")}
_WINDOWS = (2048, 16384, MAX_HEAD_BYTES)
_WARC_VERSION = re.compile(rb"WARC/\d\.\d+[ \t]*\r?\n")
_FIELD = re.compile(
    rb"(?im)^(warc-type|warc-target-uri|content-length|content-type|warc-truncated|warc-identified-payload-type"
    rb"|warc-segment-number)[ \t]*:[ \t]*([^\r\n]*)"
)
_FOLD = re.compile(rb"\r?\n[ \t]+")
_ARC_START = rb"([a-zA-Z][\w.+-]{1,30}:[^\n]{0,200000}?) (\S+) (\d{8,17}) "
_ARC_1 = re.compile(_ARC_START + rb"([^\n]{0,300}?) ?(\d{1,18})\r?\n")
_ARC_2 = re.compile(_ARC_START + rb"(\S{1,300}) (?:\d{3}|-) \S+ \S+ \S+ \S+ (\d{1,18})\r?\n")
# Where a record may begin after damage: compressed, or the first line of a plain one.
RECORD_STARTS = {
    "warc": re.compile(rb"\x1f\x8b\x08|\x28\xb5\x2f\xfd|(?:(?<=\n)|\A)WARC/\d\.\d+\r?\n"),
    "arc": re.compile(rb"\x1f\x8b\x08|\x28\xb5\x2f\xfd|(?<=\n)[a-z]{2,20}:[^\n]{1,4000} \d{14} [^\n]{1,300}\d\r?\n"),
}
RECORD_BEGINS = {
    "warc": re.compile(rb"WARC/\d\.\d+[ \t]*\r?\n[A-Za-z]"),
    "arc": re.compile(rb"[a-zA-Z][\w.+-]{1,30}:[^\n]{1,4000} \d{8,17} [^\n]{1,300}\d\r?\n"),
}


class DamageError(Exception):
    """Reading cannot go on here; `began` if a record does begin here."""

    def __init__(self, detail: str, began: bool = True) -> None:
        super().__init__(detail)
        self.began = began


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """What the head of a record says; `size` is its own length and `length` that of the content, in bytes."""

    size: int
    length: int
    kind: str
    url: str
    content_type: str
    identified_type: str = ""
    truncated: bool = False


def begins_record(content: bytes, kind: ArchiveKind) -> bool:
    """Whether the start of some content is that of a record."""
    return RECORD_BEGINS[kind].match(content) is not None


def read_head(view: ByteView, kind: ArchiveKind) -> Head:
    """The head of the record that begins at the view's position, which is passed over; DamageError for none."""
    block = b""
    for window in _WINDOWS:
        block = view.peek(window)
        end = _HEAD_ENDS[kind].search(block)
        if end:
            head = parse_head(block[: end.end()], kind)
            view.skip(head.size)
            return head
        if len(block) < window:
            break
    if not block.startswith(b"WARC/") and not (kind == "arc" and len(block) < MAX_HEAD_BYTES):
        raise DamageError(f"no {kind.upper()} record begins here", began=False)
    raise DamageError(
        f"a record's head goes on for more than {MAX_HEAD_BYTES} bytes"
        if len(block) == MAX_HEAD_BYTES
        else "the file ends inside a record"
    )


def parse_head(block: bytes, kind: ArchiveKind) -> Head:
    """What a head says; `block` ends where the content begins."""
    return _warc_head(block) if kind == "warc" else _arc_head(block)


def _warc_head(block: bytes) -> Head:
    if not _WARC_VERSION.match(block):
        raise DamageError("no WARC record begins here", began=False)
    if b"\n " in block or b"\n\t" in block:
        size, block = len(block), _FOLD.sub(b" ", block)
    else:
        size = len(block)
    fields: dict[bytes, bytes] = {}
    for name, value in _FIELD.findall(block):
        fields.setdefault(name.lower(), value.strip())
    length = fields.get(b"content-length", b"")
    if not length.isdigit() or len(length) > 18:
        raise DamageError(f"a record's Content-Length is {_text(length[:40])!r}")
    kind = _text(fields.get(b"warc-type", b"")).lower()
    return Head(
        size,
        int(length),
        kind if kind in _KINDS else "unknown",
        _text(fields.get(b"warc-target-uri", b"")).removeprefix("<").removesuffix(">"),
        _text(fields.get(b"content-type", b"")),
        _text(fields.get(b"warc-identified-payload-type", b"")),
        # Of a record in several segments the first is a page cut short; the others are "continuation".
        b"warc-truncated" in fields or b"warc-segment-number" in fields,
    )


def _arc_head(block: bytes) -> Head:
    match = _ARC_2.fullmatch(block) or _ARC_1.fullmatch(block)
    if not match:
        raise DamageError("no ARC record begins here", began=False)
    url, scheme = _text(match[1]), _text(match[1].split(b":")[0]).lower()
    kind = "response" if scheme in ("http", "https") else scheme if scheme in ("filedesc", "dns", "ftp") else "unknown"
    return Head(len(block), int(match[match.lastindex or 0]), kind, url, _text(match[4]))


def _text(field: bytes) -> str:
    return field.decode("utf-8", errors="replace").strip()
