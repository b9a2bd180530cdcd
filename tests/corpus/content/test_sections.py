"""Sections of content: trees of headers, pieces of text without headers, and which of nested ones is kept."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_pages import headlines, paragraphs, prose

from humpback_jax.corpus.content.blocks import Block, Box, PageBlocks
from humpback_jax.corpus.content.html import read_html
from humpback_jax.corpus.content.main_content import furniture_reasons
from humpback_jax.corpus.content.sections import Section, choose_nested, cut_sections, empty_sections

MIN_CHARS, MAX_CHARS = 600, 3000


def sections_of(markup: str, **options: bool) -> tuple[PageBlocks, list[Section]]:
    page = read_html(markup)
    return page, cut_sections(page, furniture_reasons(page), MIN_CHARS, MAX_CHARS, **options)


def fitting(markup: str, nested: str = "outermost") -> list[tuple[str, str]]:
    """(header, how it was cut) of the sections of the right length that are kept."""
    page, sections = sections_of(markup)
    fit = [section for section in sections if MIN_CHARS <= len(page.text(section.blocks)) <= MAX_CHARS]
    kept = choose_nested(fit, nested)
    return [(section.header, section.cut_by) for section in itertools.compress(fit, kept)]


def test_a_section_is_a_header_with_all_under_it() -> None:
    markup = "<h1>A</h1><p>a.</p><h2>B</h2><p>b.</p><h3>C</h3><p>c.</p><h2>D</h2><p>d.</p><h1>E</h1><p>e.</p>"
    page, sections = sections_of(markup)
    texts = {section.header: page.text(section.blocks) for section in sections if section.cut_by == "header"}
    assert texts == {
        "A": "a.\n\nB\n\nb.\n\nC\n\nc.\n\nD\n\nd.",
        "B": "b.\n\nC\n\nc.",
        "C": "c.",
        "D": "d.",
        "E": "e.",
    }


def test_a_header_without_text_opens_a_section_too() -> None:
    page = read_html("<h1>A</h1><h2></h2><p>a.</p><h3>B</h3><p>b.</p><h2>C</h2><p>c.</p><h3></h3><h1></h1><p>d.</p>")
    sections = empty_sections(page, [None] * len(page.blocks))
    assert [(section.level, page.text(section.blocks)) for section in sections] == [(2, "a.\n\nB\n\nb."), (1, "d.")]
    assert empty_sections(page, ["navigation"] * len(page.blocks)) == []


def test_one_paragraph_that_is_too_long_is_one_section() -> None:
    long = "word " * 1000
    for markup, number in (
        (f"<h1>A</h1><p>{long}</p>", 1),
        (f"<title>A</title><p>{long}</p>", 1),
        (f"<h1>A</h1><p>{long}</p><p>{long}</p>", 2),
        (f"<h1>A</h1><p>{long}</p><h2>B</h2><p>{long}</p>", 3),
    ):
        assert len(sections_of(markup)[1]) == number, markup[:20]
    assert len(sections_of(f"<h1>A</h1><p>{long}</p><p>{long}</p>", long_sections="pieces")[1]) == 3


def test_furniture_does_not_make_an_article_too_long() -> None:
    related = "".join(f"<div class='related'><h3>Related stories</h3>{headlines(40)}</div>" for _ in range(2))
    page, sections = sections_of(f"<h1>How a gate is hung</h1>{paragraphs(1)}{related}{paragraphs(2)}")
    (section,) = sections
    assert "Council" not in page.text(section.blocks)
    assert fitting(f"<h1>Gates</h1>{paragraphs(1)}{related}") == [("Gates", "header")]


def test_a_section_that_is_too_long_gives_way_to_those_in_it_and_keeps_its_lead() -> None:
    inner = "".join(f"<h2>Part {n}</h2>{paragraphs(n)}" for n in range(2, 6))
    markup = f"<h1>Gates</h1>{paragraphs(1)}{inner}"
    assert fitting(markup) == [("Gates", "header"), *((f"Part {n}", "header") for n in range(2, 6))]


def test_neighbours_that_are_too_short_are_put_together() -> None:
    tips = "".join(f"<h2>Tip {n}</h2>{paragraphs(n, 1)}" for n in range(1, 21))
    page, sections = sections_of(f"<h1>Twenty tips</h1>{tips}")
    pieces = [section for section in sections if section.cut_by == "paragraphs"]
    assert {section.header for section in pieces} == {"Twenty tips"}
    assert all(MIN_CHARS <= len(page.text(section.blocks)) <= MAX_CHARS for section in pieces)
    assert sum(page.text(section.blocks).count("Tip ") for section in pieces) == 20
    assert all(page.blocks[section.blocks[0]].text.startswith("Tip ") for section in pieces)


def test_a_long_section_without_lower_headers_gives_its_beginning_or_all_its_pieces() -> None:
    markup = f"<h1>On gates</h1>{paragraphs(1, 30)}"
    page, sections = sections_of(markup)
    beginning = [section for section in sections if section.cut_by == "paragraphs"]
    pieces = [section for section in sections_of(markup, long_sections="pieces")[1] if section.cut_by == "paragraphs"]
    assert len(beginning) == 1 < len(pieces)
    assert beginning[0] == pieces[0] and beginning[0].blocks[0] == beginning[0].header_block + 1
    assert MIN_CHARS <= len(page.text(beginning[0].blocks)) <= MAX_CHARS


def test_a_long_text_without_headers_is_cut_at_paragraphs_into_pieces_of_one_length() -> None:
    page, sections = sections_of(f"<title>On gates - Gates Weekly</title>{paragraphs(1, 30)}")
    sizes = [len(page.text(section.blocks)) for section in sections]
    assert {(section.header, section.cut_by) for section in sections} == {("On gates", "paragraphs")}
    assert all(MIN_CHARS <= size <= MAX_CHARS for size in sizes)
    assert max(sizes) - min(sizes) < 800
    assert [index for section in sections for index in section.blocks] == list(range(len(page.blocks)))
    assert sections_of(f"<title>On gates</title>{paragraphs(1, 30)}", without_headers=False)[1] == []


def test_a_piece_does_not_end_inside_a_list() -> None:
    lists = (f"<p>You need {n}:</p><ul><li>{prose(n)}</li><li>{prose(n + 50)}</li></ul>" for n in range(20))
    page, sections = sections_of(f"<title>Tools</title><div>{''.join(lists)}</div>")
    assert len(sections) > 1
    assert all(page.blocks[section.blocks[0]].text.startswith("You need") for section in sections)


@pytest.mark.parametrize(
    "title",
    [
        '<div role="heading" aria-level="2">{}</div>',
        "<details open><summary>{}</summary></details>",
        "<h2><button>{}</button></h2>",
        "<p><b>{}</b></p>",
        "<p><strong>{}</strong></p>",
        '<font size="5">{}</font><br><br>',
        '<div class="question">{}</div>',
    ],
)
def test_titles_that_are_no_header_elements_open_sections(title: str) -> None:
    first, second = title.format("Choosing a hinge"), title.format("Which paint?")
    markup = f"<div>{first}{paragraphs(1, 2)}{second}{paragraphs(2, 2)}</div>"
    headers = [section.header for section in sections_of(markup)[1]]
    assert headers == ["Choosing a hinge", "Which paint?"]


def test_bold_lines_are_text_where_a_page_has_headers() -> None:
    markup = f"<h1>A</h1><h2>B</h2><p><b>Bold line</b></p>{paragraphs(1)}<h2>C</h2>{paragraphs(2)}"
    assert {section.header for section in sections_of(markup)[1]} == {"A", "B", "C"}


def test_a_list_of_questions_gives_way_to_its_questions() -> None:
    questions = "".join(f"<h2>Question {n}?</h2>{paragraphs(n, 2)}" for n in range(1, 4))
    assert [header for header, _ in fitting(f"<h1>Questions</h1>{questions}")] == [
        f"Question {n}?" for n in range(1, 4)
    ]


def test_of_nested_sections_one_is_kept() -> None:
    markup = f"<h1>Gates</h1>{paragraphs(1, 2)}<h2>Hinges</h2>{paragraphs(2, 2)}"
    assert fitting(markup) == [("Gates", "header")]
    assert ("Hinges", "header") in fitting(markup, "innermost")
    assert len(fitting(markup, "all")) == 3


def test_only_what_reaches_the_end_of_the_page_is_open() -> None:
    markup = f"<h1>Gates</h1><h2>Hinges</h2>{paragraphs(1)}<h2>Locks</h2>{paragraphs(2)}"
    is_open = {section.header: section.open_at_end for section in sections_of(markup)[1]}
    assert is_open == {"Gates": True, "Hinges": False, "Locks": True}
    ended = sections_of(f"{markup}<footer><p>a</p><p>b</p><p>c</p></footer>")[1]
    assert not any(section.open_at_end for section in ended)


@st.composite
def judged_pages(draw: st.DrawFn) -> tuple[PageBlocks, list[str | None]]:
    blocks, reasons = [], []
    for _ in range(draw(st.integers(0, 40))):
        level = draw(st.sampled_from((0, 0, 0, 0, 1, 2, 3, 6)))
        size = draw(st.sampled_from((10, 200, 700, 4000)))
        group = draw(st.sampled_from((0, 0, 1)))
        blocks.append(Block("x" * (20 if level else size), "header" if level else "paragraph", level, group))
        reasons.append(draw(st.sampled_from((None, None, None, "navigation"))))
    return PageBlocks(blocks, [Box(0, "#page")], "A title"), reasons


@settings(max_examples=200, deadline=None)
@given(judged_pages(), st.sampled_from(("outermost", "innermost", "all")))
def test_sections_of_any_page(judged: tuple[PageBlocks, list[str | None]], nested: str) -> None:
    page, reasons = judged
    sections = cut_sections(page, reasons, MIN_CHARS, MAX_CHARS)
    for section in sections:
        assert section.blocks == tuple(sorted(set(section.blocks)))
        assert all(reasons[index] is None for index in section.blocks)
        assert section.header_block is None or section.header_block < section.blocks[0]
    fit = [section for section in sections if len(page.text(section.blocks)) <= MAX_CHARS]
    kept = list(itertools.compress(fit, choose_nested(fit, nested)))
    if nested == "all":
        assert kept == fit
        return
    taken = [index for section in kept for index in section.blocks]
    assert len(taken) == len(set(taken))
    if nested == "outermost":  # no text that some section holds is lost
        assert {index for section in fit for index in section.blocks} - set(taken) <= {
            index for index, block in enumerate(page.blocks) if block.level
        }
