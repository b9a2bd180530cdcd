"""The whole algorithm with a curator, several candidates per segment and an arm, at the smallest size."""

import dataclasses
import json
import pathlib
import shutil

import pytest

from humpback_jax import run_files
from humpback_jax.align import Alignment
from humpback_jax.curation.curator import CuratorConfig
from humpback_jax.curation.signals import SIGNALS
from humpback_jax.lineage.changes import Planner, plan_changes
from humpback_jax.report.tables import print_report, run_figures
from humpback_jax.stages.rating import CurationConfig
from humpback_jax.stages.selection import SelectionConfig

pytestmark = pytest.mark.xdist_group("curated")  # one worker: the run is made once


@pytest.fixture(scope="module")
def recipe(tiny_recipe, tmp_path_factory):
    seeds = tmp_path_factory.mktemp("more") / "seeds.jsonl"
    # More than the curator learns from, for the examples of rating.
    more = [
        {"instruction": f"Describe a {name}.", "output": f"A {name} runs and eats."}
        for name in ("ram", "doe", "eel", "cod")
    ]
    own = pathlib.Path(tiny_recipe.seeds.path).read_text()
    seeds.write_text(own + "".join(json.dumps(row) + "\n" for row in more))
    return dataclasses.replace(
        tiny_recipe,
        seeds=dataclasses.replace(tiny_recipe.seeds, path=str(seeds)),
        rounds=1,
        rating_examples=4,
        candidates=2,
        curation=CurationConfig("expected", tiny_recipe.augmentation),
        curator=CuratorConfig(originals=8),
        selection=SelectionConfig(by="curator", keep_fraction=0.5, min_instruction_chars=1),
        arms=("random", "rewritten"),
    )


@pytest.fixture(scope="module")
def run_dir(recipe, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("curated") / "run"
    Alignment(recipe, run_dir).align()
    return run_dir


def manifest(run_dir, stage):
    return json.loads((run_dir / stage / run_files.MANIFEST).read_text())


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_stage_is_there_and_its_counts_add_up(run_dir):
    expected = {"seeds", "segments", "m_yx", "augmented", "m0", "scores1", "curator1", "curated1", "m1"}
    expected |= {"curated1_random", "m1_random", "curated1_rewritten", "m1_rewritten", "evaluation"}
    assert {path.parent.name for path in run_dir.glob("*/manifest.json")} == expected
    for stage in expected:
        counts = manifest(run_dir, stage)["counts"]
        assert counts["in"] == counts["out"] + sum(counts["rejected"].values())


def test_kept_pairs_have_all_signals_and_one_candidate_per_segment(run_dir):
    kept = rows_of(run_dir / "curated1" / run_files.CURATED)
    dropped = rows_of(run_dir / "curated1" / run_files.DROPPED)
    assert len({row["segment"] for row in kept}) == len(kept)
    assert all(set(row["signals"]) == set(SIGNALS) for row in kept)
    below = [row["p_good"] for row in dropped if row["reason"] == "below_best_fraction"]
    assert min(row["p_good"] for row in kept) >= max(below, default=0.0)
    expected = manifest(run_dir, "curated1")["figures"]["expected"]
    assert 0 <= expected["precision"]["low"] <= expected["precision"]["value"] <= expected["precision"]["high"] <= 1


def test_the_arm_is_as_large_as_the_curated_set_and_is_compared(run_dir):
    arm = rows_of(run_dir / "curated1_random" / run_files.CURATED)
    assert len(arm) == len(rows_of(run_dir / "curated1" / run_files.CURATED))
    figures = manifest(run_dir, "evaluation")["figures"]
    assert {"m0", "m1", "m1_random", "m1_rewritten"} <= set(figures["nll_per_token"])
    nll = {name: each["nll"] for name, each in figures["nll_per_token"].items()}
    assert [(d["model"], d["rival"]) for d in figures["nll_differences"]] == [
        ("m1", rival) for rival in ("m0", "m1_random", "m1_rewritten")
    ]
    for each in figures["nll_differences"]:
        assert each["difference"] == pytest.approx(nll["m1"] - nll[each["rival"]], abs=2e-4)
        assert each["low"] <= each["difference"] <= each["high"]


def test_models_that_rate_have_learned_from_rating_examples(run_dir):
    for stage in ("m0", "m1", "m1_random"):
        sets = manifest(run_dir, stage)["figures"]["sets"]
        # A twin with a page's furniture may be longer than a row of 256 bytes.
        assert sets["rating"]["in"] == 4 == sets["rating"]["out"] + sum(sets["rating"]["rejected"].values())
        assert sets["rating"]["out"] >= 2
    assert set(manifest(run_dir, "m_yx")["figures"]["sets"]) == {"seed"}


def test_rating_examples_need_pairs_that_the_curator_does_not_learn_from(recipe, run_dir):
    greedy = dataclasses.replace(recipe, curator=CuratorConfig(originals=1000))
    with pytest.raises(ValueError, match="0 seed pairs are left beside the 1000 that the curator learns from"):
        Alignment(greedy, run_dir).train_seed_model()


def test_the_report_can_be_printed(run_dir, capsys):
    print_report(run_dir, run_figures(run_dir))
    assert "m1_random" in capsys.readouterr().out


def test_a_finished_run_is_left_as_it_is_and_a_cut_off_one_goes_on(run_dir, recipe):
    files = {path: path.read_bytes() for path in run_dir.glob("*/*.json*")}
    for stage in ("curator1", "curated1"):
        (run_dir / stage / run_files.MANIFEST).unlink()
    Alignment(recipe, run_dir).align()
    again = {path: path.read_bytes() for path in run_dir.glob("*/*.json*")}
    without_seconds = lambda data: data.split(b'"seconds"')[0]  # noqa: E731
    assert {path: without_seconds(data) for path, data in files.items()} == {
        path: without_seconds(data) for path, data in again.items()
    }


def test_another_curator_makes_itself_and_what_follows_again(run_dir, recipe, tmp_path):
    shutil.copytree(run_dir, tmp_path / "run")
    changed = dataclasses.replace(recipe, curator=CuratorConfig(originals=8, penalty=0.5))
    plan = {each.stage: each.state for each in plan_changes(changed, tmp_path / "run")}
    Alignment(changed, tmp_path / "run").align()
    again = {path.parent.name for path in (tmp_path / "run").glob("*/manifest.json")}
    again = {stage for stage in again if manifest(tmp_path / "run", stage) != manifest(run_dir, stage)}
    assert {"curator1", "curated1"} <= again <= {stage for stage, state in plan.items() if state != "complete"}
    assert not {"m0", "scores1", "augmented"} & again
    figures = manifest(tmp_path / "run", "curator1")["figures"]
    assert figures["reused"] > 0 and figures["new"] == 0


def test_the_plan_knows_what_every_stage_is_begun_with(run_dir, recipe):
    for stage, identity in Planner(recipe, run_dir).identities().items():
        assert json.loads((run_dir / stage / "identity.json").read_text()) == identity, stage


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"curator": None}, "asks for signals, which only a run with a curator has"),
        ({"arms": ("best",)}, "Recipe.arms .*random, longest, rewritten"),
        ({"candidates": 0}, "Recipe.candidates .*at least 1"),
        ({"candidates": 1, "steer_candidates": True}, "Recipe.candidates is 1"),
    ],
)
def test_recipes_that_cannot_be_are_refused(recipe, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(recipe, **change)
