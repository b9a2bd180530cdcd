"""The verbs of `humpback corpus`: every setting is an option, and what they print is what the folder holds."""

import dataclasses

import click
import pytest
from click.testing import CliRunner

from humpback_jax.cli import cli
from humpback_jax.command_options import config_options
from humpback_jax.corpus.command import corpus
from humpback_jax.corpus.config import CorpusConfig


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


def given(*arguments):
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
    assert given(*arguments) == dataclasses.replace(Settings(), **expected)


@pytest.mark.parametrize("arguments", [["--least=x"], ["--least=2.5"], ["--limit=many"], ["--most="], ["--leest=1"]])
def test_a_bad_value_is_refused_by_the_name_of_its_option(arguments):
    assert arguments[0].partition("=")[0] in given(*arguments)


def test_help_is_what_the_class_says():
    text = " ".join(given("--help").split())
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
