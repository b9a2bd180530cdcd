"""What a decoder is: its hyper-parameters, and the registry of published sizes.

A LLaMA is what the defaults make; its relatives set further fields. Numbers come from the published checkpoints' own
configuration files. A config built from foreign weights always comes from their source (`humpback_jax.weights`), never
from this registry.
"""

import dataclasses
import math
from typing import Annotated, Any, Literal, NamedTuple

from humpback_jax.ranges import PositiveFloat, PositiveInt, Range, check_fields

RopeKind = Literal["llama3", "linear", "dynamic", "yarn", "longrope"]
# In whose files a model is stored. It decides how these are written, and nothing that the network computes.
Family = Literal["llama", "mistral", "qwen2", "qwen3", "smollm3", "olmo2", "gemma2", "gemma3", "phi3", "granite"]


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How the frequencies of rotary position embeddings are changed for longer sequences.

    Attributes:
      factor: how much longer sequences may be; `longrope` has tables in its place.
      low_freq_factor, high_freq_factor: of `llama3`: wavelengths longer than `original_max_position_embeddings /
        low_freq_factor` are stretched by `factor`, those shorter than `original_max_position_embeddings /
        high_freq_factor` are kept, and the ones between are interpolated.
      original_max_position_embeddings: length that the model was first trained for, in tokens. `dynamic` (whose base
        grows) and `longrope` (which takes its other table) change what they do behind it.
      kind: which scaling.
      beta_fast, beta_slow: of `yarn` (Peng et al. 2023): turns within the original length from which on a frequency is
        kept, and up to which it is stretched.
      truncate: of `yarn`: these bounds are rounded outwards to whole frequencies.
      attention_factor: of `yarn` and `longrope`: sines and cosines are multiplied by it.
      short_factor, long_factor: of `longrope`: divisors of all frequencies up to the original length, and behind it.
    """

    factor: PositiveFloat = 8.0
    low_freq_factor: PositiveFloat = 1.0
    high_freq_factor: PositiveFloat = 4.0
    original_max_position_embeddings: PositiveInt = 8192
    kind: RopeKind = "llama3"
    beta_fast: PositiveFloat = 32.0
    beta_slow: PositiveFloat = 1.0
    truncate: bool = True
    attention_factor: PositiveFloat = 1.0
    short_factor: tuple[PositiveFloat, ...] = ()
    long_factor: tuple[PositiveFloat, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def depends_on_length(self) -> bool:
        """Whether a position turns differently in a longer sequence."""
        return self.kind in ("dynamic", "longrope")


class LayerKind(NamedTuple):
    """What may differ from layer to layer: how far back it sees (None: to the start), and which rotary embedding."""

    window: int | None
    rope: Literal["global", "local", "none"]


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """Architecture of a decoder of the LLaMA family.

    Attributes:
      name: a label for logs and manifests; no behaviour depends on it.
      vocab_size: rows of the token embedding.
      emb_dim: width of the residual stream.
      num_layers: decoder layers.
      num_heads: query heads.
      num_kv_heads: key/value heads; fewer than `num_heads` means grouped-query attention.
      head_dim: width of one head.
      mlp_dim: hidden width of the SwiGLU block.
      max_position_embeddings: longest sequence the weights were trained for, in tokens.
      rope_theta: base of the rotary frequencies.
      rope_scaling: how its frequencies are scaled, or None.
      rms_norm_eps: epsilon inside RMSNorm.
      tie_word_embeddings: logits reuse the token embedding.
      family: in whose files the model is stored; no behaviour depends on it.
      qkv_bias, output_bias, mlp_bias: query, key and value projections, the output projection of attention, or the
        projections of the MLP add a bias.
      qk_norm: queries and keys are normed before they are rotated: every `head` by itself, or all heads as a `whole`.
      norms: what is normed: the input of attention and MLP (`pre`), their output (`post`), or both (`sandwich`).
      norm_plus_one: norms multiply by one plus their weight.
      activation: of the gate of the MLP.
      sliding_window: tokens that a query sees, itself included, in the layers of `window_pattern`; None for all.
      window_pattern: which layers have the window; repeated over the layers.
      rope_pattern: which layers have rotary embeddings; repeated over the layers.
      local_rope_theta: rotary base, without scaling, of layers with the window; None: as in all others.
      partial_rotary_factor: share of a head that is rotated, from its start.
      query_scale: scores are products times this; None: head_dim^-0.5.
      attention_soft_cap, logit_soft_cap: scores, or logits, x become cap * tanh(x / cap).
      embedding_multiplier: token embeddings are multiplied by it, not so the output projection of a tied model.
      residual_multiplier: what attention and MLP add to the residual stream is multiplied by it.
      logit_divisor: logits are divided by it, before they are capped.
    """

    name: str
    vocab_size: PositiveInt
    emb_dim: PositiveInt
    num_layers: PositiveInt
    num_heads: PositiveInt
    num_kv_heads: PositiveInt
    head_dim: PositiveInt
    mlp_dim: PositiveInt
    max_position_embeddings: PositiveInt
    rope_theta: PositiveFloat = 10_000.0
    rope_scaling: RopeScaling | None = None
    rms_norm_eps: PositiveFloat = 1e-5
    tie_word_embeddings: bool = False
    family: Family = "llama"
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: Literal["none", "head", "whole"] = "none"
    norms: Literal["pre", "post", "sandwich"] = "pre"
    norm_plus_one: bool = False
    activation: Literal["silu", "gelu_tanh"] = "silu"
    sliding_window: PositiveInt | None = None
    window_pattern: tuple[bool, ...] = (True,)
    rope_pattern: tuple[bool, ...] = (True,)
    local_rope_theta: PositiveFloat | None = None
    partial_rotary_factor: Annotated[float, Range(above=0, most=1)] = 1.0
    query_scale: PositiveFloat | None = None
    attention_soft_cap: PositiveFloat | None = None
    logit_soft_cap: PositiveFloat | None = None
    embedding_multiplier: PositiveFloat = 1.0
    residual_multiplier: PositiveFloat = 1.0
    logit_divisor: PositiveFloat = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("window_pattern", "rope_pattern"):
            if not getattr(self, name):
                raise ValueError(f"LlamaConfig {self.name!r}: {name} is empty; give what is repeated over the layers")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"LlamaConfig {self.name!r}: num_heads={self.num_heads} is not a multiple of "
                f"num_kv_heads={self.num_kv_heads}; every key/value head must serve the same number of query heads"
            )
        if self.rotary_dim % 2:
            raise ValueError(
                f"LlamaConfig {self.name!r}: head_dim={self.head_dim} must be even for rotary embeddings, and so must "
                f"the {self.rotary_dim} of it that are rotated"
            )
        scaling = self.rope_scaling
        if scaling is not None and scaling.kind == "longrope":
            for name in ("short_factor", "long_factor"):
                if len(getattr(scaling, name)) != self.rotary_dim // 2:
                    raise ValueError(
                        f"LlamaConfig {self.name!r}: rope_scaling.{name} has {len(getattr(scaling, name))} numbers, "
                        f"expected {self.rotary_dim // 2}, one for every rotary frequency"
                    )

    @property
    def rotary_dim(self) -> int:
        """Entries of a head that are rotated."""
        return int(self.head_dim * self.partial_rotary_factor)

    @property
    def layer_kinds(self) -> tuple[LayerKind, ...]:
        """The kind of every layer."""
        return tuple(self._kind(layer) for layer in range(self.num_layers))

    @property
    def distinct_kinds(self) -> tuple[LayerKind, ...]:
        """The kinds of layers that there are; a LLaMA has one."""
        return tuple(dict.fromkeys(self.layer_kinds))

    @property
    def kind_numbers(self) -> list[int] | None:
        """For every layer, which of the distinct kinds it is; None where all are alike."""
        kinds = self.distinct_kinds
        return [kinds.index(kind) for kind in self.layer_kinds] if len(kinds) > 1 else None

    def _kind(self, layer: int) -> LayerKind:
        windowed = self.sliding_window is not None and self.window_pattern[layer % len(self.window_pattern)]
        rotates = self.rope_pattern[layer % len(self.rope_pattern)]
        local = windowed and self.local_rope_theta is not None
        rope: Literal["global", "local", "none"] = "none" if not rotates else "local" if local else "global"
        return LayerKind(self.sliding_window if windowed else None, rope)

    @property
    def num_params(self) -> int:
        """Number of weights, embeddings included once when tied."""
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        attention = self.emb_dim * self.head_dim * 2 * (self.num_heads + self.num_kv_heads)
        attention += {"none": 0, "head": 2 * self.head_dim, "whole": queries + keys}[self.qk_norm]
        attention += self.qkv_bias * (queries + 2 * keys) + self.output_bias * self.emb_dim
        mlp = 3 * self.emb_dim * self.mlp_dim + self.mlp_bias * (2 * self.mlp_dim + self.emb_dim)
        layer = attention + mlp + (4 if self.norms == "sandwich" else 2) * self.emb_dim
        embeddings = self.vocab_size * self.emb_dim * (1 if self.tie_word_embeddings else 2)
        return embeddings + self.num_layers * layer + self.emb_dim

    @property
    def axis_sizes(self) -> dict[str, int]:
        """Length of every axis of one layer's weights, and of the embeddings, by its logical name."""
        return {
            "vocab": self.vocab_size,
            "embed": self.emb_dim,
            "heads": self.num_heads,
            "kv_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "mlp": self.mlp_dim,
        }

    def architecture(self) -> dict[str, object]:
        """Every field that decides the function the network computes (all but `name`), as plain values."""
        fields = dataclasses.asdict(self)
        del fields["name"]
        return fields


def config_from_dict(fields: dict) -> LlamaConfig:
    """Inverse of `dataclasses.asdict(LlamaConfig)`; an unknown or missing field raises TypeError naming it."""
    scaling = fields.get("rope_scaling")
    return LlamaConfig(**{**fields, "rope_scaling": RopeScaling(**scaling) if scaling else None})


_LLAMA_1: dict[str, Any] = {"rms_norm_eps": 1e-6}
_LLAMA_3: dict[str, Any] = {"rope_theta": 500_000.0}
_LLAMA_3_1: dict[str, Any] = _LLAMA_3 | {"rope_scaling": RopeScaling(factor=8.0)}
_LLAMA_3_2: dict[str, Any] = _LLAMA_3 | {"rope_scaling": RopeScaling(factor=32.0), "tie_word_embeddings": True}
_SMOLLM_2: dict[str, Any] = {"rope_theta": 100_000.0, "tie_word_embeddings": True}
_MISTRAL: dict[str, Any] = {"family": "mistral", "rope_theta": 1_000_000.0}
_QWEN_2: dict[str, Any] = {"family": "qwen2", "qkv_bias": True, "rope_theta": 1_000_000.0}
_QWEN_2_SMALL: dict[str, Any] = _QWEN_2 | {"rms_norm_eps": 1e-6}
_QWEN_3: dict[str, Any] = {
    "family": "qwen3", "qk_norm": "head", "rope_theta": 1_000_000.0, "rms_norm_eps": 1e-6,
}  # fmt: skip
_SMOLLM_3: dict[str, Any] = {
    "family": "smollm3", "rope_pattern": (True, True, True, False), "rope_theta": 5_000_000.0, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}  # fmt: skip
_OLMO_2: dict[str, Any] = {
    "family": "olmo2", "qk_norm": "whole", "norms": "post", "rope_theta": 500_000.0, "rms_norm_eps": 1e-6,
}  # fmt: skip
_TIED: dict[str, Any] = {"tie_word_embeddings": True}


def _gemma_2(width: int, scalar: int | None = None) -> dict[str, Any]:
    """Of a width; `scalar` stands in the place of the head's width in the scale of scores."""
    return {
        "family": "gemma2", "norms": "sandwich", "norm_plus_one": True, "activation": "gelu_tanh",
        "embedding_multiplier": float(width) ** 0.5, "sliding_window": 4096, "window_pattern": (True, False),
        "attention_soft_cap": 50.0, "logit_soft_cap": 30.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
        "query_scale": None if scalar is None else float(scalar) ** -0.5,
    }  # fmt: skip


def _gemma_3(width: int, window: int, scalar: int | None = None) -> dict[str, Any]:
    """Of a width; the sizes above the smallest stretch positions eightfold in the layers that see everything."""
    return {
        "family": "gemma3", "norms": "sandwich", "norm_plus_one": True, "activation": "gelu_tanh", "qk_norm": "head",
        "embedding_multiplier": float(width) ** 0.5, "sliding_window": window, "window_pattern": (True,) * 5 + (False,),
        "rope_theta": 1_000_000.0, "local_rope_theta": 10_000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
        "query_scale": None if scalar is None else float(scalar) ** -0.5,
        "rope_scaling": RopeScaling(factor=8.0, kind="linear") if window > 512 else None,
    }  # fmt: skip


def _granite(attention: float, logits: float, theta: float) -> dict[str, Any]:
    return {
        "family": "granite", "embedding_multiplier": 12.0, "residual_multiplier": 0.22, "query_scale": attention,
        "logit_divisor": logits, "rope_theta": theta, "tie_word_embeddings": True,
    }  # fmt: skip


_PHI_3: dict[str, Any] = {"family": "phi3", "sliding_window": 2047}
_PHI_4: dict[str, Any] = {"family": "phi3", "rope_theta": 250_000.0}
# Divisors of the rotary frequencies of Phi-4-mini behind 4096 tokens.
_PHI_4_MINI_LONG = (
    1, 1.118320672, 1.250641126, 1.398617824, 1.564103225, 1.74916897, 1.956131817, 2.187582649, 2.446418898,
    2.735880826, 3.059592084, 3.421605075, 3.826451687, 4.279200023, 4.785517845, 5.351743533, 5.984965424,
    6.693110555, 7.485043894, 8.370679318, 9.36110372, 10.4687158, 11.70738129, 13.09260651, 14.64173252, 16.37415215,
    18.31155283, 20.47818807, 22.90118105, 25.61086418, 28.64115884, 32.03, 32.1, 32.13, 32.23, 32.6, 32.61, 32.64,
    32.66, 32.7, 32.71, 32.93, 32.97, 33.28, 33.49, 33.5, 44.16, 47.77,
)  # fmt: skip
_PHI_4_MINI: dict[str, Any] = {
    "family": "phi3", "partial_rotary_factor": 0.75, "sliding_window": 262_144, "tie_word_embeddings": True,
    "rope_scaling": RopeScaling(
        factor=32.0, original_max_position_embeddings=4096, kind="longrope",
        attention_factor=math.sqrt(1 + math.log(32.0) / math.log(4096)),
        short_factor=(1.0,) * 48, long_factor=_PHI_4_MINI_LONG,
    ),
}  # fmt: skip
# fmt: off
_SIZES: tuple[tuple[Any, ...], ...] = (
    # name, vocab_size, emb_dim, num_layers, num_heads, num_kv_heads, head_dim, mlp_dim, max_position_embeddings, others
    ("llama_7b",        32_000, 4096, 32, 32, 32, 128, 11_008,    2048, _LLAMA_1),
    ("llama_13b",       32_000, 5120, 40, 40, 40, 128, 13_824,    2048, _LLAMA_1),
    ("llama_33b",       32_000, 6656, 60, 52, 52, 128, 17_920,    2048, _LLAMA_1),
    ("llama_65b",       32_000, 8192, 80, 64, 64, 128, 22_016,    2048, _LLAMA_1),
    ("llama2_7b",       32_000, 4096, 32, 32, 32, 128, 11_008,    4096, {}),
    ("llama2_13b",      32_000, 5120, 40, 40, 40, 128, 13_824,    4096, {}),
    ("llama2_70b",      32_000, 8192, 80, 64,  8, 128, 28_672,    4096, {}),
    ("llama3_8b",      128_256, 4096, 32, 32,  8, 128, 14_336,    8192, _LLAMA_3),
    ("llama3_70b",     128_256, 8192, 80, 64,  8, 128, 28_672,    8192, _LLAMA_3),
    ("llama3_1_8b",    128_256, 4096, 32, 32,  8, 128, 14_336, 131_072, _LLAMA_3_1),
    ("llama3_1_70b",   128_256, 8192, 80, 64,  8, 128, 28_672, 131_072, _LLAMA_3_1),
    ("llama3_2_1b",    128_256, 2048, 16, 32,  8,  64,   8192, 131_072, _LLAMA_3_2),
    ("llama3_2_3b",    128_256, 3072, 28, 24,  8, 128,   8192, 131_072, _LLAMA_3_2),
    ("tinyllama_1_1b",  32_000, 2048, 22, 32,  4,  64,   5632,    2048, {}),
    ("smollm2_135m",    49_152,  576, 30,  9,  3,  64,   1536,    8192, _SMOLLM_2),
    ("smollm2_360m",    49_152,  960, 32, 15,  5,  64,   2560,    8192, _SMOLLM_2),
    ("smollm2_1_7b",    49_152, 2048, 24, 32, 32,  64,   8192,    8192, _SMOLLM_2 | {"rope_theta": 130_000.0}),
    ("mistral_7b",      32_768, 4096, 32, 32,  8, 128, 14_336,  32_768, _MISTRAL),
    ("mistral_nemo_12b", 131_072, 5120, 40, 32, 8, 128, 14_336, 131_072, _MISTRAL),
    ("mistral_small_24b", 131_072, 5120, 40, 32, 8, 128, 32_768, 32_768, _MISTRAL | {"rope_theta": 100_000_000.0}),
    ("qwen2_5_0_5b",   151_936,  896, 24, 14,  2,  64,   4864,  32_768, _QWEN_2_SMALL | _TIED),
    ("qwen2_5_1_5b",   151_936, 1536, 28, 12,  2, 128,   8960, 131_072, _QWEN_2_SMALL | _TIED),
    ("qwen2_5_3b",     151_936, 2048, 36, 16,  2, 128, 11_008,  32_768, _QWEN_2_SMALL | _TIED),
    ("qwen2_5_7b",     152_064, 3584, 28, 28,  4, 128, 18_944, 131_072, _QWEN_2_SMALL),
    ("qwen2_5_14b",    152_064, 5120, 48, 40,  8, 128, 13_824, 131_072, _QWEN_2),
    ("qwen2_5_32b",    152_064, 5120, 64, 40,  8, 128, 27_648, 131_072, _QWEN_2),
    ("qwen2_5_72b",    152_064, 8192, 80, 64,  8, 128, 29_568, 131_072, _QWEN_2),
    ("qwen3_0_6b",     151_936, 1024, 28, 16,  8, 128,   3072,  40_960, _QWEN_3 | _TIED),
    ("qwen3_1_7b",     151_936, 2048, 28, 16,  8, 128,   6144,  40_960, _QWEN_3 | _TIED),
    ("qwen3_4b",       151_936, 2560, 36, 32,  8, 128,   9728,  40_960, _QWEN_3 | _TIED),
    ("qwen3_8b",       151_936, 4096, 36, 32,  8, 128, 12_288,  40_960, _QWEN_3),
    ("qwen3_14b",      151_936, 5120, 40, 40,  8, 128, 17_408,  40_960, _QWEN_3),
    ("qwen3_32b",      151_936, 5120, 64, 64,  8, 128, 25_600,  40_960, _QWEN_3),
    ("smollm3_3b",     128_256, 2048, 36, 16,  4, 128, 11_008,  65_536, _SMOLLM_3),
    ("olmo2_1b",       100_352, 2048, 16, 16, 16, 128,   8192,    4096, _OLMO_2),
    ("olmo2_7b",       100_352, 4096, 32, 32, 32, 128, 11_008,    4096, _OLMO_2),
    ("olmo2_13b",      100_352, 5120, 40, 40, 40, 128, 13_824,    4096, _OLMO_2),
    ("olmo2_32b",      100_352, 5120, 64, 40,  8, 128, 27_648,    4096, _OLMO_2),
    ("gemma2_2b",      256_000, 2304, 26,  8,  4, 256,   9216,    8192, _gemma_2(2304)),
    ("gemma2_9b",      256_000, 3584, 42, 16,  8, 256, 14_336,    8192, _gemma_2(3584)),
    ("gemma2_27b",     256_000, 4608, 46, 32, 16, 128, 36_864,    8192, _gemma_2(4608, 144)),
    ("gemma3_1b",      262_144, 1152, 26,  4,  1, 256,   6912,  32_768, _gemma_3(1152, 512)),
    ("gemma3_4b",      262_208, 2560, 34,  8,  4, 256, 10_240, 131_072, _gemma_3(2560, 1024)),
    ("gemma3_12b",     262_208, 3840, 48, 16,  8, 256, 15_360, 131_072, _gemma_3(3840, 1024)),
    ("gemma3_27b",     262_208, 5376, 62, 32, 16, 128, 21_504, 131_072, _gemma_3(5376, 1024, 168)),
    ("phi3_mini",       32_064, 3072, 32, 32, 32,  96,   8192,    4096, _PHI_3),
    ("phi3_medium",     32_064, 5120, 40, 40, 10, 128, 17_920,    4096, _PHI_3),
    ("phi4",           100_352, 5120, 40, 40, 10, 128, 17_920,  16_384, _PHI_4),
    ("phi4_mini",      200_064, 3072, 32, 24,  8, 128,   8192, 131_072, _PHI_4_MINI),
    ("granite3_2b",     49_155, 2048, 40, 32,  8,  64,   8192, 131_072, _granite(0.015625, 8.0, 5_000_000.0)),
    ("granite3_8b",     49_155, 4096, 40, 32,  8, 128, 12_800, 131_072, _granite(0.0078125, 16.0, 10_000_000.0)),
    ("tiny",               320,   32,  2,  4,  2,   8,     64,    2048, {}),
)
# fmt: on

REGISTRY: dict[str, LlamaConfig] = {name: LlamaConfig(name, *sizes, **others) for name, *sizes, others in _SIZES}


def get_config(name: str) -> LlamaConfig:
    """The published size called `name`; KeyError lists the known names."""
    if name not in REGISTRY:
        raise KeyError(f"unknown model size {name!r}; known sizes: {', '.join(REGISTRY)}")
    return REGISTRY[name]
