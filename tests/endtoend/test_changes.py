"""Changes of a finished run in place: what depends on one is made again, to the bytes of a fresh run, and no more."""

import dataclasses
import json
import shutil

import pytest

from humpback_jax.align import Alignment
from humpback_jax.lineage.changes import Planner, plan_changes, stages_left
from humpback_jax.lineage.forget import forget, plan_take_down

pytestmark = pytest.mark.xdist_group("changes")  # one worker: the run is made once


@pytest.fixture(scope="module")
def finished(tiny_recipe, tmp_path_factory):
    """A finished run of one round."""
    recipe = dataclasses.replace(tiny_recipe, rounds=1)
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    Alignment(recipe, run_dir).align()
    return recipe, run_dir


@pytest.fixture
def copied(finished, tmp_path):
    """The recipe, and a copy of the run that may be changed."""
    recipe, run_dir = finished
    return recipe, shutil.copytree(run_dir, tmp_path / "run")


def manifest(run_dir, stage):
    return json.loads((run_dir / stage / "manifest.json").read_text())


def made_again(run_dir, before):
    """Stages whose manifests are others than in the run before."""
    stages = {path.parent.name for path in run_dir.glob("*/manifest.json")}
    old = {path.parent.name for path in before.glob("*/manifest.json")}
    return {name for name in stages if name not in old or manifest(run_dir, name) != manifest(before, name)}


def products(run_dir):
    """The bytes of every product that is text, and the hashes of the models."""
    names = ["pairs.jsonl", "rejected.jsonl", "scores.jsonl", "curated.jsonl", "dropped.jsonl", "trained_on.jsonl"]
    names += ["backward_instructions.jsonl"]
    found = {str(path.relative_to(run_dir)): path.read_bytes() for name in names for path in run_dir.glob(f"*/{name}")}
    found |= {str(path.relative_to(run_dir)): path.read_bytes() for path in run_dir.glob("segments/segments-*")}
    models = {path.parent.name for path in run_dir.glob("*/model")}
    return found | {name: manifest(run_dir, name)["outputs"]["model"] for name in models}


def with_prompts(recipe, sources, folder, **texts):
    """The recipe with other templates."""
    shutil.copytree(sources / "prompts", folder)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    return dataclasses.replace(recipe, prompt_dir=str(folder))


def more_pages(recipe, sources, folder):
    """The recipe with two pages more."""
    shutil.copytree(sources / "pages", folder)
    for name in ("emu", "ape"):
        text = f"The {name} of the new farm sleeps in the barn by night and walks over the hills by day."
        (folder / f"{name}.html").write_text(f"<html><body><h1>About the {name}</h1><p>{text}</p></body></html>")
    return dataclasses.replace(recipe, segments=dataclasses.replace(recipe.segments, inputs=(str(folder),)))


def change(kind, recipe, sources, folder):
    """A recipe that differs in one thing."""
    training = dataclasses.replace(recipe.forward, compute=dataclasses.replace(recipe.forward.compute, dropout=0.1))
    selection = dataclasses.replace(recipe.selection, keep_fraction=0.25)
    changes = {
        "rounds": lambda: dataclasses.replace(recipe, rounds=2),
        "threshold": lambda: dataclasses.replace(recipe, selection=selection),
        "training": lambda: dataclasses.replace(recipe, forward=training),
        "rubric": lambda: with_prompts(recipe, sources, folder, rating="{output} for {instruction} | Score: <rating>"),
        "backward": lambda: with_prompts(recipe, sources, folder, backward="A: {output}"),
        "pages": lambda: more_pages(recipe, sources, folder),
        "evaluation": lambda: dataclasses.replace(
            recipe, evaluation=dataclasses.replace(recipe.evaluation, tags=("seed", "web"))
        ),
    }
    return changes[kind]()


LAST = {"scores1", "curated1", "m1", "evaluation"}
EXPECTED = {
    "rounds": {"scores2", "curated2", "m2", "evaluation"},
    "threshold": {"curated1", "m1", "evaluation"},
    "training": {"m1", "evaluation"},
    "rubric": LAST,
    "backward": {"m_yx", "augmented", *LAST},
    "pages": {"segments", "augmented", *LAST},
    "evaluation": {"evaluation"},
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_the_plan_of_a_change_names_what_depends_on_it(kind, finished, sources, tmp_path):
    recipe, run_dir = finished
    plan = plan_changes(change(kind, recipe, sources, tmp_path / "other"), run_dir)
    assert {each.stage for each in plan if each.state != "complete"} == EXPECTED[kind]


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in EXPECTED if kind != "pages"]


@pytest.mark.parametrize("kind", ["pages", *SLOW])
def test_a_change_makes_again_what_depends_on_it_and_gives_what_a_fresh_run_gives(
    kind, finished, copied, sources, tmp_path
):
    (_, before), (recipe, run_dir) = finished, copied
    changed = change(kind, recipe, sources, tmp_path / "other")
    rated = manifest(run_dir, "scores1")["counts"]["out"]
    Alignment(changed, run_dir).align()
    assert made_again(run_dir, before) == EXPECTED[kind]
    if kind == "pages":
        augmented, scores = (manifest(run_dir, name) for name in ("augmented", "scores1"))
        assert (augmented["figures"]["reused"], augmented["figures"]["new"]) == (12, 2)
        assert (scores["figures"]["reused"], scores["figures"]["new"]) == (rated, scores["counts"]["out"] - rated)
    assert all(each.state == "complete" for each in plan_changes(changed, run_dir))
    Alignment(changed, tmp_path / "fresh").align()
    assert products(run_dir) == products(tmp_path / "fresh")
    assert manifest(run_dir, "evaluation")["figures"] == manifest(tmp_path / "fresh", "evaluation")["figures"]


def test_one_round_more_measures_only_its_model(copied, monkeypatch):
    recipe, run_dir = copied
    measured = []
    original = Alignment.evaluate.__globals__["evaluate"].__globals__["heldout_log_likelihoods"]

    def counted(model, *arguments):
        measured.append(model.path.parent.name)
        return original(model, *arguments)

    monkeypatch.setitem(original.__globals__, "heldout_log_likelihoods", counted)
    (run_dir / "evaluation" / "mine.json").write_text('{"accuracy": 0.5}')
    Alignment(dataclasses.replace(recipe, rounds=2), run_dir).align()
    assert measured == ["m2"]
    assert list(manifest(run_dir, "evaluation")["figures"]["nll_per_token"]) == ["base", "m0", "m1", "m2"]
    assert (run_dir / "evaluation" / "mine.json").exists()


def test_a_run_that_has_moved_is_the_same_run(finished, copied, sources, tmp_path):
    recipe, run_dir = copied
    moved = shutil.copytree(sources, tmp_path / "moved")
    changed = dataclasses.replace(
        recipe,
        base=str(shutil.copytree(recipe.base, tmp_path / "base")),
        prompt_dir=str(moved / "prompts"),
        seeds=dataclasses.replace(
            recipe.seeds, path=str(moved / "seeds.jsonl"), heldout_path=str(moved / "heldout.jsonl")
        ),
        segments=dataclasses.replace(recipe.segments, inputs=(str(moved / "pages"),)),
    )
    assert {each.state for each in plan_changes(changed, run_dir)} == {"complete"}
    Alignment(changed, run_dir).align()
    assert made_again(run_dir, finished[1]) == set()


def test_the_plan_knows_what_every_stage_is_begun_with(finished):
    recipe, run_dir = finished
    for stage, identity in Planner(recipe, run_dir).identities().items():
        assert json.loads((run_dir / stage / "identity.json").read_text()) == identity, stage


def test_a_plan_says_why_and_writes_nothing(copied, tmp_path, sources):
    recipe, run_dir = copied
    files = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    plan = {each.stage: each for each in plan_changes(change("threshold", recipe, sources, tmp_path), run_dir)}
    assert plan["curated1"].changed == {"settings.selection.keep_fraction": (0.5, 0.25)}
    assert plan["curated1"].why == "settings.selection.keep_fraction 0.5 → 0.25"
    assert (plan["m1"].state, plan["m1"].why) == ("follows", "after curated1")
    assert plan["scores1"].state == "complete" and plan["scores1"].why == ""
    assert {each.state for each in plan_changes(recipe, tmp_path / "nothing")} == {"new"}
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == files
    assert stages_left(plan_changes(recipe, run_dir), run_dir) == []
    without = dataclasses.replace(recipe, seeds=dataclasses.replace(recipe.seeds, heldout_path=None))
    assert stages_left(plan_changes(without, run_dir), run_dir) == ["evaluation"]


def test_going_back_before_the_change_is_done_costs_nothing(finished, copied, sources, tmp_path, monkeypatch):
    (_, before), (recipe, run_dir) = finished, copied
    changed = change("training", recipe, sources, tmp_path)
    monkeypatch.setattr("humpback_jax.stages.finetune.read_examples", _dies)
    with pytest.raises(KeyboardInterrupt):
        Alignment(changed, run_dir).align()
    assert not (run_dir / "m1" / "manifest.json").exists()
    plan = {each.stage: each.state for each in plan_changes(recipe, run_dir)}
    assert plan["m1"] == "back"
    Alignment(recipe, run_dir).align()
    assert made_again(run_dir, before) == set()


def _dies(*_):
    raise KeyboardInterrupt


def test_a_run_that_forgets_a_page_is_that_of_a_run_that_never_saw_it(copied, sources, tmp_path):
    recipe, run_dir = copied
    take_down = plan_take_down(run_dir, ["cat.html"])
    assert take_down.entries.urls == {"cat.html"} and len(take_down.trace.pairs) == 1
    assert {"segments", "augmented", "scores1"} <= set(take_down.values["derived"])
    forget(recipe, run_dir, take_down.entries)
    pages = shutil.copytree(sources / "pages", tmp_path / "pages")
    (pages / "cat.html").unlink()
    without = dataclasses.replace(recipe, segments=dataclasses.replace(recipe.segments, inputs=(str(pages),)))
    Alignment(without, tmp_path / "never").align()
    assert products(run_dir) == products(tmp_path / "never")
    assert manifest(run_dir, "segments")["figures"]["page_outcomes"]["forgotten"] == 1
    assert not (run_dir / "replaced").exists()
    texts = [path for path in run_dir.rglob("*.jsonl") if b"About the cat" in path.read_bytes()]
    assert texts == []
    again = plan_take_down(run_dir, ["cat.html"])
    assert again.entries == take_down.entries and again.trace.segments == []
