"""Rating on the tiny model, and with written rationales: every pair gets a number in 1..5."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from humpback_jax.inference.requests import PROBE_ROOM, Completion
from humpback_jax.models.llama import Llama
from humpback_jax.stages.items import Prompted
from humpback_jax.stages.rating import CurationConfig, curate, ratings_job

PAIRS = [
    {"id": f"p{i}", "instruction": f"Say {i}.", "output": "word " * (1 + i % 4), "source": "test", "header": "h"}
    for i in range(10)
]


def rows_of(stage):
    return [json.loads(line) for line in (stage.directory / "scores.jsonl").read_text().splitlines()]


class WrittenEngine:
    """Stands in for an engine whose model wrote the given rationales, and finds ratings 1-5 likely as given."""

    def __init__(self, tokenizer, rationales, log_probs):
        self.tokenizer, self.rationales, self.log_probs, self.probes = tokenizer, rationales, log_probs, {}

    def generate(self, requests, seed, stop_ids, progress, probe):
        completions = []
        for request in requests:
            ids = tuple(self.tokenizer.encode(self.rationales[request.id]))
            completion = Completion(request.id, ids, truncated=False)
            question = probe(completion)
            if question is not None:
                self.probes[request.id] = question
                completion = dataclasses.replace(completion, probe_log_probs=self.log_probs)
            completions.append(completion)
        return completions


def test_a_written_score_is_read_and_a_missing_one_is_forced(tiny_model, short_prompts, small_generation):
    rationales = {
        "clear": "Direct and complete.\nScore: 4",
        "last": "Score: 2 at first sight.\nScore: 5",
        "none": "It depends.",
        "bad": "Score: 7",
        "silent": "",
    }
    engine = WrittenEngine(tiny_model.tokenizer, rationales, tuple(np.log([0.1, 0.1, 0.1, 0.1, 0.6])))
    items = [Prompted(name, (1, 2)) for name in rationales]
    job = ratings_job(tiny_model, short_prompts, CurationConfig(generation=small_generation))
    rows = job.run(engine, items, lambda _: None)
    assert {row["id"]: (row["score"], row["parsed"]) for row in rows} == {
        "clear": (4.0, True),
        "last": (5.0, True),
        "none": (4.0, False),
        "bad": (4.0, False),
        "silent": (4.0, False),
    }
    assert [row["rationale"] for row in rows] == list(rationales.values())
    assert rows[2]["mode"] == 5
    assert "mode" not in rows[0]
    encode = tiny_model.tokenizer.encode
    assert list(engine.probes["none"].forced_ids) == encode("\nScore: ")
    assert list(engine.probes["silent"].forced_ids) == encode("Score: ")
    assert list(engine.probes["none"].candidate_ids) == encode("12345")
    assert set(engine.probes) == {"none", "bad", "silent"}


def test_every_pair_gets_a_number_from_rationales(tiny_model, short_prompts, small_generation, make_product, tmp_path):
    pairs = make_product("augmented", "pairs", PAIRS)
    config = CurationConfig("rationale", small_generation)
    stage = curate(tmp_path / "scores1", tiny_model, pairs, short_prompts, config)
    rows = rows_of(stage)
    assert [row["id"] for row in rows] == [row["id"] for row in PAIRS]
    assert all(1 <= row["score"] <= 5 for row in rows)
    assert stage.counts == {"in": 10, "out": 10, "rejected": {}}
    figures = stage.manifest["figures"]
    assert figures["parsed"] == sum(row["parsed"] for row in rows)
    assert figures["parsed"] + figures["forced"] == 10
    assert figures["unscored"] == 0
    assert sum(figures["histogram"].values()) == 10
    assert figures["mean_score"] == pytest.approx(np.mean([row["score"] for row in rows]), abs=1e-3)


def test_sampled_ratings_are_means_of_single_ones(tiny_model, short_prompts, small_generation, make_product, tmp_path):
    pairs = make_product("augmented", "pairs", PAIRS)
    config = CurationConfig("sampled", small_generation, samples=3)
    rows = rows_of(curate(tmp_path / "scores1", tiny_model, pairs, short_prompts, config))
    assert [row["id"] for row in rows] == [row["id"] for row in PAIRS]
    for row in rows:
        assert len(row["ratings"]) == len(row["rationales"]) == 3
        assert row["score"] == pytest.approx(np.mean(row["ratings"]), abs=1e-6)
        assert all(1 <= rating <= 5 for rating in row["ratings"])
    assert any(len(set(row["rationales"])) > 1 for row in rows)
    with pytest.raises(ValueError, match="samples takes a whole number of at least 1, found 0"):
        CurationConfig("sampled", small_generation, samples=0)


def test_expected_ratings_are_the_digits_after_the_prompt(
    tiny_model, short_prompts, small_generation, make_product, tmp_path
):
    pairs = make_product("augmented", "pairs", PAIRS[:3])
    config = CurationConfig("expected", small_generation)
    rows = rows_of(curate(tmp_path / "scores1", tiny_model, pairs, short_prompts, config))
    assert not any(row["parsed"] for row in rows)
    params = tiny_model.load_params(None, "float32")
    apply = jax.jit(Llama(tiny_model.card.config).apply)
    encode = tiny_model.tokenizer.encode
    for pair, row in zip(PAIRS, rows, strict=False):
        prompt = tiny_model.prompt_ids(short_prompts.rating(pair["instruction"], pair["output"]))
        ids = [*prompt, *encode("Score: ")]
        logits = apply({"params": params}, np.asarray([ids + [0] * (80 - len(ids))]))[0, len(ids) - 1]
        probabilities = np.asarray(jax.nn.softmax(logits[np.asarray(encode("12345"))]), np.float64)
        np.testing.assert_allclose(row["probabilities"], probabilities, atol=1e-4)
        assert row["score"] == pytest.approx(np.dot(probabilities, [1, 2, 3, 4, 5]), abs=1e-3)


@pytest.mark.parametrize("mode", ["rationale", "expected"])
def test_prompts_that_are_too_long_are_counted(
    mode, tiny_model, short_prompts, small_generation, make_product, tmp_path
):
    config = CurationConfig(mode, small_generation)
    empty = dict(PAIRS[0], id="fits", instruction="", output="")
    overhead = len(tiny_model.prompt_ids(short_prompts.rating("", "")))
    fits = dict(empty, output="x" * (config.max_prompt_length - overhead))
    over = dict(empty, id="over", output="x" * (config.max_prompt_length - overhead + 1))
    pairs = make_product("augmented", "pairs", [fits, over])
    stage = curate(tmp_path / "scores1", tiny_model, pairs, short_prompts, config)
    assert stage.counts == {"in": 2, "out": 1, "rejected": {"prompt_too_long": 1}}
    assert [row["id"] for row in rows_of(stage)] == ["fits"]
    assert small_generation.engine.max_prompt_length - config.max_prompt_length == (
        PROBE_ROOM if mode == "expected" else 0
    )


def test_a_rerun_after_a_crash_gives_the_same_scores(
    tiny_model, short_prompts, small_generation, make_product, tmp_path
):
    pairs = make_product("augmented", "pairs", PAIRS)
    config = CurationConfig("rationale", small_generation)
    whole = curate(tmp_path / "scores1", tiny_model, pairs, short_prompts, config)
    cut = tmp_path / "cut" / "scores1"
    cut.mkdir(parents=True)
    for name in ("identity.json", "shards/shard-00001-of-00003.jsonl", "shards/shard-00001-of-00003.completed"):
        (cut / name).parent.mkdir(exist_ok=True)
        (cut / name).write_bytes((tmp_path / "scores1" / name).read_bytes())
    again = curate(cut, tiny_model, pairs, short_prompts, config)
    assert (cut / "scores.jsonl").read_bytes() == (tmp_path / "scores1" / "scores.jsonl").read_bytes()
    assert again.outputs == whole.outputs


def test_an_unknown_mode_names_the_choices():
    with pytest.raises(ValueError, match="mode takes a text among rationale, sampled, expected"):
        CurationConfig(mode="guess")


def test_another_rater_is_named_aloud_and_in_the_manifest(
    tiny_model, make_product, short_prompts, small_generation, tmp_path, capsys
):
    pairs = make_product("augmented", "pairs", PAIRS)
    own = CurationConfig("expected", small_generation)
    foreign = dataclasses.replace(own, rater=str(tiny_model.path))
    by_own = curate(tmp_path / "own", tiny_model, pairs, short_prompts, own)
    assert "not self-alignment" not in capsys.readouterr().err
    by_other = curate(tmp_path / "other", tiny_model, pairs, short_prompts, foreign)
    assert "not self-alignment" in capsys.readouterr().err
    assert by_other.manifest["figures"]["rater"] == str(tiny_model.path)
    assert by_other.manifest["figures"]["note"] == "not self-alignment"
    assert "rater" not in by_own.manifest["figures"]
    # Who rates is an input, by the hash of the weights: the settings do not name it again.
    assert by_other.manifest["settings"] == by_own.manifest["settings"]
    assert rows_of(by_other) == rows_of(by_own)
