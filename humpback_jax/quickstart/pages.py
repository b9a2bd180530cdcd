"""Python's language reference, which every Python brings as `pydoc_data.topics`, as HTML pages for the quickstart.

The topics are plain text as Sphinx prints it: nearly reStructuredText, but literal blocks are only indented and entries
of functions are a bare signature over indented text. Both are marked up first; docutils does the rest.
"""

import html
import os
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.core import publish_parts
from docutils.parsers.rst import Directive, Parser, directives
from docutils.writers.html5_polyglot import Writer
from etils import epath

from humpback_jax.files import PathLike, write_atomically

_ENTRY_DIRECTIVE = "reference-entry"
_RUBRIC = re.compile(r"-\[ (.+) \]-")
_LIST_MARKER = re.compile(r"([*•-]|\w{1,2}\.|\(\w\)) +")
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
# A paragraph that starts at the margin, or a run of indented lines with the empty lines inside it.
_CHUNK = re.compile(r"^(?:[^ \n].*(?:\n.+)*| .*(?:\n+ .*)*)", re.MULTILINE)
_FOOTNOTE_MARK = re.compile(r'(?<=[\w.,;:)"”])\s+\[\d{1,2}\](?=[\s.,;:)]|$)')

PAGE_SETTINGS = {
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
<footer>{source}</footer>
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
    source = _mark_up(text.split("-[ Footnotes ]-")[0])
    directives.register_directive(_ENTRY_DIRECTIVE, _EntryDirective)
    parts = publish_parts(
        source, parser=Parser(inliner=_TextInliner()), writer=Writer(), settings_overrides=PAGE_SETTINGS
    )
    return html_page(topic, parts["body"].strip(), "From the Python documentation, Python Software Foundation License.")


def html_page(title: str, body: str, source: str) -> str:
    """A page with its title, its body as HTML, and where it is from at its foot."""
    return _PAGE.format(title=html.escape(title), body=body, source=html.escape(source))


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


class _EntryDirective(Directive):
    """`.. reference-entry:: SIGNATURE` over the text of the entry."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self) -> list[nodes.Node]:
        """The entry as an <article> under a header one level below the one that surrounds it."""
        memo, entry = self.state.memo, nodes.Element()
        outer_entries = getattr(memo, "open_entries", 0)
        memo.open_entries = outer_entries + 1
        self.state.nested_parse(self.content, self.content_offset, entry)
        memo.open_entries = outer_entries
        header = f"h{min(1 + memo.section_level + outer_entries, 6)}"
        signature = html.escape(" ".join(self.arguments[0].split()))
        begin = nodes.raw("", f"<article>\n<{header}>{signature}</{header}>\n", format="html")
        return [begin, *entry.children, nodes.raw("", "</article>\n", format="html")]


def _mark_up(text: str, lead: str = "") -> str:
    """reStructuredText for Sphinx's text; `lead` is the paragraph that it follows, inside which it stands."""
    lines = map(str.rstrip, text.expandtabs().splitlines())
    return "\n\n".join(_marked_up_chunks(_CHUNK.findall("\n".join(lines)), lead))


def _marked_up_chunks(chunks: list[str], previous: str) -> Iterator[str]:
    for index, chunk in enumerate(chunks):
        if chunk.startswith(" "):
            if not _is_entry(chunks, index - 1):
                yield _indented(chunk, previous)
        elif _is_entry(chunks, index):
            yield _entry(chunk, textwrap.dedent(chunks[index + 1]))
        else:
            yield "\n".join(map(_mark_up_line, chunk.split("\n")))
            previous = chunk


def _mark_up_line(line: str) -> str:
    if _HEAD_RULE.fullmatch(line):
        return line.replace("|", "+")
    return _NOTE_CELL.sub(rf"| {_GUARD}\1", _RUBRIC.sub(r"\1", line))


def _indented(chunk: str, previous: str) -> str:
    """Code, or what stands inside the list item or note that begins with the paragraph `previous`."""
    content, item_margin = textwrap.dedent(chunk), _item_margin(previous)
    margin = len(chunk.partition("\n")[0]) - len(content.partition("\n")[0])
    if margin > item_margin and _is_code(content, previous):
        return " " * item_margin + f"::\n\n{chunk}"
    return textwrap.indent(_mark_up(content, previous if margin == item_margin else ""), " " * margin)


def _entry(signatures: str, content: str) -> str:
    """The first signature becomes the header of the entry, the rest the first lines of its text."""
    header, _, others = signatures.partition("\n")
    literal = "::\n\n" + textwrap.indent(others, "   ") + "\n\n" if others else ""
    return f".. {_ENTRY_DIRECTIVE}:: {header}\n\n" + textwrap.indent(literal + _mark_up(content), "   ")


def _is_entry(chunks: list[str], index: int) -> bool:
    """Whether a chunk is the signature of an entry: bare lines over an indented text that is no code."""
    if not 0 <= index < len(chunks) - 1:
        return False
    signature, content = chunks[index : index + 2]
    if signature.startswith(" ") or not content.startswith(" "):
        return False
    is_bare = not re.search(r"^ |[.:,;]$", signature, re.MULTILINE)
    return is_bare and not _item_margin(signature) and not _is_code(textwrap.dedent(content), signature)


def _item_margin(paragraph: str) -> int:
    """How far the text of a list item stands from the margin; 0 for a paragraph that is none."""
    marker = _LIST_MARKER.match(paragraph)
    return marker.end() if marker else 0


def _is_code(content: str, previous: str) -> bool:
    """Whether an indented block is code (or grammar), not a note, a list or the text of an entry."""
    if "::=" in content or re.search(r"^>>>", content, re.MULTILINE):
        return True
    if _STRUCTURE.match(content) or previous.rpartition("\n")[2] in _LABELS:
        return False
    paragraph = content.partition("\n\n")[0]
    reads_as_prose = _PROSE_START.match(paragraph) and paragraph.endswith(_SENTENCE_END)
    return not reads_as_prose or " = " in paragraph.partition("\n")[0]
