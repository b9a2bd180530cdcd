"""Ratings by an endpoint: read from replies, never paid twice, rejected where there is none, marked as foreign."""

import dataclasses
import json
import re

import pytest
from fake_judge import FakeJudge

from humpback_jax.curation.signals import SIGNALS
from humpback_jax.endpoints import EndpointConfig
from humpback_jax.inference.requests import EngineConfig
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.stages.jobs import GenerationConfig
from humpback_jax.stages.rating import CurationConfig, curate, ratings_job

pytest.importorskip("openai")
PROMPTS = Prompts("Q: {output}", "{instruction}|{output}", "Tag s.", "Tag w.")
GENERATION = GenerationConfig(
    engine=EngineConfig(slots=4, prompt_buckets=(64, 128), max_new_tokens=8), shard_size=4, dtype="float32"
)
PAIRS = [
    {"id": f"p{i}", "instruction": f"Say {i}.", "output": f"word {i}.", "source": "test", "header": "h"}
    for i in range(10)
]


@pytest.fixture
def judge():
    judge = FakeJudge()
    # By the number of the pair: 0 gets no rating, whatever is asked.
    judge.reply = lambda prompt, call: f"Well.\nScore: {number_of(prompt) % 6}"
    yield judge
    judge.close()


def number_of(prompt):
    return int(re.search(r"Say (\d)", prompt)[1])


def config_of(judge, **settings):
    endpoint = EndpointConfig("m", judge.url, key_variable="", replies=2, attempts=2, max_wait=0.01, **settings)
    return CurationConfig(generation=GENERATION, endpoint=endpoint)


def rows_of(stage):
    return [json.loads(line) for line in (stage.directory / "scores.jsonl").read_text().splitlines()]


def test_replies_become_ratings_and_a_pair_without_one_is_rejected(tiny_model, make_product, tmp_path, judge, capsys):
    pairs = make_product("augmented", "pairs", PAIRS)
    stage = curate(tmp_path / "scores1", tiny_model, pairs, PROMPTS, config_of(judge))
    expected = {row["id"]: i % 6 for i, row in enumerate(PAIRS) if i % 6}
    assert {row["id"]: row["score"] for row in rows_of(stage)} == expected
    assert stage.counts == {"in": 10, "out": 8, "rejected": {"no_rating": 2}}
    assert stage.manifest["figures"]["note"] == "not self-alignment"
    assert stage.manifest["figures"]["rater"] == f"m at {judge.url}"
    assert stage.manifest["settings"]["curation"]["endpoint"]["model"] == "m"
    assert "not self-alignment" in capsys.readouterr().err
    assert len(judge.prompts) == 8 + 2 * 2


def test_replies_are_read_on_the_rubrics_scale(tiny_model, make_product, tmp_path, judge):
    judge.reply = lambda prompt, call: f"Gut.\nNote: {number_of(prompt)}"
    prompts = dataclasses.replace(PROMPTS, rating_template="---\nlabel: Note\nscale: 0-9\n---\n{instruction}|{output}")
    stage = curate(tmp_path / "s", tiny_model, make_product("augmented", "pairs", PAIRS), prompts, config_of(judge))
    assert [row["score"] for row in rows_of(stage)] == list(range(10))
    assert all("scale" not in prompt for prompt in judge.prompts)


def test_the_other_signals_are_the_models_own(tiny_model, make_product, tmp_path, judge):
    pairs = make_product("augmented", "pairs", PAIRS)
    rated = curate(
        tmp_path / "scores1", tiny_model, pairs, PROMPTS, dataclasses.replace(config_of(judge), signals=True)
    )
    own = curate(tmp_path / "own", tiny_model, pairs, PROMPTS, CurationConfig("expected", GENERATION, signals=True))
    by_id = {row["id"]: row["signals"] for row in rows_of(own)}
    for row in rows_of(rated):
        assert set(row["signals"]) == set(SIGNALS)
        assert row["signals"] == by_id[row["id"]] | {"rating": row["score"]}


def test_what_was_paid_for_is_kept_when_the_endpoint_fails(tiny_model, make_product, tmp_path, judge):
    pairs = make_product("augmented", "pairs", PAIRS)
    reply = judge.reply
    judge.reply = lambda prompt, call: (500, {}, {}) if number_of(prompt) == 7 else reply(prompt, call)
    with pytest.raises(ConnectionError, match="run the same command"):
        curate(tmp_path / "scores1", tiny_model, pairs, PROMPTS, config_of(judge, concurrency=1))
    paid = {prompt for prompt in judge.prompts if number_of(prompt) != 7}
    judge.reply, judge.prompts = reply, []
    stage = curate(tmp_path / "scores1", tiny_model, pairs, PROMPTS, config_of(judge, concurrency=1))
    assert not paid & set(judge.prompts)
    assert stage.counts["out"] == 8


def test_an_endpoint_writes_rationales_alone_and_needs_a_folder(tiny_model, judge):
    for settings in ({"mode": "expected"}, {"rater": "other"}):
        with pytest.raises(ValueError, match=r"CurationConfig\.endpoint writes rationales, alone"):
            dataclasses.replace(config_of(judge), **settings)
    with pytest.raises(ValueError, match="must be kept; give a folder"):
        ratings_job(tiny_model, PROMPTS, config_of(judge))
