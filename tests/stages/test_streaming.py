"""No stage holds all segments, pairs or scores: what Python holds at any time is less than the texts alone would be."""

import dataclasses
import random
import tracemalloc

import pytest

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.corpus.segment_files import shard_paths
from humpback_jax.inference.requests import Completion, EngineConfig
from humpback_jax.inference.slots import SlotStats
from humpback_jax.run_files import PAIRS, SEGMENTS
from humpback_jax.stages import items, selection
from humpback_jax.stages.augment import augment
from humpback_jax.stages.model import ModelHandle
from humpback_jax.stages.rating import CurationConfig, curate
from humpback_jax.stages.selection import SelectionConfig, select

NUMBER, BLOCK = 2000, 32
WORDS = [a + b + "rning" for a in "bcdfglmnpst" for b in ("a", "e", "ea", "o", "u")]
INSTRUCTION, RATIONALE = "Where does a heron stand while it waits for fish?", "It says where and why, and nothing else."


class WordTokenizer:
    """An id per word, numbered as they come."""

    bos_id, eos_id, unk_id, chat_template, end_ids = None, 0, None, None, ()

    def __init__(self):
        self.words, self.ids = [""], {"": 0}

    def encode(self, text):
        return [self.id_of(word) for word in text.split()]

    def id_of(self, word):
        if word not in self.ids:
            self.ids[word] = len(self.words)
            self.words.append(word)
        return self.ids[word]

    def encode_all(self, texts):
        return [self.encode(text) for text in texts]

    def decode(self, ids):
        return " ".join(self.words[i] for i in ids)


class CannedEngine:
    """Writes an instruction where it may not probe, and otherwise a rationale, with a number or without one."""

    def __init__(self, tokenizer):
        self.tokenizer, self.stats = tokenizer, SlotStats(slots=1)

    def compile_generation(self, *_):
        pass

    def generate(self, requests, seed, stop_ids, progress, probe=None):
        progress(len(requests))
        return [self.completion(request.id, probe) for request in requests]

    def completion(self, name, probe):
        number = int(name, 16) % 7
        text = INSTRUCTION if probe is None else RATIONALE + (f" Score: {1 + number % 5}" if number else "")
        completion = Completion(name, tuple(self.tokenizer.encode(text)), truncated=False)
        asked = probe is not None and probe(completion) is not None
        return dataclasses.replace(completion, probe_log_probs=(0.0,) * 5) if asked else completion


class CannedModel(ModelHandle):
    def engines(self, *_, **__):
        return [CannedEngine(self.tokenizer)]


def rows():
    draw = random.Random(0)
    for name in sorted(draw.sample(range(1 << 60), NUMBER)):
        text = " ".join(draw.choices(WORDS, k=draw.randint(200, 300)))
        yield {"id": f"{name:020x}", "url": f"http://example.org/{name}", "header": "Herons", "text": text}


def traced(function, *arguments):
    """What a function returns, and the largest number of bytes that Python held in it."""
    tracemalloc.start()
    try:
        return function(*arguments), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_hold_the_texts(
    tiny_model, short_prompts, small_generation, make_product, tmp_path, monkeypatch
):
    for module, name in ((items, "TOKENIZED_ROWS"), (items, "JOINED_ROWS"), (selection, "BLOCK")):
        monkeypatch.setattr(module, name, BLOCK)
    model = CannedModel(tiny_model.path, tiny_model.card, WordTokenizer(), ChatFormat("plain"))
    generation = dataclasses.replace(small_generation, engine=EngineConfig(4, (512,), 8), shard_size=BLOCK)
    segments = make_product("segments", "segments", rows(), files=3)

    pairs, augmenting = traced(augment, tmp_path / "augmented", model, segments, short_prompts, generation)
    curation = CurationConfig("rationale", generation)
    scores, rating = traced(curate, tmp_path / "scores1", model, pairs, short_prompts, curation)
    chosen = SelectionConfig(keep_fraction=0.5, sample=NUMBER // 10)
    curated, selecting = traced(select, tmp_path / "curated1", pairs, scores, chosen)

    assert [stage.counts["out"] for stage in (pairs, scores, curated)] == [NUMBER, NUMBER, NUMBER // 10]
    assert pytest.approx(NUMBER / 7, rel=0.2) == scores.manifest["figures"]["forced"]
    segment_bytes = sum(path.stat().length for path in shard_paths(segments.directory, SEGMENTS))
    pair_bytes = (pairs.directory / PAIRS).stat().length
    print(f"{augmenting} of {segment_bytes} bytes of segments; {rating} and {selecting} of {pair_bytes} bytes of pairs")
    assert augmenting < segment_bytes
    assert max(rating, selecting) < pair_bytes
