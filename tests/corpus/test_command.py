"""The verbs of `humpback corpus`: every setting is an option, and what they print is what the folder holds."""

import collections
import dataclasses
import json
import random

import click
import pytest
from click.testing import CliRunner
from hypothesis import given, strategies

from humpback_jax.cli import cli
from humpback_jax.command_options import config_options
from humpback_jax.corpus.build import CorpusReport
from humpback_jax.corpus.command import _read_seeds, corpus
from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.show import draw
from humpback_jax.corpus.stats import LENGTH_STEP, length_quantiles


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a test.

    Attributes:
      least, most: bounds, which
        several lines explain.
      words: some words.
      quiet: says nothing.
      limit: how many.
    """

    least: int = 1
    most: float = 2.5
    words: tuple[str, ...] = ("a", "b", "c", "d")
    quiet: bool = True
    limit: int | None = 4
    mode: str = "fast"


def parsed(*arguments):
    """What a verb with an option per setting gets, or how the command line is refused."""
    got = []

    @click.command()
    @config_options(Settings)
    def verb(config):
        got.append(config)

    result = CliRunner().invoke(verb, arguments)
    return got[0] if got else result.output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {}),
        (["--least=3", "--most=7"], {"least": 3, "most": 7.0}),
        (["--words=x", "--words=y z"], {"words": ("x", "y z")}),
        (["--words=none"], {"words": ()}),
        (["--no_quiet", "--mode=none at all"], {"quiet": False, "mode": "none at all"}),
        (["--limit=none"], {"limit": None}),
        (["--least=0", "--most=0", "--limit=0"], {"least": 0, "most": 0.0, "limit": 0}),
    ],
)
def test_what_is_given_takes_the_place_of_the_default(arguments, expected):
    assert parsed(*arguments) == dataclasses.replace(Settings(), **expected)


@pytest.mark.parametrize("arguments", [["--least=x"], ["--least=2.5"], ["--limit=many"], ["--most="], ["--leest=1"]])
def test_a_bad_value_is_refused_by_the_name_of_its_option(arguments):
    assert arguments[0].partition("=")[0] in parsed(*arguments)


def test_help_is_what_the_class_says():
    text = " ".join(parsed("--help").split())
    assert "Bounds, which several lines explain. Default: 1." in text
    assert "See --least. Default: 2.5." in text
    assert "Some words. Can be given several times. Default: a, b, c, …." in text
    assert "Says nothing. Default: on." in text


def test_every_setting_of_the_corpus_is_an_option_with_words():
    options = {parameter.name: parameter for parameter in corpus.commands["build"].params}
    for field in dataclasses.fields(CorpusConfig):
        assert len(options[field.name].help.split()) > 2, field.name
        assert not options[field.name].help.startswith("Default"), f"{field.name} has no words in the docstring"


def test_a_setting_that_cannot_be_names_itself(tmp_path):
    result = CliRunner().invoke(cli, ["corpus", "build", str(tmp_path), "--out", str(tmp_path), "--nested=some"])
    assert isinstance(result.exception, ValueError) and "nested" in str(result.exception)


@pytest.fixture(scope="module")
def corpus_dir(tmp_path_factory):
    """A corpus of a few pages of a made site, one of them hostile."""
    pages, out = tmp_path_factory.mktemp("pages"), tmp_path_factory.mktemp("out") / "corpus <b>"
    for name, (header, body) in made_pages().items():
        (pages / name).write_text(f"<html><body><h1>{header}</h1>{body}</body></html>", encoding="utf-8")
    result = CliRunner().invoke(cli, ["corpus", "build", str(pages), "--out", str(out), "--min_chars=200", "--json"])
    assert result.exit_code == 0, result.output
    return out


def made_pages():
    """Two good pages, a short one, and one whose texts try to become markup or to steer a terminal."""
    tides = "The Moon pulls on the ocean, and harder on the near side of the Earth than on its centre or the far one. "
    bread = "A starter that lives in the fridge can wait for a week before somebody feeds it with flour and water. "
    evil = (
        "&lt;script&gt;window.hacked = 1&lt;/script&gt; \x1b[31m red and \u202e turned text on a page of nobody's own. "
    )
    evil += "It goes on for a while, so that it is long enough for a segment, and says nothing that is of any use. "
    more = "What is left of both pulls stretches the water into two bulges, one below the Moon and one opposite to it. "
    return {
        "tides.html": (
            "Tides",
            f"<p>{tides}{more}</p><p>Most coasts pass through both bulges once a day, as they turn.</p>",
        ),
        "bread.html": (
            "Sourdough",
            f"<p>{bread}</p><p>Before you bake, take it out and feed it twice, until it doubles.</p>",
        ),
        "short.html": ("Short", "<p>Too short.</p>"),
        "evil.html": ("&lt;img src=x onerror=alert(1)&gt;", f"<p>{evil}</p><p>{more}</p>"),
    }


def run(*arguments):
    result = CliRunner().invoke(cli, ["corpus", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


def test_show_draws_the_same_segments_for_a_seed_and_all_where_there_are_few(corpus_dir):
    all_rows = json.loads(run("show", corpus_dir, "--count=100", "--json").stdout)
    assert {row["url"] for row in all_rows} >= {"tides.html", "evil.html"}
    two = [run("show", corpus_dir, "--count=2", "--seed=3", "--json").stdout for _ in range(2)]
    assert two[0] == two[1] and len(json.loads(two[0])) == 2


def test_show_lets_no_page_steer_the_terminal(corpus_dir):
    printed = run("show", corpus_dir, "--count=100").stdout
    assert "Tides" in printed and "window.hacked" in printed
    assert "\x1b" not in printed and "\u202e" not in printed


def test_show_of_a_page_without_segments_says_what_to_do(corpus_dir):
    assert [row["url"] for row in json.loads(run("show", corpus_dir, "--url=tides.html", "--json").stdout)] == [
        "tides.html"
    ]
    result = CliRunner().invoke(cli, ["corpus", "show", str(corpus_dir), "--url=short.html"])
    assert "corpus explain" in str(result.exception)


def test_stats_count_what_the_folder_holds(corpus_dir, tmp_path):
    page = tmp_path / "stats.html"
    figures = json.loads(run("stats", corpus_dir, "--json", "--page", page).stdout)
    rows = json.loads(run("show", corpus_dir, "--count=100", "--json").stdout)
    assert figures["segments"]["segments"] == len(rows) == figures["build"]["segments"]
    assert sum(figures["segments"]["length_bins"].values()) == len(rows)
    assert figures["build"]["rejected_segments"]["too_short"] >= 1
    text = page.read_text()
    assert "corpus &lt;b&gt;" in text and "<b> " not in text
    assert "fewer than" in text and "<svg" in text


def test_stats_of_another_folder_are_refused(tmp_path):
    result = CliRunner().invoke(cli, ["corpus", "stats", str(tmp_path)])
    assert "corpus build" in str(result.exception)


@given(strategies.lists(strategies.integers(0, 5000), min_size=1, max_size=200))
def test_quantiles_of_lengths_are_those_of_the_lengths(lengths):
    bins = collections.Counter(length // LENGTH_STEP for length in lengths)
    for name, value in length_quantiles(bins).items():
        share = float(name.removesuffix(" %")) / 100
        below = sum(length < value - LENGTH_STEP / 2 for length in lengths)
        upto = sum(length < value + LENGTH_STEP / 2 for length in lengths)
        assert below <= share * len(lengths) <= upto + 1e-9


@given(strategies.integers(0, 50), strategies.integers(1, 20), strategies.integers())
def test_a_draw_has_each_row_at_most_once(rows, count, seed):
    drawn = draw(range(rows), count, random.Random(seed))
    assert len(drawn) == len(set(drawn)) == min(rows, count)


def test_every_row_is_drawn_about_as_often():
    rng = random.Random(0)
    drawn = collections.Counter(row for _ in range(4000) for row in draw(range(8), 2, rng))
    assert all(abs(drawn[row] - 1000) < 150 for row in range(8))


def test_options_of_a_runner_are_passed_to_it_and_to_nobody_else(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("humpback_jax.corpus.build.build_corpus", lambda *a, **k: seen.append((a, k)) or CorpusReport())
    words = [
        "corpus",
        "build",
        "a.warc.gz",
        "--out",
        str(tmp_path),
        "--runner=DataflowRunner",
        "--region=x",
        "b.warc.gz",
    ]
    assert CliRunner().invoke(cli, words).exit_code == 0
    (inputs, out, config), options = seen[0]
    assert (inputs, out, config) == (("a.warc.gz", "b.warc.gz"), str(tmp_path), CorpusConfig())
    execution = options["execution"]
    assert (execution.runner, execution.beam_options) == ("DataflowRunner", ("--region=x",))


@pytest.mark.parametrize(("word", "hint"), [("--min_char=5", "--min_chars"), ("--region=x", "--runner")])
def test_an_unknown_option_is_named(tmp_path, word, hint):
    result = CliRunner().invoke(cli, ["corpus", "build", str(tmp_path), "--out", str(tmp_path / "out"), word])
    assert result.exit_code == 2
    assert word.partition("=")[0] in result.output and hint in result.output


def test_seeds_say_which_languages_are_wanted(tmp_path):
    seeds = [{"instruction": "Warum?", "output": "Weil die Luft blaues Licht viel stärker als rotes Licht streut."}] * 5
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in seeds))
    answers, languages = _read_seeds(str(tmp_path / "seeds.jsonl"))
    assert len(answers) >= 1 and languages == ("de",)


def test_pages_of_a_table_are_read_from_the_columns_that_are_named(tmp_path):
    html = made_pages()["tides.html"]
    row = {"where": "https://tides.example/a", "markup": f"<html><body><h1>{html[0]}</h1>{html[1]}</body></html>"}
    (tmp_path / "pages.jsonl").write_text(json.dumps(row) + "\n")
    named = ["--url_column=where", "--content_column=markup", "--min_chars=200", "--workers=1"]
    run("build", tmp_path / "pages.jsonl", "--out", tmp_path / "out", *named)
    (segment,) = json.loads(run("show", tmp_path / "out", "--json").stdout)
    assert segment["url"] == "https://tides.example/a"
    assert json.loads(run("explain", tmp_path / "out", segment["url"], "--json").stdout)["outcome"] == "segments"
