"""Checklists and other scales on the tiny model: what is read once gives what single readings give."""

import dataclasses
import json

import numpy as np
import pytest

from humpback_jax.align import Recipe, prompts_of
from humpback_jax.inference.requests import Branch, EngineConfig, Probe, Request
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.prompts.rubrics import RubricConfig
from humpback_jax.stages.jobs import GenerationConfig
from humpback_jax.stages.rating import CurationConfig, curate
from humpback_jax.stages.selection import SelectionConfig, select
from humpback_jax.stages.sources import SeedConfig, SegmentsConfig

GENERATION = GenerationConfig(
    engine=EngineConfig(slots=4, prompt_buckets=(96,), max_new_tokens=8), shard_size=4, dtype="float32"
)
EXPECTED = CurationConfig("expected", GENERATION)
PAIRS = [
    {"id": f"p{i}", "instruction": f"Say {i}.", "output": "word " * (1 + i % 4), "source": "test", "header": "h"}
    for i in range(6)
]
CHECKLIST = "---\nquestion: Good?\nquestion: Is it long?\n---\n{instruction}|{output}\n{question}"
TEN = "---\nlabel: N\nscale: 1-10\n---\n{instruction}|{output}"


def prompts_with(rubric):
    return Prompts("Q: {output}", rubric, "Tag s.", "Tag w.")


def rows_of(stage):
    return [json.loads(line) for line in (stage.directory / "scores.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def engine(tiny_model):
    engine = tiny_model.engine(GENERATION.engine, "float32")
    engine.job_prefix_ids = ()  # one program for all lengths
    return engine


def probability(engine, ids, first, second):
    """Of `first` among two."""
    a, b = np.exp(engine.candidate_log_probs([("x", ids)], [[first, second]])[0])
    return a / (a + b)


def test_branches_are_what_whole_prompts_give(engine):
    rng = np.random.default_rng(0)
    shared = tuple(rng.integers(1, 200, 5).tolist())
    prompts = [(f"p{i}", (*shared, *rng.integers(1, 200, 3 + 7 * i).tolist())) for i in range(7)]
    branches = [
        Branch(tuple(rng.integers(1, 200, n).tolist()), tuple(rng.choice(200, 4, replace=False).tolist()))
        for n in (1, 4, 9)
    ]
    found = engine.branch_log_probs(prompts, branches)
    assert found.shape == (7, 3, 4)
    for i, branch in enumerate(branches):
        whole = [(name, (*ids, *branch.forced_ids)) for name, ids in prompts]
        alone = engine.candidate_log_probs(whole, [branch.candidate_ids] * len(whole))
        np.testing.assert_allclose(found[:, i], alone, atol=2e-4)
    backwards = engine.branch_log_probs(prompts[::-1], branches)[::-1]
    np.testing.assert_allclose(backwards, found, atol=2e-5)


def test_a_checklist_sums_what_single_questions_give(tiny_model, engine, make_product, tmp_path):
    prompts = prompts_with(CHECKLIST)
    stage = curate(tmp_path / "scores1", tiny_model, make_product("augmented", "pairs", PAIRS), prompts, EXPECTED)
    rows = rows_of(stage)
    yes, no = (tiny_model.tokenizer.encode(word)[0] for word in ("Yes", "No"))
    for pair, row in zip(PAIRS, rows, strict=True):
        turns = [prompts.rating(pair["instruction"], pair["output"], q) for q in ("Good?", "Is it long?")]
        expected = [probability(engine, tiny_model.prompt_ids(turn), yes, no) for turn in turns]
        np.testing.assert_allclose(row["yes"], expected, atol=1e-4)
        assert row["score"] == pytest.approx(sum(expected), abs=1e-4)
    figures = stage.manifest["figures"]
    assert (figures["scale"], sum(figures["histogram"].values())) == ([0, 2], len(PAIRS))
    assert list(figures["histogram"]) == ["0", "1", "2"]


def test_one_question_is_a_checklist_and_other_questions_are_other_ratings(tiny_model, make_product, tmp_path):
    pairs = make_product("augmented", "pairs", PAIRS)
    two = curate(tmp_path / "two", tiny_model, pairs, prompts_with(CHECKLIST), EXPECTED)
    first = prompts_with(CHECKLIST.replace("question: Is it long?\n", ""))
    one = curate(tmp_path / "one", tiny_model, pairs, first, EXPECTED)
    assert one.manifest["settings"] != two.manifest["settings"]
    assert [row["yes"][0] for row in rows_of(one)] == pytest.approx([row["yes"][0] for row in rows_of(two)], abs=1e-4)


def test_ten_is_told_from_one_by_what_follows(tiny_model, engine, make_product, tmp_path):
    """The byte tokenizer writes 10 as two tokens."""
    prompts = prompts_with(TEN)
    stage = curate(tmp_path / "scores1", tiny_model, make_product("augmented", "pairs", PAIRS), prompts, EXPECTED)
    encode = tiny_model.tokenizer.encode
    for pair, row in zip(PAIRS, rows_of(stage), strict=True):
        ids = (*tiny_model.prompt_ids(prompts.rating(pair["instruction"], pair["output"])), *encode("N: "))
        digits = np.exp(engine.candidate_log_probs([("x", ids)], [encode("123456789")])[0])
        zero = float(np.exp(engine.candidate_log_probs([("x", (*ids, *encode("1")))], [encode("0")])[0, 0]))
        expected = np.asarray([digits[0] * (1 - zero), *digits[1:], digits[0] * zero])
        np.testing.assert_allclose(row["probabilities"], expected / expected.sum(), atol=1e-4)
        assert row["score"] == pytest.approx(np.dot(expected / expected.sum(), range(1, 11)), abs=2e-3)
    assert stage.manifest["figures"]["scale"] == [1, 10]


def test_a_rationale_without_a_rating_is_forced_on_the_same_scale(tiny_model, engine, make_product, tmp_path):
    pairs, prompts = make_product("augmented", "pairs", PAIRS), prompts_with(TEN)
    config = CurationConfig("rationale", GENERATION)
    rows = rows_of(curate(tmp_path / "scores1", tiny_model, pairs, prompts, config))
    forced = [row for row in rows if not row["parsed"]]
    assert forced
    for row in forced:
        assert len(row["probabilities"]) == 10
        assert row["score"] == pytest.approx(np.dot(row["probabilities"], range(1, 11)), abs=1e-4)
    assert all(1 <= row["score"] <= 10 for row in rows)


def test_further_questions_of_a_probe_are_answered_after_its_own(tiny_model, engine):
    asked = [Branch((9,), (1, 2, 3)), Branch((9, 17, 4), (5, 6, 7))]
    prompts = [(f"p{i}", tuple(range(2, 9 + i))) for i in range(5)]
    requests = [Request(name, ids, max_new_tokens=4) for name, ids in prompts]
    found = engine.generate(requests, 0, tiny_model.stop_ids, probe=lambda _: Probe((9,), (1, 2, 3), (asked[1],)))
    for (_, ids), completion in zip(prompts, found, strict=True):
        alone = engine.branch_log_probs([("x", (*ids, *completion.token_ids))], asked)[0]
        np.testing.assert_allclose(np.reshape(completion.probe_log_probs, (2, 3)), alone, atol=2e-4)


def test_the_curator_sees_ratings_of_any_scale_on_one_to_five(tiny_model, make_product, tmp_path):
    pairs, config = make_product("augmented", "pairs", PAIRS), dataclasses.replace(EXPECTED, signals=True)
    for name, rubric, low, high in (("ten", TEN, 1, 10), ("list", CHECKLIST, 0, 2)):
        for row in rows_of(curate(tmp_path / name, tiny_model, pairs, prompts_with(rubric), config)):
            assert row["signals"]["rating"] == pytest.approx(1 + 4 * (row["score"] - low) / (high - low), abs=1e-5)


def test_a_bound_that_is_not_on_the_scale_is_refused(make_product, tmp_path, capsys):
    pairs = make_product("augmented", "pairs", PAIRS)
    scores = make_product("scores1", "scores", [{"id": p["id"], "score": 9.0} for p in PAIRS])
    scores.manifest["figures"] = {"scale": [0, 10]}
    bounds = SelectionConfig(min_score=11.0, min_instruction_chars=1)
    with pytest.raises(ValueError, match=r"min_score is 11, and by this rubric ratings go from 0 to 10"):
        select(tmp_path / "a", pairs, scores, bounds)
    kept = select(tmp_path / "b", pairs, scores, dataclasses.replace(bounds, min_score=9.0))
    assert kept.counts["out"] == len(PAIRS)
    assert "below the" not in capsys.readouterr().err
    select(tmp_path / "c", pairs, scores, dataclasses.replace(bounds, min_score=4.5))
    assert "keeps what is rated below the middle of the scale, 0 to 10" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "CurationConfig.mode is 'rationale'; set it to 'expected'"),
        ({"curation": EXPECTED, "selection": SelectionConfig(min_score=5.5)}, "ratings go from 0 to 5"),
        ({"curation": EXPECTED, "rating_examples": 8}, "set Recipe.rating_examples = 0"),
    ],
)
def test_settings_that_do_not_fit_the_rubric_are_refused_before_anything_runs(settings, message):
    recipe = Recipe("base", SeedConfig("s.jsonl"), SegmentsConfig(("p",)), rubric=RubricConfig("additive"), **settings)
    with pytest.raises(ValueError, match=message):
        prompts_of(recipe)
    fitting = dataclasses.replace(recipe, curation=EXPECTED, selection=SelectionConfig(), rating_examples=0)
    assert prompts_of(fitting).rubric.questions


def test_a_checklist_asks_no_rationale(tiny_model, make_product, tmp_path):
    with pytest.raises(ValueError, match="checklist of 2 questions"):
        curate(
            tmp_path / "scores1",
            tiny_model,
            make_product("augmented", "pairs", PAIRS),
            prompts_with(CHECKLIST),
            CurationConfig("rationale", GENERATION),
        )
