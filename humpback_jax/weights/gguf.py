"""GGUF files of architecture `llama`: metadata to a config, tensors dequantized row by row from a memory map."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from humpback_jax.files import PathLike
from humpback_jax.models.config import LlamaConfig, RopeScaling
from humpback_jax.weights.mapping import LM_HEAD, Format, TensorInfo, check_tensors

ARCHITECTURE = "llama"
# LLaMA-3.1 scaling is stored as one divisor per rotary frequency.
ROPE_FACTORS = "rope_freqs.weight"
ROPE_FACTORS_TOLERANCE = 1e-5
# Every published LLaMA-3.x checkpoint has these, so only the stretching factor has to be read from the file.
LLAMA3_LOW, LLAMA3_HIGH, LLAMA3_ORIGINAL = 1.0, 4.0, 8192
KNOWN_KEYS = frozenset(
    {
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "attention.layer_norm_rms_epsilon",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.scaling.type",
        "rope.scaling.factor",
        "rope.scaling.original_context_length",
        "rope.scaling.finetuned",
        "vocab_size",
        "tensor_data_layout",
        "expert_count",
        "expert_used_count",
    }
)


def read_metadata(reader: Any) -> dict[str, Any]:
    """The key/value section of an open `gguf.GGUFReader` as plain Python values, without the huge token lists."""
    lists = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.scores", "tokenizer.ggml.token_type")
    return {key: field.contents() for key, field in reader.fields.items() if key not in lists}


def open_gguf(path: PathLike) -> Any:
    """A lazy `gguf.GGUFReader`; ValueError if the file is no GGUF file or cut short."""
    import gguf

    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"no GGUF file at {path}")
    try:
        return gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a readable GGUF file ({error}); it may be cut short: get it again") from error


def config_from_gguf(metadata: dict[str, Any], infos: dict[str, TensorInfo], where: str, name: str) -> LlamaConfig:
    """The architecture that a GGUF file describes, rotary scaling left out (see `rope_scaling_from_factors`).

    Keys that the format lets a file leave out (`head_count_kv`, `key_length`, `freq_base`) then have the format's own
    meaning; the vocabulary size is that of the embedding. What this model cannot compute raises ValueError.
    """
    architecture = metadata.get("general.architecture")
    if architecture != ARCHITECTURE:
        raise ValueError(f"{where}: general.architecture is {architecture!r}; only {ARCHITECTURE!r} can be imported")
    prefix = ARCHITECTURE + "."
    fields = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    _refuse_unknown(fields, where)
    width, heads = _whole(fields, "embedding_length", where), _whole(fields, "attention.head_count", where)
    if "attention.key_length" not in fields and width % heads:
        raise ValueError(f"{where}: embedding_length {width} is not a multiple of attention.head_count {heads}")
    fields = {"attention.key_length": width // heads, "attention.head_count_kv": heads} | fields
    head_dim = _whole(fields, "attention.key_length", where)
    for key in ("attention.value_length", "rope.dimension_count"):
        if fields.get(key, head_dim) != head_dim:
            raise ValueError(f"{where}: {key} is {fields[key]}, expected the head width {head_dim}")
    if "token_embd.weight" not in infos:
        raise ValueError(f"{where}: tensor token_embd.weight of shape [vocab, {width}] is missing")
    return LlamaConfig(
        name=name,
        vocab_size=infos["token_embd.weight"].shape[0],
        emb_dim=width,
        num_layers=_whole(fields, "block_count", where),
        num_heads=heads,
        num_kv_heads=_whole(fields, "attention.head_count_kv", where),
        head_dim=head_dim,
        mlp_dim=_whole(fields, "feed_forward_length", where),
        max_position_embeddings=_whole(fields, "context_length", where),
        rope_theta=_shortest(fields.get("rope.freq_base", 10_000.0)),
        rms_norm_eps=_shortest(_needed(fields, "attention.layer_norm_rms_epsilon", where)),
        tie_word_embeddings=LM_HEAD.gguf not in infos,
    )


def _refuse_unknown(fields: dict[str, Any], where: str) -> None:
    unknown = sorted(fields.keys() - KNOWN_KEYS)
    if unknown:
        raise ValueError(
            f"{where}: unknown key {ARCHITECTURE}.{unknown[0]} = {fields[unknown[0]]!r}; it may change what the model "
            "computes, so this file cannot be imported"
        )
    if fields.get("rope.scaling.type", "none") != "none":
        raise ValueError(f"{where}: rope.scaling.type {fields['rope.scaling.type']!r} is not supported")
    if fields.get("expert_count", 0):
        raise ValueError(f"{where}: expert_count is {fields['expert_count']}; mixtures of experts are not supported")


def _needed(fields: dict[str, Any], key: str, where: str) -> Any:
    if key not in fields:
        raise ValueError(f"{where}: {ARCHITECTURE}.{key} is missing; without it the model cannot be rebuilt")
    return fields[key]


def _whole(fields: dict[str, Any], key: str, where: str) -> int:
    value = _needed(fields, key, where)
    if isinstance(value, list | tuple) and len(set(value)) == 1:
        value = value[0]
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{where}: {ARCHITECTURE}.{key} must be one whole number, found {value!r}")
    return value


def _shortest(value: float) -> float:
    """The shortest decimal that is this float32: GGUF stores 1e-5 as 9.99999974…e-06."""
    return float(str(np.float32(value)))


def rope_scaling_from_factors(factors: np.ndarray, theta: float, head_dim: int, where: str) -> RopeScaling | None:
    """The LLaMA-3.1 scaling behind a file's frequency divisors; ValueError if it is another scaling.

    Args:
      factors: float32 [head_dim / 2], how much every rotary frequency is divided by.
      theta: rotary base.
      head_dim: width of one head.
      where: the file, for messages.
    """
    if factors.shape != (head_dim // 2,):
        raise ValueError(f"{where}: tensor {ROPE_FACTORS} has shape {list(factors.shape)}, expected [{head_dim // 2}]")
    if np.all(factors == 1):
        return None
    scaling = RopeScaling(_shortest(factors.max()), LLAMA3_LOW, LLAMA3_HIGH, LLAMA3_ORIGINAL)
    expected = llama3_factors(scaling, theta, head_dim)
    if not np.allclose(factors, expected, rtol=ROPE_FACTORS_TOLERANCE, atol=0):
        worst = int(np.argmax(np.abs(factors / expected - 1)))
        raise ValueError(
            f"{where}: tensor {ROPE_FACTORS} is not the scaling of LLaMA-3.x ({scaling}): divisor {worst} is "
            f"{factors[worst]}, expected {expected[worst]}; this scaling is not supported"
        )
    return scaling


def llama3_factors(scaling: RopeScaling, theta: float, head_dim: int) -> np.ndarray:
    """Divisor of every rotary frequency under LLaMA-3.1 scaling, float64 [head_dim / 2]."""
    wavelengths = 2 * np.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    turns = scaling.original_max_position_embeddings / wavelengths
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = np.clip(keep, 0, 1)
    return 1 / (keep + (1 - keep) / scaling.factor)


class GGUFSource:
    """Reads a GGUF file row by row; opening it checks the architecture and every tensor's name and shape."""

    interleaved = True
    form: Format = "gguf"

    def __init__(self, path: PathLike, name: str | None = None) -> None:
        self.path = self.where = pathlib.Path(path)
        self.reader = open_gguf(path)
        self._tensors = {tensor.name: tensor for tensor in self.reader.tensors}
        metadata = read_metadata(self.reader)
        # GGUF lists the fastest axis first.
        infos = {key: TensorInfo(tuple(int(n) for n in t.shape[::-1]), str(path)) for key, t in self._tensors.items()}
        factors = infos.pop(ROPE_FACTORS, None)
        self.config = config_from_gguf(metadata, infos, str(path), name or self.path.stem)
        if factors is not None:
            values = self.read_rows(ROPE_FACTORS, 0, factors.shape[0])
            theta, head_dim = self.config.rope_theta, self.config.head_dim
            scaling = rope_scaling_from_factors(values, theta, head_dim, str(path))
            self.config = dataclasses.replace(self.config, rope_scaling=scaling)
        check_tensors(infos, self.config, "gguf", str(path))

    def __enter__(self) -> "GGUFSource":
        return self

    def __exit__(self, *_: object) -> None:
        self._tensors = {}
        self.reader = None

    def tokenizer_files(self) -> dict[str, bytes]:
        """{file name: content} of the tokenizer inside the file."""
        from humpback_jax.weights.gguf_tokenizer import tokenizer_files_from_gguf

        return tokenizer_files_from_gguf(self.path, self.reader)

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of a tensor, dequantized to float32 (or as stored, for plain float tensors)."""
        import gguf

        tensor = self._tensors[name]
        try:
            return gguf.dequantize(tensor.data[start:stop], tensor.tensor_type)
        except NotImplementedError as error:
            raise ValueError(
                f"{self.path}: tensor {name} is stored as {tensor.tensor_type.name}, which cannot be dequantized"
            ) from error
