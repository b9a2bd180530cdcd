"""HTML to blocks and sections: the sub-tree definition, wrapped headers, readable text, hostile markup."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from humpback_jax.corpus.html import PageText, read_html, read_plain_text
from humpback_jax.corpus.readers.charset import UndecodableError, decode_page


def section_texts(page: PageText) -> dict[str, str]:
    return {section.header: page.text(section.first, section.end) for section in page.sections}


PAGE = """
<h1>Bread</h1><p>Bread is old.</p>
<h2>Dough</h2><p>Mix it.</p>
<h3>Rest</h3><p>Wait an hour.</p>
<h2>Oven</h2><p>Heat it.</p>
<h1>Soup</h1><p>Soup is wet.</p>
"""


def test_section_holds_lower_headers_and_ends_at_same_or_higher_level() -> None:
    assert section_texts(read_html(PAGE)) == {
        "Bread": "Bread is old.\n\nDough\n\nMix it.\n\nRest\n\nWait an hour.\n\nOven\n\nHeat it.",
        "Dough": "Mix it.\n\nRest\n\nWait an hour.",
        "Rest": "Wait an hour.",
        "Oven": "Heat it.",
        "Soup": "Soup is wet.",
    }


def test_boxes_around_headers_do_not_change_the_sections() -> None:
    wrapped = PAGE.replace("<h2>", "<div class='row'><div><header><h2><span>")
    wrapped = wrapped.replace("</h2>", "</span></h2></header></div></div>").replace("<p>Heat", "<div><div><p>Heat")
    assert section_texts(read_html(wrapped)) == section_texts(read_html(PAGE))


def test_section_ends_with_the_article_or_main_around_its_header() -> None:
    page = read_html("<main><article><h2>Story</h2><p>Text.</p></article><p>More.</p></main><div>Sidebar</div>")
    assert section_texts(page) == {"Story": "Text."}
    page = read_html("<h3>Outside</h3><article><h2>Inside</h2>a</article><p>after</p>")
    assert section_texts(page) == {"Outside": "", "Inside": "a"}


def test_text_is_readable() -> None:
    page = read_html(
        """<h1>All <em>kinds</em><a class="headerlink" href="#x">¶</a></h1>
        <p>One   two<br>three.<sup>[1]</sup></p>
        <ul><li>a<li>b <ol start=3><li>c<li><p>d</p><p>e</p></ol><li>f</ul>
        <pre>
def f(x):
    return x
</pre>
        <table><caption>Prices</caption><tr><th>What<th>How much<tr><td><p>tea</p><td>2 <br> euros</table>
        <dl><dt>term<dd>meaning<p>more<dt>next<dd>other</dl>"""
    )
    assert section_texts(page)["All kinds"] == (
        "One two\nthree.\n\n"
        "- a\n- b\n  3. c\n  4. d\n     e\n- f\n\n"
        "def f(x):\n    return x\n\n"
        "Prices\n\nWhat | How much\ntea | 2 euros\n\n"
        "term\nmeaning\n\nmore\n\nnext\nother"
    )


def test_layout_table_is_read_as_boxes() -> None:
    page = read_html("<table><tr><td><h2>Left</h2><p>one</p></td><td><p>two</p></td></tr></table>")
    assert section_texts(page) == {"Left": "one\n\ntwo"}


@pytest.mark.parametrize(
    "hidden",
    [
        "<script>x()</script>",
        "<style>p{}</style>",
        "<noscript>x</noscript>",
        "<template><h2>x</h2></template>",
        "<nav><h2>x</h2></nav>",
        "<footer>x</footer>",
        "<div hidden>x</div>",
        "<div role='navigation'>x</div>",
        "<span aria-hidden='true'>x</span>",
        "<div style='color:red; display : none'>x</div>",
        "<select><option>x</select>",
        "<!-- x -->",
        "<?x y?>",
    ],
)
def test_what_a_reader_does_not_see_is_left_out(hidden: str) -> None:
    page = read_html(f"<h1>Title</h1><p>seen</p>{hidden}<p>too</p>")
    assert section_texts(page) == {"Title": "seen\n\ntoo"}


def test_broken_html() -> None:
    assert section_texts(read_html("<h1>Title<p>text<li>item</div></h1><h2>Next")) == {
        "Title": "text\n\nitem\n\nNext",
        "Next": "",
    }
    assert section_texts(read_html("<h1>A\0B</h1>\0c&#0;d<h9>e")) == {"AB": "c\N{REPLACEMENT CHARACTER}de"}
    assert read_html("").sections == ()
    assert read_html("<frameset><frame></frameset>").blocks == ()


def test_empty_header_is_a_section_without_a_block() -> None:
    page = read_html("<p>before</p><h2><img alt='logo'></h2><p>after</p>")
    assert [(section.header, page.text(section.first, section.end)) for section in page.sections] == [("", "after")]
    assert [block.text for block in page.blocks] == ["before", "after"]


@pytest.mark.parametrize("box", ["<div>", "<ul><li>", "<table><tr><td>", "<blockquote>", "<span>", "<article>"])
def test_depth_has_no_limit(box: str) -> None:
    page = read_html(box * 10_000 + "<h1>Deep</h1>down")
    assert section_texts(page) == {"Deep": "down"}


@pytest.mark.slow
def test_a_hundred_thousand_nested_boxes() -> None:
    page = read_html("<div>" * 100_000 + "<h1>Deep</h1>down")
    assert section_texts(page) == {"Deep": "down"}


def test_wet_page_is_one_section_under_its_first_line() -> None:
    page = read_plain_text("\n Title \n\nfirst\x00 line\nsecond\u200b line\n")
    assert section_texts(page) == {"Title": "first line\nsecond line"}
    assert read_plain_text("only a title").sections == ()
    assert read_plain_text("").blocks == ()


TAGS = (
    *("h1", "h2", "h6", "p", "div", "main", "article", "nav", "ul", "ol", "li", "dl", "dt", "dd", "table", "tr", "td"),
    *("pre", "br", "a", "sup", "svg", "math", "template", "select", "form", "script", "textarea", "plaintext"),
)
OTHER = ("<!--", "-->", "<![CDATA[", "]]>", "<?x ?>", "<h2 ", "&amp;", "&#0;", "&#xD800;", "\0", "'", '"', "=", ">")
FRAGMENTS = st.sampled_from([*(f"<{tag}>" for tag in TAGS), *(f"</{tag}>" for tag in TAGS), *OTHER, " text "])


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=400), st.lists(FRAGMENTS, max_size=60).map(lambda parts: "".join(parts).encode())))
@example(b"\xff\xfe\x00")
@example(b"<svg><template>\n")
def test_any_bytes_give_text_or_a_named_refusal(body: bytes) -> None:
    try:
        text = decode_page(body, None)
    except UndecodableError:
        return
    for page in (read_html(text), read_plain_text(text)):
        whole = page.text()
        assert "\0" not in whole
        whole.encode("utf-8")
        for section in page.sections:
            assert 0 <= section.first <= section.end <= len(page.blocks)
            assert page.text(section.first, section.end) in whole


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.text("abc", min_size=1, max_size=5)), max_size=15))
def test_sections_match_the_definition_on_any_outline(outline: list[tuple[int, str]]) -> None:
    markup = "".join(f"<div><h{level}>H{i}</h{level}></div><p>{text}</p>" for i, (level, text) in enumerate(outline))
    page = read_html(markup)
    assert len(page.sections) == len(outline)
    for i, section in enumerate(page.sections):
        expected = [outline[i][1]]
        for j in range(i + 1, len(outline)):
            if outline[j][0] <= outline[i][0]:
                break
            expected += [f"H{j}", outline[j][1]]
        assert page.text(section.first, section.end) == "\n\n".join(expected)
