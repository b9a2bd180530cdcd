"""Judging: what verdicts mean, an endpoint that fails in every way, and a local model."""

import json
import re

import pytest

from humpback_jax.evaluation.judging.comparisons import (
    Comparison,
    Contest,
    Judgment,
    combined,
    make_contest,
    read_contest,
)
from humpback_jax.evaluation.judging.judge import judge_by_endpoint, judge_by_model, letter_ids
from humpback_jax.evaluation.judging.win_rate import annotation_figures
from humpback_jax.inference.requests import EngineConfig
from humpback_jax.stages.jobs import GenerationConfig
from humpback_jax.stages.model import open_model

BASELINE = [
    {"instruction": f"Question {i}?", "output": f"short {i}", "generator": "base", "dataset": "d"} for i in range(6)
]
MODEL = [
    {"instruction": f"Question {i}?", "output": f"a much better answer {i}" if i else "short 0", "generator": "tuned"}
    for i in range(6)
]


@pytest.fixture
def contest():
    return make_contest(BASELINE, MODEL)


def swapped(contest):
    turned = [Comparison(c.id, c.instruction, c.model, c.baseline, c.dataset) for c in contest.comparisons]
    return Contest(tuple(turned), contest.names[::-1], contest.missing)


@pytest.fixture
def endpoint_config(fake_judge, monkeypatch):
    pytest.importorskip("openai", reason="needs the extra `eval`")
    pytest.importorskip("tenacity", reason="needs the extra `eval`")
    from humpback_jax.endpoints import EndpointConfig

    monkeypatch.setenv("TEST_JUDGE_KEY", "secret")

    def make(**settings):
        defaults = dict(
            model="judge", base_url=fake_judge.url, key_variable="TEST_JUDGE_KEY", max_wait=0.01, attempts=4
        )
        return EndpointConfig(**defaults | settings)

    return make


def answers(prompt):
    """(Answer A, Answer B) of a question to the judge."""
    return re.search(r"\[Answer A\]\n(.*)\n\n\[Answer B\]\n(.*)\n\nReply", prompt, re.DOTALL).groups()


def prefers_longer(prompt, call=0):
    first, second = answers(prompt)
    return "A" if len(first) > len(second) else "B"


@pytest.mark.parametrize(
    "first, second, preference",
    [("B", "A", 2.0), ("A", "B", 1.0), ("A", "A", 1.5), ("B", "B", 1.5), ("tie", "A", 1.75), (None, "A", None)],
)
def test_both_orders_make_one_preference(first, second, preference):
    said = {"0:1": Judgment(first, None if first else "malformed"), "0:2": Judgment(second)}
    expected = (preference, None if first else "malformed")
    assert combined(Comparison("0", "i", "base", "model"), said) == expected


def test_outputs_are_matched_by_instruction_and_missing_ones_are_not_passed_over():
    contest = make_contest(BASELINE, MODEL[::-1])
    assert [c.model for c in contest.comparisons] == [row["output"] for row in MODEL]
    assert contest.missing == 0
    unfinished = [*MODEL[:3], MODEL[3] | {"output": None}]
    with pytest.raises(ValueError, match="3 of 6 instructions have no output of the model; finish the generation"):
        make_contest(BASELINE, unfinished)
    contest = make_contest(BASELINE, unfinished, partial=True)
    assert (len(contest.comparisons), contest.missing) == (3, 3)
    with pytest.raises(ValueError, match="1 outputs of the model answer instructions that the baseline lacks"):
        make_contest(BASELINE[1:], MODEL)


def test_an_endpoint_judges_both_orders(fake_judge, endpoint_config, contest, tmp_path):
    fake_judge.reply = prefers_longer
    stage = judge_by_endpoint(tmp_path / "judged", contest, endpoint_config())
    figures = stage.manifest["figures"]
    assert (figures["n_wins"], figures["n_draws"], figures["n_wins_base"]) == (5, 1, 0)
    assert (figures["draws_identical"], figures["draws_orders_disagree"]) == (1, 0)
    assert len(fake_judge.prompts) == len(set(fake_judge.prompts)) == 10
    assert set(fake_judge.keys) == {"Bearer secret"}
    assert "secret" not in "".join(path.read_text() for path in stage.directory.glob("*.json*"))
    recounted = annotation_figures(stage.directory / "annotations.json")
    assert recounted["win_rate"] == figures["win_rate"] == pytest.approx(100 * 5.5 / 6)
    assert (recounted["model"], recounted["baseline"], recounted["annotator"]) == ("tuned", "base", "judge")
    assert figures["usage_of_this_run"] == {"calls": 10, "prompt_tokens": 100, "completion_tokens": 10}
    turned = judge_by_endpoint(tmp_path / "turned", swapped(contest), endpoint_config()).manifest["figures"]
    assert turned["win_rate"] == pytest.approx(100 - figures["win_rate"])


def test_a_judge_that_goes_by_the_order_makes_draws(fake_judge, endpoint_config, contest, tmp_path):
    figures = judge_by_endpoint(tmp_path / "judged", contest, endpoint_config()).manifest["figures"]
    assert (figures["win_rate"], figures["draws_orders_disagree"]) == (50.0, 5)


def test_a_missing_key_is_named_before_any_call(fake_judge, endpoint_config, contest, tmp_path, monkeypatch):
    monkeypatch.delenv("TEST_JUDGE_KEY")
    with pytest.raises(ValueError, match="set the environment variable TEST_JUDGE_KEY"):
        judge_by_endpoint(tmp_path / "judged", contest, endpoint_config())
    assert not fake_judge.prompts
    judge_by_endpoint(tmp_path / "keyless", contest, endpoint_config(key_variable=""))


def test_what_may_pass_is_retried_and_counted(fake_judge, endpoint_config, contest, tmp_path):
    failures = [(429, {"Retry-After": "0"}, {"error": {"message": "slow down"}}), (503, {}, {}), (500, {}, {})]
    fake_judge.reply = lambda prompt, call: failures[call] if call < 3 else prefers_longer(prompt)
    figures = judge_by_endpoint(tmp_path / "judged", contest, endpoint_config()).manifest["figures"]
    assert (figures["n_wins"], figures["failed"]) == (5, {})
    assert figures["retries"] == {"InternalServerError": 20, "RateLimitError": 10}


def test_an_unreachable_judge_stops_the_run(endpoint_config, contest, tmp_path, free_port):
    config = endpoint_config(base_url=f"http://127.0.0.1:{free_port()}/v1", attempts=2)
    with pytest.raises(ConnectionError, match=r"cannot be reached.*; 0 of 10 replies are kept .* run the same command"):
        judge_by_endpoint(tmp_path / "judged", contest, config)
    assert not (tmp_path / "judged" / "annotations.json").exists()


def test_a_run_that_stopped_goes_on_without_paying_twice(fake_judge, endpoint_config, contest, tmp_path):
    limited = 429, {}, {"error": {"message": "slow down"}}
    fake_judge.reply = lambda prompt, call: limited if "Question 4" in prompt else prefers_longer(prompt)
    config = endpoint_config(concurrency=1, attempts=2)
    with pytest.raises(ConnectionError, match=r"keeps failing.*; 6 of 10 replies are kept"):
        judge_by_endpoint(tmp_path / "judged", contest, config)
    with (tmp_path / "judged" / "judgments.jsonl").open("a") as stream:
        stream.write('{"id": "00005:1", "verd')
    paid = set(fake_judge.prompts) - {prompt for prompt in fake_judge.prompts if "Question 4" in prompt}
    fake_judge.prompts.clear()
    fake_judge.reply = prefers_longer
    figures = judge_by_endpoint(tmp_path / "judged", contest, config).manifest["figures"]
    assert (figures["n_wins"], figures["n_total"]) == (5, 6)
    assert len(fake_judge.prompts) == 4
    assert not paid & set(fake_judge.prompts)
    fake_judge.prompts.clear()
    assert judge_by_endpoint(tmp_path / "judged", contest, config).manifest["figures"] == figures
    assert not fake_judge.prompts


@pytest.mark.parametrize(
    "status, body",
    [
        (401, {"error": {"message": "bad key"}}),
        (404, {"error": {"message": "no such model"}}),
        (429, {"error": {"message": "no credit", "code": "insufficient_quota"}}),
    ],
    ids=["key", "model", "credit"],
)
def test_a_refusal_that_stays_stops_at_once(fake_judge, endpoint_config, contest, tmp_path, status, body):
    fake_judge.reply = lambda prompt, call: (status, {}, body)
    with pytest.raises(PermissionError, match=r"refuses: .*; 0 of 10 replies are kept"):
        judge_by_endpoint(tmp_path / "judged", contest, endpoint_config(concurrency=1))
    assert len(fake_judge.prompts) == 1


def test_malformed_and_refused_judgments_are_counted_and_are_neither_wins_nor_draws(
    fake_judge, endpoint_config, contest, tmp_path
):
    def reply(prompt, call):
        if "Question 1" in prompt:
            return "They are both fine."
        if "Question 2" in prompt:
            return 400, {}, {"error": {"message": "too long"}}
        return "hm" if call == 0 else prefers_longer(prompt)

    fake_judge.reply = reply
    stage = judge_by_endpoint(tmp_path / "judged", contest, endpoint_config())
    figures = stage.manifest["figures"]
    assert figures["failed"] == {"malformed": 1, "refused": 1}
    assert (figures["n_wins"], figures["n_draws"], figures["n_total"], figures["n_dropped"]) == (3, 1, 4, 2)
    assert stage.counts == {"in": 6, "out": 4, "rejected": {"malformed": 1, "refused": 1}}
    assert sum("Question 1" in prompt for prompt in fake_judge.prompts) == 2 * 3
    assert figures["retries"] == {"malformed": 2 * 3 + 3 * 2}
    rows = json.loads((stage.directory / "annotations.json").read_text())
    assert [row["preference"] for row in rows] == [1.5, None, None, 2.0, 2.0, 2.0]


def test_another_judge_does_not_mix_with_what_is_there(fake_judge, endpoint_config, contest, tmp_path):
    judge_by_endpoint(tmp_path / "judged", contest, endpoint_config())
    with pytest.raises(ValueError, match=r"was begun with another settings\.endpoint\.model"):
        judge_by_endpoint(tmp_path / "judged", contest, endpoint_config(model="another"))


@pytest.fixture(scope="module")
def local_config():
    return GenerationConfig(EngineConfig(slots=4, prompt_buckets=(1024,)), shard_size=4, dtype="float32")


def test_a_local_model_judges_symmetrically(tiny_model_dir, local_config, contest, tmp_path):
    model = open_model(tiny_model_dir)
    rows, turned = (
        json.loads((judge_by_model(tmp_path / name, c, model, local_config).directory / "annotations.json").read_text())
        for name, c in (("one", contest), ("other", swapped(contest)))
    )
    assert [row["preference"] for row in turned] == [3 - row["preference"] for row in rows]
    for row, other in zip(rows, turned, strict=True):
        assert row["probability"] == pytest.approx(1 - other["probability"], abs=1e-6)
    assert (rows[0]["preference"], rows[0]["probability"]) == (1.5, 0.5)
    assert len({row["probability"] for row in rows[1:]}) > 1


def test_questions_that_do_not_fit_the_local_judge_are_counted(tiny_model_dir, local_config, contest, tmp_path):
    long = Comparison("9", "Write.", "x" * 2000, "y")
    stage = judge_by_model(
        tmp_path / "judged",
        Contest((*contest.comparisons, long), ("b", "m"), 2),
        open_model(tiny_model_dir),
        local_config,
    )
    assert stage.counts["rejected"] == {"prompt_too_long": 1, "missing_output": 2}
    assert stage.counts["in"] == 9 == stage.counts["out"] + 3


def test_the_letters_are_told_apart_by_one_token(tiny_model_dir):
    model = open_model(tiny_model_dir)
    forced, (a, b) = letter_ids(model)
    assert model.tokenizer.decode([*forced, a]).strip() == "A"
    assert model.tokenizer.decode([*forced, b]).strip() == "B"


def test_a_contest_is_read_from_files(tmp_path):
    (tmp_path / "base.json").write_text(json.dumps(BASELINE))
    (tmp_path / "model.json").write_text(json.dumps(MODEL))
    contest = read_contest(tmp_path / "model.json", tmp_path / "base.json", limit=3)
    assert (len(contest.comparisons), contest.names, contest.missing) == (3, ("base", "tuned"), 0)
