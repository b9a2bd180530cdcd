"""Which blocks are content: each kind of furniture, in the places where pages have it, and what only looks like it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_pages import headlines, paragraphs, prose

from humpback_jax.corpus.content.blocks import PageBlocks
from humpback_jax.corpus.content.header_phrases import HEADER_PHRASES
from humpback_jax.corpus.content.html import read_html, read_plain_text
from humpback_jax.corpus.content.line_phrases import STARTS, WHOLE_LINES
from humpback_jax.corpus.content.main_content import furniture_reasons
from humpback_jax.corpus.content.phrases import NAME_WORDS, header_reason, names_reason
from humpback_jax.corpus.reasons import BLOCK_REASONS


def judged(markup: str) -> tuple[PageBlocks, list[str | None]]:
    page = read_html(markup)
    return page, furniture_reasons(page)


def content_of(markup: str) -> str:
    page, reasons = judged(markup)
    return page.text(index for index, reason in enumerate(reasons) if reason is None)


def reason_of(markup: str, text: str) -> str | None:
    page, reasons = judged(markup)
    (reason,) = {reason for block, reason in zip(page.blocks, reasons, strict=True) if text in block.text}
    return reason


ARTICLE = f"<h1>How a gate is hung</h1>{paragraphs(1)}"

FURNITURE = {
    "navigation": f"<nav><h2>Sections</h2>{headlines()}</nav>",
    "menu by role": f'<div role="navigation">{headlines()}</div>',
    "menu by class": f'<div class="main-nav">{headlines()}</div>',
    "breadcrumbs": '<div class="breadcrumbs"><a href="/">Start</a> / <a href="/g">Council of gates</a></div>',
    "sidebar": f'<div class="page-sidebar"><h3>Around the Council</h3>{headlines()}</div>',
    "related, by header": f"<h2>You may also like</h2>{headlines()}",
    "related, by class": f'<div class="relatedPosts">{headlines()}</div>',
    "related, German": f"<h3>Ähnliche Artikel</h3>{headlines()}",
    "related, Russian": f"<h3>Материалы по теме</h3>{headlines()}",
    "topics, Indonesian": f"<h3>Topik</h3>{headlines()}",
    "links without a name": f"<div>{headlines()}</div>",
    "teasers": "".join(
        f'<div class="card"><h3><a href="/{n}">Council story {n}</a></h3><p>{prose(n, 1)}</p></div>' for n in range(4)
    ),
    "comments": f"<section><h2>Comments (3)</h2><div><b>ann</b><p>Council! {prose(7)}</p></div></section>",
    "thoughts": f"<div><h2>14 thoughts on “How a gate is hung”</h2><p>Council! {prose(8)}</p></div>",
    "comments, German": f"<div><h3>Kommentar verfassen</h3><p>Council! {prose(8)}</p></div>",
    "comments by class": f'<div id="disqus_thread"><p>Council! {prose(9)}</p></div>',
    "reviews": f"<h2>Customer reviews</h2><div><p>Council bench. {prose(6)}</p></div>",
    "cookie notice": f'<div id="cookie-bar"><h2>Your choice</h2><p>Council partners. {prose(5)}</p></div>',
    "cookie header": f"<div><h2>We value your privacy</h2><p>Council partners. {prose(5)}</p></div>",
    "paywall": f"<div><h2>Continue reading with a subscription</h2><p>Council offer. {prose(4)}</p></div>",
    "newsletter": "<div><h3>Get the paper straight to your inbox</h3><p>Council news each day, free.</p></div>",
    "author box": f'<div class="author-bio"><p>Council writer. {prose(3)}</p></div>',
    "share bar": '<div class="sharedaddy"><p>Council page: tell others</p></div>',
    "references": f"<h2>References</h2><ol><li>Council, A. (1999). {prose(2, 1)}</li></ol>",
    "footer": "<footer><p>Council of gates, all rights reserved</p></footer>",
}


@pytest.mark.parametrize("name", FURNITURE)
def test_furniture_after_the_article_is_no_content(name: str) -> None:
    assert content_of(f"<body><div>{ARTICLE}</div>{FURNITURE[name]}</body>") == content_of(ARTICLE)


@pytest.mark.parametrize("name", FURNITURE)
def test_furniture_in_one_box_with_the_article_is_no_content(name: str) -> None:
    kept = content_of(f"<body><div class='page'>{ARTICLE}{FURNITURE[name]}</div></body>")
    assert kept == content_of(ARTICLE)


@pytest.mark.parametrize("name", ["related, by class", "share bar", "author box", "newsletter", "sidebar"])
def test_an_article_goes_on_after_a_box_of_furniture(name: str) -> None:
    kept = content_of(f"<body><div class='page'>{ARTICLE}{FURNITURE[name]}{paragraphs(2)}</div></body>")
    assert "Council" not in kept
    assert kept == content_of(f"<body><div>{ARTICLE}{paragraphs(2)}</div></body>")


def test_an_article_goes_on_after_read_more() -> None:
    kept = content_of(f"<div>{ARTICLE}<p><b>READ MORE:</b></p>{headlines()}{paragraphs(2)}</div>")
    assert kept == content_of(f"<div>{ARTICLE}{paragraphs(2)}</div>")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("By Jane Doe and John Roe, Staff Writers", "byline"),
        ("By Jane Doe, 3 June, 09:12 — Updated 10:40", "byline"),
        ("Published on 3 May 2020", "byline"),
        ("3 days ago", "byline"),
        ("7 min read", "byline"),
        ("Von Erika Mustermann", "byline"),
        ("Share on Facebook Tweet WhatsApp", "share_bar"),
        ("Advertisement", "advertisement"),
        ("Werbung", "advertisement"),
        ("Tags: gates, wood, weather", "tags"),
        ("Photo: Getty Images", "caption"),
        ("[edit]", "navigation"),
        ("12 comments", "comments"),
        ("Read more", "related_links"),
        ("Читайте также: Как красить ворота", "related_links"),
        ("© 2021 Gates and Sons", "footer"),
        ("This document is subject to copyright. No part may be reproduced without the written permission.", "footer"),
        ("4.5 out of 5 stars", "reviews"),
        ("smith_7 August 2, 2023, 7:02am 2", "byline"),
        ("↑ A. Writer, On gates, page 3", "references"),
        ('Obtenido de "https://gates.example/index.php?title=Gate&oldid=7"', "footer"),
        ("El texto está disponible bajo la licencia Creative Commons Atribución 4.0", "footer"),
    ],
)
def test_lines_that_are_no_text(line: str, reason: str) -> None:
    assert reason_of(f"<h1>How a gate is hung</h1>{paragraphs(1)}<p>{line}</p>{paragraphs(2)}", line) == reason


@pytest.mark.parametrize(
    "line",
    [
        "By the river stands a house.",
        "May is the best month for paint.",
        "Copyright law protects those who write.",
        "Save your work before you leave.",
        "Note: hinges are sold in pairs.",
        "In 1999 there were two gates.",
        "Name: The old gate",
        'He said: "See https://gates.example/ for more."',
        "Sharing a ladder is unwise.",
        "He said nothing more.",
    ],
)
def test_lines_that_only_look_like_furniture(line: str) -> None:
    assert reason_of(f"<h1>How a gate is hung</h1>{paragraphs(1)}<p>{line}</p>{paragraphs(2)}", line) is None


def test_steps_of_a_list_are_not_buttons() -> None:
    steps = "<ol><li>Sign up for the course.</li><li>Search</li><li>Jump to the last page</li></ol>"
    assert "Sign up for the course.\n2. Search\n3. Jump" in content_of(f"{ARTICLE}{steps}{paragraphs(2)}")


@pytest.mark.parametrize(
    ("header", "reason", "is_certain"),
    [
        ("Weitere Artikel aus der Stadt", "related_links", True),
        ("Artículos relacionados", "related_links", True),
        ("İlgili Haberler", "related_links", True),
        ("関連記事", "related_links", True),
        ("5 Kommentare zu “Tore”", "comments", True),
        ("Ein Gedanke zu „Tore“", "comments", True),
        ("Discussion", "comments", False),
        ("Resources", "navigation", False),
        ("404 – page not found", "not_found", True),
        ("3/50 Gates of the world", "gallery", True),
        ("Recent developments", None, False),
        ("Related work", None, False),
        ("More than a gate", None, False),
        ("Comment ça marche", None, False),
    ],
)
def test_headers_of_furniture(header: str, reason: str | None, is_certain: bool) -> None:
    assert header_reason(header) == (reason, is_certain)


def test_a_section_called_discussion_is_content_where_it_is_prose() -> None:
    assert prose(300) in content_of(f"<div>{ARTICLE}<h2>Discussion</h2>{paragraphs(3)}</div>")
    talk = "".join(f"<p>I agree {n}</p>" for n in range(9))
    assert "agree" not in content_of(f"<div>{ARTICLE}<h2>Discussion</h2><div>{talk}</div></div>")


def test_a_notice_on_personal_data_is_no_content_but_an_article_on_it_is() -> None:
    notice = f"<p>We and our partners use cookies to process personal data. {prose(1)}</p>"
    assert "cookies" not in content_of(f"<div>{ARTICLE}{paragraphs(2)}</div><div class='note'>{notice}</div>")
    assert "cookies" in content_of(f"<h1>What cookies are</h1>{notice}<p>{prose(2)}</p>")


def test_captions_are_no_content() -> None:
    markup = f"<article>{ARTICLE}<figure><img><figcaption>A gate in 1905</figcaption></figure>{paragraphs(2)}</article>"
    assert reason_of(markup, "A gate in 1905") == "caption"


@pytest.mark.parametrize(
    "markup",
    [
        f"<div><h1>On gates</h1><aside class='main-story'>{paragraphs(1)}</aside></div>",
        f"<div class='sidebar-layout'><h1>On gates</h1>{paragraphs(1)}</div>",
        f"<div class='has-comments related'><h1>On gates</h1>{paragraphs(1)}</div>",
        f"<article class='category-newsletter tag-sharing'><h1>On gates</h1>{paragraphs(1)}</article>",
        f"<section id='sharing-one-gate'><h2>Sharing one gate</h2>{paragraphs(1)}</section><p>{prose(5)}</p>",
        f"<h1>Terms of service</h1>{paragraphs(1)}",
        f"<div class='content'><h1>News</h1>{paragraphs(1)}</div>",
    ],
)
def test_a_name_is_not_believed_of_what_is_the_whole_page(markup: str) -> None:
    page, reasons = judged(markup)
    assert reasons == [None] * len(page.blocks)


def test_comments_are_content_where_they_are_all_there_is() -> None:
    posts = "".join(f'<div class="post" itemprop="comment"><p>{prose(n)}</p></div>' for n in range(4))
    markup = f"<body><h1>How do I hang a gate?</h1>{posts}<footer><p>{prose(9)}</p></footer></body>"
    assert prose(3) in content_of(markup)
    assert prose(9) not in content_of(markup)


def test_the_title_before_the_main_box_is_content_and_the_name_of_the_site_is_not() -> None:
    main = f"<nav>{headlines()}</nav><div><div>{paragraphs(1)}</div></div>"
    assert content_of(f"<body><h1>How a gate is hung</h1>{main}</body>").startswith("How a gate")
    own = f"<main><article><header><h2>How a gate is hung</h2></header>{paragraphs(1)}</article></main>"
    assert content_of(f"<body><header><h1>Gates Weekly</h1></header>{own}</body>").startswith("How a gate")
    logo = f'<div class="logo"><h1><a href="/">Gates Weekly</a></h1></div><div>{paragraphs(1)}</div>'
    assert content_of(logo) == content_of(paragraphs(1))


def test_a_header_without_text_is_no_content() -> None:
    markup = f"<h1>On gates</h1><h2>Hinges</h2>{paragraphs(1)}<h2>Locks</h2><h2>Paint</h2>{paragraphs(2)}<h2>More</h2>"
    assert reason_of(markup, "Locks") == "empty_section"
    assert "More" not in content_of(markup).split()
    assert reason_of(markup, "On gates") is None


def test_tables_of_links_go_and_tables_of_data_stay() -> None:
    links = "".join(f'<tr><td><a href="/{n}">Council topic number {n}</a></td><td>{n}</td></tr>' for n in range(5))
    data = "".join(f"<tr><td>Hinge {n}</td><td>{n} kg</td></tr>" for n in range(5))
    kept = content_of(f"<div>{ARTICLE}<table>{links}</table><table>{data}</table>{paragraphs(2)}</div>")
    assert "Hinge 4 | 4 kg" in kept
    assert "Council" not in kept


def test_plain_text_keeps_its_long_lines() -> None:
    menu = ["Home", "World", "Business", "Sport", "Log in"]
    lines = ["A page of gates", *menu, prose(1), prose(2), prose(3), *menu, "About us", "Contact"]
    page = read_plain_text("\n".join(lines))
    kept = [block.text for block, reason in zip(page.blocks, furniture_reasons(page), strict=True) if reason is None]
    assert kept == ["A page of gates", prose(1), prose(2), prose(3)]


def test_headers_of_a_wiki_are_found_in_plain_text() -> None:
    """Extracted text keeps the links to edit a section, in the language of the wiki."""
    lines = ["Gate - Wiki", prose(1), "Historia[editar | editar a fonte]", prose(2)]
    lines += ["Tipos[editar | editar a fonte]", prose(3), "A note[4]", "Other note[4]", "An array[index]"]
    page = read_plain_text("\n".join(lines))
    headers = [(block.level, block.text) for block in page.blocks if block.level]
    assert headers == [(1, "Gate - Wiki"), (2, "Historia"), (2, "Tipos")]
    assert [block.text for block in page.blocks][-3:] == ["A note[4]", "Other note[4]", "An array[index]"]


def test_chinese_text_is_prose_at_a_third_of_the_letters() -> None:
    text = "修好一扇门要先把合页拆下来然后用砂纸把木头磨平再刷两遍油漆等它完全干透以后再装回去。"
    markup = f"<body><h1>修门</h1><div><div><p>{text}</p><p>{text}</p></div></div><nav>{headlines()}</nav></body>"
    assert content_of(markup).count(text) == 2


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ("relatedposts", "related_links"),
        ("js-share-bar", "share_bar"),
        ("widget page-sidebar", "sidebar"),
        ("article__byline", "byline"),
        ("read-more-box", "related_links"),
        ("articlecomments", "comments"),
        ("category-newsletter tag-sharing", None),
        ("thread body shadow", None),
        ("commentary", None),
    ],
)
def test_names_are_read_word_by_word(names: str, reason: str | None) -> None:
    assert names_reason(names) == reason


def test_every_reason_of_a_name_or_header_has_words_for_people() -> None:
    assert NAME_WORDS.keys() | HEADER_PHRASES.keys() | WHOLE_LINES.keys() | STARTS.keys() <= BLOCK_REASONS.keys()


NAMES = ("", "content", "sidebar", "related", "comments", "main", "byline", "nav", "article-body", "col-left")
TAGS = ("div", "section", "article", "aside", "nav", "main", "footer", "header", "ul", "form")
LEAVES = ("p", "h1", "h2", "h3", "li", "a", "pre", "figcaption", "td")
WORDS = ("Share", "By Jane Doe", "Comments", "Related", prose(1), prose(2, 1), "3 May 2020", "水", "")


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> str:
    if depth == 0 or draw(st.booleans()):
        tag = draw(st.sampled_from(LEAVES))
        return f'<{tag} href="/">{draw(st.sampled_from(WORDS))}</{tag}>'
    tag, name = draw(st.sampled_from(TAGS)), draw(st.sampled_from(NAMES))
    inside = "".join(draw(st.lists(trees(depth=depth - 1), max_size=4)))
    return f'<{tag} class="{name}">{inside}</{tag}>'


@settings(max_examples=150, deadline=None)
@given(st.lists(trees(), max_size=5))
def test_every_block_of_any_page_is_judged_and_refused_ones_have_a_word_for_it(parts: list[str]) -> None:
    page, reasons = judged("".join(parts))
    assert len(reasons) == len(page.blocks)
    assert {reason for reason in reasons if reason is not None} <= BLOCK_REASONS.keys()
    assert reasons == furniture_reasons(page)
