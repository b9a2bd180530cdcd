"""HTML to blocks: readable text whatever the markup, hidden text left out, hostile markup."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from humpback_jax.corpus.content.blocks import PageBlocks
from humpback_jax.corpus.content.html import read_html, read_plain_text


def headers(page: PageBlocks) -> list[tuple[int, str]]:
    return [(block.level, block.text) for block in page.blocks if block.kind == "header"]


def box_tags(page: PageBlocks, index: int) -> list[str]:
    """Tags of the boxes around block number `index`, inner ones first."""
    tags = []
    box = page.blocks[index].box
    while box:
        tags.append(page.boxes[box].tag)
        box = page.boxes[box].parent
    return tags


def test_text_is_readable() -> None:
    page = read_html(
        """<title> The
        page</title><h1>All <em>kinds</em><a class="headerlink" href="#x">¶</a></h1>
        <p>One   two<br>three.<sup>[1]</sup></p>
        <ul><li>a<li>b <ol start=3><li>c<li><p>d</p><p>e</p></ol><li>f</ul>
        <pre>
def f(x):
    return x
</pre>
        <table><caption>Prices</caption><tr><th>What<th>How much<tr><td><p>tea</p><td>2 <br> euros</table>
        <dl><dt>term<dd>meaning<p>more<dt>next<dd>other</dl>"""
    )
    assert page.text() == (
        "All kinds\n\n"
        "One two\nthree.\n\n"
        "- a\n- b\n  3. c\n  4. d\n     e\n- f\n\n"
        "def f(x):\n    return x\n\n"
        "Prices\n\nWhat | How much\ntea | 2 euros\n\n"
        "term\nmeaning\n\nmore\n\nnext\nother"
    )
    assert page.title == "The page"
    kinds = ["header", "paragraph", *["item"] * 6, "code", "caption", "row", "row"]
    assert [block.kind for block in page.blocks[: len(kinds)]] == kinds
    assert page.text(range(1)) == "All kinds"
    assert page.text([2, 3]) == "- a\n- b"


def test_boxes_carry_what_the_markup_says() -> None:
    page = read_html(
        """<html lang=de><body class="Home">
        <nav role="Navigation" id=Top><ul class=menu><li><a href=/>Start</a></ul></nav>
        <main><article itemprop=articleBody><p class=Lead>Text <a href=x>with a link</a> in it.</p></article></main>"""
    )
    assert page.language == "de"
    link, text = page.blocks
    assert box_tags(page, 0) == ["ul", "nav", "body", "html"]
    assert box_tags(page, 1) == ["p", "article", "main", "body", "html"]
    nav = page.boxes[page.boxes[link.box].parent]
    assert (nav.tag, nav.role, nav.names) == ("nav", "navigation", "top")
    assert page.boxes[text.box].names == "lead"
    assert page.boxes[page.boxes[text.box].parent].names == "articlebody"
    assert (link.links, link.link_chars) == (1, len("Start"))
    assert (text.links, text.link_chars) == (1, len("with a link"))


def test_a_link_around_blocks_counts_in_each() -> None:
    page = read_html("<a href=x><div><h3>A card</h3><p>Read <b>on</b> here</p></div></a><p>after</p>")
    assert [(block.text, block.links, block.link_chars) for block in page.blocks] == [
        ("A card", 1, 6),
        ("Read on here", 1, 12),
        ("after", 0, 0),
    ]


def test_features_of_blocks() -> None:
    page = read_html(
        """<p><b>Bold</b> <strong>title</strong></p><p><b>Bold</b> start</p><p><font size=5>Large</font></p>
        <p style="font-size: 28px">Styled</p>
        <div><img src=x>Picture <time>May</time> <input> <button>Go</button></div>"""
    )
    assert [(block.text, block.bold_only) for block in page.blocks[:4]] == [
        ("Bold title", True),
        ("Bold start", False),
        ("Large", True),
        ("Styled", True),
    ]
    assert [block.font_size for block in page.blocks[:4]] == [3, 3, 5, 5]
    last = page.blocks[4]
    assert (last.text, last.images, last.dates, last.controls) == ("Picture May", 1, 1, 2)


def test_headers_of_every_make() -> None:
    page = read_html(
        """<h2>Plain</h2><div role=heading aria-level=4>By role</div><h2><button>In a button</button></h2>
        <details><summary>Summary</summary><p>inside</p></details>
        <hgroup><h1>Title</h1><h2>Subtitle</h2></hgroup><h3>After</h3>"""
    )
    assert headers(page) == [
        (2, "Plain"),
        (4, "By role"),
        (2, "In a button"),
        (3, "Summary"),
        (1, "Title"),
        (3, "After"),
    ]
    assert page.text([5, 6]) == "Title\n\nSubtitle"


def test_two_breaks_end_a_paragraph_and_a_bold_line_is_a_block() -> None:
    page = read_html("<td><font size=4><b>Title</b></font><br><br>One.<br>Two.<br><br>Three.<p><b>Name</b><br>text</p>")
    assert [block.text for block in page.blocks] == ["Title", "One.\nTwo.", "Three.", "Name", "text"]
    assert page.text() == "Title\n\nOne.\nTwo.\n\nThree.\n\nName\ntext"
    assert [block.bold_only for block in page.blocks] == [True, False, False, True, False]


def test_layout_table_is_read_as_boxes() -> None:
    page = read_html("<table><tr><td><h2>Left</h2><p>one</p></td><td><p>two</p></td></tr></table>")
    assert page.text() == "Left\n\none\n\ntwo"


@pytest.mark.parametrize(
    "hidden",
    [
        "<script>x()</script>",
        "<style>p{}</style>",
        "<noscript>x</noscript>",
        "<template><h2>x</h2></template>",
        "<div hidden>x</div>",
        "<span aria-hidden='true'>x</span>",
        "<div style='color:red; display : none'>x</div>",
        "<div style='visibility:hidden'>x</div>",
        "<p style='position:absolute; left:-9999px'>x</p>",
        "<p style='font-size:0'>x</p>",
        "<p style='opacity: 0'>x</p>",
        "<p style='text-indent:-999em'>x</p>",
        "<p style='position:absolute;clip:rect(1px, 1px, 1px, 1px)'>x</p>",
        "<p style='width:1px;height:1px;overflow:hidden'>x</p>",
        "<p class='sr-only'>x</p>",
        "<a class='screen-reader-text skip-link' href=#c>x</a>",
        "<p class='Styles__VisuallyHidden-x1'>x</p>",
        "<p class='d-none'>x</p>",
        "<select><option>x</select>",
        "<dialog>x</dialog>",
        "<!-- x -->",
        "<?x y?>",
    ],
)
def test_what_a_reader_does_not_see_is_left_out(hidden: str) -> None:
    page = read_html(f"<h1>Title</h1><p>seen</p>{hidden}<p>too</p>")
    assert page.text() == "Title\n\nseen\n\ntoo"


@pytest.mark.parametrize(
    "shown",
    [
        "<nav>x</nav>",
        "<aside>x</aside>",
        "<footer>x</footer>",
        "<div role=navigation>x</div>",
        "<div hidden=until-found>x</div>",
        "<div role=tabpanel hidden>x</div>",
        "<h3><button aria-controls=p1></button></h3><div id=p1 hidden>x</div>",
        "<div class=accordion-body style='display:none'>x</div>",
        "<div class='faq-answer' aria-hidden=true>x</div>",
        "<p class='d-none d-md-block'>x</p>",
        "<p class='hidden lg:block'>x</p>",
        "<p class=not-sr-only>x</p>",
        "<div class='entry-content print-only'>x</div>",  # often the only copy that needs no script
        "<p style='opacity:0.5;font-size:0.9em'>x</p>",
        "<dialog open>x</dialog>",
    ],
)
def test_what_a_reader_sees_or_can_open_is_kept(shown: str) -> None:
    assert read_html(f"<h1>Title</h1>{shown}<p>too</p>").text() == "Title\n\nx\n\ntoo"


def test_broken_html() -> None:
    assert read_html("<h1>Title<p>text<li>item</div></h1><h2>Next").text() == "Title\n\ntext\n\nitem\n\nNext"
    assert read_html("<h1>A\0B</h1>\0c&#0;d<h9>e").text() == "AB\n\nc\N{REPLACEMENT CHARACTER}de"
    assert read_html("").blocks == []
    assert read_html("<frameset><frame></frameset>").blocks == []
    assert read_html("<h2><img alt='logo'></h2>").blocks == []
    assert read_html("<p>\ud800a</p>").text() == "a"


@pytest.mark.parametrize("box", ["<div>", "<ul><li>", "<table><tr><td>", "<blockquote>", "<span>", "<article>", "<b>"])
@pytest.mark.parametrize("depth", [9_000, 100_000])
def test_depth_has_no_limit(box: str, depth: int) -> None:
    page = read_html(box * (depth // box.count("<")) + "<h1>Deep</h1>down")
    assert headers(page) == [(1, "Deep")]
    assert page.blocks[-1].text.strip() == "down"


def test_plain_text_is_lines_under_its_first() -> None:
    page = read_plain_text("\n Title \n\nfirst\x00 line\nsecond\u200b line\n\nthird")
    assert headers(page) == [(1, "Title")]
    assert page.text() == "Title\n\nfirst line\nsecond line\n\nthird"
    assert headers(read_plain_text("only a line")) == []
    assert read_plain_text("").blocks == []


TAGS = (
    *("h1", "h2", "h6", "p", "div", "main", "article", "nav", "ul", "ol", "li", "dl", "dt", "dd", "table", "tr", "td"),
    *("pre", "br", "a", "a href", "sup", "svg", "math", "template", "select", "form", "script", "textarea"),
    *("plaintext", "th", "caption", "button", "details", "summary", "hgroup", "ruby", "rt", "s", "del", "code", "x-y"),
    *("span class=line", "td rowspan=3", "td colspan=99", "div role=heading", "msup", "mfrac", "b"),
    "template shadowrootmode=open",
    *("noscript", "blockquote", "figure", "figcaption", "td class=lineno", "q", "label", "hr", "img class=emoji alt=x"),
)
OTHER = ("<!--", "-->", "<![CDATA[", "]]>", "<?x ?>", "<h2 ", "&amp;", "&#0;", "&#xD800;", "&shy;", "\0", "\0b", "'")
FRAGMENTS = st.sampled_from(
    [*(f"<{tag}>" for tag in TAGS), *(f"</{tag.split()[0]}>" for tag in TAGS), *OTHER, "=", ">", " text ", "1", "\n"]
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=200), st.lists(FRAGMENTS, max_size=60).map("".join)))
@example("<svg><template>\n")
def test_any_markup_gives_printable_text(markup: str) -> None:
    for page in (read_html(markup), read_plain_text(markup)):
        for index, box in enumerate(page.boxes):
            assert 0 <= box.parent <= max(index - 1, 0)
        for block in page.blocks:
            assert block.text.strip()
            assert not re.search(r"[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u200b\ufeff]", block.text)
            assert 0 <= block.link_chars <= len(block.text)
            assert 0 <= block.box < len(page.boxes)
            assert (block.kind == "header") == (1 <= block.level <= 6)
        page.text().encode("utf-8")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["p", "div", "li", "h2", "td", "x-y", "blockquote", "span"]), st.booleans())))
def test_visible_words_stay_in_order(parts: list[tuple[str, bool]]) -> None:
    markup = "".join(f"<{tag}>w{i}</{tag}> " if closed else f"<{tag}>w{i} " for i, (tag, closed) in enumerate(parts))
    words = [word for word in read_html(markup).text().split() if word.startswith("w")]
    assert words == [f"w{i}" for i in range(len(parts))]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        (f"<p {' '.join(f'a{number}=1' for number in range(60_000))}>x</p>y", "x\n\ny"),
        ("".join(f"<font a={number}>" for number in range(4_000)) + "<p>x" * 4_000, "\n\n".join(["x"] * 4_000)),
        ("<a href=1>x</a>" * 50_000, " ".join("x" * 50_000)),
        ("<code>a</code> " * 50_000, " ".join("a" * 50_000)),
        ("<span class=lineno>" * 4_000 + "1", ""),
        ("x<sup>2</sup> " * 30_000, " ".join(["x²"] * 30_000)),
        ("<details><summary>" * 3_000 + "x", "x"),
        ("<span class=MathJax></span>" * 30_000 + "x", "x"),
        ("<" * 200_000, "<" * 200_000),
    ],
)
def test_hostile_markup_costs_no_more_than_its_size(markup: str, text: str) -> None:
    page = read_html(markup)
    assert page.text() == text
    assert len(page.text(markdown=True)) >= len(text)


@pytest.mark.slow
def test_a_million_headers_and_fifty_megabytes_of_text() -> None:
    assert len(read_html("<h2>a</h2>" * 1_000_000).blocks) == 1_000_000
    assert len(read_html("<p>" + "word " * 10_000_000).text()) == 49_999_999
