"""Hugging Face folders: config.json and safetensors files, in and out, tensor by tensor."""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from humpback_jax.files import PathLike, read_json, write_json
from humpback_jax.models.config import LlamaConfig, RopeScaling
from humpback_jax.models.dtypes import STORED, dtype_of
from humpback_jax.tokenizers import tokenizer_files
from humpback_jax.weights.mapping import (
    EMBEDDING,
    LM_HEAD,
    Format,
    TensorInfo,
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
BLOCK_BYTES = 64 << 20
MAX_SHARD_BYTES = 2_000_000_000


def config_from_huggingface(fields: Mapping[str, Any], where: str, name: str) -> LlamaConfig:
    """The architecture that a config.json describes.

    Fields that the format lets a file leave out (`num_key_value_heads`, `head_dim`, `rope_theta`, tying) then have the
    format's own meaning; everything else must be there. What this model cannot compute raises ValueError.
    """
    _refuse_other_architectures(fields, where)
    theta, scaling = _rope(fields, where)
    heads, width = _whole(fields, "num_attention_heads", where), _whole(fields, "hidden_size", where)
    if fields.get("head_dim") is None and width % heads:
        raise ValueError(f"{where}: hidden_size {width} is not a multiple of num_attention_heads {heads}")
    fields = {"head_dim": width // heads, "num_key_value_heads": heads} | {
        key: value for key, value in fields.items() if value is not None
    }
    return LlamaConfig(
        name=name,
        vocab_size=_whole(fields, "vocab_size", where),
        emb_dim=width,
        num_layers=_whole(fields, "num_hidden_layers", where),
        num_heads=heads,
        num_kv_heads=_whole(fields, "num_key_value_heads", where),
        head_dim=_whole(fields, "head_dim", where),
        mlp_dim=_whole(fields, "intermediate_size", where),
        max_position_embeddings=_whole(fields, "max_position_embeddings", where),
        rope_theta=theta,
        rope_scaling=scaling,
        rms_norm_eps=float(_needed(fields, "rms_norm_eps", where)),
        tie_word_embeddings=bool(fields.get("tie_word_embeddings", False)),
    )


def _needed(fields: Mapping[str, Any], key: str, where: str) -> Any:
    if fields.get(key) is None:
        raise ValueError(f"{where}: {key} is missing; without it the model cannot be rebuilt")
    return fields[key]


def _whole(fields: Mapping[str, Any], key: str, where: str) -> int:
    value = _needed(fields, key, where)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{where}: {key} must be a whole number, found {value!r}")
    return value


def _refuse_other_architectures(fields: Mapping[str, Any], where: str) -> None:
    found = fields.get("architectures")
    if found != [ARCHITECTURE]:
        raise ValueError(f"{where}: architectures is {found!r}; only [{ARCHITECTURE!r}] can be imported")
    must_be: dict[str, tuple[Any, ...]] = {
        "model_type": (None, "llama"),
        "hidden_act": (None, "silu"),
        "attention_bias": (None, False),
        "mlp_bias": (None, False),
        "sliding_window": (None,),
        "partial_rotary_factor": (None, 1.0),
        "quantization_config": (None,),
    }
    for key, allowed in must_be.items():
        if fields.get(key) not in allowed:
            raise ValueError(
                f"{where}: {key} is {fields[key]!r}, which this LLaMA cannot compute; expected {allowed[-1]!r}"
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
    found = [_rope_scaling(value, where) for value in (parameters, scaling) if value is not None]
    if len(found) == 2 and found[0] != found[1]:
        raise ValueError(f"{where}: rope_scaling and rope_parameters disagree: {found[1]} and {found[0]}")
    return theta, found[0] if found else None


def _rope_scaling(fields: Mapping[str, Any], where: str) -> RopeScaling | None:
    kind = fields.get("rope_type", fields.get("type", "default"))
    allowed = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
    if fields.get("partial_rotary_factor") not in (None, 1.0):
        raise ValueError(f"{where}: partial_rotary_factor {fields['partial_rotary_factor']!r} is not supported")
    numbers = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    if kind == "llama3":
        allowed |= set(numbers)
    elif kind != "default":
        raise ValueError(f"{where}: rope type {kind!r} is not supported; known: 'default', 'llama3'")
    unknown = sorted(fields.keys() - allowed)
    if unknown:
        raise ValueError(f"{where}: unknown rope field {unknown[0]} for rope type {kind!r}")
    if kind == "default":
        return None
    factor, low, high, original = (_needed(fields, key, f"{where}: rope scaling") for key in numbers)
    return RopeScaling(float(factor), float(low), float(high), int(original))


def config_to_huggingface(config: LlamaConfig, dtype: str, bos_id: int | None, eos_id: int | None) -> dict[str, Any]:
    """The config.json of a model, in the layout that transformers 4 and 5 both read."""
    scaling = config.rope_scaling
    return {
        "_name_or_path": config.name,
        "architectures": [ARCHITECTURE],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.emb_dim,
        "intermediate_size": config.mlp_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling
        and {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_max_position_embeddings,
        },
        "tie_word_embeddings": config.tie_word_embeddings,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "torch_dtype": dtype,
        "use_cache": True,
    }


class HuggingFaceSource:
    """Reads a Hugging Face folder row by row; opening it checks every tensor's name and shape."""

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
        with contextlib.ExitStack() as stack:
            self._open: dict[str, Any] = {}
            for file in self._files():
                try:
                    self._open[file] = stack.enter_context(safetensors.safe_open(self.folder / file, framework="np"))
                except safetensors.SafetensorError as error:
                    raise ValueError(f"{self.folder / file} is damaged ({error}); download this file again") from error
            self._file_of = self._locate()
            self._check()
            self._stack = stack.pop_all()

    def __enter__(self) -> "HuggingFaceSource":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _files(self) -> list[str]:
        index, single = self.folder / INDEX, self.folder / SINGLE
        if index.exists() and single.exists():
            raise ValueError(f"{self.folder} holds both {SINGLE} and {INDEX}; delete the one that is stale")
        if single.exists():
            return [SINGLE]
        if not index.exists():
            raise FileNotFoundError(
                f"{self.folder} holds neither {SINGLE} nor {INDEX}. If it has pytorch_model*.bin files, save the model "
                "with safe_serialization=True first"
            )
        files = sorted(set(self._weight_map().values()))
        for file in files:
            if not (self.folder / file).exists():
                raise FileNotFoundError(f"{self.folder / file}, which {INDEX} names, is missing; download it")
        return files

    def _weight_map(self) -> dict[str, str]:
        index = read_json(self.folder / INDEX)
        if not isinstance(index, dict) or not isinstance(index.get("weight_map"), dict):
            raise ValueError(f"{self.folder / INDEX}: weight_map is missing; download this file again")
        return index["weight_map"]

    def _locate(self) -> dict[str, str]:
        """{tensor: file}; a tensor in two files, or elsewhere than the index says, is an error."""
        found: dict[str, str] = {}
        for file, reader in self._open.items():
            for name in reader.keys():  # noqa: SIM118 - a reader is not iterable
                if name in found:
                    raise ValueError(f"tensor {name} is in both {self.folder / found[name]} and {self.folder / file}")
                found[name] = file
        if list(self._open) == [SINGLE]:
            return found
        for name, file in self._weight_map().items():
            if found.get(name) != file:
                raise ValueError(f"{self.folder / file}: tensor {name} is missing, though {INDEX} says it is here")
        return found

    def _check(self) -> None:
        infos = {}
        for name, file in self._file_of.items():
            if name.endswith(BUFFER_SUFFIX):
                continue
            tensor = self._open[file].get_slice(name)
            infos[name] = TensorInfo(tuple(tensor.get_shape()), str(self.folder / file))
            if tensor.get_dtype() not in FLOAT_DTYPES:
                raise ValueError(
                    f"{self.folder / file}: tensor {name} has dtype {tensor.get_dtype()}, expected one of "
                    f"{', '.join(FLOAT_DTYPES)}; quantized safetensors cannot be imported"
                )
        if self.config.tie_word_embeddings and LM_HEAD.huggingface in infos:
            self._check_tied_copy(infos.pop(LM_HEAD.huggingface), infos)
        check_tensors(infos, self.config, "huggingface", str(self.folder))

    def _check_tied_copy(self, head: TensorInfo, infos: Mapping[str, TensorInfo]) -> None:
        """A tied model may repeat its embedding as an output projection, but only bit for bit."""
        embedding = infos.get(EMBEDDING.huggingface)
        same = embedding is not None and embedding.shape == head.shape == foreign_shape(EMBEDDING, self.config)
        if same:
            for start, stop in row_blocks(EMBEDDING, self.config, BLOCK_BYTES):
                ours = self.read_rows(EMBEDDING.huggingface, start, stop)
                same = same and np.array_equal(ours, self.read_rows(LM_HEAD.huggingface, start, stop))
        if not same:
            raise ValueError(
                f"{head.file}: tensor {LM_HEAD.huggingface} of shape {list(head.shape)} differs from "
                f"{EMBEDDING.huggingface}, though {self.folder / 'config.json'} says that they are tied; set "
                "tie_word_embeddings to false there if the model has an output projection of its own"
            )

    def tokenizer_files(self) -> dict[str, bytes]:
        """{file name: content} of the folder's tokenizer."""
        return tokenizer_files(self.folder)

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of a tensor in their stored dtype."""
        return self._open[self._file_of[name]].get_slice(name)[start:stop]


def export_huggingface(
    folder: pathlib.Path,
    config: LlamaConfig,
    read_layer: Callable[[str, int | None], np.ndarray],
    *,
    dtype: str,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    bos_id: int | None = None,
    eos_id: int | None = None,
    on_tensor: Callable[[int], object] = lambda num_bytes: None,
) -> tuple[int, int]:
    """Writes config.json and safetensors files into an existing folder, holding one shard in memory at a time.

    Args:
      folder: where to write.
      config: the model.
      read_layer: (our path, layer or None) → one layer of our leaf.
      dtype: float32, bfloat16 or float16; a value too large for it raises ValueError naming the tensor.
      max_shard_bytes: start a new file before this size; a single tensor may be larger.
      bos_id, eos_id: special ids for config.json.
      on_tensor: called with the bytes of every tensor written.

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
            on_tensor(tensors[name].nbytes)
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    if len(shards) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    write_json(folder / "config.json", config_to_huggingface(config, dtype, bos_id, eos_id))
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


def generation_config(existing: bytes | None, bos_id: int | None, eos_id: int | None) -> dict[str, Any]:
    """generation_config.json: the source's own if it had one, else the special ids."""
    if existing is not None:
        return json.loads(existing)
    ids = {"bos_token_id": bos_id, "eos_token_id": eos_id}
    return {key: value for key, value in ids.items() if value is not None}
