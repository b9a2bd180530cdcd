"""GGUF files of architecture `llama`: metadata to a config, tensors dequantized row by row from a memory map."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from humpback_jax.files import PathLike
from humpback_jax.models.config import LlamaConfig, RopeScaling
from humpback_jax.models.rope import rope_frequencies
from humpback_jax.tokenizers import FileTokenizer, tokenizer_from_files
from humpback_jax.weights.foreign_tokenizers import gguf_tokenizer_files
from humpback_jax.weights.mapping import EMBEDDING, LM_HEAD, Fields, Format, check_tensors

ARCHITECTURE = "llama"
# LLaMA-3.1 scaling is stored as one divisor per rotary frequency.
ROPE_FACTORS = "rope_freqs.weight"
ROPE_FACTORS_TOLERANCE = 1e-5
# Every published LLaMA-3.x checkpoint has these, so only the stretching factor has to be read from the file.
LLAMA3_LOW, LLAMA3_HIGH, LLAMA3_ORIGINAL = 1.0, 4.0, 8192
SIZES = {
    "emb_dim": "embedding_length",
    "num_layers": "block_count",
    "num_heads": "attention.head_count",
    "num_kv_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "mlp_dim": "feed_forward_length",
    "max_position_embeddings": "context_length",
}
EPSILON, THETA = "attention.layer_norm_rms_epsilon", "rope.freq_base"
HEAD_WIDTHS = ("attention.value_length", "rope.dimension_count")
MUST_BE: dict[str, tuple[Any, ...]] = {"rope.scaling.type": (None, "none"), "expert_count": (None, 0)}
KNOWN_KEYS = {*SIZES.values(), EPSILON, THETA, *HEAD_WIDTHS, *MUST_BE}
# Without a meaning of their own: of scaling and experts that there are not.
KNOWN_KEYS |= {"rope.scaling.factor", "rope.scaling.original_context_length", "rope.scaling.finetuned"}
KNOWN_KEYS |= {"vocab_size", "tensor_data_layout", "expert_used_count"}


_PART = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-\d{5}\.gguf")


def open_gguf(path: PathLike) -> Any:
    """A lazy `gguf.GGUFReader`; ValueError if the file is no GGUF file or cut short."""
    import gguf

    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"no GGUF file at {path}")
    try:
        return gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a readable GGUF file ({error}); it may be cut short: get it again") from error


def gguf_parts(path: PathLike) -> list[pathlib.Path]:
    """The files of a model that `gguf-split` cut into NAME-00001-of-00002.gguf and so on, given any of them.

    A model in one file is its only part. A part that is not there raises FileNotFoundError.
    """
    given = pathlib.Path(path)
    count = open_gguf(given).fields.get("split.count")
    if count is None or int(count.contents()) < 2:
        return [given]
    total, match = int(count.contents()), _PART.fullmatch(given.name)
    if match is None:
        raise ValueError(
            f"{given} is one of {total} parts, and its name does not say which; expected NAME-00001-of-{total:05d}.gguf"
        )
    parts = [given.with_name(f"{match['stem']}-{i:05d}-of-{total:05d}.gguf") for i in range(1, total + 1)]
    if missing := [part.name for part in parts if not part.is_file()]:
        raise FileNotFoundError(
            f"{given} is part {int(match['part'])} of {total}; beside it {', '.join(missing)} is missing: download it"
        )
    return parts


def load_gguf_tokenizer(path: PathLike) -> FileTokenizer:
    """The tokenizer inside a GGUF file."""
    reader = open_gguf(gguf_parts(path)[0])  # the first part holds what is no tensor
    return tokenizer_from_files(gguf_tokenizer_files(reader, os.fspath(path)), os.fspath(path))


def config_from_gguf(
    metadata: dict[str, Any], shapes: Mapping[str, tuple[int, ...]], where: str, name: str
) -> LlamaConfig:
    """The architecture that a GGUF file describes, rotary scaling left out (see `rope_scaling_from_factors`).

    Keys that the format lets a file leave out (`head_count_kv`, `key_length`, `freq_base`) then have the format's own
    meaning; the vocabulary size is that of the embedding. What this model cannot compute raises ValueError.
    """
    architecture = metadata.get("general.architecture")
    if architecture != ARCHITECTURE:
        raise ValueError(f"{where}: general.architecture is {architecture!r}; only {ARCHITECTURE!r} can be imported")
    prefix = ARCHITECTURE + "."
    values = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    if unknown := sorted(values.keys() - KNOWN_KEYS):
        raise ValueError(
            f"{where}: unknown key {prefix}{unknown[0]} = {values[unknown[0]]!r}; it may change what the model "
            "computes, so this file cannot be imported"
        )
    # A size that may differ from layer to layer is stored once per layer.
    values |= {key: v[0] for key, v in values.items() if isinstance(v, list | tuple) and len(set(v)) == 1}
    fields = Fields(values, where, prefix)
    fields.refuse_unless(MUST_BE, "this is not supported")
    sizes = fields.sizes(SIZES)
    for key in HEAD_WIDTHS:
        if values.get(key, sizes["head_dim"]) != sizes["head_dim"]:
            raise ValueError(f"{where}: {key} is {values[key]}, expected the head width {sizes['head_dim']}")
    if EMBEDDING.gguf not in shapes:
        raise ValueError(f"{where}: tensor {EMBEDDING.gguf} of shape [vocab, {sizes['emb_dim']}] is missing")
    return LlamaConfig(
        name=name,
        vocab_size=shapes[EMBEDDING.gguf][0],
        rope_theta=_shortest(values.get(THETA, 10_000.0)),
        rms_norm_eps=_shortest(fields.needed(EPSILON)),
        tie_word_embeddings=LM_HEAD.gguf not in shapes,
        **sizes,
    )


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
    """Divisor of every rotary frequency under LLaMA-3.1 scaling, float32 [head_dim / 2]."""
    return np.asarray(rope_frequencies(head_dim, theta, None) / rope_frequencies(head_dim, theta, scaling))


class GGUFSource:
    """Reads a GGUF file row by row; opening it checks the architecture and every tensor's name and shape."""

    interleaved = True
    form: Format = "gguf"

    def __init__(self, path: PathLike, name: str | None = None) -> None:
        readers = [open_gguf(part) for part in gguf_parts(path)]
        self.path = self.where = pathlib.Path(path)
        self.reader = readers[0]
        self._tensors = {tensor.name: tensor for reader in readers for tensor in reader.tensors}
        metadata = {
            key: field.contents() for key, field in self.reader.fields.items() if not key.startswith("tokenizer.")
        }
        # GGUF lists the fastest axis first.
        shapes = {key: tuple(map(int, tensor.shape[::-1])) for key, tensor in self._tensors.items()}
        factors = shapes.pop(ROPE_FACTORS, None)
        name = name or _PART.sub(r"\g<stem>", self.path.name).removesuffix(".gguf")
        self.config = config_from_gguf(metadata, shapes, str(path), name)
        if factors is not None:
            values = self.read_rows(ROPE_FACTORS, 0, factors[0])
            theta, head_dim = self.config.rope_theta, self.config.head_dim
            scaling = rope_scaling_from_factors(values, theta, head_dim, str(path))
            self.config = dataclasses.replace(self.config, rope_scaling=scaling)
        check_tensors(shapes, self.config, "gguf", str(path))

    def tokenizer_files(self) -> dict[str, bytes]:
        """{file name: content} of the tokenizer inside the file."""
        return gguf_tokenizer_files(self.reader, str(self.path))

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
