"""Signals of pairs on the tiny model: every pair has all of them, the same however the work is cut."""

import dataclasses
import json

import numpy as np
import pytest

from humpback_jax.curation.curator import CuratorConfig
from humpback_jax.curation.signals import SIGNALS
from humpback_jax.curation.twins import KINDS
from humpback_jax.data.mixture import PairSet
from humpback_jax.data.pairs import Pair
from humpback_jax.inference.requests import EngineConfig
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.stages.curator import learn, read_curator, read_examples
from humpback_jax.stages.items import InMemory
from humpback_jax.stages.jobs import GenerationConfig
from humpback_jax.stages.rating import CurationConfig, curate, rating_items
from humpback_jax.stages.readings import READINGS, Readings
from humpback_jax.stages.selection import SelectionConfig, select

WORDS = (
    "heron water fish bill shallow strikes still comes close until then long stands reed bank".split()  # noqa: SIM905
)
PROMPTS = Prompts("Q: {output}", "{instruction}|{output}", "Tag s.", "Tag w.")
GENERATION = GenerationConfig(
    engine=EngineConfig(slots=4, prompt_buckets=(64, 128, 256), max_new_tokens=8), shard_size=4, dtype="float32"
)
CURATION = CurationConfig("expected", GENERATION, signals=True, head_tokens=12, tail_tokens=6)


def made_pairs(number, least=4):
    rng = np.random.default_rng(number)
    texts = [" ".join(rng.choice(WORDS, int(rng.integers(least, 22)))) for _ in range(number)]
    return [
        {"id": f"p{i}", "instruction": f"What does {t.split()[0]} do?", "output": f"{t}.", "source": "t", "header": "h"}
        for i, t in enumerate(texts)
    ]


def rows_of(stage, name="scores.jsonl"):
    return [json.loads(line) for line in (stage.directory / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def rows():
    return made_pairs(10)


def test_every_pair_has_every_signal(tiny_model, make_product, tmp_path, rows):
    stage = curate(tmp_path / "scores1", tiny_model, make_product("augmented", "pairs", rows), PROMPTS, CURATION)
    found = rows_of(stage)
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert all(list(row["signals"]) == list(SIGNALS) for row in found)
    assert all(row["signals"]["rating"] == row["score"] for row in found)
    assert set(stage.manifest["figures"]["signals"]) == set(SIGNALS)


def test_fit_and_completeness_are_what_single_passes_say(tiny_model, make_product, tmp_path, rows):
    stage = curate(tmp_path / "scores1", tiny_model, make_product("augmented", "pairs", rows), PROMPTS, CURATION)
    engine, tokenizer = tiny_model.engine(GENERATION.engine, "float32"), tiny_model.tokenizer
    neutral = tiny_model.prompt_ids("Tag s.")
    for pair, row in zip(rows, rows_of(stage), strict=True):
        prompt = tiny_model.prompt_ids(f"{pair['instruction']}\n\nTag s.")
        answer = tiny_model.chat_format.answer_ids(pair["output"], tokenizer)[:-1]
        head, tail = answer[:12], answer[max(12, len(answer) - 6) :]
        given, alone = engine.log_likelihoods([("a", prompt, head), ("b", neutral, head)]) / len(head)
        end = engine.candidate_log_probs([("a", (*neutral, *head, *tail))], [[tiny_model.stop_ids[0]]])[0, 0]
        assert row["signals"]["fit"] == pytest.approx(given - alone, abs=2e-4)
        assert row["signals"]["answer_log_prob"] == pytest.approx(alone, abs=2e-4)
        assert row["signals"]["completeness"] == pytest.approx(float(end), abs=2e-4)


def read_alone(model, prompts, pair):
    """The signals of one pair, read by an engine that has read nothing else."""
    readings = Readings(model, prompts, 12, 6)
    items = rating_items(InMemory([pair]), model, prompts, CURATION)[:]
    return readings.signals(model.engine(GENERATION.engine, "float32"), items, [3.0], lambda _: None)[0]


@pytest.mark.parametrize("instruction", ["Tag s.", "Tag", "0", "T", "\n\nTag s.", "<|user|>", "é" * 30])
def test_an_instruction_that_begins_like_what_prompts_share_is_read_right(tiny_model, instruction):
    pair = made_pairs(1)[0] | {"instruction": instruction}
    engine = tiny_model.engine(GENERATION.engine, "float32")
    head = tiny_model.chat_format.answer_ids(pair["output"], tiny_model.tokenizer)[:-1][:12]
    prompts = [tiny_model.prompt_ids(text) for text in (f"{instruction}\n\nTag s.", "Tag s.")]
    given, alone = engine.log_likelihoods([(str(i), ids, head) for i, ids in enumerate(prompts)]) / len(head)
    assert read_alone(tiny_model, PROMPTS, pair)["fit"] == pytest.approx(given - alone, abs=2e-4)


def test_what_pairs_share_is_read_once_and_gives_what_each_gives_alone(tiny_model):
    first, second = made_pairs(2)
    candidates = [first | {"id": f"c{i}", "instruction": f"{word}?"} for i, word in enumerate(WORDS[:6])]
    pairs = [*candidates, second, second | {"id": "twin", "output": second["output"] + " and then some more of it."}]
    readings, done = Readings(tiny_model, PROMPTS, 12, 0), []
    items = rating_items(InMemory(pairs), tiny_model, PROMPTS, CURATION)[:]
    engine = tiny_model.engine(GENERATION.engine, "float32")
    found = readings.signals(engine, items, [3.0] * len(items), done.append)
    assert sum(done) == READINGS * len(items)
    apart = 0
    for item, signals in zip(items, found, strict=True):
        own = tiny_model.engine(GENERATION.engine, "float32")
        assert readings.signals(own, [item], [3.0], lambda _: None) == [signals]
        apart += own.stats.prompt_tokens
    assert engine.stats.prompt_tokens < 0.8 * apart


@pytest.mark.parametrize("shard_size", [1, 3, 100])
def test_signals_do_not_depend_on_how_the_work_is_cut(tiny_model, make_product, tmp_path, rows, shard_size):
    pairs = make_product("augmented", "pairs", rows)
    whole = rows_of(curate(tmp_path / "scores1", tiny_model, pairs, PROMPTS, CURATION))
    turned = make_product("turned", "pairs", rows[::-1])
    config = dataclasses.replace(CURATION, generation=dataclasses.replace(GENERATION, shard_size=shard_size))
    cut = rows_of(curate(tmp_path / "scores2", tiny_model, turned, PROMPTS, config))
    for a, b in zip(whole, cut[::-1], strict=True):
        assert a["id"] == b["id"]
        assert a["signals"] == pytest.approx(b["signals"], abs=2e-4)


def test_without_signals_rows_and_identity_are_as_before(tiny_model, make_product, tmp_path, rows):
    plain = dataclasses.replace(CURATION, signals=False)
    stage = curate(tmp_path / "scores1", tiny_model, make_product("augmented", "pairs", rows), PROMPTS, plain)
    assert not any("signals" in row for row in rows_of(stage))
    assert set(stage.manifest["settings"]["curation"]) == {"mode", "generation", "samples"}


@pytest.fixture
def seeds():
    pairs = [Pair(row["id"], row["instruction"], row["output"], "test") for row in made_pairs(12, least=14)]
    return PairSet("seed", pairs, "hash of seeds", tags=("seed",))


def test_a_curator_is_learned_and_selects(tiny_model, make_product, tmp_path, rows, seeds):
    pairs = make_product("augmented", "pairs", rows)
    scores = curate(tmp_path / "scores1", tiny_model, pairs, PROMPTS, CURATION)
    stage = learn(tmp_path / "curator1", tiny_model, seeds, scores, PROMPTS, CURATION, CuratorConfig(originals=10))
    examples = read_examples(stage)
    assert stage.counts["in"] == 10 * (1 + len(KINDS))
    assert stage.counts["out"] == len(examples) == stage.counts["in"] - sum(stage.counts["rejected"].values())
    assert set(stage.manifest["figures"]["auc_by_kind"]) == set(KINDS)
    curator = read_curator(stage)
    config = SelectionConfig(by="curator", keep_fraction=0.5)
    kept = select(tmp_path / "curated1", pairs, scores, config, curator)
    chosen, dropped = rows_of(kept, "curated.jsonl"), rows_of(kept, "dropped.jsonl")
    assert len(chosen) == 5
    below = [row["p_good"] for row in dropped if row["reason"] == "below_best_fraction"]
    assert min(row["p_good"] for row in chosen) >= max(below, default=0)
    by_id = {row["id"]: row["signals"] for row in rows_of(scores)}
    for row in chosen:
        assert row["p_good"] == curator.probabilities([by_id[row["id"]]])[0]


def test_labels_join_the_twins(tiny_model, make_product, tmp_path, rows, seeds):
    scores = curate(tmp_path / "scores1", tiny_model, make_product("augmented", "pairs", rows), PROMPTS, CURATION)
    labels = tmp_path / "labels.jsonl"
    texts = made_pairs(20)
    labels.write_text(
        "".join(
            json.dumps({k: row[k] for k in ("id", "instruction", "output")} | {"labels": {"score": [1 + i % 5]}}) + "\n"
            for i, row in enumerate(texts)
        )
    )
    config = CuratorConfig(originals=10, labels=str(labels))
    stage = learn(tmp_path / "curator1", tiny_model, seeds, scores, PROMPTS, CURATION, config)
    labelled = [row for row in read_examples(stage) if row["kind"] == "labelled"]
    assert len(labelled) == 20
    assert sum(row["good"] for row in labelled) == 12
    assert "labelled" in stage.manifest["figures"]["auc_by_kind"]
    assert "labels" in stage.manifest["inputs"]


def test_signals_are_needed_where_they_decide(make_product, tmp_path, rows):
    pairs = make_product("augmented", "pairs", rows)
    scores = make_product("scores1", "scores", [{"id": row["id"], "score": 3.0} for row in rows])
    with pytest.raises(ValueError, match=r"the recipe has none; set Recipe\.curator"):
        select(tmp_path / "curated1", pairs, scores, SelectionConfig(by="curator"))
    with pytest.raises(ValueError, match="'p0' has no signals for the gates"):
        select(tmp_path / "curated2", pairs, scores, SelectionConfig(keep_fraction=0.5, gates=("fit >= 0",)))
