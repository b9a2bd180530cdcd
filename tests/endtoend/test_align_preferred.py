"""Preference learning after the last round: its stages, what depends on what, and the pages that show it."""

import dataclasses
import json

import pytest

from humpback_jax.align import Alignment
from humpback_jax.data.batching import BatchConfig
from humpback_jax.lineage.changes import plan_changes
from humpback_jax.preflight import stage_names
from humpback_jax.report.page import write_report
from humpback_jax.report.tables import print_report, run_figures
from humpback_jax.stages.prefer import PreferenceConfig
from humpback_jax.stages.rating import CurationConfig
from humpback_jax.stages.sampled_pairs import SampledPairsConfig
from humpback_jax.training.config import LoopConfig

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("preferred")]  # one worker: the run is made once

OWN = ["sampled1", "sampled_scores1", "preferences1", "preferred1"]


@pytest.fixture(scope="module")
def finished(tiny_recipe, tmp_path_factory):
    sampling = SampledPairsConfig(
        answers=3,
        generation=tiny_recipe.answering,
        rating=CurationConfig(mode="expected", generation=tiny_recipe.curation.generation),
        max_length_ratio=9.0,
    )
    batches = BatchConfig(batch_size=4, row_length=768)  # prompts with both tags, twice
    training = dataclasses.replace(tiny_recipe.forward, batches=batches, loop=LoopConfig(num_steps=3))
    preference = PreferenceConfig(training=training, heldout=0.3, sampling=sampling)
    recipe = dataclasses.replace(tiny_recipe, rounds=1, preference=preference)
    run_dir = tmp_path_factory.mktemp("runs") / "preferred"
    model = Alignment(recipe, run_dir).align()
    assert model.path == run_dir / "preferred1" / "model"
    return recipe, run_dir


def manifest(run_dir, stage):
    return json.loads((run_dir / stage / "manifest.json").read_text())


def test_its_stages_are_complete_counted_and_in_order(finished):
    recipe, run_dir = finished
    figures = run_figures(run_dir)
    assert list(figures) == stage_names(recipe) == [change.stage for change in plan_changes(recipe, run_dir)]
    assert [name for name in figures if name in OWN] == OWN
    counts = {name: figures[name]["counts"] for name in OWN}
    assert counts["sampled1"]["in"] == 3 * counts["preferences1"]["in"] == 24
    assert counts["preferences1"]["in"] == counts["preferred1"]["in"]
    for count in counts.values():
        assert count["in"] == count["out"] + sum(count["rejected"].values())
    inputs = {name: manifest(run_dir, name)["inputs"] for name in OWN}
    of_round = manifest(run_dir, "m1")["outputs"]["model"]
    assert inputs["sampled1"]["model"] == inputs["sampled_scores1"]["model"] == inputs["preferred1"]["base"] == of_round
    assert "preferred1" in manifest(run_dir, "evaluation")["figures"]["nll_per_token"]


def test_a_finished_run_has_nothing_to_do_and_another_choice_makes_what_depends_on_it(finished):
    recipe, run_dir = finished
    assert {change.state for change in plan_changes(recipe, run_dir)} == {"complete"}
    sampling = dataclasses.replace(recipe.preference.sampling, max_length_ratio=8.0)
    other = dataclasses.replace(recipe, preference=dataclasses.replace(recipe.preference, sampling=sampling))
    states = {change.stage: change.state for change in plan_changes(other, run_dir)}
    assert states["sampled1"] == states["sampled_scores1"] == states["m1"] == "complete"
    assert (states["preferences1"], states["preferred1"], states["evaluation"]) == ("again", "follows", "follows")
    without = dataclasses.replace(recipe, preference=None)
    assert not [change for change in plan_changes(without, run_dir) if change.stage in OWN]


def test_the_report_shows_what_was_learned_and_the_pairs(finished, capsys):
    _, run_dir = finished
    print_report(run_dir, run_figures(run_dir))
    assert "Preference learning after round 1" in capsys.readouterr().out
    page = write_report(run_dir).read_text()
    assert "What the model prefers" in page and "M_1 with preferences" in page
    rows = [json.loads(line) for line in (run_dir / "preferences1" / "preferences.jsonl").read_text().splitlines()]
    assert page.count("<strong>Chosen (") == len(rows) > 0
