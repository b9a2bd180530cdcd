"""Why a page gave what it gave: the story of every section and block, in the terminal and as a page."""

import collections
import html.parser
import json
import re

import pytest
from click.testing import CliRunner

from humpback_jax.cli import cli
from humpback_jax.corpus.explain import draw_pages, explain_pages, find_page, open_corpus
from humpback_jax.corpus.segment_files import read_segments
from humpback_jax.corpus.story_pages import MAX_BLOCK_CHARS, write_story_page

WORDS = ["tide", "moon", "ocean", "coast", "harbour", "water", "earth", "bulge", "gravity", "orbit", "sand", "current"]
HOSTILE = "&lt;script&gt;window.hacked = 1&lt;/script&gt; &lt;img src=x onerror=alert(1)&gt; \x1b[31m\u202e"


def prose(seed, sentences=6):
    """Text that no other seed gives, without repetitions."""
    places = [(WORDS[(seed * 7 + i) % 12], WORDS[(seed + i * 5) % 12], seed * 31 + i * 17) for i in range(sentences)]
    return " ".join(f"The {one} of year {n} lies near the {other}, as anybody can tell." for one, other, n in places)


def page(*sections):
    body = "".join(f"<h2>{header}</h2><p>{text}</p>" for header, text in sections)
    menu = "<nav><ul><li><a href=/a>Home</a></li></ul></nav>"
    return f"<html><head><title>Page</title></head><body>{menu}<main>{body}</main></body></html>"


def run(*arguments):
    result = CliRunner().invoke(cli, ["corpus", *map(str, arguments)])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Pages: two sections, one too short; the same text twice; one that is hostile; one with nothing."""
    folder = tmp_path_factory.mktemp("site")
    pages = {
        "two.html": page(("First", prose(1)), ("Second", prose(2)), ("Third", "Too short.")),
        "copy.html": page(("First again", prose(1))),
        "evil.html": page((HOSTILE, prose(3) + HOSTILE)),
        "empty.html": "<html><body><nav><a href=/x>Only</a> <a href=/y>links</a></nav></body></html>",
    }
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def built(site, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "corpus"
    run("build", site, "--out", out, "--min_chars=200", "--workers=1")
    return out


def explained(folder, url, *options):
    return json.loads(run("explain", folder, url, "--json", *options).stdout)


def test_what_is_kept_is_what_the_folder_holds_and_all_else_has_a_reason(built):
    headers = collections.defaultdict(set)
    for row in read_segments(built):
        headers[row["url"]].add(row["header"])
    opened = open_corpus(built)
    stories = explain_pages(opened, draw_pages(opened, 100, 0))
    assert {story.url for story in stories} == {"two.html", "copy.html", "evil.html", "empty.html"}
    for story in stories:
        assert {s.trace.section.header for s in story.sections if s.is_kept} == headers[story.url]
        assert all(s.verdict for s in story.sections)
        blocks = list(story.blocks())
        assert len(blocks) == len(story.trace.page.blocks)
        assert all(block.reason for block in blocks if block.fate in ("furniture", "rejected"))


def test_a_short_section_and_furniture_are_named(built):
    told = explained(built, "two.html")
    assert {s["header"]: s["verdict"] for s in told["sections"]} == {
        "First": "kept",
        "Second": "kept",
        "Third": "too_short",
    } or ({s["verdict"] for s in told["sections"]} >= {"kept", "duplicate", "too_short"})
    assert any(block["fate"] == "furniture" and "Home" in block["text"] for block in told["blocks"])
    assert explained(built, "empty.html")["outcome"] in ("no_content", "no_section", "no_text")


def test_of_a_duplicate_the_kept_one_is_named(built):
    verdicts = [s for url in ("two.html", "copy.html") for s in explained(built, url)["sections"]]
    (dropped,) = [s for s in verdicts if s["verdict"] == "duplicate"]
    kept = {row["id"] for row in read_segments(built)}
    assert dropped["detail"].startswith("1.00 like ") and dropped["detail"].rpartition(" ")[2] in kept


def test_what_was_not_drawn_is_told(site, tmp_path):
    run("build", site, "--out", tmp_path / "few", "--min_chars=200", "--workers=1", "--num_segments=1")
    verdicts = [s["verdict"] for url in ("two.html", "evil.html") for s in explained(tmp_path / "few", url)["sections"]]
    assert "not_sampled" in verdicts


def test_what_reads_unlike_an_answer_is_told_with_its_score(site, tmp_path):
    """A threshold of 1 drops all but the likeliest; each has the score of the model that the build trained."""
    for number in range(30):
        (site / f"more{number}.html").write_text(page(("More", prose(number + 10))), encoding="utf-8")
    seeds = [{"instruction": "Ask.", "output": f"Yes, of course: {prose(n, 1)} Do you agree?"} for n in range(60)]
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in seeds))
    options = ("--min_chars=200", "--workers=1", "--seeds", tmp_path / "seeds.jsonl", "--languages=none")
    run("build", site, "--out", tmp_path / "like", *options, "--min_answer_likeness=1")
    told = explained(tmp_path / "like", "two.html")["sections"]
    scores = [s["scores"]["answer_likeness"] for s in told if s["verdict"] == "low_answer_likeness"]
    assert scores and all(0 <= score < 1 for score in scores)
    assert [s["detail"] for s in told if s["verdict"] == "low_answer_likeness"] == [f"{score:g}" for score in scores]
    for number in range(30):
        (site / f"more{number}.html").unlink()


def test_a_page_that_is_nowhere_or_a_folder_that_is_no_corpus_is_an_error(built, tmp_path):
    for arguments, words in (((built, "nowhere.html"), "nowhere.html"), ((tmp_path, "two.html"), "corpus build")):
        result = CliRunner().invoke(cli, ["corpus", "explain", *map(str, arguments)])
        assert words in str(result.exception)


def test_pages_that_were_moved_are_found_where_they_are_now(site, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in site.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    run("build", moved, "--out", tmp_path / "corpus", "--min_chars=200", "--workers=1")
    moved.rename(tmp_path / "there")
    assert explained(tmp_path / "corpus", "two.html", "--input", tmp_path / "there")["sections"]


def test_the_terminal_tells_it_in_words_and_lets_no_page_steer_it(built):
    printed = run("explain", built, "evil.html", "--blocks").stdout
    assert "Gave segments" in printed and "[Kept]" in printed and "window.hacked" in printed
    assert "\x1b" not in printed and "\u202e" not in printed


class Markup(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = collections.Counter(), []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]


def test_the_page_escapes_everything_and_loads_nothing(built, tmp_path):
    path = tmp_path / "pages.html"
    run("show", built, "--page", path, "--count=10")
    text = path.read_text()
    read = Markup()
    read.feed(text)
    assert read.tags["script"] == read.tags["style"] == 1 and not read.tags["img"]
    assert [v for t, n, v in read.attributes if n == "src" or (n == "href" and t == "link")] == ["data:,"]
    assert not [n for _, n, _ in read.attributes if n == "style" or n.startswith("on")]
    assert "script-src 'sha256-" in text and "&lt;script&gt;window.hacked" in text
    assert read.tags["article"] == 4
    legend = re.findall(r'data-reason="(\w+)"><span', text)
    assert {"kept", "too_short", "navigation"} <= set(legend)
    blocks = {v for t, n, v in read.attributes if t == "div" and n == "data-reason"}
    assert blocks == set(legend)


def test_a_page_of_a_url_shows_that_page_alone(built, tmp_path):
    run("show", built, "--page", tmp_path / "one.html", "--url=two.html")
    assert (tmp_path / "one.html").read_text().count("<article") == 1


def test_equal_seeds_draw_equal_pages_and_a_large_page_stays_small(built, tmp_path):
    opened = open_corpus(built)
    first, again = (draw_pages(opened, 2, 7) for _ in range(2))
    assert [p.url for p, _ in first] == [p.url for p, _ in again]
    stories = explain_pages(opened, [find_page(opened, "two.html")])
    for block in stories[0].trace.page.blocks:
        block.text *= 200
    write_story_page(stories, "big", opened.settings, tmp_path / "big.html")
    longest = max(len(text) for text in re.findall(r'dir="auto">([^<]*)<', (tmp_path / "big.html").read_text()))
    assert longest <= MAX_BLOCK_CHARS + 10
