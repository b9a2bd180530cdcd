"""What markup means survives in the text: formulas, exponents, tables, code, corrections, ruby, gaps."""

import pytest

from humpback_jax.corpus.content.html import read_html
from humpback_jax.corpus.content.lists import ordinal


def text_of(markup: str) -> str:
    return read_html(markup).text()


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("10<sup>24</sup> kg", "10²⁴ kg"),
        ("10<sup>-3</sup> m", "10⁻³ m"),
        ("3 m/s<sup>2</sup>", "3 m/s²"),
        ("5 km<sup>2</sup>", "5 km²"),
        ("E = mc<sup>2</sup>", "E = mc²"),
        ("kg m<sup>−3</sup>", "kg m⁻³"),
        ("x<sup>n+1</sup>", "xⁿ⁺¹"),
        ("2<sup>k</sup>", "2^k"),
        ("e<sup>iωt</sup>", "e^iωt"),
        ("(a + b)<sup>3</sup>", "(a + b)³"),
        ("sin<sup>2</sup> x", "sin² x"),
        ("H<sub>2</sub>O and SO<sub>4</sub><sup>2−</sup>", "H₂O and SO₄²⁻"),
        ("<sup>14</sup>C", "¹⁴C"),
        ("x<sub>i</sub>, v<sub>max</sub>, a<sub>i,j</sub>", "xᵢ, v_max, a_(i,j)"),
        ("the 1<sup>st</sup>, 2<sup>nd</sup> and 14<sup>th</sup>", "the 1st, 2nd and 14th"),
        ("XIX<sup>e</sup> siècle, M<sup>lle</sup> B.", "XIXe siècle, Mlle B."),
        ("Brand<sup>TM</sup> and Other<sup>®</sup>", "BrandTM and Other®"),
        ("said so.<sup>[2]</sup> And<sup>[citation needed]</sup> then", "said so. And then"),
        ("a word<sup><a href='#fn1'>1</a></sup> more", "a word more"),
        ("km<sup class=footnote-ref>3</sup> more", "km more"),
        ("the harbour<sup>4</sup> was", "the harbour was"),
        ("<b>Bold</b><sup>small print here</sup>", "Boldsmall print here"),
    ],
)
def test_exponents_are_told_from_notes_and_ordinals(markup: str, expected: str) -> None:
    assert text_of(f"<p>{markup}</p>") == expected


ANNOTATION = "<annotation encoding='application/x-tex'>E=h\\nu</annotation>"
MATHML = f"<math><semantics><mrow><mi>E</mi></mrow>{ANNOTATION}</semantics></math>"


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        (MATHML, "$E=h\\nu$"),
        ("<math alttext='\\alpha_1'><mi>α</mi></math>", "$\\alpha_1$"),
        ("<math display=block alttext='{\\displaystyle x^2}'></math>", "$$x^2$$"),
        (f"<span><span>{MATHML}</span><span class=katex-html aria-hidden=true>Ehν</span></span>", "$E=h\\nu$"),
        ("<span class=katex><span class=katex-html aria-hidden=true>x+y</span></span>", "x+y"),
        (f"<span style='display:none'>{MATHML}</span><img class=mwe-math-fallback-image alt='E=mc'>", "$E=mc$"),
        ("<span class=MathJax_Preview>E</span><script type='math/tex'>E^2</script>", "$E^2$"),
        ("<span class=MathJax><i>E2</i></span><script type='math/tex; mode=display'>E^2</script>", "$$E^2$$"),
        ("<mjx-container><mjx-math aria-hidden=true>E</mjx-math><math><mi>E</mi></math></mjx-container>", "E"),
        ("<img class=latex alt='E=mc^2' src=x.png>", "$E=mc^2$"),
        (
            f"<span style='display:none'>{MATHML}</span>"
            "<img class='mwe-math-fallback-image-inline' aria-hidden=true alt='{\\displaystyle a^{2}}' src=a.svg>",
            "$a^{2}$",
        ),
        ("<img class=latex alt='a^2' src=x.png hidden><b>b</b>", "b"),
        ("<img src='https://latex.codecogs.com/svg?x' alt='\\frac12'>", "$\\frac12$"),
        ("<img class=photo alt='A dog' src=x.png>", ""),
        ("<math><mi>s</mi><mo>=</mo><mn>5</mn><msup><mi>t</mi><mn>2</mn></msup></math>", "s = 5t²"),
        ("<math><mfrac><mrow><mi>a</mi><mo>+</mo><mn>1</mn></mrow><mi>b</mi></mfrac></math>", "(a + 1)/b"),
        ("<math><msqrt><mi>x</mi><mo>+</mo><mn>1</mn></msqrt><mo>≤</mo><mi>y</mi></math>", "√(x + 1) ≤ y"),
        ("<math><munderover><mo>∑</mo><mn>1</mn><mi>n</mi></munderover><mi>k</mi></math>", "∑₁ⁿk"),
    ],
)
def test_formulas(markup: str, expected: str) -> None:
    assert text_of(f"<p>Let {markup} be.</p>") == " ".join(f"Let {expected} be.".split())


def test_endless_formulas_are_cut() -> None:
    assert text_of("<math>" + "<mrow>" * 5_000 + "<mi>x</mi>").strip() in ("", "x")
    assert len(text_of("<math>" + "<mi>x</mi>" * 50_000)) <= 3_000


def test_cells_stay_in_their_columns() -> None:
    page = read_html(
        """<table><thead><tr><th>Port<th>Day<th>Height</thead><tbody>
        <tr><td rowspan=2>Dover<td>Mon<td>6.2<tr><td>Tue<td>7.1
        <tr><td colspan=2>Mean<td>6.7</tbody><tbody><tr><td rowspan=9>Hull<td rowspan=2><td>7</tbody>
        <tbody><tr><td>Deal<td>Sun<td>5.0</tbody></table>"""
    )
    assert page.text() == (
        "Port | Day | Height\nDover | Mon | 6.2\nDover | Tue | 7.1\nMean |  | 6.7\nHull |  | 7\nDeal | Sun | 5.0"
    )
    assert page.blocks[3].cells == ("Mean", "", "6.7")


def test_spans_of_any_size_cost_little() -> None:
    row = "<tr><td colspan=9007199254740991 rowspan=99999999>a<td colspan=-3>b<td rowspan=x>c"
    page = read_html("<table><tr><th>x<th>y" + row * 3_000 + "</table>")
    assert len(page.text()) < 2_000_000
    assert page.blocks[1].text == "a |  |  | b | c"


def test_table_with_lists_and_paragraphs_in_cells_keeps_its_rows() -> None:
    assert text_of(
        """<table><tr><th>Model<th>Good<tr><td>A1<td><ul><li>quiet</li> <li>light</li></ul>
        <tr><td><p>B2</p><td><p>strong</p><p>cheap</p></table>"""
    ) == ("Model | Good\nA1 | quiet; light\nB2 | strong cheap")
    assert text_of("<table><tr><td>a<td><ul><li>x<li>y</ul><tr><td>b<td>c</table>") == "a | x; y\nb | c"


@pytest.mark.parametrize(
    "table",
    [
        "<table role=presentation><tr><td>one<td>two</table>",
        "<table><tr><td><ul><li>one</ul><td><p>two</table>",
        "<table><tr><td>one<table><tr><td>two</table></table>",
        "<table><tr><th>one<td><h3>two</h3></table>",
    ],
)
def test_layout_tables_have_no_rows(table: str) -> None:
    page = read_html(table)
    assert [block.text.lstrip("- ") for block in page.blocks] == ["one", "two"]


CODE = "def area(r):\n    if r < 0:\n\n        raise ValueError"
LINES = [line.replace("<", "&lt;") for line in CODE.split("\n")]


def each_line(form: str) -> str:
    return "".join(form.replace("@", str(i)).replace("LINE", line) for i, line in enumerate(LINES, 1))


@pytest.mark.parametrize(
    "markup",
    [
        "<pre>" + "\n".join(LINES) + "</pre>",
        "<pre><code>" + "<br>".join(LINES) + "</code></pre>",
        "<xmp>" + CODE + "</xmp>",
        "<listing>" + "\n".join(LINES) + "</listing>",
        "<pre>" + each_line("<div class=line>LINE</div>") + "</pre>",
        "<pre>" + each_line("<div class=line>LINE</div>\n") + "</pre>",
        "<pre>" + each_line("<div class=row>LINE\n</div>") + "</pre>",
        "<pre>" + each_line("<div class=line><span class=lineno>@</span>LINE</div>") + "</pre>",
        "<pre>" + each_line("<span class=line>LINE</span>\n") + "</pre>",
        "<pre>" + each_line("<span class=line>LINE</span>") + "</pre>",
        "<pre>" + each_line("<span style='display:block'>LINE\n</span>") + "</pre>",
        "<pre>" + each_line("<span class=line><span class=ln> @</span><span class=cl>LINE\n</span></span>") + "</pre>",
        "<pre>" + each_line("<span style='user-select: none'>@ </span>LINE\n") + "</pre>",
        "<pre>" + each_line("<span data-line-number=@>@</span>LINE\n") + "</pre>",
        "<table><tr><td><pre>1\n2\n3\n4</pre><td><pre>" + "\n".join(LINES) + "</pre></table>",
        "<table><tr><td class=linenos><pre>1\n2\n3\n4</pre><td><pre>" + "\n".join(LINES) + "</pre></table>",
        "<div class=gutter>1<br>2<br>3<br>4</div><pre>" + "\n".join(LINES) + "</pre>",
        "<table>" + each_line("<tr><td>@</td><td>LINE</td></tr>\n") + "</table>",
        "<table>" + each_line("<tr><td data-line-number=@><td class=blob-code>LINE") + "</table>",
        "<table>" + each_line("<tr><td style='white-space: pre'>LINE</td></tr>") + "</table>",
    ],
)
def test_code_is_its_lines_with_indentation_and_no_numbers(markup: str) -> None:
    page = read_html(f"<p>Before.</p>{markup}<p>After.</p>")
    assert [block.text for block in page.blocks] == ["Before.", CODE, "After."]
    assert page.blocks[1].kind == "code"


def test_numbers_that_are_code_stay() -> None:
    assert text_of("<pre>1\n2\n3</pre><p>text</p>") == "1\n2\n3\n\ntext"
    assert text_of("<p class=lineno>Line 3 of the poem</p>") == "Line 3 of the poem"


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("costs <del>299</del> <ins>249</ins> euro", "costs 249 euro"),
        ("<s>90</s>80 euro", "80 euro"),
        ("<strike>old</strike> new", "new"),
        ("<span style='text-decoration: line-through'>12</span> 10", "10"),
        ("<s>All of it is done</s>", "All of it is done"),
        ("<ruby>漢<rt>かん</rt>字<rt>じ</rt></ruby>を", "漢(かん)字(じ)を"),
        ("<ruby>東京<rp>（</rp><rt>とうきょう</rt><rp>）</rp></ruby>", "東京(とうきょう)"),
        ("<ruby>字<rt> </rt></ruby>", "字"),
        ("Hi <img class=wp-smiley alt=':)' src=a.gif>", "Hi :)"),
        ("Hi <img src='/twemoji/1f600.svg' alt='😀'>!", "Hi 😀!"),
        ("Hi <img src=flag.png alt='🇩🇪'>", "Hi 🇩🇪"),
        ("He said <q>go</q>.", "He said “go”."),
        ("Unter&shy;nehmen super<wbr>cali zero\u200bwidth \x01\ufeffend", "Unternehmen supercali zerowidth end"),
        ("👨\u200d👩\u200d👧 می\u200cخواهم", "👨\u200d👩\u200d👧 می\u200cخواهم"),
        ("icon \ue001 font", "icon font"),
    ],
)
def test_what_marks_mean(markup: str, expected: str) -> None:
    assert text_of(f"<p>{markup}</p>") == expected


def test_an_open_strike_does_not_swallow_the_page() -> None:
    assert text_of("<p><s>one<p>two<p>three") == "one\n\ntwo\n\nthree"


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("<a href=1>plumbing</a><a href=2>pump</a>", "plumbing pump"),
        ("<label>Name</label><label>City</label>", "Name City"),
        ("<span class=by>walker1</span><span class=on>June 3</span>", "walker1 June 3"),
        ("<x-line>One.</x-line><x-line>Two.</x-line>", "One. Two."),
        ("<span style='display:inline-block'>Old</span><span style='display:inline-flex'>New</span>", "Old New"),
        ("<cite>Ann wrote:</cite>The pump", "Ann wrote: The pump"),
        ("<time>May 5</time>by Ann", "May 5 by Ann"),
        ("See the <x-term>pump</x-term>, (<x-term>old</x-term>).", "See the pump, (old)."),
        ("un<b>do</b><i>ne</i>", "undone"),
        ("<span class=dropcap>T</span>he end", "The end"),
        ("<span>foo</span><span>bar</span>", "foobar"),
        ("<span class=label>Picture</span>Ann Lee, <span class=x>i</span>Pump", "Picture Ann Lee, iPump"),
        ("駅は<a href=1>東京</a><a href=2>都</a>です", "駅は東京都です"),
        ("<span style='display: block'>One</span><span style='display:flex'>Two</span>", "One\n\nTwo"),
    ],
)
def test_boxes_in_a_line_are_set_apart_and_words_are_not(markup: str, expected: str) -> None:
    assert text_of(f"<div>{markup}</div>") == expected


MARKS = (
    "<a class=headerlink href='#x'>¶</a>",
    "<a href='#x'>#</a>",
    "<span class=mw-editsection><span>[</span><a href=e>Bearbeiten</a><span>]</span></span>",
    "<a href=e>[edit]</a>",
    "<span class='sr-only'>Permalink</span>",
    "<span aria-hidden=true>§</span>",
    " [<a href=e>edit</a>]",
    " <small>[<a href=e>Bearbeiten</a> | <a href=s>Quelltext bearbeiten</a>]</small>",
)


@pytest.mark.parametrize("mark", MARKS)
def test_marks_beside_headers_are_dropped(mark: str) -> None:
    page = read_html(f"<h2>Load{mark}</h2><p>Text.</p>")
    assert page.text() == "Load\n\nText."
    assert page.blocks[0].links == page.blocks[0].link_chars == 0


@pytest.mark.parametrize("mark", MARKS[:6])
def test_marks_in_text_are_dropped(mark: str) -> None:
    assert text_of(f"<p>Text{mark}</p>") == "Text"


def test_brackets_in_headers_that_are_no_links_stay() -> None:
    for header in ("Array[index]", "<a href=x>A report [in full]</a>", "[<a href=x>edit</a>]"):
        assert text_of(f"<h2>{header}</h2><p>Text.</p>").split("\n")[0].endswith("]")


def test_markers_of_lists() -> None:
    assert text_of("<ol start=5 reversed><li value=9>a<li>b</ol>") == "9. a\n8. b"
    assert text_of("<ol reversed><li>a<li>b<li>c</ol>") == "3. a\n2. b\n1. c"
    assert text_of("<ol type=A start=26><li>a<li>b</ol>") == "Z. a\nAA. b"
    assert text_of("<ol style='list-style-type: lower-roman' start=4><li>a</ol>") == "iv. a"
    assert text_of("<ol start=99999999999><li value=x>a</ol>") == "1. a"
    assert [ordinal(number, "I") for number in (1, 9, 14, 40, 1994, 0)] == ["I", "IX", "XIV", "XL", "MCMXCIV", "0"]


def test_terms_that_share_a_definition() -> None:
    page = "<dl><dt>one<dt>two<dd>both<dd>more<dt>three<dd>alone</dl>"
    assert text_of(page) == "one\ntwo\nboth\n\nmore\n\nthree\nalone"


def test_shadow_roots_are_shown_and_templates_are_not() -> None:
    page = "<x-a><template shadowrootmode=open><h2>In</h2><p>shadow</p></template></x-a><template>no</template>"
    assert text_of(page) == "In\n\nshadow"
    assert text_of(page.replace("shadowrootmode", "shadowroot")) == "In\n\nshadow"


def test_noscript_is_read_where_there_is_nothing_else() -> None:
    article = "<h2>What was found</h2><p>" + "Grit lay in the channel. " * 20 + "</p>"
    assert read_html(f"<h1>Pictures</h1><noscript>{article}</noscript>").blocks[1].text == "What was found"
    assert len(read_html(f"<h1>Pictures</h1>{article}<noscript>{article}</noscript>").blocks) == 3
    assert read_html("<div id=root></div><noscript>Please enable scripts.</noscript>").blocks == []


def test_noframes_is_read_where_there_is_nothing_else() -> None:
    article = "<h1>What was found</h1><p>" + "Grit lay in the channel. " * 20 + "</p>"
    frames = "<html><frameset cols='20%,80%'><frame src=a.html><FRAME src=b.html><noframes>{}</noframes></frameset>"
    assert read_html(frames.format(f"<body>{article}</body>")).blocks[0].text == "What was found"
    assert read_html(frames.format(article)).blocks[0].level == 1
    assert read_html(frames.format("Your browser has no frames.")).blocks == []
    assert len(read_html(f"<body>{article}<noframes>{article}</noframes>").blocks) == 2


def test_headers_without_text_are_remembered() -> None:
    page = read_html("<h1>A</h1><h2></h2><p>a</p><h2>&nbsp;<img src=x></h2><h3><a href='#x'>#</a></h3>")
    assert page.empty_headers == [(1, 2), (2, 2), (2, 3)]
    assert page.text() == "A\n\na"


def test_a_button_that_opens_an_answer_is_a_header() -> None:
    page = read_html(
        """<h2>Help</h2>
        <button aria-expanded=false aria-controls=a1>How do I bleed it?</button><div id=a1 hidden>Open it.</div>
        <button aria-expanded=false aria-controls=m1>Menu</button><ul id=m1 hidden><li>Home</ul>
        <dl><dt><button>What does it cost?</button></dt><dd>Nothing.</dd><dt>Pump</dt><dd>A machine.</dd></dl>
        <div role=button aria-expanded=false>Who opens the gate?</div><div class=answer>The miller.</div>
        <div role=button aria-expanded=false>Show more</div><p>More.</p>
        <button>Send the form now</button>"""
    )
    blocks = [(block.level, block.text) for block in page.blocks]
    assert blocks == [
        *((2, "Help"), (3, "How do I bleed it?"), (0, "Open it.")),
        *((3, "What does it cost?"), (0, "Nothing."), (0, "Pump"), (0, "A machine.")),
        *((3, "Who opens the gate?"), (0, "The miller."), (0, "Show more"), (0, "More.")),
    ]


def test_a_header_that_is_never_closed() -> None:
    page = read_html(f"<h2>Next<div>{'Long text. ' * 40}<p>More.")
    assert [(block.kind, block.text[:10]) for block in page.blocks] == [
        ("header", "Next"),
        ("paragraph", "Long text."),
        ("paragraph", "More."),
    ]


def test_a_page_that_is_hidden_until_it_is_loaded() -> None:
    article = "<h2>What was found</h2><p>" + "Grit lay in the channel. " * 40 + "</p>"
    assert read_html(f"<div id=page style='opacity:0'>{article}</div>").blocks[0].text == "What was found"
    assert read_html(f"<p>Short.</p><div class=cookie-popup style='display:none'>{article}</div>").text() == "Short."
