"""Evidence at the smallest size: a sweep that was stopped gives the same page as one that was not."""

import dataclasses
import json
import shutil

import pytest

from humpback_jax.align import Alignment
from humpback_jax.curation.curator import CuratorConfig
from humpback_jax.evaluation.evidence import run as evidence_run
from humpback_jax.evaluation.evidence.page import evidence_figures, write_page
from humpback_jax.evaluation.evidence.run import RUN, plan_lines, run_evidence
from humpback_jax.evaluation.evidence.trials import Evidence, all_trials
from humpback_jax.stages.selection import SelectionConfig

pytestmark = pytest.mark.slow
SETTINGS = Evidence(sizes=(1, 2), seed_sizes=(2, 4), repeats=(0,), orders=("curated", "next", "first_round", "random"))


@pytest.fixture(scope="module")
def recipe(tiny_recipe):
    few = dataclasses.replace(tiny_recipe.forward, loop=dataclasses.replace(tiny_recipe.forward.loop, num_steps=2))
    return dataclasses.replace(
        tiny_recipe,
        forward=few,
        curator=CuratorConfig(originals=8),
        selection=SelectionConfig(by="curator", keep_fraction=0.5, min_instruction_chars=1),
    )


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    """A sweep that nobody stopped: its folder and its figures."""
    folder = tmp_path_factory.mktemp("evidence")
    return folder, measured_in(folder, recipe)


def measured_in(folder, recipe):
    alignment = Alignment(recipe, folder / RUN)
    figures = evidence_figures(folder, SETTINGS, alignment, run_evidence(folder, SETTINGS, alignment))
    write_page(folder, figures, "--gin_file=x")
    return figures


def without_times(figures):
    return {name: value for name, value in figures.items() if name not in ("trials", "machine")}


def test_every_trial_is_measured_and_its_model_is_gone(whole):
    folder, figures = whole
    names = {trial.name for trial in all_trials(SETTINGS)}
    files = {path.name for path in (folder / "trials").iterdir()} - {"identity.json"}
    assert files == {f"{name}.json" for name in names}
    assert {row["name"] for row in figures["groups"]} == {trial.group for trial in all_trials(SETTINGS)}
    joint = next(row for row in figures["groups"] if row["name"] == "seed_and_curated")
    assert joint["pairs"] == {"seed": 8, "web": 2}


def test_the_page_has_every_finding_and_its_plots(whole):
    folder, figures = whole
    page = (folder / "evidence.md").read_text()
    assert all(finding["claim"] in page and finding["verdict"] in page for finding in figures["findings"])
    assert {path.name for path in (folder / "evidence").iterdir()} == {"contrasts.png", "scaling.png"}
    assert json.loads((folder / "evidence.json").read_text()) == figures


def test_a_stopped_sweep_gives_the_same_figures(whole, recipe, tmp_path, monkeypatch):
    folder, figures = whole
    shutil.copytree(folder / RUN, tmp_path / RUN)
    measure, calls = evidence_run._measure, []

    def stops(*arguments):
        calls.append(arguments[2].name)
        if len(calls) in (3, 6):
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(evidence_run, "_measure", stops)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            measured_in(tmp_path, recipe)
    assert "5 of them are measured" not in plan_lines(tmp_path, SETTINGS, Alignment(recipe, tmp_path / RUN))[0]
    assert without_times(measured_in(tmp_path, recipe)) == without_times(figures)
    assert len(calls) == len(list(all_trials(SETTINGS))) + 2
    assert (tmp_path / "evidence" / "scaling.png").read_bytes() == (folder / "evidence" / "scaling.png").read_bytes()


def test_other_training_is_not_mixed_with_what_was_measured(whole, recipe):
    folder, _ = whole
    changed = dataclasses.replace(
        recipe, forward=dataclasses.replace(recipe.forward, loop=dataclasses.replace(recipe.forward.loop, num_steps=3))
    )
    with pytest.raises(ValueError, match=r"begun with another .*finetune\.num_steps"):
        measured_in(folder, changed)


def test_a_recipe_without_a_curator_is_refused_before_anything_runs(tiny_recipe, tmp_path):
    with pytest.raises(ValueError, match=r"needs Recipe\.curator"):
        run_evidence(tmp_path, SETTINGS, Alignment(tiny_recipe, tmp_path / RUN))
    assert not (tmp_path / RUN).exists()
