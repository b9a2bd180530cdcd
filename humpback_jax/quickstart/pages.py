"""Python's language reference, which every Python brings as `pydoc_data.topics`, as HTML pages for the quickstart.

The topics are plain text as Sphinx prints it: nearly reStructuredText, but literal blocks are only indented and entries
of functions are a bare signature over indented text. Both are marked up first; docutils does the rest.
"""

import html
import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from docutils import nodes
from docutils.core import publish_parts
from docutils.parsers.rst import Directive, Parser, directives
from docutils.writers.html5_polyglot import HTMLTranslator, Writer
from etils import epath

from humpback_jax.files import PathLike, write_atomically

_ENTRY_DIRECTIVE = "reference-entry"
_RUBRIC = re.compile(r"-\[ (.+) \]-")
_LIST_MARKER = re.compile(r"([*•-]|\w{1,2}\.|\(\w\))\s+")
_STRUCTURE = re.compile(r"[*•-] |\+[-=]|\d+\. ")  # a list or a table
_PROSE_START = re.compile(r'\*{0,2}["“(]?\*{0,2}[A-Z]|"[\w.]+(\(\))?" [a-z]')
_SENTENCE_END = (".", ":", ";", ")", ".”")
_LABELS = ("Note:", "Warning:", "See also:", "Tip:", "Caution:")
_STRONG_OR_EMPHASIS = re.compile(
    r'(?<![\w*"])(?:\*\*(?P<strong>[^\s*"][^*"]*)\*\*|\*(?P<emphasis>[^\s*"][^*"]*)\*)(?!\*)'
)
_HEAD_RULE = re.compile(r"\|=[=|]*\|")  # Sphinx's line under the head of a table
# A table cell that holds only "(1)" would be read as the start of a list; this mark, taken out again, prevents it.
_NOTE_CELL = re.compile(r"\| (\(\d+\)) ")
_GUARD = "\N{ZERO WIDTH SPACE}"
_FOOTNOTE_MARK = re.compile(r'(?<=[\w.,;:)"”])\s+\[\d{1,2}\](?=[\s.,;:)]|$)')

_SETTINGS = {
    "report_level": 5,
    "halt_level": 5,
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "doctitle_xform": False,
    "sectsubtitle_xform": False,
    "initial_header_level": 1,
    "smart_quotes": False,
    "_disable_config": True,
}
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body>
<main>
{body}
</main>
<footer>From the Python documentation, Python Software Foundation License.</footer>
</body>
</html>
"""


def write_python_reference_pages(out_dir: PathLike) -> list[str]:
    """Writes one HTML page per topic of this Python's language reference; returns their paths, sorted by topic."""
    from pydoc_data.topics import topics

    folder = epath.Path(out_dir)
    paths = []
    for topic, text in sorted(topics.items()):
        path = folder / f"{topic}.html"
        write_atomically(path, reference_page(topic, text))
        paths.append(os.fspath(path))
    return paths


def reference_page(topic: str, text: str) -> str:
    """One topic, as Sphinx prints it, as an HTML page whose headings are h1 to h6; footnotes are left out."""
    body = text.split("-[ Footnotes ]-")[0]
    source = "\n".join(_mark_up(body.expandtabs().splitlines()))
    directives.register_directive(_ENTRY_DIRECTIVE, _EntryDirective)
    writer = Writer()
    writer.translator_class = _PageTranslator
    parts = publish_parts(source, parser=Parser(inliner=_TextInliner()), writer=writer, settings_overrides=_SETTINGS)
    return _PAGE.format(title=html.escape(topic), body=parts["body"].strip())


class _TextInliner:
    """Reads `*emphasis*` and `**strong**`; any other character, also backslash and underscore, stands for itself."""

    def init_customizations(self, settings: Any) -> None:
        """Nothing to customize; docutils calls it."""

    def parse(self, text: str, lineno: int, memo: Any, parent: nodes.Element) -> tuple[list[nodes.Node], list]:
        """The nodes of a paragraph's text, and no messages."""
        text = re.sub(r"(?<=\w)-\n(?=[a-z])", "-", text)  # a compound word that was wrapped at its hyphen
        text = _FOOTNOTE_MARK.sub("", text.replace(_GUARD, ""))
        found: list[nodes.Node] = []
        position = 0
        for match in _STRONG_OR_EMPHASIS.finditer(text):
            found.append(nodes.Text(text[position : match.start()]))
            kind = nodes.strong if match["strong"] else nodes.emphasis
            found.append(kind("", match["strong"] or match["emphasis"]))
            position = match.end()
        found.append(nodes.Text(text[position:]))
        return found, []


class _ReferenceEntry(nodes.General, nodes.Element):
    """The description of one function or attribute; attribute `signature`."""


class _EntryDirective(Directive):
    """`.. reference-entry:: SIGNATURE` over the text of the entry."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self) -> list[nodes.Node]:
        """One node with the parsed text below it."""
        entry = _ReferenceEntry(signature=" ".join(self.arguments[0].split()))
        self.state.nested_parse(self.content, self.content_offset, entry)
        return [entry]


class _PageTranslator(HTMLTranslator):
    """Writes an entry as an <article> under a header one level below the one that surrounds it."""

    def visit__ReferenceEntry(self, node: _ReferenceEntry) -> None:
        """Opens the article and writes the header."""
        level, parent = 1, node.parent
        while parent is not None:
            level += isinstance(parent, nodes.section | _ReferenceEntry)
            parent = parent.parent
        level = min(level, 6)
        self.body.append(f"<article>\n<h{level}>{html.escape(node['signature'])}</h{level}>\n")

    def depart__ReferenceEntry(self, node: _ReferenceEntry) -> None:
        """Closes the article."""
        self.body.append("</article>\n")


def _mark_up(lines: Iterable[str], lead: Sequence[str] = ()) -> Iterator[str]:
    """Lines of reStructuredText for lines of Sphinx's text; `lead` is the paragraph that the first line follows."""
    chunks = list(_chunks(lines))
    previous = lead
    for index, chunk in enumerate(chunks):
        if _is_indented(chunk):
            if not _is_entry(chunks, index - 1):
                yield from _indented(chunk, previous)
        elif _is_entry(chunks, index):
            yield from _entry(chunk, _dedent(chunks[index + 1]))
        else:
            yield from map(_mark_up_line, chunk)
            yield ""
            previous = chunk


def _mark_up_line(line: str) -> str:
    if _HEAD_RULE.fullmatch(line):
        return line.replace("|", "+")
    return _NOTE_CELL.sub(rf"| {_GUARD}\1", _RUBRIC.sub(r"\1", line))


def _indented(chunk: list[str], previous: Sequence[str]) -> Iterator[str]:
    """Code, or what stands inside the list item or note that begins with the paragraph `previous`."""
    margin, item_margin = _margin(chunk), _item_margin(previous)
    content = _dedent(chunk)
    if margin > item_margin and _is_code(content, previous):
        yield from (" " * item_margin + "::", "", *chunk, "")
    else:
        nested = _mark_up(content, previous if margin == item_margin else ())
        yield from (" " * margin + line if line else "" for line in nested)


def _entry(signatures: list[str], content: list[str]) -> Iterator[str]:
    """The first signature becomes the header of the entry, the rest the first lines of its text."""
    yield from (f".. {_ENTRY_DIRECTIVE}:: {signatures[0]}", "")
    if len(signatures) > 1:
        yield from ("   ::", "", *("      " + line for line in signatures[1:]), "")
    yield from ("   " + line if line else "" for line in _mark_up(content))


def _chunks(lines: Iterable[str]) -> Iterator[list[str]]:
    """Paragraphs that start at the margin, and runs of indented lines with the empty lines inside them."""
    chunk: list[str] = []
    for line in map(str.rstrip, lines):
        indented_run = bool(chunk) and chunk[0].startswith(" ")
        ends_run = indented_run and line and not line.startswith(" ")
        if chunk and (ends_run or (not line and not indented_run)):
            yield _without_tail(chunk)
            chunk = []
        if line or chunk:
            chunk.append(line)
    if chunk:
        yield _without_tail(chunk)


def _without_tail(chunk: list[str]) -> list[str]:
    while not chunk[-1]:
        chunk.pop()
    return chunk


def _dedent(chunk: list[str]) -> list[str]:
    return textwrap.dedent("\n".join(chunk)).split("\n")


def _margin(chunk: list[str]) -> int:
    return min(len(line) - len(line.lstrip()) for line in chunk if line)


def _is_indented(chunk: list[str]) -> bool:
    return chunk[0].startswith(" ")


def _is_entry(chunks: list[list[str]], index: int) -> bool:
    """Whether a chunk is the signature of an entry: bare lines over an indented text that is no code."""
    if not 0 <= index < len(chunks) - 1 or _is_indented(chunks[index]) or not _is_indented(chunks[index + 1]):
        return False
    signature, content = chunks[index], _dedent(chunks[index + 1])
    is_bare = not any(line.startswith(" ") or line.endswith((".", ":", ",", ";")) for line in signature)
    return is_bare and not _item_margin(signature) and not _is_code(content, signature)


def _item_margin(paragraph: Sequence[str]) -> int:
    """How far the text of a list item stands from the margin; 0 for a paragraph that is none."""
    marker = _LIST_MARKER.match(paragraph[0]) if paragraph else None
    return marker.end() if marker else 0


def _is_code(content: list[str], previous: Sequence[str]) -> bool:
    """Whether an indented block is code (or grammar), not a note, a list or the text of an entry."""
    if any("::=" in line or line.startswith(">>>") for line in content):
        return True
    if _STRUCTURE.match(content[0]) or (previous and previous[-1] in _LABELS):
        return False
    paragraph = content[: content.index("")] if "" in content else content
    reads_as_prose = _PROSE_START.match(paragraph[0]) and paragraph[-1].endswith(_SENTENCE_END)
    return not reads_as_prose or " = " in paragraph[0]
