"""What a LLaMA is: its hyper-parameters, and the registry of published sizes.

Numbers come from the published checkpoints' own configuration files. A config built from foreign weights always comes
from their source (`humpback_jax.weights`), never from this registry.
"""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """LLaMA-3.1 frequency scaling of rotary position embeddings.

    Wavelengths longer than `original_max_position_embeddings / low_freq_factor` are stretched by `factor`, those
    shorter than `original_max_position_embeddings / high_freq_factor` are kept, and the ones between are interpolated.
    """

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


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
    vocab_size: int
    emb_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    max_position_embeddings: int
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        for field in ("vocab_size", "emb_dim", "num_layers", "num_heads", "num_kv_heads", "head_dim", "mlp_dim"):
            if getattr(self, field) < 1:
                raise ValueError(f"LlamaConfig {self.name!r}: {field} must be at least 1, got {getattr(self, field)}")
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

    def architecture(self) -> dict[str, object]:
        """Every field that decides the function the network computes (all but `name`), as plain values."""
        fields = dataclasses.asdict(self)
        del fields["name"]
        return fields


def config_from_dict(fields: dict) -> LlamaConfig:
    """Inverse of `dataclasses.asdict(LlamaConfig)`; an unknown or missing field raises TypeError naming it."""
    scaling = fields.get("rope_scaling")
    return LlamaConfig(**{**fields, "rope_scaling": RopeScaling(**scaling) if scaling else None})


def _llama1(name: str, emb_dim: int, num_layers: int, num_heads: int, mlp_dim: int) -> LlamaConfig:
    return LlamaConfig(
        name=name,
        vocab_size=32_000,
        emb_dim=emb_dim,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=128,
        mlp_dim=mlp_dim,
        max_position_embeddings=2048,
        rms_norm_eps=1e-6,
    )


_LLAMA_7B = _llama1("llama_7b", 4096, 32, 32, 11_008)
_LLAMA_13B = _llama1("llama_13b", 5120, 40, 40, 13_824)
_LLAMA_2: dict[str, Any] = dict(max_position_embeddings=4096, rms_norm_eps=1e-5)
_LLAMA_3_8B = LlamaConfig(
    name="llama3_8b",
    vocab_size=128_256,
    emb_dim=4096,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    mlp_dim=14_336,
    max_position_embeddings=8192,
    rope_theta=500_000.0,
)
_LLAMA_3_70B = dataclasses.replace(
    _LLAMA_3_8B, name="llama3_70b", emb_dim=8192, num_layers=80, num_heads=64, mlp_dim=28_672
)
_LLAMA_3_1: dict[str, Any] = dict(max_position_embeddings=131_072, rope_scaling=RopeScaling(factor=8.0))
_LLAMA_3_2: dict[str, Any] = dict(
    max_position_embeddings=131_072, rope_scaling=RopeScaling(factor=32.0), tie_word_embeddings=True
)
_SMOLLM2_135M = LlamaConfig(
    name="smollm2_135m",
    vocab_size=49_152,
    emb_dim=576,
    num_layers=30,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    mlp_dim=1536,
    max_position_embeddings=8192,
    rope_theta=100_000.0,
    tie_word_embeddings=True,
)

_SIZES = (
    _LLAMA_7B,
    _LLAMA_13B,
    _llama1("llama_33b", 6656, 60, 52, 17_920),
    _llama1("llama_65b", 8192, 80, 64, 22_016),
    dataclasses.replace(_LLAMA_7B, name="llama2_7b", **_LLAMA_2),
    dataclasses.replace(_LLAMA_13B, name="llama2_13b", **_LLAMA_2),
    dataclasses.replace(_llama1("llama2_70b", 8192, 80, 64, 28_672), num_kv_heads=8, **_LLAMA_2),
    _LLAMA_3_8B,
    _LLAMA_3_70B,
    dataclasses.replace(_LLAMA_3_8B, name="llama3_1_8b", **_LLAMA_3_1),
    dataclasses.replace(_LLAMA_3_70B, name="llama3_1_70b", **_LLAMA_3_1),
    dataclasses.replace(
        _LLAMA_3_8B, name="llama3_2_1b", emb_dim=2048, num_layers=16, head_dim=64, mlp_dim=8192, **_LLAMA_3_2
    ),
    dataclasses.replace(
        _LLAMA_3_8B, name="llama3_2_3b", emb_dim=3072, num_layers=28, num_heads=24, mlp_dim=8192, **_LLAMA_3_2
    ),
    LlamaConfig(
        name="tinyllama_1_1b",
        vocab_size=32_000,
        emb_dim=2048,
        num_layers=22,
        num_heads=32,
        num_kv_heads=4,
        head_dim=64,
        mlp_dim=5632,
        max_position_embeddings=2048,
    ),
    _SMOLLM2_135M,
    dataclasses.replace(
        _SMOLLM2_135M, name="smollm2_360m", emb_dim=960, num_layers=32, num_heads=15, num_kv_heads=5, mlp_dim=2560
    ),
    dataclasses.replace(
        _SMOLLM2_135M,
        name="smollm2_1_7b",
        emb_dim=2048,
        num_layers=24,
        num_heads=32,
        num_kv_heads=32,
        mlp_dim=8192,
        rope_theta=130_000.0,
    ),
    LlamaConfig(
        name="tiny",
        vocab_size=320,
        emb_dim=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        mlp_dim=64,
        max_position_embeddings=2048,
    ),
)

REGISTRY: dict[str, LlamaConfig] = {config.name: config for config in _SIZES}


def get_config(name: str) -> LlamaConfig:
    """The published size called `name`; KeyError lists the known names."""
    if name not in REGISTRY:
        raise KeyError(f"unknown model size {name!r}; known sizes: {', '.join(REGISTRY)}")
    return REGISTRY[name]
