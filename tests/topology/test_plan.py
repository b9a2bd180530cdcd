"""Plans of recipes: what the stages have to do, and what that takes under stated assumptions."""

import json

import pytest

from humpback_jax.gin_utils import parse_recipe
from humpback_jax.models.config import get_config
from humpback_jax.topology.plan import Assumptions, Rates, compile_programs, compiled_rates, make_plan, stage_flops
from humpback_jax.topology.recipe_plan import add_measured, plan_recipe, program_settings
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
    config = get_config("llama_7b")
    stages = [
        StageWork("m0", "train", 320, 300.0, updates=10, rows=20),
        StageWork("augmented", "generate", 1000, 400.0, 50.0),
    ]
    rates = {"m0": Rates(3.0, 0, 0, 1), "augmented": Rates(0, 1e-4, 0.02, 64)}
    assumptions = Assumptions(row_step_efficiency=0.5, padding=0.0, start_seconds=60.0)
    plans = make_plan(config, stages, lambda stage: rates[stage.name], assumptions, 8, 16, 2.0)
    hours = [(10 * 3 * 3.0 + 60) / 3600, (1000 * 400 * 1e-4 + 1000 * 50 / 64 / 0.5 * 0.02 + 60) / 3600]
    assert [plan.hours for plan in plans] == pytest.approx([*hours, sum(hours)])
    assert plans[-1].cost == pytest.approx(sum(hours) * 16 * 2.0) and plans[-1].name == "total"


def test_programs_are_those_of_the_recipe(paper, work):
    asked = []

    def ask(request):
        asked.append(request)
        return FitReport(True, 1.0, 30.75, 0.5, 1.0, {})

    programs = compile_programs("llama_65b", "v4-256", work, program_settings(paper, None), ask)
    assert set(programs.reports) == {
        "train", "augmented prefill", "augmented decode", "scores1 prefill", "scores1 decode"
    }  # fmt: skip
    assert dict(asked[0].mesh) == {"tensor": 16} and asked[0].batch == 1  # 8 rows per microbatch on 128 chips
    assert dict(asked[1].mesh) == {"tensor": 8}
    assert compiled_rates(programs, work[-2]) == compiled_rates(programs, work[3])


def test_what_does_not_fit_is_an_error_with_the_knob(work):
    refused = FitReport(False, 20.0, 15.75, None, None, {}, "too large", knob={"batch": 2})
    programs = compile_programs(
        "llama_65b", "v5e-64", work[:1],
        {"row_length": 2048, "rows_per_microbatch": 64, "param_dtype": "float32", "remat": "full", "dropout": 0.1,
         "slots": 32, "tensor": 8},
        lambda request: refused,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"does not fit on v5e-64.*--batch 2"):
        compiled_rates(programs, work[0])


def test_a_machine_is_planned_without_a_compiler_and_compared_with_a_run(tmp_path):
    recipe = parse_recipe(["experiments/quickstart.gin"], [])
    (tmp_path / "m0").mkdir()
    (tmp_path / "m0" / "manifest.json").write_text(json.dumps({"seconds": 3600.0}))
    made = plan_recipe(recipe, "cpu", machine_gflops=200.0, run_dir=str(tmp_path))
    by_name = {stage["name"]: stage for stage in made["stages"]}
    assert list(by_name) == [*STAGES, "total"] and by_name["m0"]["measured_hours"] == 1.0
    assert made["assumptions"]["machine_flops"] == 200e9 and made["programs"] == {}
    json.dumps(made)
    with pytest.raises(ValueError, match="no finished stage"):
        add_measured([{"name": "m0", "hours": 1.0}], tmp_path / "nothing")
