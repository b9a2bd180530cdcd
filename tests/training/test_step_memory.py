"""What the compiled update holds: never the logits of all tokens in float32, forwards or backwards."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from humpback_jax.data.packing import FEATURES
from humpback_jax.models.config import LlamaConfig
from humpback_jax.models.llama import Llama
from humpback_jax.partitioning import make_mesh, use_mesh
from humpback_jax.training.step import TrainSetup, make_train_step

CONFIG = LlamaConfig("wide_vocabulary", 4096, 32, 1, 2, 1, 16, 64, max_position_embeddings=2048)
ROWS = 2


def compiled_step(length, chunk, dtype):
    setup = TrainSetup(Llama(CONFIG, dtype, remat_policy="full"), make_mesh(), logits_chunk=chunk)
    batch = {name: jax.ShapeDtypeStruct((3, ROWS, length), kind) for name, kind in FEATURES.items()}
    key = jax.eval_shape(lambda: jax.random.key(0))
    with use_mesh(setup.mesh, setup.rules):
        step = make_train_step(setup)
        return step.lower(setup.abstract_state(), batch, np.int32(3), np.float32(1e-5), key).compile()


def logits_positions(compiled):
    """Positions of the largest float32 value of the program that has an axis of the vocabulary's size."""
    found = 0
    for shape in re.findall(r"f32\[([\d,]+)\]", compiled.as_text()):
        sizes = [int(size) for size in shape.split(",")]
        if CONFIG.vocab_size in sizes and CONFIG.emb_dim not in sizes:
            found = max(found, math.prod(sizes) // CONFIG.vocab_size)
    return found


@pytest.mark.parametrize(
    ("length", "chunk", "dtype", "width"),
    [(448, 256, jnp.float32, 224), pytest.param(449, 64, jnp.bfloat16, 57, marks=pytest.mark.slow)],
)
def test_logits_of_all_tokens_never_exist(length, chunk, dtype, width):
    """Lengths that the chunk does not divide included: the chunks even out, and the last is padded."""
    chunked, whole = compiled_step(length, chunk, dtype), compiled_step(length, length, dtype)
    assert logits_positions(whole) == ROWS * length, "the check sees nothing"
    assert logits_positions(chunked) == ROWS * width
    saved = whole.memory_analysis().temp_size_in_bytes - chunked.memory_analysis().temp_size_in_bytes
    # At least one buffer of float32 logits, forwards or backwards, shrinks from all tokens to a chunk's.
    assert saved >= ROWS * (length - width) * CONFIG.vocab_size * 4
