"""Finetuning as a stage: the settings that are not the paper's, and a mesh that the batch does not divide over."""

import jax
import jax.numpy as jnp
import pytest

from humpback_jax.data.batching import BatchConfig
from humpback_jax.data.mixture import PairSet, TrainingMixture
from humpback_jax.data.pairs import Pair
from humpback_jax.data.readers import DIRECT
from humpback_jax.partitioning import LogicalAxisRules, MeshShape
from humpback_jax.stages.finetune import FinetuneConfig, finetune
from humpback_jax.stages.model import open_model
from humpback_jax.training.config import ComputeConfig, LoopConfig

PAIRS = [
    Pair(str(i), f"Say {word}.", f"{word}, {word}!", "test") for i, word in enumerate(["yes", "no", "maybe", "so"])
]
CONFIG = FinetuneConfig(
    batches=BatchConfig(batch_size=256, batch_unit="tokens", row_length=128),
    loop=LoopConfig(epochs=3.0),
    compute=ComputeConfig("float32", param_dtype="bfloat16", remat_policy="none", logits_chunk=100, z_loss=1e-4),
)


def run(tmp_path, tiny_model, prompts, config):
    mixture = TrainingMixture([PairSet("seed", PAIRS, "h0")], prompts, tiny_model.chat_format, tiny_model.tokenizer)
    return finetune(tmp_path / "m", tiny_model, mixture, config, MeshShape(), LogicalAxisRules(), reader=DIRECT)


@pytest.mark.slow
def test_bfloat16_weights_and_batches_of_tokens(tiny_model, short_prompts, tmp_path):
    stage = run(tmp_path, tiny_model, short_prompts, CONFIG)
    model = open_model(stage.directory / "model")
    assert model.card.param_dtype == "bfloat16"
    params = model.load_params(None, "bfloat16")
    before = tiny_model.load_params(None, "bfloat16")
    changed = jax.tree.map(lambda new, old: bool(jnp.any(new != old)), params, before)
    assert changed["lm_head"]["kernel"] and changed["layers"]["mlp"]["down"]["kernel"]
    updates = (stage.directory / "metrics.jsonl").read_text().splitlines()
    assert len(updates) == stage.manifest["figures"]["num_steps"] > 0
    assert stage.manifest["figures"]["packing_fill"] > 0.7
