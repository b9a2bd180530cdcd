"""Augmentation on the tiny model: every segment is a pair or is counted with its reason."""

import dataclasses
import json

import pytest

from humpback_jax.corpus.segment_files import read_segments
from humpback_jax.data.mixture import PairSet
from humpback_jax.data.pairs import Pair, read_pairs
from humpback_jax.files import JsonLines, write_jsonl
from humpback_jax.inference.requests import Completion, EngineConfig
from humpback_jax.stages import augment as augment_module
from humpback_jax.stages.augment import augment
from humpback_jax.stages.items import Prompted
from humpback_jax.stages.jobs import Completions, GenerationConfig, JobResult
from humpback_jax.stages.stage import Stage


def segment(name, text):
    return {"id": name, "url": f"http://example.org/{name}", "header": "Herons", "text": text}


@pytest.fixture
def segments(make_product, tiny_model, short_prompts, small_generation):
    room = small_generation.engine.max_prompt_length - len(tiny_model.prompt_ids(short_prompts.backward("")))
    texts = {f"s{i}": "word " * (1 + i % 5) for i in range(9)} | {"fits": "x" * room, "over": "x" * (room + 1)}
    return make_product("segments", "segments", [segment(name, text) for name, text in texts.items()])


def read(stage, name):
    return [json.loads(line) for line in (stage.directory / name).read_text().splitlines()]


def test_every_segment_is_a_pair_or_is_counted(tiny_model, segments, short_prompts, small_generation, tmp_path):
    stage = augment(tmp_path / "augmented", tiny_model, segments, short_prompts, generous(small_generation))
    pairs, rejected = read(stage, "pairs.jsonl"), read(stage, "rejected.jsonl")
    rows = {row["id"]: row for row in read_segments(segments.directory)}
    assert sorted(row["id"] for row in pairs + rejected) == sorted(rows)
    assert stage.counts["in"] == len(rows) == len(pairs) + sum(stage.counts["rejected"].values())
    assert [row["reason"] for row in rejected if row["id"] == "over"] == ["prompt_too_long"]
    assert not [row for row in rejected if row["id"] == "fits" and row["reason"] == "prompt_too_long"]
    for row in pairs:
        assert row["instruction"] == row["instruction"].strip() != ""
        assert (row["output"], row["source"]) == (rows[row["id"]]["text"], rows[row["id"]]["url"])
    reasons = [row["reason"] for row in rejected]
    assert stage.counts["rejected"] == {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    assert stage.counts["rejected"]["prompt_too_long"] == 1


def generous(config):
    """Room for 512 new tokens: a random model stops at one of two tokens in 320, so most rows end before that."""
    return dataclasses.replace(config, engine=EngineConfig(4, (64,), 512))


def test_instructions_that_were_cut_or_are_empty_are_rejected(
    tiny_model, segments, short_prompts, small_generation, tmp_path, monkeypatch
):
    def written(folder, job, items, *_):
        """Rows as if the model had written nothing for s0 and had run into the limit for s1."""
        rows = {item.id: {"id": item.id, "instruction": "Why?", "truncated": False} for item in items[:]}
        rows["s0"] = {"id": "s0", "instruction": "", "truncated": False}
        rows["s1"] = {"id": "s1", "instruction": "Why does", "truncated": True}
        write_jsonl(folder / "written.jsonl", rows.values())
        return JobResult(items, JsonLines([folder / "written.jsonl"]), {})

    monkeypatch.setattr(augment_module, "run_job", written)
    stage = augment(tmp_path / "augmented", tiny_model, segments, short_prompts, small_generation)
    assert stage.counts == {
        "in": 11,
        "out": 8,
        "rejected": {"empty_instruction": 1, "prompt_too_long": 1, "truncated": 1},
    }
    cut = next(row for row in read(stage, "rejected.jsonl") if row["reason"] == "truncated")
    assert (cut["id"], cut["instruction"]) == ("s1", "Why does")


def test_a_model_that_never_stops_is_an_error_that_counts_why(
    tiny_model, make_product, short_prompts, small_generation, tmp_path
):
    config = dataclasses.replace(small_generation, engine=EngineConfig(4, (64,), 1))
    segments = make_product("segments", "segments", [segment("s", "word")])
    with pytest.raises(
        ValueError, match=r"none of 1 segments got a usable instruction \(.*truncated.*train M_yx longer"
    ):
        augment(tmp_path / "augmented", tiny_model, segments, short_prompts, config)
    assert not (tmp_path / "augmented" / "manifest.json").exists()


def test_how_segments_lie_in_files_does_not_matter(
    tiny_model, segments, short_prompts, small_generation, make_product, tmp_path
):
    config = generous(small_generation)
    spread = make_product("spread", "segments", read_segments(segments.directory), files=4)
    spread = Stage(spread.directory, segments.manifest)
    for name, stage in (("one", segments), ("many", spread)):
        augment(tmp_path / name / "augmented", tiny_model, stage, short_prompts, config)
    written = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.jsonl")]
    assert len(list((tmp_path / "spread").iterdir())) == 4 and len(written) > 4
    for path in written:
        assert (tmp_path / "many" / path).read_bytes() == (tmp_path / "one" / path).read_bytes()


def test_shards_are_pairs_as_they_lie(tiny_model, segments, short_prompts, small_generation, tmp_path):
    stage = augment(tmp_path / "augmented", tiny_model, segments, short_prompts, generous(small_generation))
    texts = {row["id"]: row["text"] for row in read_segments(segments.directory)}
    rows = read(stage, "pairs.jsonl")
    # A random model writes NUL characters, which no reader of pairs takes.
    written = {row["id"]: row["instruction"] for row in rows if "\0" not in row["instruction"]}
    shards = sorted((stage.directory / "shards").glob("*.jsonl"))
    pairs = [pair for shard in shards for pair in read_pairs(shard).pairs]
    assert len(shards) > 1 and written.keys() <= {pair.id for pair in pairs} <= texts.keys()
    assert all(pair.output == texts[pair.id].strip() for pair in pairs)
    assert all(pair.instruction == written[pair.id] for pair in pairs if pair.id in written)


def test_several_candidates_of_a_segment_are_pairs_of_their_own(
    tiny_model, segments, short_prompts, small_generation, tmp_path
):
    config = generous(small_generation)
    stage = augment(tmp_path / "augmented", tiny_model, segments, short_prompts, config, candidates=3)
    again = augment(tmp_path / "again", tiny_model, segments, short_prompts, config, candidates=3)
    assert stage.outputs == again.outputs
    rows = {row["id"]: row for row in read_segments(segments.directory)}
    pairs = read(stage, "pairs.jsonl")
    assert stage.counts["in"] == 3 * len(rows)
    for row in pairs:
        name, _, number = row["id"].rpartition("#")
        assert row["segment"] == name
        assert int(number) < 3
        assert row["output"] == rows[name]["text"]
    written = {(row["segment"], row["instruction"]) for row in pairs}
    assert len(written) > len({row["segment"] for row in pairs}), "each candidate has its own draws"


def test_steered_candidates_begin_as_seed_instructions_do(
    tiny_model, segments, short_prompts, small_generation, tmp_path
):
    pairs = tuple(Pair(f"p{i}", f"{word} is it?", "It is so.", "") for i, word in enumerate(["Why"] * 6 + ["How"] * 6))
    seeds = PairSet("seed", pairs, "hash of the seeds")
    config = generous(small_generation)
    config = dataclasses.replace(config, engine=dataclasses.replace(config.engine, prompt_buckets=(96,)))
    stage = augment(tmp_path / "steered", tiny_model, segments, short_prompts, config, 3, seeds)
    free = augment(tmp_path / "free", tiny_model, segments, short_prompts, config, 3)
    assert stage.manifest["figures"]["openings"]["prose"] == {"How": 6, "Why": 6}
    by_number = {"0": [], "1": [], "2": []}
    for row in read(stage, "pairs.jsonl"):
        by_number[row["id"].rpartition("#")[2]].append(row)
    assert all(by_number.values())
    assert all(row["instruction"][:3] in ("How", "Why") for row in by_number["1"] + by_number["2"])
    assert {row["instruction"][:3] for row in by_number["1"]} == {"How", "Why"}
    assert not any(row["instruction"].startswith(("How", "Why")) for row in by_number["0"]), "the first one is free"
    free_ones = {row["id"]: row["instruction"] for row in read(free, "pairs.jsonl") if row["id"].endswith("#0")}
    assert {row["id"]: row["instruction"] for row in by_number["0"]} == free_ones
    assert (stage.manifest["inputs"]["seeds"], "seeds" in free.manifest["inputs"]) == (seeds.sha256, False)


def test_a_beginning_to_which_the_model_adds_nothing_is_an_empty_instruction(tiny_model):
    item = Prompted("a", (1, 2), "text", begun_ids=tiny_model.begun_ids("Why"))
    job = Completions(tiny_model, GenerationConfig(), "instruction")
    assert job._row(item, Completion("a", (), False))["instruction"] == ""
    more = tuple(tiny_model.tokenizer.encode(" not?"))
    assert job._row(item, Completion("a", more, False))["instruction"] == "Why not?"
