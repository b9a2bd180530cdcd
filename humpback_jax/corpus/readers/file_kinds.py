"""What a file is: by its first bytes, with the name only where they do not tell."""

import json
import re
from typing import BinaryIO, Literal

from humpback_jax.corpus.readers.archive_heads import begins_record
from humpback_jax.corpus.readers.compression import BadCompressionError, Codec, ExpansionError, codec_of, open_layers

FileKind = Literal["warc", "arc", "zip", "mhtml", "jsonl", "parquet", "html", "empty", "unknown"]

SNIFFED_BYTES = 1 << 16
_MAX_LAYERS = 3
_TAG_BYTES = 4096
_ARCHIVE_NAME = re.compile(r"\.(warc|wet|wat)(\.|$)", re.IGNORECASE)
_ARC_NAME = re.compile(r"\.arc(\.|$)", re.IGNORECASE)
_BROTLI_NAME = re.compile(r"\.br$", re.IGNORECASE)
_PACKED_SUFFIX = re.compile(r"\.(gz|zst|zstd|bz2|xz|br)$", re.IGNORECASE)
_MHTML_NAME = re.compile(r"\.mht(ml)?$", re.IGNORECASE)
_HTML_NAME = re.compile(r"\.(x?html?|shtml?|mhtm)$", re.IGNORECASE)
# Programs behind pages: what they printed may begin with anything (a warning, a blank line).
_PROGRAM_NAME = re.compile(r"\.(php\d?|phtml|aspx?|jspx?|cgi|cfm|pl|do|action)([?;@&].*)?$|[?@].*=", re.IGNORECASE)
# Files that hold markup without being pages: source code, documents in other languages, feeds.
_SOURCE_NAME = re.compile(
    r"\.(js|mjs|cjs|jsx|ts|tsx|vue|svelte|css|scss|less|json|jsonl|ndjson|xml|rss|atom|svg|md|markdown|mdx|rst|adoc|txt"
    r"|tex|csv|tsv|ya?ml|toml|ini|conf|log|py|rb|go|rs|java|kt|c|h|cc|cpp|hpp|cs|swift|sh|bat|sql|lua|r|ipynb|erb|ejs"
    r"|hbs|mustache|j2|jinja2?|tmpl|tpl|patch|diff)$",
    re.IGNORECASE,
)
_LEADING = re.compile(rb"(?:\s|\xef\xbb\xbf|\xff\xfe|\xfe\xff|<\?xml[^>]{0,500}\?>|<!--.*?(?:-->|\Z))+", re.DOTALL)
_DOCUMENT_START = re.compile(rb"<(!doctype\s+(x?html|\[)|html|head|body|frameset)\b", re.IGNORECASE)
_DOCUMENT = re.compile(rb"<(!doctype\s+x?html|html|head|body)[\s>]", re.IGNORECASE)
_TAG = (
    rb"<(!doctype\s+html|html|head|body|title|meta|link|script|style|h[1-6]|div|article|section|main|header|nav|table|"
    rb"center|font|form|ul|ol|dl|pre|p|a|b|br|hr|img|span)\b"
)
_TAG_START = re.compile(_TAG, re.IGNORECASE)
_HTML_TAG = re.compile(rb"<(!doctype\s+html|html|head|body|title|meta|h[1-6]|div|article|main|p)\b", re.IGNORECASE)
_OTHER_XML = re.compile(rb"<(rss|feed|rdf:rdf|urlset|sitemapindex|svg|opml|plist|xsl:stylesheet|svg)\b", re.IGNORECASE)
_MAIL_HEAD = re.compile(rb"(?:[A-Za-z][A-Za-z0-9-]{0,60}:[^\n]{0,4000}\n(?:[ \t][^\n]{0,4000}\n)*)+\r?\n")
_MHTML_FIELDS = re.compile(rb"(?im)^(snapshot-content-location:|content-type:\s*multipart/related)")
_BINARY = re.compile(
    rb"%PDF-|\x89PNG|\xff\xd8\xff|GIF8|RIFF|\0{3}.ftyp|OggS|ID3|\x7fELF|MZ\x90|Rar!|7z\xbc\xaf", re.DOTALL
)


def sniff(stream: BinaryIO, name: str) -> tuple[FileKind, tuple[Codec, ...]]:
    """(what the content of a file is, the codecs around it, outermost first); the stream's position is lost.

    Members of a compressed archive are records of their own and no layer.
    """
    stream.seek(0)
    head = stream.read(SNIFFED_BYTES)
    if not head:
        return "empty", ()
    codecs: list[Codec] = []
    inner_name = name
    while len(codecs) < _MAX_LAYERS:
        codec = codec_of(head)
        if codec is None and not codecs and _BROTLI_NAME.search(name) and _kind_of(head, name) == "unknown":
            codec = "brotli"
        if codec is None:
            break
        inner_name = _PACKED_SUFFIX.sub("", inner_name)
        content = _start_of_content(stream, (*codecs, codec))
        kind = _kind_of(content, inner_name) if content else None
        if codec in ("gzip", "zstd") and (kind in ("warc", "arc") or (not content and _is_archive_name(name))):
            return kind if kind == "arc" else "arc" if not kind and _ARC_NAME.search(name) else "warc", tuple(codecs)
        if not content:
            break
        codecs.append(codec)
        head = content
    return _kind_of(head, inner_name if codecs else name), tuple(codecs)


def _start_of_content(stream: BinaryIO, codecs: tuple[Codec, ...]) -> bytes:
    """The first bytes under some codecs, or fewer, down to none, where they are damaged."""
    content = b""
    try:
        layer = open_layers(stream, codecs)
        while len(content) < SNIFFED_BYTES and (block := layer.read(SNIFFED_BYTES - len(content))):
            content += block
    except (BadCompressionError, ExpansionError):
        pass
    return content


def _is_archive_name(name: str) -> bool:
    return bool(_ARCHIVE_NAME.search(name) or _ARC_NAME.search(name))


def _kind_of(head: bytes, name: str) -> FileKind:
    start = head.lstrip(b"\r\n\0 ")
    if start.startswith(b"WARC/"):
        return "warc"
    if start.startswith(b"filedesc:") or (_ARC_NAME.search(name) and begins_record(start, "arc")):
        return "arc"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(b"PAR1"):
        return "parquet"
    if codec_of(head):
        return "unknown"
    if _is_archive_name(name):
        return "arc" if _ARC_NAME.search(name) else "warc"
    if _BINARY.match(head):
        return "unknown"
    mail_head = _MAIL_HEAD.match(head.lstrip())
    if mail_head and (_MHTML_FIELDS.search(mail_head[0]) or _MHTML_NAME.search(name)):
        return "mhtml"
    if _is_json_line(start):
        return "jsonl"
    return "html" if is_page(head, name) else "unknown"


def _is_json_line(start: bytes) -> bool:
    """Whether the first line is a JSON object, or is too long to tell and begins like one."""
    if not start.removeprefix(b"\xef\xbb\xbf").startswith(b"{"):
        return False
    line, newline, _ = start.partition(b"\n")
    if not newline and len(start) >= SNIFFED_BYTES - 16:
        return re.match(rb'(\xef\xbb\xbf)?\{\s*"[^"\\\n]{1,200}"\s*:\s*["{\[\dtfn]', start) is not None
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def is_page(head: bytes, name: str) -> bool:
    """Whether the start of a file is that of an HTML page."""
    text = head.replace(b"\0", b"")
    leading = _LEADING.match(text)
    start = text[leading.end() if leading else 0 :]
    if _OTHER_XML.match(start):
        return False
    if _DOCUMENT_START.match(start):
        return True
    if _SOURCE_NAME.search(name):
        return False
    if _HTML_NAME.search(name):
        return True
    if _PROGRAM_NAME.search(name) and not start.startswith((b"<?php", b"<%", b"#!")):
        return _DOCUMENT.search(text[:_TAG_BYTES]) is not None or _TAG_START.match(start) is not None
    return _TAG_START.match(start) is not None


def looks_like_html(content: bytes) -> bool:
    """Whether the start of a body has an HTML tag; a long comment before it does not count."""
    start = content[:SNIFFED_BYTES].replace(b"\0", b"")
    leading = _LEADING.match(start)
    first = leading.end() if leading else 0
    return _HTML_TAG.search(start[first : first + _TAG_BYTES]) is not None
