"""What the corpus stage takes, by the rates that docs/scale.md tells."""

import dataclasses
import pathlib
import re

import pytest

from humpback_jax.gin_utils import parse_recipe
from humpback_jax.topology.corpus_work import RATES, CorpusRates, corpus_work
from humpback_jax.topology.plan import PlanRequest, plan_corpus

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "scale.md"
SIMPLE = CorpusRates(10.0, 100_000.0, 20_000.0, 0.5, 2.0, 1000.0, (("a", 100.0), ("b", 7.0)))


def test_hours_and_bytes_follow_from_the_rates():
    work = corpus_work(pages=3_600_000, rates=SIMPLE)
    assert work.core_hours == pytest.approx(10.0)  # 360 GB at 10 MB/s
    assert work.segments == 1_800_000 and work.segment_bytes == 1.8e9
    assert work.shuffled_bytes == {"a": 3.6e8, "b": 3.6e6 * 7}
    assert work.archive_bytes == 7.2e10


def test_segments_need_their_pages_and_pages_give_no_more_than_they_have():
    assert corpus_work(segments=500, rates=SIMPLE).pages == 1000
    few = corpus_work(segments=500, pages=10_000, rates=SIMPLE)
    assert (few.pages, few.segments) == (10_000, 500)  # drawn from all
    assert few.shuffled_bytes == corpus_work(pages=10_000, rates=SIMPLE).shuffled_bytes
    assert corpus_work(segments=10_000, pages=100, rates=SIMPLE).segments == 50
    with pytest.raises(ValueError, match="--pages"):
        corpus_work()


def test_a_plan_counts_the_pages_of_its_recipe():
    recipe = parse_recipe(["experiments/humpback_llama_65b.gin"], [])
    planned = plan_corpus(PlanRequest(recipe, "v5e-256", price_per_core_hour=0.05))
    assert planned["segments"] == pytest.approx(502_133, rel=0.01)
    assert planned["cost"] == pytest.approx(planned["core_hours"] * 0.05)
    assert plan_corpus(PlanRequest(recipe, "v5e-256", pages=1000))["pages"] == 1000
    taken = dataclasses.replace(recipe, scored_run="another")
    assert plan_corpus(PlanRequest(taken, "v5e-256")) is None


def numbers(row):
    """The figures of a row of a table, `1.2 TB` and `3 billion` as plain numbers."""
    units = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15, "thousand": 1e3, "million": 1e6, "billion": 1e9}
    found = re.findall(r"([\d,.]*\d)\s*(kB|MB|GB|TB|PB|thousand|million|billion)?", row)
    return [float(number.replace(",", "")) * units.get(unit, 1) for number, unit in found]


def table(heading):
    """Rows of the table under a heading of the page, as lists of cells."""
    text = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return rows[2:]


def test_the_rates_of_the_page_are_those_of_the_plan():
    told = {row[0].strip("`"): numbers(row[1]) for row in table("Rates")}
    plain = {name: value for name, value in dataclasses.asdict(RATES).items() if name != "shuffled_bytes"}
    assert {name: told[name] for name in plain} == {name: [value] for name, value in plain.items()}
    assert {name: told[name] for name, _ in RATES.shuffled_bytes} == {n: [size] for n, size in RATES.shuffled_bytes}


def test_the_sizes_of_the_page_follow_from_the_rates():
    rows = table("From a laptop to a snapshot")
    assert len(rows) >= 4
    for row in rows:
        pages, archive, core_hours, shuffled, segments, stored = (numbers(cell)[0] for cell in row[:6])
        work = corpus_work(pages=round(pages))
        assert archive == pytest.approx(work.archive_bytes, rel=0.05), row
        assert core_hours == pytest.approx(work.core_hours, rel=0.05), row
        assert shuffled == pytest.approx(sum(work.shuffled_bytes.values()), rel=0.05), row
        assert segments == pytest.approx(work.segments, rel=0.05), row
        assert stored == pytest.approx(work.segment_bytes, rel=0.05), row
