"""Finetuning with adapters: the stage leaves a PEFT folder and a model that needs none."""

import jax
import numpy as np
import pytest

from humpback_jax.data.batching import BatchConfig
from humpback_jax.data.mixture import PairSet, TrainingMixture
from humpback_jax.data.pairs import Pair
from humpback_jax.data.readers import DIRECT
from humpback_jax.models.lora import LoraConfig, merge_adapters
from humpback_jax.partitioning import LogicalAxisRules, MeshShape
from humpback_jax.stages.finetune import FinetuneConfig, finetune
from humpback_jax.stages.model import open_model
from humpback_jax.training.config import ComputeConfig, LoopConfig
from humpback_jax.training.optimizer import OptimizerConfig
from humpback_jax.weights.adapters import export_adapter, read_adapter


@pytest.mark.slow
def test_the_model_holds_the_adapters_that_lie_beside_it(tiny_model, short_prompts, tmp_path):
    pairs = [Pair(str(i), f"Say {word}.", f"{word}!", "test") for i, word in enumerate(("cat", "dog", "hen", "owl"))]
    lora = LoraConfig(rank=2, alpha=4.0, targets=("v", "gate"))
    config = FinetuneConfig(
        batches=BatchConfig(4, row_length=128, rows_per_microbatch=2),
        loop=LoopConfig(num_steps=3),
        compute=ComputeConfig(dropout=0.0, dtype="float32", remat_policy="none"),
        optimizer=OptimizerConfig(learning_rate=1e-2),
        lora=lora,
    )
    sets = [PairSet("seed", pairs, "hash", tags=("seed",))]
    mixture = TrainingMixture(sets, short_prompts, tiny_model.chat_format, tiny_model.tokenizer)
    stage = finetune(tmp_path / "m0", tiny_model, mixture, config, MeshShape(), LogicalAxisRules(), reader=DIRECT)
    assert stage.outputs.keys() == {"model", "adapter"}
    assert {"step_seconds_p50", "step_seconds_p99", "tokens_per_second"} <= stage.manifest["figures"].keys()
    found, adapters = read_adapter(tmp_path / "m0" / "adapter", tiny_model.card.config)
    assert found == lora
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(adapters))
    expected = merge_adapters(tiny_model.load_params(None, "float32"), adapters, lora)
    merged = open_model(tmp_path / "m0" / "model").load_params(None, "float32")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), merged, expected)
    assert export_adapter(tmp_path / "m0", tmp_path / "peft")["tensors"] == 2 * 2 * 2
    assert sorted(path.name for path in (tmp_path / "peft").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
