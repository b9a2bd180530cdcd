"""Inline elements: links, emphasis, raised text, ruby, formulas, pictures, line breaks, form fields."""

from selectolax.lexbor import LexborNode

from humpback_jax.corpus.content import exponents, formulas
from humpback_jax.corpus.content.block_elements import SKIP, BlockElements, Closing
from humpback_jax.corpus.content.text import (
    BREAK,
    CODE,
    GAP,
    LINE_START,
    SPAN_GAP,
    STRUCK,
    STRUCK_END,
    one_line,
)
from humpback_jax.corpus.content.visibility import (
    Attributes,
    font_size_of,
    language_of,
    names_of,
    read_names,
    read_style,
    role_of,
)


class InlineElements(BlockElements):
    """Reads what stands in a line, beside the blocks."""

    def _open_inline(self, tag: str, attributes: Attributes) -> Closing | None:
        """<span> and the like, and every element that HTML does not know."""
        out = self.out
        state = (out.emphasis, out.size, out.box, "")
        names = attributes.get("class") if attributes else None
        style = read_style(attributes["style"] or "") if attributes and "style" in attributes else None
        if style is not None:
            if style.apart == "block":
                return self._open_block(tag, attributes)
            if style.unselectable and out.mode == "code":
                return SKIP
            self._emphasise(style.bold, style.size)
        if out.mode == "code":
            if names and read_names(names).line:
                out.inline.append(LINE_START)
                return self._end_code_line, len(out.inline)
            return (self._end_inline, state) if style is not None else None
        if names:
            out.names.append(names)
        if style is not None and style.struck:
            out.inline.append(STRUCK)
            return self._end_inline, (*state[:3], STRUCK_END)
        if "-" in tag or (style is not None and style.apart):
            out.inline.append(GAP)
            if "-" in tag:
                out.open_box(tag, role_of(attributes), names_of(attributes))
            return self._end_inline, (*state[:3], GAP)
        if tag == "span":
            if names and self._last_span_end == len(out.inline):
                out.inline.append(SPAN_GAP)
            return self._end_span, state
        return (self._end_inline, state) if style is not None else None

    def _end_inline(self, state: tuple[int, int, int, str]) -> None:
        out = self.out
        out.emphasis, out.size, out.box, mark = state
        if mark:
            out.inline.append(mark)

    def _end_span(self, state: tuple[int, int, int, str]) -> None:
        self._end_inline(state)
        self._last_span_end = len(self.out.inline)

    def open_bold(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        out = self.out
        state = (out.emphasis, out.size, out.box, "")
        style = read_style(attributes["style"] or "") if attributes and "style" in attributes else None
        if tag == "font":
            self._emphasise(False, font_size_of(attributes, out.size))
        elif tag == "big":
            self._emphasise(False, min(out.size + 1, 7))
        else:
            out.emphasis += 1
        if style is not None and style.apart == "block":
            return self._open_block(tag, attributes)
        return self._end_inline, state

    def open_link(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing | None:
        out = self.out
        if self._last_link_end == len(out.inline) and out.mode != "code":
            out.inline.append(GAP)
        if not attributes or "href" in attributes or not ("name" in attributes or "id" in attributes):
            closing = self._open_inline(tag, attributes) if attributes else None
            out.open_link()
            return self._end_link, (closing, len(out.inline))
        return self._open_inline(tag, attributes)

    def _end_link(self, state: tuple[Closing | None, int]) -> None:
        """Drops permalink signs: they point somewhere and say nothing."""
        closing, begin = state
        out = self.out
        text = out.close_link()
        if len(text) <= exponents.LONGEST_SIGN and exponents.is_sign(text) and begin <= len(out.inline):
            del out.inline[begin:]
            out.forget_link(text)
        if closing is not None:
            closing[0](closing[1])
        self._last_link_end = len(out.inline)

    def open_label(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        self.out.inline.append(GAP)
        if tag == "time":
            self.out.dates += 1
        closing = self._open_inline(tag, attributes) if attributes else None
        return self._end_label, closing

    def _end_label(self, closing: Closing | None) -> None:
        if closing is not None and closing is not SKIP:
            closing[0](closing[1])
        self.out.inline.append(GAP)
        self._last_link_end = len(self.out.inline)

    def open_raised(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing | None:
        return (self._end_raised, (tag, len(self.out.inline), attributes)) if self.out.mode != "code" else None

    def _end_raised(self, state: tuple[str, int, Attributes]) -> None:
        """Exponents and indices; the marks of notes are dropped."""
        tag, begin, attributes = state
        inline = self.out.inline
        if begin > len(inline):
            return
        before = one_line(inline[max(begin - 3, 0) : begin])
        if begin and inline[begin - 1][-1:].isspace():
            before += " "
        text = one_line(inline[begin:])
        del inline[begin:]
        inline.append(exponents.raised(tag, text, before, linked=self._last_link_end > begin, attributes=attributes))

    def open_quotation(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        self.out.inline.append("“")
        return self.out.inline.append, "”"

    def open_struck(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        self.out.inline.append(STRUCK)
        return self.out.inline.append, STRUCK_END

    def open_ruby_text(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        self.out.inline.append("(")
        return self._end_ruby_text, len(self.out.inline)

    def _end_ruby_text(self, begin: int) -> None:
        text = one_line(self.out.inline[begin:])
        del self.out.inline[max(begin - 1, 0) :]
        if text:
            self.out.inline.append(f"({text})")

    def open_inline_code(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing | None:
        if self.out.mode == "code":
            self.out.language = self.out.language or language_of(attributes)
            return self._open_inline(tag, attributes) if attributes else None
        self.out.inline.append(CODE)
        return self.out.inline.append, CODE

    def open_break(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        """A line break; a second one ends the paragraph, as does one after a line that is a title by its looks."""
        out = self.out
        if out.mode != "flow":
            out.inline.append(BREAK)
        elif out.is_blank():
            out.line_group = 0
        elif out.is_emphasised():
            # The two lines are one paragraph, but the first may turn out to be a title.
            out.line_group = out.line_group or out.new_group()
            out.flush()
        elif _ends_with_break(out.inline):
            out.end_paragraph()
        else:
            out.inline.append(BREAK)
        return SKIP

    def open_image(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        self.out.images += 1
        text = formulas.image_text(attributes) if attributes else ""
        if text:
            self.out.add(text)
        return SKIP

    def open_math(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        text = formulas.math_text(node)
        if text:
            self.out.add(text)
        return SKIP

    def open_script(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        text = formulas.script_text(attributes, node) if attributes else ""
        if text:
            self.out.add(text)
        return SKIP

    def open_control(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing:
        """Form fields: their text is no text of the page."""
        self.out.controls += 1
        return SKIP

    def open_button(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing | None:
        out = self.out
        if out.mode == "header":
            return self._open_inline(tag, attributes) if attributes else None
        out.controls += 1
        if node.css_first("h1,h2,h3,h4,h5,h6") is not None:
            return self._open_block(tag, attributes)
        return SKIP


def _ends_with_break(inline: list[str]) -> bool:
    return next((piece for piece in reversed(inline) if not piece.isspace()), "") == BREAK
