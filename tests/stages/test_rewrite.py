"""Rewriting on the tiny model: every pair stays a pair, and a rewriting is taken only where every check passes."""

import dataclasses
import json

import pytest

from humpback_jax.files import JsonLines, write_jsonl
from humpback_jax.inference.requests import EngineConfig
from humpback_jax.stages import rewrite as rewrite_module
from humpback_jax.stages.jobs import JobResult, run_job
from humpback_jax.stages.rating import CurationConfig
from humpback_jax.stages.rewrite import RewritingConfig, rewrite

TEXT = "Herons wait in shallow water. They eat fish. They nest in tall trees with others of their kind."
GOOD = "Herons eat fish. They wait in shallow water. They nest in tall trees with others."
REWRITINGS = {
    "good": GOOD,
    "lower_fit": GOOD,
    "lower_rating": GOOD,
    "unscored": GOOD,
    "new_number": GOOD + " There are 7.",
    "unchanged": TEXT,
    "empty_rewriting": "",
    "truncated": GOOD,
    "prompt_too_long": None,
}


@pytest.fixture
def curated(make_product):
    rows = [
        {"id": name, "instruction": f"What do herons do, {name}?", "output": TEXT, "source": "t", "p_good": 0.7}
        for name in REWRITINGS
    ]
    rows[-1]["output"] = "x" * 2000
    return make_product("curated1", "curated", rows)


@pytest.fixture
def generation(small_generation):
    return dataclasses.replace(small_generation, engine=EngineConfig(4, (768,), 8))


def rows_of(stage, name):
    return {row["id"]: row for row in map(json.loads, (stage.directory / name).read_text().splitlines())}


def readings_of(name):
    """Score and signals of a version of a pair, as if a model had read it."""
    worse = name.endswith("#after")
    score = 2.0 if name == "lower_rating#after" else 3.0 + worse
    fit = -0.5 if name == "lower_fit#after" else 0.1 + worse
    return {"id": name, "score": score, "signals": {"fit": fit, "rating": score}}


def write_as_told(folder, job, items, *rest):
    """The job of writing, as if the model had written `REWRITINGS`."""
    if folder.name != "written":
        return run_job(folder, job, items, *rest)
    rows = [{"id": item.id, "output": REWRITINGS[item.id], "truncated": item.id == "truncated"} for item in items[:]]
    write_jsonl(folder / "rows.jsonl", rows)
    return JobResult(items, JsonLines([folder / "rows.jsonl"]), {})


@dataclasses.dataclass
class ToldReadings:
    """Stands in for the result of a reading job."""

    rows: list

    def joined(self):
        return iter(self.rows)


def test_a_rewriting_is_taken_where_every_check_passes(
    tiny_model, curated, short_prompts, generation, tmp_path, monkeypatch
):
    def read_as_told(folder, job, items, *rest):
        if folder.name == "written":
            return write_as_told(folder, job, items, *rest)
        rows = [readings_of(item.id) for item in items[:]]
        return ToldReadings([(row, None if row["id"] == "unscored#after" else row) for row in rows])

    monkeypatch.setattr(rewrite_module, "run_job", read_as_told)
    curation = CurationConfig(mode="expected", generation=generation)
    settings = short_prompts, generation, curation
    stage = rewrite(tmp_path / "rewritten", tiny_model, curated, *settings, RewritingConfig())
    assert stage.counts == {"in": len(REWRITINGS), "out": len(REWRITINGS), "rejected": {}}
    found = {name: row["reason"] for name, row in rows_of(stage, "rewritings.jsonl").items()}
    assert found == {name: None if name == "good" else name for name in REWRITINGS}
    assert sum(stage.manifest["figures"]["rewritten"].values()) == len(REWRITINGS)
    given = {row["id"]: row for row in map(json.loads, (curated.directory / "curated.jsonl").read_text().splitlines())}
    taken = rows_of(stage, "curated.jsonl")
    good = taken.pop("good")
    assert (good["output"], good["text"], good["score"], "p_good" in good) == (GOOD, TEXT, 4.0, False)
    assert taken == {name: row for name, row in given.items() if name != "good"}, "elsewhere the pair stays as it was"
    generous = RewritingConfig(most_fit_lost=1.0, most_rating_lost=1.0)
    stage = rewrite(tmp_path / "generous", tiny_model, curated, *settings, generous)
    assert stage.manifest["figures"]["rewritten"]["rewritten"] == 3


def test_texts_and_rewritings_are_read_by_the_model(
    tiny_model, curated, short_prompts, generation, tmp_path, monkeypatch
):
    monkeypatch.setattr(rewrite_module, "run_job", write_as_told)
    curation = CurationConfig(mode="expected", generation=generation)
    tolerant = RewritingConfig(most_fit_lost=100.0, most_rating_lost=4.0)
    stage = rewrite(tmp_path / "rewritten", tiny_model, curated, short_prompts, generation, curation, tolerant)
    taken = [row for row in rows_of(stage, "curated.jsonl").values() if "text" in row]
    assert [row["id"] for row in taken] == ["good", "lower_fit", "lower_rating", "unscored"]
    assert all(1 <= row["score"] <= 5 and "fit" in row["signals"] for row in taken)


def test_a_model_that_writes_nonsense_changes_nothing(tiny_model, curated, short_prompts, generation, tmp_path):
    curation = CurationConfig(mode="expected", generation=generation)
    stage = rewrite(tmp_path / "rewritten", tiny_model, curated, short_prompts, generation, curation, RewritingConfig())
    assert (stage.directory / "curated.jsonl").read_bytes() == (curated.directory / "curated.jsonl").read_bytes()
    assert "rewritten" not in stage.manifest["figures"]["rewritten"]
