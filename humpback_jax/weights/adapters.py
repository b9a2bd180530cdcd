"""LoRA adapters in and out, as PEFT folders: adapter_config.json and adapter_model.safetensors.

A PEFT tensor `lora_A` is [rank, in] and `lora_B` [out, rank], one pair per layer, with heads and head_dim of the same
order as in Hugging Face weights; ours are stacked over the layers, transposed, and have their heads split.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from humpback_jax.files import PathLike, read_json, write_atomically, write_json
from humpback_jax.models.config import LlamaConfig
from humpback_jax.models.llama import Llama
from humpback_jax.models.lora import PROJECTIONS, LoraConfig, adapter_shapes, adapter_tree, at_target, merged_kernel
from humpback_jax.run_files import ADAPTER, MODEL
from humpback_jax.weights.convert import as_model_folder, stage_native
from humpback_jax.weights.mapping import RULES, Fields, check_shapes, foreign_shape
from humpback_jax.weights.model_folder import read_model_card
from humpback_jax.weights.staging import refuse_existing, scratch_folder, staged_folder

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# What would make an adapter compute something else than W + alpha / rank * A B.
MUST_BE: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": (None, "none"),
    **dict.fromkeys(("use_dora", "use_rslora", "fan_in_fan_out", "lora_bias"), (None, False)),
    **dict.fromkeys(("rank_pattern", "alpha_pattern"), (None, {})),
    **dict.fromkeys(("modules_to_save", "layers_to_transform", "layer_replication"), (None, [])),
    **dict.fromkeys(("target_parameters", "trainable_token_indices"), (None, [])),
    "megatron_config": (None,),
}
_RULES = {
    target: next(r for r in RULES if r.path == f"layers/{b}/{n}/kernel") for target, (b, n) in PROJECTIONS.items()
}
_MODULES = {target: rule.huggingface.split(".")[-2] for target, rule in _RULES.items()}  # q_proj for q


def write_adapter(
    folder: PathLike, config: LlamaConfig, lora: LoraConfig, adapters: Mapping, base: str | None = None
) -> None:
    """Writes a PEFT folder, its configuration last.

    Args:
      folder: where; existing files are replaced.
      config: the base model.
      lora: what the adapters are.
      adapters: our tree, arrays of one dtype that numpy can read.
      base: where PEFT's Auto classes find the base model.
    """
    from safetensors.numpy import save

    tensors = {}
    for name, (target, part, layer) in _tensor_slots(config, lora).items():
        leaf = np.asarray(at_target(adapters, target)[part][layer])
        rows, columns = _peft_shape(target, part, config, lora.rank)
        tensors[name] = np.ascontiguousarray(leaf.reshape(columns, rows).T)
    target_folder = epath.Path(folder)
    target_folder.mkdir(parents=True, exist_ok=True)
    write_atomically(target_folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": [_MODULES[target] for target in lora.targets],
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "modules_to_save": None,
    }
    write_json(target_folder / CONFIG, fields)


def read_adapter(folder: PathLike, config: LlamaConfig) -> tuple[LoraConfig, dict]:
    """The adapters of a PEFT folder, as numpy arrays in their stored dtype.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: the adapters compute something else than ours, or a tensor is missing, unmapped or misshapen; named.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = epath.Path(folder)
    for file in (path / CONFIG, path / WEIGHTS):
        if not file.exists():
            raise FileNotFoundError(f"{file} is missing; expected a PEFT folder, saved with safe_serialization=True")
    try:
        tensors = load((path / WEIGHTS).read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path / WEIGHTS} is damaged ({error}); get this file again") from error
    lora = _lora_config(read_json(path / CONFIG), set(tensors), str(path / CONFIG))
    slots = _tensor_slots(config, lora)
    expected = {name: _peft_shape(target, part, config, lora.rank) for name, (target, part, _) in slots.items()}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    check_shapes(shapes, expected, str(path / WEIGHTS), f"an adapter of {config.num_layers} layers")
    leaves: dict[str, dict[str, list]] = {target: {"a": [], "b": []} for target in lora.targets}
    for name, (target, part, _) in slots.items():
        leaves[target][part].append(tensors[name].T)
    ours = adapter_shapes(Llama(config), lora)
    return lora, jax.tree.map(lambda leaf, layers: np.stack(layers).reshape(leaf.shape), ours, adapter_tree(leaves))


def export_adapter(src: PathLike, dst: PathLike, base: str | None = None) -> dict[str, Any]:
    """Writes the adapter of a finetuning stage as a PEFT folder of its own, checked tensor by tensor.

    Args:
      src: folder of a stage that trained with LoRA: it holds `adapter/` and `model/`.
      dst: the folder to make; it must not exist.
      base: the exported base model, for PEFT's Auto classes.

    Returns:
      {"rank", "targets", "tensors", "path"}.
    """
    stage = pathlib.Path(src)
    if not (stage / ADAPTER).is_dir():
        raise FileNotFoundError(
            f"{stage} holds no {ADAPTER}/; expected a stage that was trained with FinetuneConfig.lora"
        )
    config = read_model_card(stage / MODEL).config
    lora, adapters = read_adapter(stage / ADAPTER, config)
    with staged_folder(dst) as folder:
        write_adapter(folder, config, lora, adapters, base)
    return _figures(config, lora, dst)


def import_adapter(src: PathLike, base: PathLike, dst: PathLike, dtype: str = "float32") -> dict[str, Any]:
    """Merges a PEFT adapter into its base model: a native model folder that needs no adapter.

    Args:
      src: PEFT folder.
      base: a native model folder, or anything that `import_weights` reads.
      dst: the model folder to make; it must not exist.
      dtype: float32, bfloat16 or float16, of the merged weights.

    Returns:
      {"rank", "targets", "tensors", "path"}.
    """
    destination = pathlib.Path(dst).absolute()
    refuse_existing(destination)
    with as_model_folder(base, beside=destination) as model, scratch_folder(destination) as scratch:
        lora, adapters = read_adapter(src, read_model_card(model).config)
        staged, source = stage_native(model, scratch, dtype), read_model_card(model).source
        for target in lora.targets:
            adapter, kernel = at_target(adapters, target), at_target(staged.params, target)["kernel"]
            for layer in range(staged.config.num_layers):  # one layer in memory at a time
                kernel[layer] = merged_kernel(kernel[layer], adapter["a"][layer], adapter["b"][layer], lora.scale)
        staged.save(destination, scratch, f"{source}, with the adapter {pathlib.Path(src).name}")
    return _figures(staged.config, lora, dst)


def _figures(config: LlamaConfig, lora: LoraConfig, dst: PathLike) -> dict[str, Any]:
    figures = {"rank": lora.rank, "targets": ", ".join(lora.targets)}
    return figures | {"tensors": len(_tensor_slots(config, lora)), "path": os.path.abspath(dst)}


def _tensor_slots(config: LlamaConfig, lora: LoraConfig) -> dict[str, tuple[str, str, int]]:
    """{PEFT tensor: (target, "a" or "b", layer)}."""
    slots = {}
    for layer in range(config.num_layers):
        for target in lora.targets:
            module = _RULES[target].foreign_name("huggingface", layer).removesuffix(".weight")
            for part in "ab":
                slots[f"base_model.model.{module}.lora_{part.upper()}.weight"] = (target, part, layer)
    return slots


def _peft_shape(target: str, part: str, config: LlamaConfig, rank: int) -> tuple[int, int]:
    """Shape of a PEFT tensor: one layer of our `a` or `b` with its heads flattened, transposed."""
    outputs, inputs = foreign_shape(_RULES[target], config)
    return (rank, inputs) if part == "a" else (outputs, rank)


def _lora_config(fields: Any, tensors: set[str], where: str) -> LoraConfig:
    if not isinstance(fields, dict) or not isinstance(fields.get("r"), int):
        raise ValueError(f"{where}: r is missing; expected the configuration of a PEFT LoRA adapter")
    Fields(fields, where).refuse_unless(MUST_BE, "merge it with PEFT first")
    # `target_modules` may be a pattern: the tensors say what it stands for.
    targets = tuple(target for target in PROJECTIONS if any(f".{_MODULES[target]}.lora_A." in name for name in tensors))
    if not targets:
        raise ValueError(f"{where}: no tensor adapts any of {', '.join(_MODULES.values())}")
    alpha, dropout = fields.get("lora_alpha", 8), fields.get("lora_dropout", 0.0)
    return LoraConfig(fields["r"], float(alpha), targets, float(dropout))
