"""The whole algorithm in one process: every stage complete and counted, nothing done twice, no two recipes mixed."""

import dataclasses
import json
import pathlib

import pytest

from humpback_jax.align import Alignment
from humpback_jax.report.tables import print_report, run_figures

pytestmark = pytest.mark.xdist_group("align")  # one worker: the run is made once

STAGES = ["seeds", "segments", "m_yx", "augmented", "m0"]
STAGES += [f"{stage}{t}" for t in (1, 2) for stage in ("scores", "curated", "m")] + ["evaluation"]
FORWARD_MODELS = ("base", "m0", "m1", "m2")


@pytest.fixture(scope="module")
def run_dir(tiny_recipe, tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    model = Alignment(tiny_recipe, folder).align()
    assert model.path == folder / "m2" / "model"
    return folder


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def files_of(folder):
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_every_stage_is_complete_and_its_counts_add_up(run_dir):
    figures = run_figures(run_dir)
    assert list(figures) == STAGES
    counts = {name: stage["counts"] for name, stage in figures.items()}
    for name, count in counts.items():
        assert count["in"] == count["out"] + sum(count["rejected"].values()), name
        assert count["out"] > 0, name
    assert counts["segments"]["in"] == counts["augmented"]["in"] == 12
    assert counts["m_yx"]["in"] == counts["m0"]["in"] == 8
    for t in (1, 2):
        assert counts[f"scores{t}"]["in"] == counts[f"curated{t}"]["in"] == counts["augmented"]["out"]
        assert counts[f"m{t}"]["in"] == 8 + counts[f"curated{t}"]["out"]


def test_stages_read_what_the_algorithm_says(run_dir):
    inputs = {name: json.loads((run_dir / name / "manifest.json").read_text())["inputs"] for name in STAGES}
    outputs = {name: stage["outputs"] for name, stage in run_figures(run_dir).items()}
    assert len({inputs[name]["base"] for name in ("m_yx", "m0", "m1", "m2", "evaluation")}) == 1
    assert inputs["augmented"]["model"] == outputs["m_yx"]["model"]
    assert (inputs["scores1"]["model"], inputs["scores2"]["model"]) == (outputs["m0"]["model"], outputs["m1"]["model"])
    assert inputs["scores1"]["pairs"] == inputs["scores2"]["pairs"] == outputs["augmented"]["pairs"]
    assert (inputs["m1"]["web"], inputs["m2"]["web"]) == (
        outputs["curated1"]["curated"],
        outputs["curated2"]["curated"],
    )
    assert len({outputs[name]["model"] for name in ("m_yx", "m0", "m1", "m2")}) == 4


def test_every_pair_has_a_rating_and_the_best_are_kept(run_dir):
    augmented = {row["id"] for row in rows_of(run_dir / "augmented" / "pairs.jsonl")}
    for t in (1, 2):
        scores = {row["id"]: row["score"] for row in rows_of(run_dir / f"scores{t}" / "scores.jsonl")}
        assert scores.keys() == augmented
        assert all(1 <= score <= 5 for score in scores.values())
        kept = rows_of(run_dir / f"curated{t}" / "curated.jsonl")
        dropped = rows_of(run_dir / f"curated{t}" / "dropped.jsonl")
        assert {row["id"] for row in kept + dropped} == augmented
        below = [row["score"] for row in dropped if row["reason"] == "below_best_fraction"]
        assert min(row["score"] for row in kept) >= max(below, default=1)


def test_training_made_held_out_answers_and_instructions_likelier(run_dir):
    figures = run_figures(run_dir)["evaluation"]["figures"]
    nll = {name: row["nll"] for name, row in figures["nll_per_token"].items()}
    assert list(nll) == ["base", "m0", "m1", "m2"]
    assert max(nll["m0"], nll["m1"], nll["m2"]) < 0.8 * nll["base"]
    assert figures["backward_chrf"]["m_yx"] > figures["backward_chrf"]["base"]


def test_the_report_is_printed(run_dir, capsys):
    print_report(run_dir, run_figures(run_dir))
    printed = " ".join(capsys.readouterr().out.split())
    for title in ("Stages", "Scores (1-5)", "Held-out answers", "Held-out instructions", "Kept in", "Dropped in"):
        assert title in printed
    assert "curated2" in printed


def names_in(value):
    """The keys of a JSON value at any depth, but those that name models, files, sites, languages or reasons."""
    reasons = {"rejected", "rejected_records", "rejected_segments", "furniture"}
    for key, child in value.items() if isinstance(value, dict) else ():
        yield key
        if key not in reasons | {"histogram", "backward_chrf", "languages", "domains"}:
            yield from (name for name in names_in(child) if key != "nll_per_token" or name not in FORWARD_MODELS)


def test_every_figure_is_explained(run_dir):
    docs = pathlib.Path(__file__).parents[2] / "docs"
    pages = [(docs / f"{name}.md").read_text() for name in ("what_the_numbers_mean", "your_documents")]
    figures = run_figures(run_dir)
    named = set(names_in({name: stage["figures"] for name, stage in figures.items()}))
    named |= set(rows_of(run_dir / "m2" / "metrics.jsonl")[0]) | set(rows_of(run_dir / "scores2" / "scores.jsonl")[0])
    named |= {reason for stage in figures.values() for reason in stage["counts"]["rejected"]}
    explained = {name for name in named if any(f"`{name}`" in page for page in pages)}
    assert named - explained <= {"id", "seed", "web", "heldout", *STAGES}


def test_a_finished_run_is_left_as_it_is(run_dir, tiny_recipe):
    before = files_of(run_dir)
    Alignment(tiny_recipe, run_dir).align()
    assert files_of(run_dir) == before


def test_an_ablation_selects_and_trains_on_the_scores_of_another_run(run_dir, tiny_recipe, tmp_path):
    selection = dataclasses.replace(tiny_recipe.selection, sample=3)
    ablation = dataclasses.replace(
        tiny_recipe, scored_run=str(run_dir), sources=("web",), web_tags=(), selection=selection
    )
    Alignment(ablation, tmp_path).align()
    figures = run_figures(tmp_path)
    assert set(figures) == {"seeds", "curated2", "m2", "evaluation"}
    sampled = {row["id"] for row in rows_of(tmp_path / "curated2" / "curated.jsonl")}
    assert len(sampled) == 3
    assert sampled < {row["id"] for row in rows_of(run_dir / "curated2" / "curated.jsonl")}
    assert figures["curated2"]["counts"]["rejected"]["not_sampled"] == 3
    manifest = json.loads((tmp_path / "m2" / "manifest.json").read_text())
    assert manifest["counts"]["in"] == 3
    assert manifest["settings"]["tags"] == {"web": ["forward"]}
    assert list(figures["evaluation"]["figures"]["nll_per_token"]) == ["base", "m2"]
    print_report(tmp_path, figures)


ASKED = [("a", "Describe a cat."), ("b", "Describe a cow.")]


def test_the_aligned_model_answers_with_both_tags(run_dir, tiny_recipe):
    alignment = Alignment(tiny_recipe, run_dir)
    stage = alignment.generate(ASKED)
    rows = rows_of(stage.directory / "answers.jsonl")
    assert [row["id"] for row in rows] == ["a", "b"]
    assert all(row["output"] for row in rows)
    assert stage.manifest["settings"]["tags"] == ["seed", "web"]
    assert alignment.generate(ASKED).directory == stage.directory
    assert alignment.generate(ASKED[:1], tags=("web",)).directory != stage.directory


def test_with_the_seed_tag_the_aligned_model_answers_as_the_seeds_do(run_dir, tiny_recipe):
    """It has seen these prompts with this tag; with both tags, which it never saw together, how it ends is chance."""
    stage = Alignment(tiny_recipe, run_dir).generate(ASKED, tags=("seed",))
    for row in rows_of(stage.directory / "answers.jsonl"):
        assert row["output"].startswith("A ") and row["output"].endswith("eats.") and not row["truncated"]
