"""A page to its segments: every block and every candidate is accounted for, and each filter has its say."""

import json
import pickle
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.filters.contamination import read_prompts
from humpback_jax.corpus.filters.density import symbol_density
from humpback_jax.corpus.page_segments import PageResult, ToolsRecipe, cut_page, domain_of, explain_page
from humpback_jax.corpus.readers.inputs import list_inputs
from humpback_jax.corpus.readers.pages import Page, read_pages

SUBJECTS = ("ferry", "bridge", "garden", "bakery", "library", "market", "harbour", "tower", "school", "museum")
VERBS = ("opens", "closes", "moves", "grows", "changes", "returns", "arrives", "improves", "waits", "leads")
TAILS = (
    "before the first people come down to the water",
    "whenever the weather allows it and nobody objects",
    "because its owners have learned from older mistakes",
    "although the road that goes there is narrow and steep",
    "after the long winter, when the days get warm again",
    "so that visitors from other towns can see it as well",
    "while the council discusses how all of it should be paid",
)


DEFAULT = CorpusConfig()


def prose(seed: int, sentences: int = 12) -> str:
    """English sentences, no two alike."""
    picked = (
        (SUBJECTS[(seed + i) % 10], VERBS[(seed * 3 + i * 7) % 10], TAILS[(seed + i * 3) % 7]) for i in range(sentences)
    )
    return " ".join(f"In year {1900 + seed * 20 + i} the {s} number {i} {v} {t}." for i, (s, v, t) in enumerate(picked))


def html(*sections: tuple[str, str], level: int = 2) -> str:
    return "".join(f"<h{level}>{header}</h{level}>{body}" for header, body in sections)


def paragraphs(*texts: str) -> str:
    return "".join(f"<p>{text}</p>" for text in texts)


def page(markup: str, url: str = "http://www.town.example/a", **fields: object) -> Page:
    return Page(url, f"<html lang=en><body><article>{markup}</article></body></html>", is_html=True, **fields)


def cut(markup: str | Page, config: CorpusConfig = DEFAULT, seed_languages: tuple[str, ...] = ("en",)) -> PageResult:
    given_page = page(markup) if isinstance(markup, str) else markup
    tools = ToolsRecipe(config, seed_languages).load()
    result = cut_page(given_page, config, tools)
    check_counts(given_page, config, tools, result)
    return result


def check_counts(given_page, config, tools, result) -> None:
    """In = out + rejected, and what is explained is what is done."""
    trace = explain_page(given_page, config, tools)
    assert len(trace.sections) == len(result.segments) + result.rejected.total()
    assert [each.text for each in trace.sections if each.reason is None] == [s.text for s in result.segments]
    assert trace.outcome == result.outcome
    assert (result.outcome == "segments") == bool(result.segments)
    assert len(trace.reasons) == len(trace.page.blocks) == len(list(trace.blocks()))
    assert result.furniture.total() == sum(block.fate == "furniture" for block in trace.blocks())
    for segment in result.segments:
        assert config.min_chars <= len(segment.text) <= config.max_chars
        assert segment.kept_as and all(score >= 0 for score in segment.scores.values())


def test_a_segment_says_where_it_is_from_and_why_it_was_kept() -> None:
    given_page = page(html(("The town", paragraphs(prose(1, 8), prose(2, 8)))), position=10, end=99, record=7)
    (segment,) = cut_page(given_page, CorpusConfig(), ToolsRecipe(CorpusConfig(), ("en",)).load(), "f.warc").segments
    assert (segment.file, segment.record, segment.start, segment.end) == ("f.warc", 7, 10, 99)
    assert (segment.domain, segment.header, segment.language) == ("town.example", "The town", "en")
    assert (segment.cut_by, segment.kept_as) == ("header", "whole_section")
    assert segment.scores["link_density"] == 0 and segment.scores["language_probability"] == 1


def nested_page() -> str:
    return html(("Outer", paragraphs(prose(1, 3)) + html(("Inner", paragraphs(prose(3, 10))), level=3)))


@pytest.mark.parametrize(
    ("nested", "kept", "kept_as"),
    [
        ("outermost", ["Outer"], "outermost_of_nested"),
        ("innermost", ["Inner"], "innermost_of_nested"),
        ("all", ["Outer", "Inner"], "whole_section"),
    ],
)
def test_of_nested_sections_one_is_kept(nested: str, kept: list[str], kept_as: str) -> None:
    result = cut(nested_page(), CorpusConfig(nested=nested))
    assert [segment.header for segment in result.segments if segment.header in ("Outer", "Inner")] == kept
    assert result.segments[0].kept_as == kept_as
    assert nested == "all" or result.rejected["nested"] >= 1


def test_of_a_list_of_sections_each_is_kept() -> None:
    """A page of questions is no answer, and each of its sections is one."""
    questions = html(*((f"Question {i}", paragraphs(prose(i, 9))) for i in (1, 3, 5)), level=3)
    result = cut(html(("Questions", questions)))
    assert [segment.kept_as for segment in result.segments] == ["one_of_a_list"] * 3
    assert result.rejected["nested"] == 1


@pytest.mark.parametrize(
    ("body", "settings_", "reason"),
    [
        (paragraphs("Too short."), {}, "too_short"),
        (paragraphs(prose(1), prose(1)), {}, "repetitive"),
        (paragraphs(prose(1)), {"languages": ("de",)}, "other_language"),
        (paragraphs(prose(1)), {"blocked_phrases": ("THE  bakery number 2",)}, "blocked_phrase"),
        (paragraphs(prose(1)), {"max_symbol_density": 0.0, "mask_personal_data": True}, None),
        (
            paragraphs(prose(1)) + "<pre>{}[]&lt;&gt;|=+*&amp;^%$#@~</pre>",
            {"max_symbol_density": 0.01},
            "symbol_density",
        ),
        (
            "<p>Names of the towns around the lake:</p><ul>" + "<li>Upper and Lower Town</li>" * 60 + "</ul>",
            {},
            "only_lists",
        ),
    ],
    ids=["short", "repeated", "German is wanted", "phrase", "nothing to object", "symbols", "list"],
)
def test_each_filter_has_its_reason(body: str, settings_: dict, reason: str | None) -> None:
    result = cut(html(("A town", body)), CorpusConfig(**settings_))
    assert result.segments if reason is None else result.rejected[reason] == result.rejected.total() >= 1


def test_links_in_the_text() -> None:
    sentences = prose(1, 14).split(". ")
    linked = ". ".join(f'{s[:25]}<a href="/x{i}">{s[25:]}</a>' for i, s in enumerate(sentences))
    result = cut(html(("A town", paragraphs(linked))))
    assert not result.segments
    assert cut(html(("A town", paragraphs(prose(1, 14))))).segments


def test_headers_that_say_nothing() -> None:
    body = paragraphs(prose(1))
    result = cut(
        html(("ALL IN CAPITALS", body), ("Sensible", paragraphs(prose(5))), ("Quick links", paragraphs(prose(4))))
    )
    assert result.rejected["uppercase_header"] == 1 and result.rejected["navigation_header"] == 1
    assert [segment.header for segment in result.segments] == ["Sensible"]


def test_what_stands_under_a_navigation_header_is_in_no_segment() -> None:
    inner = html(("Zu guter Letzt", paragraphs(prose(3))), level=3)
    markup = html(("Outer", paragraphs(prose(1, 10), prose(2, 10)) + inner))
    assert any("In year 1960" in segment.text for segment in cut(markup).segments)
    config = CorpusConfig(navigation_headers=("zu guter letzt",))
    result = cut(markup, config)
    assert result.rejected["navigation_header"] == 1
    assert result.segments and not any("In year 1960" in segment.text for segment in result.segments)


def test_blocked_domains_are_not_read(tmp_path) -> None:
    (tmp_path / "list").write_text("# hosts\n*.town.example\n")
    config = CorpusConfig(blocked_domains=(f"@{tmp_path}/list",))
    markup = html(("A town", paragraphs(prose(1))))
    assert cut(page(markup, "https://shop.town.example:444/x"), config).outcome == "blocked_domain"
    assert cut(page(markup, "https://downtown.example/x"), config).segments


def test_languages_of_seeds_and_none() -> None:
    german = (
        "Der Leuchtturm steht seit vielen Jahren am Rand der Stadt, und jeden Abend geht jemand die Stufen hinauf. "
    )
    body = "".join(
        f"{german.replace('Abend', f'Abend im Jahr {1900 + i}').replace('Stadt', f'Stadt Nr. {i}')}" for i in range(3)
    )
    other = "Wer im Herbst mit dem Boot kommt, sieht ihn schon von weitem; die Kinder zählen dann die Blitze genau. "
    markup = html(
        (
            "Der Turm",
            paragraphs(body + other, other.replace("Herbst", "Winter").replace("Kinder zählen", "Alten sehen")),
        )
    )
    loose = CorpusConfig(min_chars=300, jaccard_threshold=2.0)
    declared = page(markup)
    assert cut(declared, loose, ("en",)).rejected["other_language"] >= 1
    assert [s.language for s in cut(declared, loose, ("de", "en")).segments] == ["de"]
    assert cut(declared, loose, ()).segments


def test_personal_data_is_masked_by_option() -> None:
    markup = html(
        ("Write to ann@post.example", paragraphs(prose(1) + " Ask ann@post.example or ring +44 20 7946 0018."))
    )
    (plain,) = cut(markup).segments
    (masked,) = cut(markup, CorpusConfig(mask_personal_data=True)).segments
    assert "ann@post.example" in plain.text and "ann@post.example" in plain.header
    assert (
        masked.text.endswith("Ask [email address] or ring [phone number].")
        and masked.header == "Write to [email address]"
    )
    assert masked.scores["masked"] == 2


def test_a_cut_page_loses_its_last_section() -> None:
    markup = html(("First", paragraphs(prose(1))), ("Last", paragraphs(prose(5))))
    result = cut(page(markup, truncated=True))
    assert [segment.header for segment in result.segments] == ["First"]
    assert result.rejected["truncated"] >= 1


def test_a_cut_page_of_which_nothing_is_left_is_counted_as_that() -> None:
    for markup in (
        html(("Only", paragraphs(prose(1)))),
        paragraphs(prose(1), prose(2)),
        html(("Outer", paragraphs(prose(1, 3)) + html(("Inner", paragraphs(prose(3))), level=3))),
    ):
        result = cut(page(markup, truncated=True))
        assert result.outcome == "truncated" and result.rejected["truncated"] >= 1
        assert cut(markup).outcome == "segments"


def test_a_section_without_a_title_is_no_segment() -> None:
    """Its text stays in the section around it."""
    result = cut(html(("Town", paragraphs(prose(1, 5))), ("", paragraphs(prose(2))), level=2))
    assert result.rejected["empty_header"] == 1
    assert [segment.header for segment in result.segments] == ["Town"]
    result = cut(html(("Town", paragraphs(prose(1)) + html(("<img src=x>", paragraphs(prose(2))), level=3))))
    assert result.rejected["empty_header"] == 1
    (segment,) = result.segments
    assert prose(2) in segment.text


def test_markdown_and_header_by_option() -> None:
    markup = html(("A town", paragraphs(prose(1)) + "<pre>x = 1\ny = 2</pre>"))
    (plain,) = cut(markup).segments
    (marked,) = cut(markup, CorpusConfig(markdown=True, include_header=True)).segments
    assert "```" not in plain.text and "```\nx = 1\ny = 2\n```" in marked.text
    assert marked.text.startswith("## A town\n\n")


def test_every_page_comes_to_something() -> None:
    outcomes = [
        cut(Page("u", text, is_html=True)).outcome
        for text in ("", "<p></p>", "<nav><a href=/>Home</a></nav>", html(("A", "<p>b</p>")), "<p>word</p>")
    ]
    assert outcomes[:2] == ["no_text", "no_text"] and outcomes[2] == "no_content"
    assert set(outcomes) <= {"no_text", "no_content", "no_section", "all_rejected"}
    assert cut(Page("u", "", is_html=False)).outcome == "no_text"


TAGS = (
    "<h1>",
    "</h1>",
    "<h2>Title",
    "</h2>",
    "<p>",
    "<ul><li>",
    "</ul>",
    "<div class=comments>",
    "</div>",
    "<nav>",
    "</nav>",
)
MORE_TAGS = ("<table><tr><td>", "</table>", "<a href=x>", "</a>", "<pre>", "</pre>", "<h3>MENU</h3>")
PIECES = st.sampled_from([*TAGS, *MORE_TAGS, prose(1), prose(2, 4), prose(3, 40), "Menu", "&"])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(PIECES, max_size=25).map("".join),
    st.booleans(),
    st.sampled_from(["outermost", "innermost", "all"]),
    st.booleans(),
)
def test_any_markup_is_counted_to_the_last_candidate(markup: str, is_html: bool, nested: str, truncated: bool) -> None:
    config = CorpusConfig(nested=nested, mask_personal_data=True, min_chars=100)
    given_page = Page("http://a.example/", markup, is_html, truncated=truncated)
    first = cut(given_page, config)
    assert cut(given_page, config) == first
    taken = [
        i
        for each in explain_page(given_page, config, ToolsRecipe(config, ("en",)).load()).sections
        if each.reason is None
        for i in each.section.blocks
    ]
    assert nested == "all" or len(set(taken)) == len(taken)


def test_pages_of_very_many_headers_take_linear_time() -> None:
    """With the square of their number these would take minutes."""
    for markup in (
        "<h2>Menu</h2><p>a</p>" * 20_000,
        "<h2>Menu</h2><h3>Share</h3>" * 10_000,
        "<h2>Topic</h2>words " * 20_000,
    ):
        cut(page(markup))


def test_recipes_go_to_other_processes(tmp_path) -> None:
    (tmp_path / "prompts.txt").write_text("Where does the ferry number 0 go?\n")
    recipe = ToolsRecipe(CorpusConfig(decontaminate=(str(tmp_path / "prompts.txt"),)), ("en",))
    tools = pickle.loads(pickle.dumps(recipe)).load()
    assert tools.prompts is not None and tools.prompts.number == 1 and hash(recipe)
    (tmp_path / "prompts.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"decontaminate names the file .*prompts\.txt"):
        recipe.load()


def test_domains() -> None:
    assert domain_of("HTTPS://WWW.Example.ORG:8443/x") == "example.org"
    assert domain_of("notes.html") == domain_of("http://[bad") == domain_of("") == ""


def disguised(prompt: str, way: int) -> str:
    """The prompt as another page may write it."""
    if way == 0:
        return prompt.upper()
    if way == 1:
        return " — ".join(prompt.split())
    if way == 2:
        return "<br>".join(f"<b>{word}</b>" for word in prompt.split())
    return f"«{prompt.rstrip(string.punctuation)}»!"


def test_every_prompt_of_alpaca_eval_is_found_wherever_it_is_planted(shared_data) -> None:
    path = shared_data / "alpaca_eval" / "instructions.json"
    config = CorpusConfig(
        decontaminate=(str(path),), max_chars=20_000, jaccard_threshold=2.0, max_symbol_density=None, languages=()
    )
    tools = ToolsRecipe(config).load()
    before, after = prose(1, 8), prose(6, 8)
    missed = []
    for number, (name, (prompt,)) in enumerate(read_prompts(path).items()):
        escaped = prompt.replace("&", "&amp;").replace("<", "&lt;")
        given_page = page(html(("A town", paragraphs(f"{before} {disguised(escaped, number % 4)} {after}"))))
        trace = explain_page(given_page, config, tools)
        if not any(each.reason == "contaminated" and f":{name}" in each.detail for each in trace.sections):
            missed.append((number % 4, prompt))
    assert missed == []
    assert cut_page(page(html(("A town", paragraphs(before, after)))), config, tools).segments


def test_lines_of_code_and_tables_may_be_alike() -> None:
    code = "\n".join(f"print('the gate of the garden is number', {n}, 'of ten')" for n in (1, 1, 1))
    rows = "<tr><td>The gate of the garden</td><td>is open to all of us</td></tr>" * 3
    for alike in (f"<pre>{code}</pre>", f"<table>{rows}</table>"):
        assert cut(html(("A town", f"{paragraphs(prose(1))}{alike}"))).segments
    line = "<p>The gate of the garden is open to all of us.</p>"
    assert cut(html(("A town", paragraphs(prose(1)) + line * 2))).rejected == {"repetitive": 1}


def test_a_prompt_is_found_though_a_line_of_it_looks_like_furniture(tmp_path) -> None:
    prompt = "Write a poem for a garden.\n\nTags: Gate\nflowers, bees, hedge"
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"instruction": prompt}) + "\n")
    markup = html(("A town", paragraphs(prose(1), prompt.replace("\n", "<br>\n"), prose(6))))
    tools = ToolsRecipe(DEFAULT).load()
    assert "Tags: Gate" not in cut_page(page(markup), DEFAULT, tools).segments[0].text
    config = CorpusConfig(decontaminate=(str(path),))
    assert cut_page(page(markup), config, ToolsRecipe(config).load()).rejected == {"contaminated": 1}


def test_a_prompt_is_found_though_its_end_or_beginning_is_beside_the_section(tmp_path) -> None:
    prompt = ["Write a kind letter to a shop.", "Read more: the prices are low", "See also: quiet and old places"]
    (tmp_path / "prompts.json").write_text(json.dumps([{"instruction": "\n".join(prompt)}]))
    config = CorpusConfig(decontaminate=(str(tmp_path / "prompts.json"),))
    lines = "".join(f"<p>{line}</p>" for line in prompt)
    for markup in (
        html(("A town", paragraphs(prose(1, 8)) + lines + paragraphs(prose(6, 8)))),
        html(("A town", paragraphs(prose(1, 16)) + f"<p>{prompt[0]}</p><p>{prompt[1]}</p><p>{prompt[1]}</p>")),
    ):
        assert cut(markup).segments
        assert cut(markup, config).rejected["contaminated"] >= 1
        assert not cut(markup, config).segments
    assert cut(html(("A town", paragraphs(prose(1, 8), prompt[0], prose(6, 8)))), config).segments


def test_decontamination_leaves_ordinary_segments(shared_data) -> None:
    """Of segments of real pages, hardly one holds a prompt of AlpacaEval by chance."""
    path = shared_data / "alpaca_eval" / "instructions.json"
    config = CorpusConfig(decontaminate=(str(path),))
    tools = ToolsRecipe(config).load()
    (file,) = list_inputs([shared_data / "web" / "readability_pages.warc.gz"])
    pages = [record for record in read_pages(file, config.max_page_bytes) if isinstance(record, Page)]
    results = [cut_page(each, config, tools) for each in pages]
    assert sum(len(result.segments) for result in results) > 200
    assert sum(result.rejected["contaminated"] for result in results) <= 3


def test_labelled_segments(shared_data) -> None:
    """The thresholds of symbols, links and lists spare what two readers called clean."""
    rows = [json.loads(line) for line in (shared_data / "labels" / "pairs_dev.jsonl").read_text().splitlines()]
    clean = [row["output"] for row in rows if row["labels"]["text"] == [2, 2]]
    assert len(clean) > 20
    assert sum(symbol_density(text) > (CorpusConfig().max_symbol_density or 0) for text in clean) <= 0.02 * len(clean)
