"""Vectors of pairs from the tiny model's readings, and a selection by how much pairs differ."""

import dataclasses
import json

import numpy as np
import pytest

from humpback_jax.align import Recipe
from humpback_jax.curation.curator import CuratorConfig
from humpback_jax.curation.diversity import projected, read_vectors
from humpback_jax.inference.requests import EngineConfig, Reading
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.stages.jobs import GenerationConfig
from humpback_jax.stages.rating import CurationConfig, curate
from humpback_jax.stages.selection import SelectionConfig, drop_reasons, select
from humpback_jax.stages.sources import SeedConfig, SegmentsConfig

PROMPTS = Prompts("Q: {output}", "{instruction}|{output}", "Tag s.", "Tag w.")
GENERATION = GenerationConfig(
    engine=EngineConfig(slots=4, prompt_buckets=(64, 128), max_new_tokens=8), shard_size=4, dtype="float32"
)
PLAIN = CurationConfig("expected", GENERATION, signals=True, head_tokens=12, tail_tokens=6)
DIVERSE = dataclasses.replace(PLAIN, diversity="k_centre")
PAIRS = [
    {"id": f"p{i}", "instruction": f"What of {word}?", "output": f"{word} " * 3, "source": "t", "header": "h"}
    for i, word in enumerate("heron water fish bill shallow strikes still comes close until".split())  # noqa: SIM905
]
RECIPE = Recipe("base", SeedConfig("s.jsonl"), SegmentsConfig(("p",)))


def rows_of(stage, name="scores.jsonl"):
    return [json.loads(line) for line in (stage.directory / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def diverse(tiny_model, tmp_path_factory):
    from humpback_jax.files import write_jsonl
    from humpback_jax.stages.stage import Stage

    folder = tmp_path_factory.mktemp("diverse")
    write_jsonl(folder / "augmented" / "pairs.jsonl", PAIRS)
    pairs = Stage(folder / "augmented", {"outputs": {"pairs": "hash"}, "counts": {}})
    return pairs, curate(folder / "scores1", tiny_model, pairs, PROMPTS, DIVERSE)


def test_a_vector_is_the_mean_of_the_hidden_states_of_instruction_and_head(tiny_model, diverse):
    _, scores = diverse
    vectors = read_vectors(scores.directory / "vectors.npy")
    assert vectors.dtype == np.float16
    assert len(vectors) == len(rows_of(scores)) == len(PAIRS)
    assert len(np.unique(vectors, axis=0)) == len(PAIRS)
    engine = tiny_model.engine(GENERATION.engine, "float32")
    turns = [tiny_model.prompt_ids(f"{pair['instruction']}\n\nTag s.") for pair in PAIRS]
    shared = tiny_model.prompt_ids("Tag s.")
    common = next(i for i, (a, b) in enumerate(zip(turns[0], shared, strict=False)) if a != b)
    for pair, turn, vector in zip(PAIRS, turns, vectors, strict=True):
        answer = tiny_model.chat_format.answer_ids(pair["output"], tiny_model.tokenizer)[:-1]
        ids = (*turn, *answer[:12])
        # Means over prefixes give every token's own state.
        length = len(ids)
        whole = engine.read_spans([Reading("x", ids, ((1, 1),), ())], (), None, True)[0, 1:]
        before = engine.read_spans([Reading("x", ids[: common - 1], ((1, 1),), ())], (), None, True)[0, 1:]
        expected = (whole * length - before * (common - 1)) / (length - common + 1)
        np.testing.assert_allclose(vector, projected(expected[None])[0], atol=5e-3)


def test_scores_and_signals_are_those_of_a_run_without_vectors(tiny_model, diverse, tmp_path):
    pairs, scores = diverse
    plain = curate(tmp_path / "scores1", tiny_model, pairs, PROMPTS, PLAIN)
    assert rows_of(plain) == rows_of(scores)
    assert "vectors" not in plain.outputs
    assert set(scores.outputs) == {"scores", "vectors"}


def test_vectors_are_the_same_from_any_shards(tiny_model, diverse, tmp_path):
    pairs, scores = diverse
    larger = dataclasses.replace(DIVERSE, generation=dataclasses.replace(GENERATION, shard_size=7))
    again = curate(tmp_path / "scores1", tiny_model, pairs, PROMPTS, larger)
    ours, theirs = (read_vectors(stage.directory / "vectors.npy") for stage in (scores, again))
    np.testing.assert_allclose(ours.astype(np.float32), theirs.astype(np.float32), atol=2e-3)


def row(name, score, **more):
    return {"id": name, "instruction": f"What is {name}?", "output": "x" * 50, "source": "s", "score": score} | more


def test_of_the_best_pairs_those_are_kept_that_differ():
    rows = [row(f"a{i}", 5.0 - 0.1 * i) for i in range(4)] + [row("none", None)] + [row(f"b{i}", 3.0) for i in range(4)]
    # The first three look alike; there is no vector of the pair without a score.
    vectors = np.asarray([[1, 0, 0], [1, 0.01, 0], [1, 0.02, 0], [0, 1, 0], *[[0, 0, 1]] * 4], np.float16)
    config = SelectionConfig(keep_fraction=2 / 9, min_instruction_chars=1)
    assert [r is None for r in drop_reasons(rows, config)][:2] == [True, True]
    reasons = drop_reasons(rows, config, vectors).tolist()
    assert [r["id"] for r, reason in zip(rows, reasons, strict=True) if reason is None] == ["a0", "a3"]
    assert reasons[1:3] == ["not_different"] * 2
    assert reasons[4:] == ["unscored", *["below_best_fraction"] * 4]
    sampled = SelectionConfig(min_score=1.0, sample=3, min_instruction_chars=1)
    reasons = drop_reasons(rows, sampled, vectors).tolist()
    assert [r["id"] for r, reason in zip(rows, reasons, strict=True) if reason is None] == ["a0", "a3", "b0"]
    everything = SelectionConfig(min_score=1.0, sample=100, min_instruction_chars=1)
    assert drop_reasons(rows, everything, vectors).tolist().count(None) == 8


def test_a_selection_counts_what_resembles_others_and_needs_vectors(tiny_model, diverse, tmp_path):
    pairs, scores = diverse
    config = SelectionConfig(keep_fraction=0.3, min_instruction_chars=1, max_copied=1.0)
    stage = select(tmp_path / "a", pairs, scores, config, None, "k_centre")
    assert stage.counts == {"in": 10, "out": 3, "rejected": {"below_best_fraction": 4, "not_different": 3}}
    assert select(tmp_path / "b", pairs, scores, config).counts["rejected"] == {"below_best_fraction": 7}
    del scores.outputs["vectors"]
    with pytest.raises(ValueError, match=r"has no vectors\.npy.*CurationConfig\.diversity = 'k_centre'"):
        select(tmp_path / "c", pairs, scores, config, None, "k_centre")


def test_a_recipe_says_who_reads_and_how_many_are_kept():
    with pytest.raises(ValueError, match="set Recipe"):
        dataclasses.replace(RECIPE, curation=DIVERSE)
    with pytest.raises(ValueError, match=r"nothing says how many; set SelectionConfig\.keep_fraction or \.sample"):
        dataclasses.replace(RECIPE, curation=DIVERSE, curator=CuratorConfig())
    dataclasses.replace(RECIPE, curation=DIVERSE, curator=CuratorConfig(), selection=SelectionConfig(sample=5))
