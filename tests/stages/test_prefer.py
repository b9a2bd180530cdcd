"""Preferences of a model's own answers, and learning from them: counted, resumable, and better on what was held out."""

import dataclasses
import itertools
import json

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from humpback_jax.data.batching import BatchConfig
from humpback_jax.data.preferences import Preference, PreferencesReport
from humpback_jax.files import write_jsonl
from humpback_jax.models.lora import LoraConfig
from humpback_jax.partitioning import LogicalAxisRules, MeshShape
from humpback_jax.stages.finetune import FinetuneConfig
from humpback_jax.stages.prefer import PreferenceConfig, prefer, share_right
from humpback_jax.stages.sampled_pairs import (
    SampledPairsConfig,
    best_and_worst,
    pair_answers,
    read_paired,
    sample_answers,
)
from humpback_jax.stages.stage import Stage
from humpback_jax.training.config import CheckpointConfig, ComputeConfig, LoopConfig
from humpback_jax.training.optimizer import OptimizerConfig
from humpback_jax.training.preference import PreferenceLoss
from humpback_jax.weights.model_folder import read_model_card

TRAINING = FinetuneConfig(
    batches=BatchConfig(batch_size=8, row_length=256),
    loop=LoopConfig(num_steps=6),
    compute=ComputeConfig(dtype="float32", remat_policy="none", logits_chunk=64, dropout=0.0),
    optimizer=OptimizerConfig(learning_rate=3e-3, final_learning_rate=3e-3),
)


def made_pairs(number=24):
    """Who is asked for a word prefers it in capitals."""
    words = ["".join(letters) for letters in itertools.islice(itertools.product("abc", "eiou", "nt"), number)]
    pairs = [Preference(word, (f"Say {word}.",), word.upper(), word, word, "test") for word in words]
    return PreferencesReport(tuple(pairs), {"in": number, "out": number, "rejected": {}})


def preferred(folder, model, prompts, config, **options):
    return prefer(folder, model, made_pairs(), prompts, config, MeshShape(), LogicalAxisRules(), **options)


def test_what_is_preferred_is_learned_and_measured_on_what_was_held_out(tiny_model, short_prompts, tmp_path):
    config = PreferenceConfig(training=TRAINING, heldout=0.25)
    stage = preferred(tmp_path / "preferred1", tiny_model, short_prompts, config, tags=("seed",))
    figures, counts = stage.manifest["figures"], stage.counts
    assert counts == {"in": 24, "out": 18, "rejected": {"held_out": 6}}
    before, after = figures["before"], figures["after"]
    assert before["reward_accuracy"] == {"value": 0.5, "low": 0.5, "high": 0.5} and before["reward_margin"] == 0
    assert after["reward_accuracy"]["value"] > 0.8 and after["reward_margin"] > 0.1
    assert after["likelihood_accuracy"]["value"] >= before["likelihood_accuracy"]["value"]
    assert figures["kl_per_token"] > 1e-4
    rows = [json.loads(line) for line in (stage.directory / "heldout_preferences.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    for row in rows:
        gained = np.subtract(row["after"], row["before"])
        assert row["rewards"] == pytest.approx((0.1 * gained).tolist(), abs=1e-4)
    trained_on = (stage.directory / "trained_on.jsonl").read_text()
    assert not any(f'"{row["id"]}"' in trained_on for row in rows)
    assert "preferences learned as preferred1" in read_model_card(stage.directory / "model").source
    again = preferred(tmp_path / "preferred1", tiny_model, short_prompts, config, tags=("seed",))
    assert again.manifest == stage.manifest


def test_adapters_learn_too_and_the_first_weights_stay(tiny_model, short_prompts, tmp_path):
    lora = LoraConfig(rank=2, alpha=8.0, targets=("v", "gate"))
    training = dataclasses.replace(TRAINING, lora=lora, optimizer=OptimizerConfig(3e-2, 3e-2))
    config = PreferenceConfig(PreferenceLoss("simpo", beta=2.0, gamma=1.0), training, heldout=0.25)
    stage = preferred(tmp_path / "p", tiny_model, short_prompts, config)
    assert stage.outputs.keys() == {"model", "adapter"}
    before, after = (stage.manifest["figures"][when] for when in ("before", "after"))
    assert after["reward_margin"] > before["reward_margin"]


BROKEN = {
    "too_long": ({"batches": BatchConfig(8, row_length=16)}, "none of 18 pairs to train on fits"),
    "nothing_left": ({}, "cannot be split"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_trained_on_is_named_before_training(tiny_model, short_prompts, tmp_path, kind):
    changes, words = BROKEN[kind]
    heldout = 0.99 if kind == "nothing_left" else 0.25
    config = PreferenceConfig(training=dataclasses.replace(TRAINING, **changes), heldout=heldout)
    with pytest.raises(ValueError, match=words):
        preferred(tmp_path / "p", tiny_model, short_prompts, config)
    assert not (tmp_path / "p" / "metrics.jsonl").exists()


def test_a_reference_with_another_vocabulary_is_refused(tiny_model, short_prompts, tmp_path):
    card = dataclasses.replace(tiny_model.card, config=dataclasses.replace(tiny_model.card.config, vocab_size=400))
    other = dataclasses.replace(tiny_model, card=card)
    with pytest.raises(ValueError, match=r"the vocabulary has 400 tokens, that of .* 320"):
        preferred(tmp_path / "p", tiny_model, short_prompts, PreferenceConfig(training=TRAINING), reference=other)
    assert not (tmp_path / "p").exists()


INSTRUCTIONS = [{"id": f"i{n}", "instruction": f"Say {n}."} for n in range(5)]


def answered(folder, model, prompts, generation):
    config = SampledPairsConfig(answers=3, generation=generation)
    stage = sample_answers(folder, model, INSTRUCTIONS, prompts, config, ())
    found = {}
    for name in ("pairs.jsonl", "rejected.jsonl"):
        found |= {row["id"]: row for row in map(json.loads, (stage.directory / name).read_text().splitlines())}
    return stage, found


def test_answers_are_the_same_for_any_batch_size_and_after_a_restart(
    tiny_model, short_prompts, small_generation, tmp_path, monkeypatch
):
    # An untrained model seldom ends what it writes.
    monkeypatch.setattr("humpback_jax.stages.sampled_pairs._fault", lambda answer: None)
    stage, expected = answered(tmp_path / "a", tiny_model, short_prompts, small_generation)
    assert sorted(expected) == [f"i{n}#{k}" for n in range(5) for k in range(3)]
    assert len({row["output"] for row in expected.values()}) > 5, "samples do not differ"
    assert stage.counts == {"in": 15, "out": 15, "rejected": {}}
    engine = dataclasses.replace(small_generation.engine, slots=8)
    other = dataclasses.replace(small_generation, engine=engine, shard_size=15)
    assert answered(tmp_path / "b", tiny_model, short_prompts, other)[1] == expected
    for path in [*(tmp_path / "a").glob("*.json*"), *sorted((tmp_path / "a" / "shards").glob("*00001*"))]:
        if path.name != "identity.json":
            path.unlink()
    assert answered(tmp_path / "a", tiny_model, short_prompts, small_generation)[1] == expected


def answer(name, score, output):
    return {"id": name, "of": "q", "instruction": "Q?", "output": output, "score": score, "source": "sampled"}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "no_answer"),
        ([answer("a", 3.0, "x"), answer("b", None, "y")], "one_answer"),
        ([answer("a", 3.0, "x y"), answer("b", 4.0, "x  y")], "equal_answers"),
        ([answer("a", 3.0, "x"), answer("b", 3.0, "y")], "tie"),
        ([answer("a", 3.0, "x"), answer("b", 3.2, "y")], "below_margin"),
        ([answer("a", 3.0, "x"), answer("b", 4.0, "y" * 9)], "lengths_differ"),
    ],
)
def test_why_an_instruction_gives_no_pair(rows, expected):
    assert best_and_worst(rows, SampledPairsConfig(margin=0.5)) == (expected, None)


def test_a_fair_pair_is_taken_where_the_farthest_two_differ_in_length():
    rows = [answer("a", 5.0, "y" * 90), answer("b", 4.0, "z" * 12), answer("c", 1.0, "x" * 9)]
    _, (better, worse) = best_and_worst(rows, SampledPairsConfig())
    assert (better["id"], worse["id"]) == ("b", "c")


@given(
    st.lists(
        st.tuples(st.sampled_from([None, 1.0, 2.5, 4.0]), st.text("ab ", max_size=5)), max_size=6
    ),
    st.sampled_from([0.0, 1.0, 2.0]),
)  # fmt: skip
def test_a_pair_is_apart_fair_and_unlike_whatever_the_answers(scored, margin):
    rows = [answer(f"a{i}", score, text) for i, (score, text) in enumerate(scored)]
    config = SampledPairsConfig(margin=margin)
    reason, pair = best_and_worst(rows, config)
    assert (reason is None) == (pair is not None)
    if pair is not None:
        better, worse = pair
        assert better["score"] - worse["score"] >= max(margin, 0.1)
        assert better["output"].split() != worse["output"].split()
    assert best_and_worst(rows[::-1], config)[0] == reason


def rated(tmp_path, scores):
    """The answers `ID#k` of several instructions with these scores, and stages that hold them."""
    pairs = [
        {"id": f"i{n}#{k}", "of": f"i{n}", "instruction": f"Q{n}", "output": f"Answer {k}.", "source": "sampled"}
        for n, of in enumerate(scores)
        for k in range(len(of))
    ]
    ratings = [{"id": pair["id"], "score": score} for pair, score in zip(pairs, itertools.chain(*scores), strict=True)]
    write_jsonl(tmp_path / "sampled1" / "pairs.jsonl", pairs)
    write_jsonl(tmp_path / "sampled1" / "rejected.jsonl", [{"id": "z#0", "of": "z", "reason": "truncated"}])
    write_jsonl(tmp_path / "scores" / "scores.jsonl", ratings)
    return (
        Stage(tmp_path / "sampled1", {"outputs": {"pairs": "a"}, "counts": {}}),
        Stage(tmp_path / "scores", {"outputs": {"scores": "b"}, "counts": {}}),
    )


def test_every_instruction_is_a_pair_or_has_a_reason(tmp_path):
    stage = pair_answers(
        tmp_path / "preferences1", *rated(tmp_path, [[1.0, 4.0, 2.0], [3.0, 3.0], [2.0]]), SampledPairsConfig()
    )
    assert stage.counts == {"in": 4, "out": 1, "rejected": {"no_answer": 1, "one_answer": 1, "tie": 1}}
    report = read_paired(stage)
    assert [(p.turns, p.chosen, p.rejected) for p in report.pairs] == [(("Q0",), "Answer 1.", "Answer 0.")]
    assert stage.manifest["figures"]["chosen_rank"] == 4.0


def test_a_rater_that_gives_everything_the_same_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none of 3 instructions .*'tie': 2.*every answer the same"):
        pair_answers(tmp_path / "p", *rated(tmp_path, [[3.0, 3.0], [3.0, 3.0]]), SampledPairsConfig())


def test_intervals_are_over_groups():
    """Ten pairs of two trees say less than ten of ten."""
    margins = np.asarray([1.0] * 5 + [-1.0] * 5)
    wide = share_right(margins, ["a"] * 5 + ["b"] * 5)
    narrow = share_right(margins, [str(i) for i in range(10)])
    assert wide["value"] == narrow["value"] == 0.5
    assert (wide["low"], wide["high"]) == (0.0, 1.0) and 0.1 < narrow["low"] < 0.5 < narrow["high"] < 0.9
    assert share_right(np.zeros(3), list("abc")) == {"value": 0.5, "low": 0.5, "high": 0.5}


def test_a_stopped_training_goes_on_to_the_same_weights(tiny_model, short_prompts, tmp_path, monkeypatch):
    checkpoints = CheckpointConfig(period=2)
    config = PreferenceConfig(training=dataclasses.replace(TRAINING, checkpoints=checkpoints), heldout=0.25)
    whole = preferred(tmp_path / "whole", tiny_model, short_prompts, config)
    monkeypatch.setattr("humpback_jax.training.loop.stop_requested", iter([False, False, True]).__next__)
    with pytest.raises(BaseException, match="stopped by SIGTERM after update 3"):
        preferred(tmp_path / "cut", tiny_model, short_prompts, config)
    monkeypatch.undo()
    cut = preferred(tmp_path / "cut", tiny_model, short_prompts, config)
    assert cut.outputs == whole.outputs
