"""Hugging Face folders: config.json and safetensors files, in and out, tensor by tensor."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from humpback_jax.files import PathLike, read_json, write_json
from humpback_jax.models.config import LlamaConfig, RopeScaling
from humpback_jax.models.dtypes import STORED, dtype_of
from humpback_jax.runtime.progress import ProgressReporter
from humpback_jax.tokenizers import GENERATION, tokenizer_files
from humpback_jax.weights.mapping import (
    EMBEDDING,
    LM_HEAD,
    Fields,
    Format,
    check_tensors,
    foreign_shape,
    foreign_slots,
    row_blocks,
    to_foreign,
)

ARCHITECTURE = "LlamaForCausalLM"
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
FLOAT_DTYPES = ("F32", "F16", "BF16")
# Rotary frequencies that early checkpoints stored as a buffer; they follow from rope_theta and hold no weights.
BUFFER_SUFFIX = ".rotary_emb.inv_freq"
SIZES = {
    "vocab_size": "vocab_size",
    "emb_dim": "hidden_size",
    "mlp_dim": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "max_position_embeddings": "max_position_embeddings",
}
# What would make the model compute something else than ours; None stands for a field that is not there.
MUST_BE: dict[str, tuple[Any, ...]] = {
    "model_type": (None, "llama"),
    "hidden_act": (None, "silu"),
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "sliding_window": (None,),
    "partial_rotary_factor": (None, 1.0),
    "quantization_config": (None,),
}
BLOCK_BYTES = 64 << 20
MAX_SHARD_BYTES = 2_000_000_000


def config_from_huggingface(fields: Mapping[str, Any], where: str, name: str) -> LlamaConfig:
    """The architecture that a config.json describes.

    Fields that the format lets a file leave out (`num_key_value_heads`, `head_dim`, `rope_theta`, tying) then have the
    format's own meaning; everything else must be there. What this model cannot compute raises ValueError.
    """
    architectures = fields.get("architectures")
    if architectures != [ARCHITECTURE]:
        raise ValueError(f"{where}: architectures is {architectures!r}; only [{ARCHITECTURE!r}] can be imported")
    checked = Fields(fields, where)
    checked.refuse_unless(MUST_BE, "this LLaMA cannot compute anything else")
    theta, scaling = _rope(fields, where)
    return LlamaConfig(
        name=name,
        rope_theta=theta,
        rope_scaling=scaling,
        rms_norm_eps=float(checked.needed("rms_norm_eps")),
        tie_word_embeddings=bool(fields.get("tie_word_embeddings", False)),
        **checked.sizes(SIZES),
    )


def _rope(fields: Mapping[str, Any], where: str) -> tuple[float, RopeScaling | None]:
    """Rotary base and scaling, from `rope_theta` + `rope_scaling` or from the newer `rope_parameters`."""
    parameters, scaling = fields.get("rope_parameters"), fields.get("rope_scaling")
    for key, value in (("rope_parameters", parameters), ("rope_scaling", scaling)):
        if value is not None and not isinstance(value, dict):
            raise ValueError(f"{where}: {key} must be an object or null, found {value!r}")
    stated = (fields.get("rope_theta"), (parameters or {}).get("rope_theta"))
    thetas = {float(value) for value in stated if value is not None}
    if len(thetas) > 1:
        raise ValueError(f"{where}: rope_theta and rope_parameters disagree: {sorted(thetas)}")
    # A file without any rope_theta means 10,000: the LLaMA-1 and LLaMA-2 files were written before the field existed.
    theta = thetas.pop() if thetas else 10_000.0
    scalings = [_rope_scaling(value, where) for value in (parameters, scaling) if value is not None]
    if len(scalings) == 2 and scalings[0] != scalings[1]:
        raise ValueError(f"{where}: rope_scaling and rope_parameters disagree: {scalings[1]} and {scalings[0]}")
    return theta, scalings[0] if scalings else None


def _rope_scaling(fields: Mapping[str, Any], where: str) -> RopeScaling | None:
    kind = fields.get("rope_type", fields.get("type", "default"))
    allowed = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
    if fields.get("partial_rotary_factor") not in (None, 1.0):
        raise ValueError(f"{where}: partial_rotary_factor {fields['partial_rotary_factor']!r} is not supported")
    numbers = tuple(field.name for field in dataclasses.fields(RopeScaling))
    if kind == "llama3":
        allowed |= set(numbers)
    elif kind != "default":
        raise ValueError(f"{where}: rope type {kind!r} is not supported; known: 'default', 'llama3'")
    if unknown := sorted(fields.keys() - allowed):
        raise ValueError(f"{where}: unknown rope field {unknown[0]} for rope type {kind!r}")
    if kind == "default":
        return None
    checked = Fields(fields, f"{where}: rope scaling")
    factor, low, high, original = map(checked.needed, numbers)
    return RopeScaling(float(factor), float(low), float(high), int(original))


def config_to_huggingface(
    config: LlamaConfig, dtype: str, bos_id: int | None, eos_id: int | list[int] | None
) -> dict[str, Any]:
    """The config.json of a model, in the layout that transformers 4 and 5 both read; `eos_id` may be several."""
    scaling = config.rope_scaling
    return {
        "_name_or_path": config.name,
        "architectures": [ARCHITECTURE],
        "model_type": "llama",
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling and {"rope_type": "llama3"} | dataclasses.asdict(scaling),
        "tie_word_embeddings": config.tie_word_embeddings,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "torch_dtype": dtype,
        "use_cache": True,
    }


class HuggingFaceSource:
    """Reads a Hugging Face folder, memory-mapped, row by row; opening it checks every tensor's name and shape."""

    interleaved = False
    form: Format = "huggingface"

    def __init__(self, folder: PathLike, name: str | None = None) -> None:
        import safetensors

        self.folder = self.where = pathlib.Path(folder)
        path = self.folder / "config.json"
        fields = read_json(path)
        if not isinstance(fields, dict):
            raise ValueError(f"{path}: expected a JSON object")
        named = pathlib.PurePath(str(fields.get("_name_or_path") or self.folder.absolute().name)).name
        self.config = config_from_huggingface(fields, str(path), name or named)
        self._eos_ids = fields.get("eos_token_id")
        index = self._index()
        self._open: dict[str, Any] = {}
        for file in sorted(set(index.values())) or [SINGLE]:
            try:
                self._open[file] = safetensors.safe_open(self.folder / file, framework="np")
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{self.folder / file} is missing; download it") from error
            except safetensors.SafetensorError as error:
                raise ValueError(f"{self.folder / file} is damaged ({error}); download this file again") from error
        self._file_of = self._locate(index)
        self._check()

    def _index(self) -> dict[str, str]:
        """{tensor: file} as the index says; empty where all tensors are in one file."""
        path, single = self.folder / INDEX, self.folder / SINGLE
        if path.exists() and single.exists():
            raise ValueError(f"{self.folder} holds both {SINGLE} and {INDEX}; delete the one that is stale")
        if single.exists():
            return {}
        if not path.exists():
            raise FileNotFoundError(
                f"{self.folder} holds neither {SINGLE} nor {INDEX}. If it has pytorch_model*.bin files, save the model "
                "with safe_serialization=True first"
            )
        index = read_json(path)
        if not isinstance(index, dict) or not isinstance(index.get("weight_map"), dict):
            raise ValueError(f"{path}: weight_map is missing; download this file again")
        return index["weight_map"]

    def _locate(self, index: Mapping[str, str]) -> dict[str, str]:
        """{tensor: file}; a tensor in two files, or elsewhere than the index says, is an error."""
        file_of: dict[str, str] = {}
        for file, reader in self._open.items():
            for name in reader.keys():  # noqa: SIM118 - a reader is not iterable
                if name in file_of:
                    raise ValueError(f"tensor {name} is in both {self.folder / file_of[name]} and {self.folder / file}")
                file_of[name] = file
        for name, file in index.items():
            if file_of.get(name) != file:
                raise ValueError(f"{self.folder / file}: tensor {name} is missing, though {INDEX} says it is here")
        return file_of

    def _check(self) -> None:
        shapes: dict[str, Sequence[int]] = {}
        for name, file in self._file_of.items():
            if name.endswith(BUFFER_SUFFIX):
                continue
            tensor = self._open[file].get_slice(name)
            shapes[name] = tensor.get_shape()
            if tensor.get_dtype() not in FLOAT_DTYPES:
                raise ValueError(
                    f"{self.folder / file}: tensor {name} has dtype {tensor.get_dtype()}, expected one of "
                    f"{', '.join(FLOAT_DTYPES)}; quantized safetensors cannot be imported"
                )
        tied_copy = shapes.pop(LM_HEAD.huggingface, None) if self.config.tie_word_embeddings else None
        files = {name: str(self.folder / file) for name, file in self._file_of.items()}
        check_tensors(shapes, self.config, "huggingface", str(self.folder), files)
        if tied_copy is not None:
            self._check_tied_copy(tied_copy, files[LM_HEAD.huggingface])

    def _check_tied_copy(self, shape: Sequence[int], file: str) -> None:
        """A tied model may repeat its embedding as an output projection, but only bit for bit."""
        embedding, head = EMBEDDING.huggingface, LM_HEAD.huggingface
        if tuple(shape) != foreign_shape(EMBEDDING, self.config) or not all(
            np.array_equal(self.read_rows(embedding, *block), self.read_rows(head, *block))
            for block in row_blocks(EMBEDDING, self.config, BLOCK_BYTES)
        ):
            raise ValueError(
                f"{file}: tensor {LM_HEAD.huggingface} of shape {list(shape)} differs from "
                f"{EMBEDDING.huggingface}, though {self.folder / 'config.json'} says that they are tied; set "
                "tie_word_embeddings to false there if the model has an output projection of its own"
            )

    def tokenizer_files(self) -> dict[str, bytes]:
        """{file name: content} of the folder's tokenizer; the ids that end a text may stand in config.json alone."""
        files = tokenizer_files(self.folder)
        generation = json.loads(files.get(GENERATION, b"{}"))
        if generation.get("eos_token_id") is None and self._eos_ids is not None:
            files[GENERATION] = json.dumps(generation | {"eos_token_id": self._eos_ids}).encode()
        return files

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of a tensor in their stored dtype."""
        return self._open[self._file_of[name]].get_slice(name)[start:stop]


def export_tensors(
    folder: pathlib.Path,
    config: LlamaConfig,
    read_layer: Callable[[str, int | None], np.ndarray],
    dtype: str,
    max_shard_bytes: int,
    bar: ProgressReporter,
) -> tuple[int, int]:
    """Writes safetensors files into an existing folder, holding one shard in memory at a time.

    Args:
      folder: where to write.
      config: the model.
      read_layer: (our path, layer or None) → one layer of our leaf.
      dtype: float32, bfloat16 or float16; a value too large for it raises ValueError naming the tensor.
      max_shard_bytes: start a new file before this size; a single tensor may be larger.
      bar: advanced by every tensor written.

    Returns:
      Number of tensors and their bytes.
    """
    from safetensors.numpy import save_file

    itemsize = np.dtype(dtype_of(dtype, STORED)).itemsize
    shards = list(_shards(config, itemsize, max_shard_bytes))
    weight_map: dict[str, str] = {}
    total = 0
    for number, names in enumerate(shards, start=1):
        file = SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {}
        for name, slot in names.items():
            tensor = to_foreign(read_layer(slot.rule.path, slot.layer), slot.rule, config)
            tensors[name] = cast(tensor, dtype, name)
            total += tensors[name].nbytes
            bar.advance(1)
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    if len(shards) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    return len(weight_map), total


def _shards(config: LlamaConfig, itemsize: int, max_bytes: int) -> Iterator[dict]:
    shard: dict = {}
    size = 0
    for name, slot in foreign_slots(config, "huggingface").items():
        num_bytes = itemsize * int(np.prod(foreign_shape(slot.rule, config)))
        if shard and size + num_bytes > max_bytes:
            yield shard
            shard, size = {}, 0
        shard[name] = slot
        size += num_bytes
    yield shard


def cast(array: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """The array in another float dtype; ValueError if a finite value would become infinite."""
    with np.errstate(over="ignore"):
        result = array.astype(dtype_of(dtype, STORED), copy=False)
    if dtype != "float32" and not np.array_equal(np.isfinite(result), np.isfinite(array)):
        raise ValueError(f"tensor {name} holds values too large for {dtype}; use float32")
    return result
