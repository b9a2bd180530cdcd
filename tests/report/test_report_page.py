"""The report of a run as a page, without a browser: what it says, what it holds, and that it is safe to open."""

import html
import html.parser
import json
import re
import shutil

import made_run
import pytest
from click.testing import CliRunner
from report_pages import unpacked

from humpback_jax.cli import cli
from humpback_jax.report.page import write_report
from humpback_jax.report.pairs import domain_of
from humpback_jax.report.words import reason_label, reason_text, stage_reason, stage_words


class Markup(html.parser.HTMLParser):
    """Tags and attributes as a browser reads them."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes = set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]


@pytest.fixture(scope="module")
def page(small_run):
    """The page of the small run."""
    return (small_run / "report.html").read_text()


def test_the_page_holds_every_pair_with_all_that_happened_to_it(small_run, page):
    index = unpacked(page, "pairs-index")
    rows = unpacked(page, "pairs-texts-0")
    assert len(index["id"]) == len(rows) == 60
    pairs = [json.loads(line) for line in (small_run / "augmented" / "pairs.jsonl").read_text().splitlines()]
    scores = [json.loads(line) for line in (small_run / "scores2" / "scores.jsonl").read_text().splitlines()]
    assert index["id"][:57] == [pair["id"] for pair in pairs]
    assert [row[1] for row in rows[:57]] == [pair["output"].replace("\ud83d\ude00", "😀") for pair in pairs]
    assert index["score"][1][:57] == [round(row["score"], 3) for row in scores]
    assert [row[4][1][0] for row in rows[:57]] == [row["rationale"] for row in scores]
    kept = {json.loads(line)["id"] for line in (small_run / "curated2" / "curated.jsonl").read_text().splitlines()}
    states = [index["reasons"][code][0] for code in index["state"][1]]
    assert {name for name, state in zip(index["id"], states, strict=True) if state == "kept"} == kept
    assert states[57:] == ["truncated"] * 3
    assert index["score"][0][57:] == [None] * 3


def test_the_page_loads_nothing_and_runs_only_its_own_script(page):
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1))
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    reader = Markup()
    reader.feed(page)
    loading = [value for tag, name, value in reader.attributes if name == "src" or (name == "href" and tag == "link")]
    assert loading == ["data:,"]
    assert not [name for _, name, _ in reader.attributes if name == "style" or name.startswith("on")]
    links = {value[0] for tag, name, value in reader.attributes if tag == "a" and name == "href"}
    assert links == {"#"}
    assert not reader.tags & {"iframe", "img", "object", "embed", "base"}


def test_no_text_of_a_page_reaches_the_markup(page):
    assert "window.hacked" in page  # the held-out predictions show hostile texts, escaped
    assert "<script>window.hacked" not in page
    assert "<img src=x" not in page
    assert "What happened in small &lt;b&gt; run" in page


def test_equal_runs_give_equal_bytes(small_run, page):
    plots = {path.name: path.read_bytes() for path in (small_run / "plots").iterdir()}
    write_report(small_run)
    assert (small_run / "report.html").read_text() == page
    assert {path.name: path.read_bytes() for path in (small_run / "plots").iterdir()} == plots


def test_plots_are_files_too(small_run):
    names = {path.name for path in (small_run / "plots").iterdir()}
    assert {"scores_round1.svg", "scores_round1.png", "loss.svg", "loss.png", "agreement_1_2.svg"} <= names
    assert (small_run / "plots" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (small_run / "plots" / "loss.svg").read_text()


def test_many_pairs_are_drawn_and_the_figures_stay_of_all(small_run, tmp_path):
    shutil.copytree(small_run, tmp_path / "run")
    page = write_report(tmp_path / "run", max_pairs=10).read_text()
    assert len(unpacked(page, "pairs-index")["id"]) == 10
    assert "10 of 60 pairs, drawn at random" in " ".join(page.split())
    assert "<strong>57</strong> of 60 candidate pairs" in page


@pytest.mark.parametrize(
    "missing",
    [
        ["curated1", "curated2", "scores1", "scores2", "m0", "m1", "evaluation"],
        ["augmented", "curated2", "scores1", "scores2"],
        ["seeds", "augmented", "curated1", "curated2", "scores1", "scores2", "m0", "m1"],
        ["scores2", "curated2", "evaluation"],
    ],
    ids=["no round yet", "scores of another run", "evaluation alone", "one round"],
)
def test_a_part_of_a_run_has_a_report(small_run, tmp_path, missing):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    for name in missing:
        shutil.rmtree(run / name)
    ids = unpacked(write_report(run).read_text(), "pairs-index")["id"]
    assert len(ids) == (0 if "seeds" in missing else 57 if "augmented" in missing else 60)


def test_results_of_other_evaluations_are_shown(page):
    assert ">alpaca</summary>" in page
    assert '<th scope="row">win_rate</th><td>51.25</td>' in page


def test_a_damaged_file_is_named(small_run, tmp_path):
    shutil.copytree(small_run, tmp_path / "run")
    (tmp_path / "run" / "scores1" / "scores.jsonl").write_text('{"id": \n')
    with pytest.raises(ValueError, match=r"scores1.scores\.jsonl:1"):
        write_report(tmp_path / "run")


def test_the_verb_prints_figures_and_says_where_the_page_lies(small_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    (run / "report.html").unlink()
    result = CliRunner().invoke(cli, ["report", str(run), "--json"])
    assert next(iter(json.loads(result.stdout))) == "seeds"
    assert str(run / "report.html") in result.stderr
    assert (run / "report.html").exists()
    (run / "report.html").unlink()
    result = CliRunner().invoke(cli, ["report", str(run), "--no_page"])
    assert "curated2" in result.stdout
    assert not (run / "report.html").exists()


def test_reasons_are_told_with_the_run_s_own_limits():
    assert reason_text("too_long", {"corpus": {"max_chars": 700}}) == "more than 700 characters"
    assert reason_text("below_best_fraction", {"selection": {"keep_fraction": 0.35}}).startswith("only the best 35 %")
    assert reason_text("too_long", {}) == "more than … characters"
    assert (reason_label("quite_new"), reason_text("quite_new")) == ("Quite new", "")
    assert stage_words("scores3")[1].startswith("M_2")
    assert stage_words("own_stage")[0] == "Own stage"


@pytest.mark.parametrize(
    ("source", "domain"),
    [
        ("https://www.example.org/a?b", "example.org"),
        ("break.html", "break.html"),
        ("folder/page.html", "page.html"),
        ("javascript:alert(1)", "javascript:alert(1)"),
        ("http://[bad", "http://[bad"),
        ("", ""),
    ],
)
def test_domains(source, domain):
    assert domain_of(source) == domain


def test_the_stage_that_cuts_pages_tells_every_reason_in_words(small_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    rejected = {"too_short": 40, "near_duplicate": 7, "other_language": 3, "not_sampled": 2, "quite_<b>new": 1}
    figures = {
        "pages": 30,
        "page_outcomes": {"segments": 18, "no_content": 9, "all_rejected": 3},
        "rejected_records": {"http_status:404": 5, "not_html": 2},
    }
    settings = {"corpus": {"min_chars": 650, "near_duplicates": 0.8, "languages": ["en"], "num_segments": 20}}
    made_run.write_manifest(run, "segments", {"in": 73, "out": 20, "rejected": rejected}, figures, settings)
    text = " ".join(re.sub(r"<[^>]+>", "", write_report(run).read_text()).split())
    for words in (
        "Too short: fewer than 650 characters",
        "Near-duplicate: a kept segment is at least 80 % like it",
        "Another language: it is not written in en",
        "Not drawn: the run keeps 20 segments, drawn uniformly over sites",
        "Quite &lt;b&gt;new",
        "What the 30 pages came to",
        "No content: nothing but furniture",
        "7 records that are no pages",
        "No page there (404)",
    ):
        assert words in text, words


def test_reasons_of_older_runs_keep_their_words():
    assert (
        reason_text("over_max_segments", {"corpus": {"max_segments": 60}}) == "the run takes only the first 60 segments"
    )
    assert stage_reason("augmented", "truncated", {"max_new_tokens": 9})[1].endswith("within 9 tokens")
    assert "page" in stage_reason("segments", "truncated")[1]
