"""An archived HTTP response to the bytes of its body, undone as browsers undo it, as far as it goes."""

import dataclasses
import re

from humpback_jax.corpus.readers.compression import BadCompressionError, BodyCodec, codec_of, decompress
from humpback_jax.corpus.readers.file_kinds import looks_like_html

_STATUS = re.compile(rb"\s*(?:HTTP/\d(?:\.\d+)?|ICY)[ \t]+(\d{3})(?!\d)", re.IGNORECASE)
_HEAD_END = re.compile(rb"\r?\n[ \t]*\r?\n")
_MAX_HEAD_BYTES = 256 << 10
_FIELD = re.compile(rb"(?im)^(content-type|content-encoding|transfer-encoding|content-length)[ \t]*:[ \t]*([^\r\n]*)")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_CHUNK_HEAD = re.compile(rb"[ \t\r\n]{0,4}([0-9a-fA-F]{1,12})[ \t]*(?:;[^\r\n]{0,4000})?\r?\n")
_MAX_INTERIM = 5
_MAX_CODINGS = 3
# "identity" and whatever else servers write here ("utf-8", "none") means that nothing is encoded.
_CODECS: dict[str, BodyCodec] = {
    "gzip": "gzip",
    "x-gzip": "gzip",
    "deflate": "deflate",
    "x-deflate": "deflate",
    "br": "brotli",
    "zstd": "zstd",
    "bzip2": "bzip2",
    "x-bzip2": "bzip2",
    "xz": "xz",
}
_PAGE_END_BYTES = 1024
_PAGE_END = re.compile(rb"</html\s*>", re.IGNORECASE)


class BadMessageError(ValueError):
    """Why a message holds no page; the text is the reason it is counted under."""


@dataclasses.dataclass(frozen=True, slots=True)
class HttpBody:
    """The decoded body of a response; `truncated` if its end is missing."""

    body: bytes
    content_type: str
    truncated: bool


def read_response(message: bytes, max_bytes: int) -> HttpBody:
    """The body of a response whose status is 200, at most `max_bytes` + 1 bytes of it.

    Raises BadMessageError: `bad_http`, `http_status:NNN`, `bad_encoding`.
    """
    fields, start = _final_head(message)
    body = message[start:] if start else message
    declared = fields.get("content-length", "")
    cut = declared.isdigit() and len(declared) < 18 and len(body) < int(declared)
    content_type = fields.get("content-type", "")
    if "chunked" in fields.get("transfer-encoding", "").lower():
        body, chunk_missing = dechunk(body)
        cut = cut or chunk_missing
    names = [part.strip().lower() for part in fields.get("content-encoding", "").split(",")]
    codecs = [_CODECS[name] for name in reversed(names) if name in _CODECS]
    try:
        body, end_missing = _decoded(body, codecs, max_bytes + 1)
    except BadCompressionError:
        # Some archives keep the headers of a body that they have already decoded.
        if not looks_like_html(body):
            raise BadMessageError("bad_encoding") from None
        end_missing = False
    # Lengths and check sums may be wrong where the page itself is all there.
    return HttpBody(body, content_type, (cut or end_missing) and not has_page_end(body))


def has_page_end(body: bytes) -> bool:
    """Whether the end tag of a page stands at its end."""
    return _PAGE_END.search(body[-_PAGE_END_BYTES:]) is not None


def _final_head(message: bytes) -> tuple[dict[str, str], int]:
    """(the fields of the response that is not interim, where its body begins)."""
    start = 0
    for _ in range(_MAX_INTERIM):
        status = _STATUS.match(message, start)
        end = _HEAD_END.search(message, start, start + _MAX_HEAD_BYTES)
        if not status or not end:
            raise BadMessageError("bad_http")
        code = int(status[1])
        # A proxy's "200 Connection established" comes before the server's own answer.
        has_another = _STATUS.match(message, end.end())
        if code >= 200 and not (has_another and b"onnection established" in message[start : end.start()]):
            if code != 200:
                raise BadMessageError(f"http_status:{code if code <= 599 else 'invalid'}")
            return _fields(message[start : end.start()]), end.end()
        if code < 100:
            raise BadMessageError("http_status:invalid")
        if not has_another:
            raise BadMessageError(f"http_status:{code}")
        start = end.end()
    raise BadMessageError("bad_http")


def _fields(head: bytes) -> dict[str, str]:
    """The fields that say how to read the body; a field that is there twice is joined by a comma."""
    if b"\n " in head or b"\n\t" in head:
        head = _FOLD.sub(b" ", head)
    fields: dict[str, str] = {}
    for name, value in _FIELD.findall(head):
        key, text = name.decode("ascii").lower(), value.decode("latin-1").strip()
        fields[key] = f"{fields[key]}, {text}" if key in fields else text
    return fields


def dechunk(body: bytes) -> tuple[bytes, bool]:
    """(the body of a chunked message, whether its end is missing); a body without chunks is returned as it is."""
    pieces: list[memoryview] = []
    position = 0
    view = memoryview(body)
    while head := _CHUNK_HEAD.match(body, position):
        size = int(head[1], 16)
        if not size:
            return b"".join(pieces), False
        pieces.append(view[head.end() : head.end() + size])
        position = head.end() + size
        if position > len(body):
            break
    return (b"".join(pieces), True) if pieces else (body, False)


def _decoded(body: bytes, codecs: list[BodyCodec], limit: int) -> tuple[bytes, bool]:
    """(the body without its codings, whether its end is missing); a compressed body that says nothing is known too."""
    cut = False
    for number in range(_MAX_CODINGS):
        codec = codecs[number] if number < len(codecs) else codec_of(body[:8])
        if codec is None or not body:
            break
        if number >= len(codecs) and codec == "zstd" and not body.startswith(b"\x28"):
            break
        body, missing = decompress(body, codec, limit)
        cut = cut or missing
    return body, cut


def media_types(content_type: str) -> list[str]:
    """The types that a Content-Type field names (servers and proxies write several), in lower case, without quotes."""
    return [part.split(";")[0].strip(" \t\"'").lower() for part in content_type.split(",") if part.strip()]


def charset_of(content_type: str) -> str | None:
    """The charset that a Content-Type field names, if any; the last of several."""
    found = re.findall(r"charset\s*=\s*[\"']?\s*([^\s\"';,]{1,60})", content_type, re.IGNORECASE)
    return found[-1] if found else None
