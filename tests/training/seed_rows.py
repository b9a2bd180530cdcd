"""Real seed pairs as rows of a small model with eight key heads; a program may import it without pytest."""

import pathlib

import numpy as np

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.data.examples import Example, supervised_examples
from humpback_jax.data.packing import packed_rows, unpacked_rows
from humpback_jax.data.pairs import read_pairs
from humpback_jax.models.config import LlamaConfig
from humpback_jax.tokenizers import load_tokenizer

# Every axis divides by 8, so that every mesh of 8 devices fits; the vocabulary is that of the tokenizer below.
CONFIG = LlamaConfig("eight_heads", 512, 64, 2, 8, 8, 8, 128, max_position_embeddings=2048)
ROW_LENGTH, LONGEST = 256, 128


def seed_examples(shared: pathlib.Path, number: int = 24) -> list[Example]:
    """The first pairs of the seed set that take at most half a row."""
    tokenizer = load_tokenizer(shared / "model" / "stories260K" / "hf")
    pairs = read_pairs(shared / "seed" / "seed_pairs.jsonl").pairs
    examples, _ = supervised_examples(pairs, tokenizer, ChatFormat("plain"), tags=["seed"], max_length=LONGEST)
    return examples[:number]


def microbatches(examples: list[Example], rows: int, packing: bool = True) -> dict[str, np.ndarray]:
    """The features, each [microbatches, rows, ROW_LENGTH], the last rows empty."""
    to_rows = packed_rows if packing else unpacked_rows
    used = len(to_rows(examples, ROW_LENGTH)["decoder_segment_ids"])
    features = to_rows(examples, ROW_LENGTH, -(-used // rows) * rows)
    return {name: x.reshape(-1, rows, ROW_LENGTH) for name, x in features.items()}
