"""Families of models: what their Hugging Face config.json says beyond that of LLaMA, in and out, a row for each.

A family decides only how a model is written in files; what it computes is in the fields of `LlamaConfig`. Where a file
leaves a field out, it has the family's own default, that of transformers.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from humpback_jax.models.config import Family, LlamaConfig
from humpback_jax.weights.mapping import Fields

ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
_ACTIVATION_NAMES = {"silu": "silu", "gelu_tanh": "gelu_pytorch_tanh"}
SLIDING, FULL = "sliding_attention", "full_attention"
ALIKE = (True,)


class Read:
    """The fields of a config.json, and which of them somebody has looked at."""

    def __init__(self, fields: Mapping[str, Any], defaults: Mapping[str, Any], where: str) -> None:
        self.values = dict(defaults) | {key: value for key, value in fields.items() if value is not None}
        # A field that is null says so: it has no default.
        self.values |= {key: None for key in defaults if key in fields and fields[key] is None}
        self.where = where
        self.used: set[str] = set()

    def __call__(self, key: str, default: Any = None) -> Any:
        """A field's value; None and the default for one that is not there."""
        self.used.add(key)
        value = self.values.get(key)
        return default if value is None else value

    def fields(self, *keys: str) -> Fields:
        """All fields, of which these are looked at."""
        self.used |= set(keys)
        return Fields(self.values, self.where)

    def fault(self, key: str, expected: str) -> ValueError:
        """The error of a field that has a value which cannot be computed."""
        return ValueError(f"{self.where}: {key} is {self.values.get(key)!r}, expected {expected}")


Reader = Callable[[Read], dict[str, Any]]
Writer = Callable[[LlamaConfig], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class FamilyFiles:
    """How a family is written.

    Attributes:
      architecture: in `architectures`; `others` are older spellings.
      model_type: in `model_type`.
      read: the fields of `LlamaConfig` that are the family's own.
      write: inverse of `read`.
      defaults: of fields that a file leaves out.
      fused: queries, keys and values lie in one tensor, and so do the two inputs of the MLP.
    """

    architecture: str
    model_type: str
    read: Reader
    write: Writer
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    others: tuple[str, ...] = ()
    fused: bool = False


def shortest_pattern(values: Sequence[bool]) -> tuple[bool, ...]:
    """The shortest pattern that, repeated, begins with all of `values`."""
    count = len(values)
    period = next(n for n in range(1, count + 1) if all(values[i] == values[i % n] for i in range(count)))
    return tuple(values[:period])


def _windows(read: Read, window: int | None, default: Sequence[bool] | None) -> dict[str, Any]:
    """The window of the layers that `layer_types` names, else of those of the default pattern."""
    layers, types = read.fields("num_hidden_layers").whole("num_hidden_layers"), read("layer_types")
    if types is None:
        windowed = [(default or ALIKE)[i % len(default or ALIKE)] for i in range(layers)]
        windowed = windowed if window is not None else [False] * layers
    elif not isinstance(types, list) or len(types) != layers or set(types) - {SLIDING, FULL}:
        raise read.fault("layer_types", f"{SLIDING!r} or {FULL!r} for each of {layers} layers")
    else:
        windowed = [each == SLIDING for each in types]
    if any(windowed) and window is None:
        raise read.fault("sliding_window", f"a number, as layer_types names layers of {SLIDING!r}")
    if not any(windowed):
        return {}
    return {"sliding_window": window, "window_pattern": shortest_pattern(windowed)}


def layer_types_of(config: LlamaConfig) -> list[str]:
    """`layer_types` of a config.json."""
    return [FULL if kind.window is None else SLIDING for kind in config.layer_kinds]


def _biases(read: Read, mlp: bool = False) -> dict[str, Any]:
    attention = bool(read("attention_bias", False))
    return {
        "qkv_bias": attention,
        "output_bias": attention,
        "mlp_bias": bool(read("mlp_bias", False)) if mlp else False,
    }


def _written_biases(config: LlamaConfig) -> dict[str, Any]:
    return {"attention_bias": config.qkv_bias and config.output_bias}


def _llama(read: Read) -> dict[str, Any]:
    return _biases(read, mlp=True)


def _write_llama(config: LlamaConfig) -> dict[str, Any]:
    return _written_biases(config) | {"mlp_bias": config.mlp_bias}


def _mistral(read: Read) -> dict[str, Any]:
    return _windows(read, read("sliding_window"), ALIKE)


def _write_mistral(config: LlamaConfig) -> dict[str, Any]:
    return {"sliding_window": config.sliding_window}


def _qwen_windows(read: Read) -> dict[str, Any]:
    layers, first = read.fields("num_hidden_layers").whole("num_hidden_layers"), read("max_window_layers", 28)
    window = read("sliding_window")
    window = window if read("use_sliding_window", False) else None
    return _windows(read, window, [i >= first for i in range(layers)])


def _write_qwen_windows(config: LlamaConfig) -> dict[str, Any]:
    types = layer_types_of(config)
    first = types.index(SLIDING) if SLIDING in types else len(types)
    used = config.sliding_window is not None
    fields = {"use_sliding_window": used, "sliding_window": config.sliding_window, "max_window_layers": first}
    return fields | {"layer_types": types}


def _qwen2(read: Read) -> dict[str, Any]:
    return {"qkv_bias": True} | _qwen_windows(read)


def _qwen3(read: Read) -> dict[str, Any]:
    return {"qk_norm": "head"} | _biases(read) | _qwen_windows(read)


def _write_qwen3(config: LlamaConfig) -> dict[str, Any]:
    return _written_biases(config) | _write_qwen_windows(config)


def _smollm3(read: Read) -> dict[str, Any]:
    layers = read.fields("num_hidden_layers").whole("num_hidden_layers")
    interval, rotated = read("no_rope_layer_interval", 4), read("no_rope_layers")
    if rotated is None:
        rotated = [(i + 1) % interval != 0 for i in range(layers)]
    if not isinstance(rotated, list) or len(rotated) < layers:
        raise read.fault("no_rope_layers", f"1 or 0 for each of {layers} layers")
    read("max_window_layers")  # of the family that the file was made from; nothing reads it
    window = read("sliding_window")
    window = window if read("use_sliding_window", False) else None
    rotated = [bool(each) for each in rotated[:layers]]
    windows = _windows(read, window, [not each for each in rotated])
    return {"rope_pattern": shortest_pattern(rotated)} | _biases(read, mlp=True) | windows


def _write_smollm3(config: LlamaConfig) -> dict[str, Any]:
    used = config.sliding_window is not None
    return {
        "no_rope_layers": [int(kind.rope != "none") for kind in config.layer_kinds],
        "no_rope_layer_interval": 4,
        "use_sliding_window": used,
        "sliding_window": config.sliding_window,
        "layer_types": layer_types_of(config),
        **_write_llama(config),
    }


def _olmo2(read: Read) -> dict[str, Any]:
    return {"qk_norm": "whole", "norms": "post"} | _biases(read)


def _gemma(read: Read) -> dict[str, Any]:
    if read("use_bidirectional_attention"):
        raise read.fault("use_bidirectional_attention", "false: only what stands before a token is seen")
    width = read.fields("hidden_size").whole("hidden_size")
    cap = read("final_logit_softcapping")
    return {
        "norms": "sandwich",
        "norm_plus_one": True,
        "embedding_multiplier": float(width) ** 0.5,
        "query_scale": float(read.fields("query_pre_attn_scalar").needed("query_pre_attn_scalar")) ** -0.5,
        "logit_soft_cap": None if cap is None else float(cap),
    } | _biases(read)


def _write_gemma(config: LlamaConfig) -> dict[str, Any]:
    scale = config.head_dim if config.query_scale is None else config.query_scale**-2
    return {
        "hidden_activation": _ACTIVATION_NAMES[config.activation],
        "query_pre_attn_scalar": round(scale) if abs(scale - round(scale)) < 1e-6 else scale,
        "final_logit_softcapping": config.logit_soft_cap,
        "sliding_window": config.sliding_window,
        "layer_types": layer_types_of(config),
        **_written_biases(config),
    }


def _gemma2(read: Read) -> dict[str, Any]:
    cap = read("attn_logit_softcapping")
    windows = _windows(read, read("sliding_window"), (True, False))
    return _gemma(read) | {"attention_soft_cap": None if cap is None else float(cap)} | windows


def _write_gemma2(config: LlamaConfig) -> dict[str, Any]:
    return _write_gemma(config) | {"attn_logit_softcapping": config.attention_soft_cap}


def _gemma3(read: Read) -> dict[str, Any]:
    if read("attn_logit_softcapping") is not None:
        raise read.fault("attn_logit_softcapping", "null: models of this family norm queries and keys instead")
    period = read("sliding_window_pattern") or read("_sliding_window_pattern", 6)
    windows = _windows(read, read("sliding_window"), [bool((i + 1) % period) for i in range(period)])
    return _gemma(read) | {"qk_norm": "head"} | windows


def _write_gemma3(config: LlamaConfig) -> dict[str, Any]:
    return _write_gemma(config) | {"attn_logit_softcapping": None, "rope_local_base_freq": config.local_rope_theta}


def _phi3(read: Read) -> dict[str, Any]:
    return _windows(read, read("sliding_window"), ALIKE)


def _write_phi3(config: LlamaConfig) -> dict[str, Any]:
    original = config.max_position_embeddings
    if config.rope_scaling is not None and config.rope_scaling.kind == "longrope":
        original = config.rope_scaling.original_max_position_embeddings
    return {
        "sliding_window": config.sliding_window,
        "original_max_position_embeddings": original,
        "partial_rotary_factor": config.partial_rotary_factor,
    }


_MULTIPLIERS = {
    "embedding_multiplier": "embedding_multiplier",
    "residual_multiplier": "residual_multiplier",
    "logits_scaling": "logit_divisor",
    "attention_multiplier": "query_scale",
}


def _granite(read: Read) -> dict[str, Any]:
    return {ours: float(read(theirs, 1.0)) for theirs, ours in _MULTIPLIERS.items()} | _biases(read, mlp=True)


def _write_granite(config: LlamaConfig) -> dict[str, Any]:
    fields = {theirs: getattr(config, ours) for theirs, ours in _MULTIPLIERS.items()}
    if config.query_scale is None:
        fields["attention_multiplier"] = config.head_dim**-0.5
    return fields | _write_llama(config)


_GEMMA_DEFAULTS = {
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
}
FAMILIES: dict[Family, FamilyFiles] = {
    "llama": FamilyFiles(
        "LlamaForCausalLM", "llama", _llama, _write_llama, others=("LLaMAForCausalLM", "LLamaForCausalLM")
    ),
    "mistral": FamilyFiles(
        "MistralForCausalLM",
        "mistral",
        _mistral,
        _write_mistral,
        {"num_key_value_heads": 8, "sliding_window": 4096, "max_position_embeddings": 131_072},
    ),
    "qwen2": FamilyFiles("Qwen2ForCausalLM", "qwen2", _qwen2, _write_qwen_windows, {"sliding_window": 4096}),
    "qwen3": FamilyFiles("Qwen3ForCausalLM", "qwen3", _qwen3, _write_qwen3, {"head_dim": 128, "sliding_window": 4096}),
    "smollm3": FamilyFiles(
        "SmolLM3ForCausalLM",
        "smollm3",
        _smollm3,
        _write_smollm3,
        {"rope_theta": 2_000_000.0, "tie_word_embeddings": True, "num_key_value_heads": 4},
    ),
    "olmo2": FamilyFiles("Olmo2ForCausalLM", "olmo2", _olmo2, _written_biases),
    "gemma2": FamilyFiles(
        "Gemma2ForCausalLM",
        "gemma2",
        _gemma2,
        _write_gemma2,
        _GEMMA_DEFAULTS | {"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0},
    ),
    "gemma3": FamilyFiles(
        "Gemma3ForCausalLM",
        "gemma3_text",
        _gemma3,
        _write_gemma3,
        _GEMMA_DEFAULTS | {"rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0},
    ),
    "phi3": FamilyFiles(
        "Phi3ForCausalLM", "phi3", _phi3, _write_phi3, {"original_max_position_embeddings": 4096}, fused=True
    ),
    "granite": FamilyFiles("GraniteForCausalLM", "granite", _granite, _write_granite),
}


def family_of(architectures: Any, where: str) -> Family:
    """The family that `architectures` of a config.json names."""
    for family, files in FAMILIES.items():
        if architectures in [[name] for name in (files.architecture, *files.others)]:
            return family
    known = ", ".join(files.architecture for files in FAMILIES.values())
    raise ValueError(f"{where}: architectures is {architectures!r}; what can be imported is one of {known}")
