"""Markup to blocks of readable text, in one walk over the tree that a browser would build.

Nothing that can be seen is left out: navigation, sidebars and footers are boxes here, and main_content.py judges them.
Hidden elements, scripts and form fields are no text. The cost is linear in the size of the markup, however deep.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser, LexborNode

from humpback_jax.corpus.content import formulas
from humpback_jax.corpus.content.block_elements import SKIP, Closing
from humpback_jax.corpus.content.blocks import Block, Box, PageBlocks
from humpback_jax.corpus.content.inline_elements import InlineElements
from humpback_jax.corpus.content.nesting import limit_nesting
from humpback_jax.corpus.content.tables import is_numbering
from humpback_jax.corpus.content.text import clean, one_line
from humpback_jax.corpus.content.visibility import UNREMARKABLE, Attributes, is_hidden, is_popup, read_names
from humpback_jax.corpus.content.writer import BlockWriter

_LONGEST_TITLE = 200  # characters of a plain text's first line that may be its title
_LEAST_ARTICLE = 200  # characters; less is no article

# A page of frames shows what stands in <noframes> to browsers without frames.
_FRAME_TAGS = re.compile(r"</?(?:noframes|frameset|frame)\b[^<>]*>", re.IGNORECASE)

# "[edit]" at the end of a wiki's headers, in any language; a number there is a note.
_AT_HEADERS = re.compile(r"\S(\[[^\[\]\d]{3,60}\])$")

_NOT_TEXT = frozenset(
    (
        *(
            None,
            "-comment",
            "-cdata",
            "-document",
            "!doctype",
            "head",
            "style",
            "title",
            "meta",
            "link",
            "base",
            "param",
            "del",
        ),
        *("svg", "canvas", "iframe", "object", "embed", "audio", "video", "map", "area", "frame", "applet"),
        *("datalist", "option", "optgroup", "progress", "meter", "col", "colgroup", "rp", "source", "track", "wbr"),
    )
)

_HEADERS = ("h1", "h2", "h3", "h4", "h5", "h6")
_SHADOW_ROOT = frozenset(("shadowrootmode", "shadowroot"))  # the second as browsers once wrote it
_NEVER_HIDDEN = frozenset(("html", "body", "main", "script"))
# Attributes that tell how an element looks.
_TELLING = frozenset(("hidden", "aria-hidden", "aria-controls", "role", "style", "data-line-number"))


def read_html(markup: str) -> PageBlocks:
    """Reads a page, however broken, as browsers do; never raises."""
    markup = limit_nesting(markup.replace("\0", "") if "\0" in markup else markup)
    reader = _read(markup)
    chars = reader.number_of_chars(max(_LEAST_ARTICLE, reader.noscript_chars))
    if reader.noscript_chars > max(_LEAST_ARTICLE, 2 * chars):
        # Without scripts there is next to nothing to see: what a browser without them shows is the page.
        reader = _read(markup, scripting=False)
    elif reader.noframes_chars > max(_LEAST_ARTICLE, 2 * chars):
        reader = _read(_FRAME_TAGS.sub(" ", markup))
    elif reader.has_hidden and chars < _LEAST_ARTICLE:
        # A page that its scripts show when it is loaded: all of it is hidden until then.
        unhidden = _read(markup, shows_hidden=True)
        reader = unhidden if unhidden.number_of_chars() > 4 * max(chars, _LEAST_ARTICLE) else reader
    out = reader.out
    return PageBlocks(out.blocks, out.boxes, reader.title, reader.language, out.empty_headers)


def _read(markup: str, *, scripting: bool = True, shows_hidden: bool = False) -> "_Reader":
    parser = LexborHTMLParser(markup, scripting=scripting, options=LexborDocumentOptions.WO_EVENTS)
    reader = _Reader(shows_hidden)
    if parser.root is not None:
        reader.walk(parser.root)
    reader.out.flush()
    return reader


def read_plain_text(text: str) -> PageBlocks:
    """Reads a text without markup, such as a WET record: each line is a block, and an empty line sets them apart.

    The first line is the title, a header of level 1, unless it is long or the only one. Short lines that end in the
    same words in brackets are the headers of a wiki, and the words are its link to edit a section.
    """
    out = BlockWriter()
    group = out.new_group()
    for line in text.replace("\0", "").splitlines():
        words = " ".join(clean(line).split())
        if words:
            out.blocks.append(Block(words, group=group))
        elif out.blocks:
            group = out.new_group()
    blocks = out.blocks
    if len(blocks) > 1 and len(blocks[0].text) <= _LONGEST_TITLE:
        blocks[0].kind, blocks[0].level, blocks[0].group = "header", 1, 0
    _find_wiki_headers(blocks)
    return PageBlocks(blocks, [Box(0, "#page")], blocks[0].text if blocks and blocks[0].level else "")


def _find_wiki_headers(blocks: list[Block]) -> None:
    ends = {
        index: found.group(1)
        for index, block in enumerate(blocks)
        if len(block.text) <= _LONGEST_TITLE and (found := _AT_HEADERS.search(block.text))
    }
    counts = Counter(ends.values())
    for index, end in ends.items():
        if counts[end] > 1:
            block = blocks[index]
            block.text, block.group = block.text.removesuffix(end), 0
            block.kind, block.level = "header", block.level or 2


class _Reader(InlineElements):
    """Walks over the tree; `_OPENERS` has the method that opens each tag."""

    def __init__(self, shows_hidden: bool) -> None:
        super().__init__()
        self.title = ""
        self.language = ""
        self.noscript_chars = self.noframes_chars = 0
        self.has_hidden = False
        self._shows_hidden = shows_hidden
        self._controlled: set[str] = set()  # ids of what other elements open and close

    def number_of_chars(self, enough: int | None = None) -> int:
        """Characters of all blocks; those of the first ones where they are `enough`."""
        chars = 0
        for block in self.out.blocks:
            chars += len(block.text)
            if enough is not None and chars >= enough:
                break
        return chars

    def walk(self, root: LexborNode) -> None:
        """Reads all under `root` in document order, without recursion."""
        out = self.out
        inline = out.inline
        rest: list[tuple[LexborNode | None, Closing | None]] = []
        node: LexborNode | None = root
        closing: Closing | None
        while True:
            if node is None:
                if not rest:
                    return
                node, closing = rest.pop()
                if closing is not None:
                    closing[0](closing[1])
                continue
            tag: Any = node.tag  # None for a processing instruction
            if tag == "-text":
                text: Any = node.text_content
                if text.isspace():
                    if inline or out.mode == "code":
                        inline.append(text)
                else:
                    out.add(text)
                node = node.next
                continue
            following = node.next
            if tag in _NOT_TEXT:
                if tag == "head":
                    self.title = _title(node)
                node = following
                continue
            closing = None
            attributes = node.attributes
            if attributes:
                names = attributes.get("class")
                if (names and read_names(names) is not UNREMARKABLE) or not _TELLING.isdisjoint(attributes):
                    closing = self._look_closer(tag, attributes, node)
            if closing is None:
                opener = _OPENERS.get(tag)
                if opener is not None:
                    closing = opener(self, tag, attributes, node)
                elif attributes or "-" in tag:
                    closing = self._open_inline(tag, attributes)
            if closing is SKIP:
                node = following
                continue
            child = node.child if tag != "template" else _shadow_root(node)
            if child is not None:
                rest.append((following, closing))
                node = child
                continue
            if closing is not None:
                closing[0](closing[1])
            node = following

    def _look_closer(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing | None:
        """SKIP for a hidden element, an opened header for one that has its role; None for all others."""
        if "aria-controls" in attributes:
            self._controlled.update((attributes["aria-controls"] or "").split())
        names = attributes.get("class") or ""
        if tag not in _NEVER_HIDDEN and is_hidden(tag, attributes, self._controlled):
            self.has_hidden = True
            is_only_copy = "katex-html" in names and node.prev is None
            if not is_only_copy and not (self._shows_hidden and not is_popup(tag, attributes)):
                return SKIP
        role = attributes.get("role")
        if role == "heading" and tag not in _HEADERS:
            return self.open_header(tag, attributes, node)
        if role == "button" and "aria-expanded" in attributes and tag != "button" and self.opens_answer(node):
            return self._begin_header(tag, self._level_inside(), attributes)
        look = read_names(names)
        if (look.gutter or "data-line-number" in attributes) and is_numbering(node):
            return SKIP
        return SKIP if look.formula and formulas.is_copy_of_script(names, node) else None

    def _open_html(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing | None:
        if attributes:
            self.language = (attributes.get("lang") or attributes.get("xml:lang") or "").strip()
        return self.open_block(tag, attributes)

    def _open_noscript(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing | None:
        """With scripting, its markup is one text."""
        child = node.child
        if child is not None and child.tag == "-text" and child.next is None:
            self.noscript_chars += len(child.text_content or "")
            return SKIP
        return self.open_block(tag, attributes)

    def _open_noframes(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        """Its markup is one text."""
        child = node.child
        self.noframes_chars += len(child.text_content or "") if child is not None else 0
        return SKIP

    def _open_template(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing | None:
        """A shadow root is shown in place of its host; other templates are shown nowhere."""
        return self.open_block(tag, attributes) if attributes and _SHADOW_ROOT & attributes.keys() else SKIP


_Opener = Callable[[_Reader, str, Attributes, LexborNode], Closing | None]
_OPENERS: dict[str, _Opener] = {
    **dict.fromkeys(
        (
            *(
                "body",
                "address",
                "article",
                "section",
                "main",
                "header",
                "footer",
                "nav",
                "aside",
                "menu",
                "search",
                "hr",
            ),
            *("div", "center", "figure", "form", "fieldset", "legend", "frameset", "p", "dd", "optgroup"),
        ),
        _Reader.open_block,
    ),
    **dict.fromkeys(_HEADERS, _Reader.open_header),
    **dict.fromkeys(("ul", "ol", "dir", "menu"), _Reader.open_list),
    **dict.fromkeys(("pre", "xmp", "listing", "plaintext"), _Reader.open_code),
    **dict.fromkeys(("blockquote", "dt", "figcaption"), _Reader.open_kind),
    **dict.fromkeys(("thead", "tbody", "tfoot"), _Reader.open_row_group),
    **dict.fromkeys(("td", "th"), _Reader.open_cell),
    **dict.fromkeys(("b", "strong", "big", "font"), _Reader.open_bold),
    **dict.fromkeys(("sup", "sub"), _Reader.open_raised),
    **dict.fromkeys(("rt", "rtc"), _Reader.open_ruby_text),
    **dict.fromkeys(("s", "strike"), _Reader.open_struck),
    **dict.fromkeys(("code", "kbd", "samp", "tt"), _Reader.open_inline_code),
    **dict.fromkeys(("label", "time", "output", "cite"), _Reader.open_label),
    **dict.fromkeys(("input", "textarea", "select"), _Reader.open_control),
    "html": _Reader._open_html,
    "noscript": _Reader._open_noscript,
    "noframes": _Reader._open_noframes,
    "template": _Reader._open_template,
    "a": _Reader.open_link,
    "br": _Reader.open_break,
    "button": _Reader.open_button,
    "caption": _Reader.open_caption,
    "details": _Reader.open_details,
    "dialog": _Reader.open_dialog,
    "dl": _Reader.open_definitions,
    "hgroup": _Reader.open_header_group,
    "img": _Reader.open_image,
    "li": _Reader.open_item,
    "math": _Reader.open_math,
    "q": _Reader.open_quotation,
    "script": _Reader.open_script,
    "summary": _Reader.open_summary,
    "table": _Reader.open_table,
    "tr": _Reader.open_row,
}


def _title(head: LexborNode) -> str:
    child = head.child
    while child is not None and child.tag != "title":
        child = child.next
    text = child.child if child is not None else None
    return one_line([text.text_content or ""]) if text is not None else ""


def _shadow_root(template: LexborNode) -> LexborNode | None:
    """The content of a <template>, which is no child of it."""
    fragments = template.template_fragments()
    return fragments[0].child if fragments else None
