"""Plans of recipes: what the stages have to do, and what that takes under stated assumptions."""

import dataclasses
import json
import pathlib

import pytest

from humpback_jax.align import Alignment
from humpback_jax.gin_utils import GIN_CONFIGS, parse_recipe
from humpback_jax.models.config import get_config
from humpback_jax.topology.plan import (
    Assumptions,
    PlanRequest,
    Rates,
    add_measured,
    compiled_rates,
    make_plan,
    plan_recipe,
    program_names,
    stage_flops,
    stage_programs,
)
from humpback_jax.topology.request import FitReport
from humpback_jax.topology.work import StageWork, recipe_work
from humpback_jax.training.throughput import model_flops

STAGES = ["m_yx", "augmented", "m0", "scores1", "m1", "scores2", "m2"]


@pytest.fixture(scope="module")
def paper():
    return parse_recipe(["experiments/humpback_llama_65b.gin"], [])


@pytest.fixture(scope="module")
def work(paper):
    return recipe_work(paper)


def test_the_recipe_of_the_paper_is_counted(work):
    by_name = {stage.name: stage for stage in work}
    assert list(by_name) == STAGES
    assert by_name["m_yx"].updates == by_name["m0"].updates == 500 and by_name["m2"].updates == 1600
    assert by_name["augmented"].items == by_name["scores2"].items == 502_133
    assert by_name["m2"].items == 1600 * 32
    assert 400 < by_name["augmented"].prompt_tokens < 520
    assert by_name["scores1"].shared_tokens > 100  # the rubric


def test_scoring_from_logits_writes_nothing(paper):
    expected = parse_recipe(["experiments/humpback_llama_65b.gin"], ["CurationConfig.mode = 'expected'"])
    kinds = {stage.name: (stage.kind, stage.new_tokens) for stage in recipe_work(expected)}
    assert kinds["scores1"] == ("score", 0.0) and kinds["augmented"][0] == "generate"


def test_flops_are_those_of_training(work):
    config, stage = get_config("llama_7b"), StageWork("m0", "train", 10, 300.0)
    attended = 10 * 300 * 300 // 2
    assert stage_flops(config, stage) == pytest.approx(model_flops(config, 3000, attended))


def test_hours_and_cost_follow_from_rates():
    request = PlanRequest(None, "v5e-16", "llama_7b", price_per_chip_hour=2.0)
    stages = [
        StageWork("m0", "train", 320, 300.0, updates=10, microbatches=3),
        StageWork("augmented", "generate", 1000, 400.0, 50.0),
    ]
    rates = [Rates(3.0, 0, 0, 1), Rates(0, 1e-4, 0.02, 64)]
    assumptions = Assumptions(row_step_efficiency=0.5, padding=0.0, start_seconds=60.0)
    plans = make_plan(request, stages, rates, assumptions)
    hours = [(10 * 3 * 3.0 + 60) / 3600, (1000 * 400 * 1e-4 + 1000 * 50 / 64 / 0.5 * 0.02 + 60) / 3600]
    assert [plan["hours"] for plan in plans] == pytest.approx([*hours, sum(hours)])
    assert plans[-1]["cost"] == pytest.approx(sum(hours) * 16 * 2.0) and plans[-1]["name"] == "total"


def fitting(request):
    return FitReport(True, 1.0, 30.75, 0.5, 1.0, {})


def test_programs_are_those_of_the_recipe(paper, work):
    programs = [stage_programs(PlanRequest(paper, "v4-256"), stage) for stage in work]
    names = program_names(work, programs)
    assert set(names.values()) == {
        "train", "augmented prefill", "augmented decode", "scores1 prefill", "scores1 decode"
    }  # fmt: skip
    asked = {name: program for program, name in names.items()}
    assert dict(asked["train"].mesh) == {"tensor": 16}
    assert asked["train"].batch == 1  # 8 rows per microbatch on 128 chips
    assert dict(asked["augmented prefill"].mesh) == {"tensor": 8}
    reports = {program: fitting(program) for program in names}
    assert compiled_rates(programs[-2], reports) == compiled_rates(programs[3], reports)


def test_what_does_not_fit_is_an_error_with_the_knob(paper):
    refused = FitReport(False, 20.0, 15.75, None, None, {}, "too large", knob={"batch": 2})
    with pytest.raises(ValueError, match=r"does not fit on v5e-64.*--batch 2"):
        plan_recipe(PlanRequest(paper, "v5e-64"), lambda program: refused)


class Watched(Alignment):
    """Notes the stages that cost anything, in the order in which `align` asks for them, and runs none."""

    def __init__(self, recipe, run_dir):
        super().__init__(recipe, run_dir)
        self.ran = []

    def cut_segments(self):
        pass

    def train_backward_model(self):
        self.ran.append("m_yx")

    def augment(self):
        self.ran.append("augmented")

    def train_seed_model(self):
        self.ran.append("m0")

    def curate(self, t):
        if self.recipe.scored_run is None:  # else ratings are only read
            self.ran.append(f"scores{t}")
            self.ran += [f"curator{t}"] if self.recipe.curator else []

    def train_round(self, t):
        self.ran.append(f"m{t}")

    def train_arm(self, arm):
        self.ran.append(f"m{self.recipe.rounds}_{arm}")

    def prefer(self):
        self.ran += [f"{stage}{self.recipe.rounds}" for stage in ("sampled", "sampled_scores", "preferred")]

    def evaluate(self):
        self.ran.append("evaluation")

    def last_model(self):
        pass


EXPERIMENTS = sorted(path.name for path in pathlib.Path(GIN_CONFIGS, "experiments").glob("*.gin"))
SHAPES = (
    {}, {"rounds": 1}, {"rounds": 3}, {"sources": ("web",)}, {"sources": ("seed",)}, {"scored_run": None},
    {"scored_run": "another"}, {"scored_run": "another", "rounds": 1}, {"heldout_path": None},
    {"heldout_path": "heldout.jsonl"}, {"mode": "expected"}, {"mode": "sampled"},
)  # fmt: skip


def shaped(recipe, heldout_path="as it is", mode=None, **changes):
    """A recipe of another shape."""
    if heldout_path != "as it is":
        changes["seeds"] = dataclasses.replace(recipe.seeds, heldout_path=heldout_path)
    if mode is not None:
        changes["curation"] = dataclasses.replace(recipe.curation, mode=mode)
    return dataclasses.replace(recipe, **changes)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_planned_are_the_stages_that_align_runs(experiment, shape, tmp_path):
    """Of recipes that take another run's ratings too: those cost only the last round and the evaluation."""
    recipe = shaped(parse_recipe([f"experiments/{experiment}"], []), **shape)
    watched = Watched(recipe, tmp_path)
    watched.align()
    made = plan_recipe(PlanRequest(recipe, "v5e-256"), fitting)
    stages = {stage["name"]: stage for stage in made["stages"]}
    assert list(stages) == [*watched.ran, "total"]
    assert all(stage["hours"] > 0 and stage["items"] > 0 for stage in stages.values())
    names = {name.rpartition(" ")[0] for name in made["programs"]} - {""}
    assert names <= {stage for stage in stages if stages[stage]["kind"] != "train"}
    trained = 1 if recipe.preference is None else 2  # pairs of answers have a program of their own
    assert ("train" in made["programs"]) and len(made["programs"]) <= trained + 2 * len(names)


def test_a_model_of_web_pairs_alone_sees_no_seeds():
    recipe = parse_recipe(["experiments/quickstart.gin"], ["Recipe.sources = ('web',)"])
    both = {stage.name: stage for stage in recipe_work(parse_recipe(["experiments/quickstart.gin"], []))}
    web = {stage.name: stage for stage in recipe_work(recipe)}
    assert web["m1"].items < both["m1"].items and web["m0"] == both["m0"]
    assert web["m1"].prompt_tokens != both["m1"].prompt_tokens


def test_signals_and_candidates_are_counted():
    one = ["Recipe.candidates = 1", "Recipe.steer_candidates = False"]
    bindings = {
        "plain": ["Recipe.curator = None", "SelectionConfig.by = 'rating'", *one],
        "signals": one,
        "candidates": ["Recipe.candidates = 4"],
    }
    work = {
        name: {stage.name: stage for stage in recipe_work(parse_recipe(["experiments/quickstart.gin"], each))}
        for name, each in bindings.items()
    }
    plain, signals, candidates = (work[name]["scores1"] for name in bindings)
    assert plain.items == signals.items
    assert plain.prompt_tokens + 2 * 32 + 16 < signals.prompt_tokens < 3 * plain.prompt_tokens
    assert candidates.items == 4 * signals.items
    assert work["candidates"]["augmented"].items == 4 * work["plain"]["augmented"].items
    assert work["candidates"]["m1"].items == work["signals"]["m1"].items
    assert "curator1" not in work["plain"]


def test_a_machine_is_planned_without_a_compiler_and_compared_with_a_run(tmp_path):
    recipe = parse_recipe(["experiments/quickstart.gin"], [])
    (tmp_path / "m0").mkdir()
    (tmp_path / "m0" / "manifest.json").write_text(json.dumps({"seconds": 3600.0}))
    made = plan_recipe(PlanRequest(recipe, "cpu", machine_gflops=200.0, run_dir=str(tmp_path)))
    by_name = {stage["name"]: stage for stage in made["stages"]}
    stages = ["m_yx", "augmented", "m0", "scores1", "curator1", "m1", "scores2", "curator2", "m2", "m2_random"]
    assert list(by_name) == [*stages, "evaluation", "total"] and by_name["m0"]["measured_hours"] == 1.0
    assert made["assumptions"]["machine_flops"] == 200e9 and made["programs"] == {}
    json.dumps(made)
    with pytest.raises(ValueError, match="no finished stage"):
        add_measured([{"name": "m0", "hours": 1.0}], tmp_path / "nothing")
