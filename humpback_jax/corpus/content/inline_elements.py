"""Inline elements: links, emphasis, raised text, ruby, formulas, pictures, line breaks, form fields."""

from selectolax.lexbor import LexborNode

from humpback_jax.corpus.content import exponents, formulas
from humpback_jax.corpus.content.block_elements import SKIP, BlockElements, Closing, label_of
from humpback_jax.corpus.content.text import (
    BREAK,
    LINE_START,
    STRUCK,
    STRUCK_END,
    one_line,
)
from humpback_jax.corpus.content.visibility import (
    Attributes,
    Style,
    font_size_of,
    language_of,
    names_of,
    read_names,
    read_style,
    role_of,
)

_GAP = "gap"
_QUESTION_WORDS = 4  # a shorter label of a button is rather "Show more" than the title of what it opens


class InlineElements(BlockElements):
    """Reads what stands in a line, beside the blocks."""

    def _open_inline(self, tag: str, attributes: Attributes) -> Closing | None:
        """<span> and the like, and every element that HTML does not know."""
        out = self.out
        names = None
        if attributes:
            if "style" in attributes:
                return self._open_styled(tag, attributes, read_style(attributes["style"] or ""))
            names = attributes.get("class")
        if out.mode == "code":
            return self._open_code_line() if names and read_names(names).line else None
        if names:
            out.names.append(names)
            out.counted = True
        if "-" in tag:
            return self._open_custom(tag, attributes)
        return (self._end_span, None) if names and tag == "span" else None

    def _open_styled(self, tag: str, attributes: Attributes, style: Style) -> Closing | None:
        out = self.out
        names = attributes.get("class")
        if style.apart == "block":
            return self.open_block(tag, attributes)
        if out.mode == "code":
            if style.unselectable:
                return SKIP
            return self._open_code_line() if names and read_names(names).line else None
        state = (out.emphasis, out.size, out.box)
        self._emphasise(style.bold, style.size)
        if names:
            out.names.append(names)
            out.counted = True
        if style.struck:
            out.inline.append(STRUCK)
        elif style.apart:
            out.leave_gap(between_boxes=True)
        return self._end_inline, (*state, STRUCK_END if style.struck else _GAP if style.apart else "")

    def _open_custom(self, tag: str, attributes: Attributes) -> Closing:
        """An element of the page's own making; it may hold blocks."""
        out = self.out
        out.leave_gap(between_boxes=True)
        state = (out.emphasis, out.size, out.box, _GAP)
        out.open_box(tag, role_of(attributes), names_of(attributes)) if attributes else out.open_box(tag, "", "")
        return self._end_inline, state

    def _open_code_line(self) -> Closing:
        self.out.inline.append(LINE_START)
        return self._end_code_line, len(self.out.inline)

    def _end_inline(self, state: tuple[int, int, int, str]) -> None:
        out = self.out
        out.emphasis, out.size, out.box, mark = state
        if mark == _GAP:
            out.leave_gap(between_boxes=True)
        elif mark:
            out.inline.append(mark)

    def _end_span(self, _: None) -> None:
        self.out.leave_gap(between_boxes=False)

    def open_bold(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing | None:
        """Bold or larger text: a block that is nothing else may be a title."""
        out = self.out
        state = (out.emphasis, out.size, out.box, "")
        closing = self._open_inline(tag, attributes) if attributes else None
        if closing is SKIP:
            return SKIP
        if tag == "font":
            self._emphasise(False, font_size_of(attributes))
        elif tag == "big":
            self._emphasise(False, min(out.size + 1, 7))
        else:
            out.emphasis += 1
        return self._end_both, (closing, (self._end_inline, state))

    def _end_both(self, closings: tuple[Closing | None, Closing]) -> None:
        for closing in closings:
            if closing is not None:
                closing[0](closing[1])

    def open_link(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing | None:
        """A link, whose characters are counted, or an anchor, whose text is text like any other."""
        out = self.out
        if out.link_end == len(out.inline) and out.mode != "code":
            out.leave_gap(between_boxes=True)
        closing = None
        if attributes:
            is_link = "href" in attributes or not ("name" in attributes or "id" in attributes)
            if "class" in attributes or "style" in attributes:
                closing = self._open_inline(tag, attributes)
            if closing is SKIP or not is_link:
                return closing
        out.open_link()
        return self._end_link, (closing, len(out.inline))

    def _end_link(self, state: tuple[Closing | None, int]) -> None:
        """Drops permalink signs: they point somewhere and say nothing."""
        closing, begin = state
        out = self.out
        text = out.close_link()
        if len(text) <= exponents.LONGEST_SIGN and exponents.is_sign(text):
            del out.inline[begin:]
            out.forget_link(text)
        if closing is not None:
            closing[0](closing[1])
        out.link_end = len(out.inline)

    def open_label(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing | None:
        """Inline elements that are often set apart, though not by a space."""
        out = self.out
        closing = self._open_inline(tag, attributes) if attributes else None
        if closing is SKIP:
            return SKIP
        if out.mode != "code":
            out.leave_gap(between_boxes=True)
        if tag == "time":
            out.dates += 1
            out.counted = True
        return self._end_label, closing

    def _end_label(self, closing: Closing | None) -> None:
        if closing is not None:
            closing[0](closing[1])
        if self.out.mode != "code":
            self.out.leave_gap(between_boxes=True)

    def open_raised(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing | None:
        return (
            (self._end_raised, (tag, len(self.out.inline), attributes, self.out.link_count))
            if self.out.mode != "code"
            else None
        )

    def _end_raised(self, state: tuple[str, int, Attributes, int]) -> None:
        """Exponents and indices; the marks of notes are dropped."""
        tag, begin, attributes, links = state
        inline = self.out.inline
        if begin > len(inline):
            return
        before = one_line(inline[max(begin - 3, 0) : begin])
        if begin and inline[begin - 1][-1:].isspace():
            before += " "
        text = one_line(inline[begin:])
        del inline[begin:]
        inline.append(exponents.raised(tag, text, before, linked=self.out.link_count > links, attributes=attributes))

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
        out = self.out
        if out.mode == "code":
            out.language = out.language or language_of(attributes)
            return self._open_inline(tag, attributes) if attributes else None
        return self._end_inline_code, len(out.inline)

    def _end_inline_code(self, begin: int) -> None:
        text = one_line(self.out.inline[begin:])
        if text:
            self.out.code_spans.append(text)
            self.out.counted = True

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
        self.out.counted = True
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
        self.out.counted = True
        return SKIP

    def open_button(self, tag: str, attributes: Attributes, node: LexborNode) -> Closing | None:
        """A button's label is no text, unless it is a header or opens the answer to the question that it asks."""
        out = self.out
        if out.mode == "header":
            return self._open_inline(tag, attributes) if attributes else None
        label, has_header = label_of(node)
        if has_header:
            return self.open_block(tag, attributes)
        opens = attributes is not None and "aria-expanded" in attributes and "aria-controls" in attributes
        if opens and _is_title(label) and out.mode == "flow":
            return self._begin_header(tag, self._level_inside(), attributes)
        out.controls += 1
        out.counted = True
        return SKIP

    def opens_answer(self, node: LexborNode) -> bool:
        """Whether an element that is a button by its role is the title of what it opens."""
        label, has_header = label_of(node)
        return self.out.mode == "flow" and not has_header and _is_title(label)


def _is_title(label: str) -> bool:
    return len(label.split()) >= _QUESTION_WORDS or label.endswith(("?", "？", "؟"))


def _ends_with_break(inline: list[str]) -> bool:
    return next((piece for piece in reversed(inline) if not piece.isspace()), "") == BREAK
