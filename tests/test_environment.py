"""docs/environment.md lists the variables of humpback: each that the source names, and no other."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
VARIABLE = re.compile(r"HUMPBACK_[A-Z_]*[A-Z]")
PAGE = (ROOT / "docs" / "environment.md").read_text()
SOURCES = [*ROOT.glob("humpback_jax/**/*.py"), *ROOT.glob("launch/*")]


def named_in(paths):
    return {name for path in paths if path.is_file() for name in VARIABLE.findall(path.read_text())}


def test_the_page_lists_every_variable_of_the_source_and_no_other():
    assert len(named_in(SOURCES)) > 10
    assert set(VARIABLE.findall(PAGE)) == named_in(SOURCES)


def test_the_page_says_who_reads_a_variable():
    rows = re.findall(r"^\| `(HUMPBACK_\w+)` \|.*\| `([\w./]+)` \|$", PAGE, re.MULTILINE)
    assert {name for name, _ in rows} == named_in(SOURCES)
    assert len(rows) == len(dict(rows))
    for name, reader in rows:
        assert name in named_in([ROOT / "humpback_jax" / reader]), f"{reader} does not read {name}"


def test_no_other_page_names_a_variable_that_nothing_reads():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("launch/*.md"), ROOT / "Makefile"]
    assert named_in(pages) <= named_in(SOURCES)
