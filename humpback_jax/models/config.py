"""What a LLaMA is: its hyper-parameters, and the registry of published sizes.

Numbers come from the published checkpoints' own configuration files. A config built from foreign weights always comes
from their source (`humpback_jax.weights`), never from this registry.
"""

import dataclasses
from typing import Any

from humpback_jax.ranges import PositiveFloat, PositiveInt, check_fields


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """LLaMA-3.1 frequency scaling of rotary position embeddings.

    Wavelengths longer than `original_max_position_embeddings / low_freq_factor` are stretched by `factor`, those
    shorter than `original_max_position_embeddings / high_freq_factor` are kept, and the ones between are interpolated.
    """

    factor: PositiveFloat = 8.0
    low_freq_factor: PositiveFloat = 1.0
    high_freq_factor: PositiveFloat = 4.0
    original_max_position_embeddings: PositiveInt = 8192

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """Architecture of a LLaMA-family decoder.

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
      rope_scaling: LLaMA-3.1 scaling, or None.
      rms_norm_eps: epsilon inside RMSNorm.
      tie_word_embeddings: logits reuse the token embedding.
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

    def __post_init__(self) -> None:
        check_fields(self)
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"LlamaConfig {self.name!r}: num_heads={self.num_heads} is not a multiple of "
                f"num_kv_heads={self.num_kv_heads}; every key/value head must serve the same number of query heads"
            )
        if self.head_dim % 2:
            raise ValueError(f"LlamaConfig {self.name!r}: head_dim={self.head_dim} must be even for rotary embeddings")

    @property
    def num_params(self) -> int:
        """Number of weights, embeddings included once when tied."""
        attention = self.emb_dim * self.head_dim * 2 * (self.num_heads + self.num_kv_heads)
        layer = attention + 3 * self.emb_dim * self.mlp_dim + 2 * self.emb_dim
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
    ("tiny",               320,   32,  2,  4,  2,   8,     64,    2048, {}),
)
# fmt: on

REGISTRY: dict[str, LlamaConfig] = {name: LlamaConfig(name, *sizes, **others) for name, *sizes, others in _SIZES}


def get_config(name: str) -> LlamaConfig:
    """The published size called `name`; KeyError lists the known names."""
    if name not in REGISTRY:
        raise KeyError(f"unknown model size {name!r}; known sizes: {', '.join(REGISTRY)}")
    return REGISTRY[name]
