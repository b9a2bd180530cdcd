"""Hugging Face folders: config.json and safetensors files, in and out, tensor by tensor."""

import json
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from humpback_jax.files import PathLike, read_json, write_json
from humpback_jax.models.config import LlamaConfig
from humpback_jax.models.dtypes import STORED, dtype_of
from humpback_jax.runtime.progress import ProgressReporter
from humpback_jax.tokenizers import GENERATION, tokenizer_files
from humpback_jax.weights.families import FAMILIES
from humpback_jax.weights.huggingface_config import config_from_huggingface, config_to_huggingface
from humpback_jax.weights.mapping import (
    EMBEDDING,
    LM_HEAD,
    Format,
    check_tensors,
    foreign_shape,
    foreign_slots,
    row_blocks,
    to_foreign,
)
from humpback_jax.weights.tensor_files import FLOAT_DTYPES, SafetensorsFile, TensorFile, TorchFile

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
LAYOUTS: tuple[tuple[str, str, Callable[[pathlib.Path], TensorFile]], ...] = (
    (INDEX, SINGLE, SafetensorsFile),
    ("pytorch_model.bin.index.json", "pytorch_model.bin", TorchFile),
)
# Of families that fuse tensors: in which one a module's rows stand, in this order.
FUSED = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj"), "qkv_proj"),
    **dict.fromkeys(("gate_proj", "up_proj"), "gate_up_proj"),
}
# Rotary frequencies that early checkpoints stored as a buffer; they follow from rope_theta and hold no weights.
BUFFER_SUFFIX = ".rotary_emb.inv_freq"
BLOCK_BYTES = 64 << 20
MAX_SHARD_BYTES = 2_000_000_000


class HuggingFaceSource:
    """Reads a Hugging Face folder, memory-mapped, row by row; opening it checks every tensor's name and shape.

    Tensors of families that fuse several into one are known here by the names of their parts.
    """

    interleaved = False
    form: Format = "huggingface"

    def __init__(self, folder: PathLike, name: str | None = None) -> None:
        self.folder = self.where = pathlib.Path(folder)
        path = self.folder / "config.json"
        fields = read_json(path)
        if not isinstance(fields, dict):
            raise ValueError(f"{path}: expected a JSON object")
        named = pathlib.PurePath(str(fields.get("_name_or_path") or self.folder.absolute().name)).name
        self.config = config_from_huggingface(fields, str(path), name or named)
        self._eos_ids = fields.get("eos_token_id")
        index, single, opener = self._layout()
        files = self._index(index, single)
        self._open = {file: opener(self.folder / file) for file in sorted(set(files.values())) or [single]}
        self._file_of = self._locate(files, index)
        self._part_of = {part: (name, first) for name, parts in stored(self.config).items() for part, first in parts}
        self._check()

    def _layout(self) -> tuple[str, str, Callable[[pathlib.Path], TensorFile]]:
        """Name of the index, of the file that holds all, and what opens a file; safetensors where there are any."""
        for index, single, opener in LAYOUTS:
            if (self.folder / index).exists() or (self.folder / single).exists():
                return index, single, opener
        raise FileNotFoundError(
            f"{self.folder} holds neither {SINGLE} nor {INDEX}, nor pytorch_model.bin or its index; download the files "
            "with the weights"
        )

    def _index(self, name: str, single: str) -> dict[str, str]:
        """{tensor: file} as the index says; empty where all tensors are in one file."""
        path = self.folder / name
        if path.exists() and (self.folder / single).exists():
            raise ValueError(f"{self.folder} holds both {single} and {name}; delete the one that is stale")
        if not path.exists():
            return {}
        index = read_json(path)
        if not isinstance(index, dict) or not isinstance(index.get("weight_map"), dict):
            raise ValueError(f"{path}: weight_map is missing; download this file again")
        return index["weight_map"]

    def _locate(self, index: Mapping[str, str], index_name: str) -> dict[str, str]:
        """{tensor: file}; a tensor in two files, or elsewhere than the index says, is an error."""
        file_of: dict[str, str] = {}
        for file, reader in self._open.items():
            for name in reader.names():
                if name in file_of:
                    raise ValueError(f"tensor {name} is in both {self.folder / file_of[name]} and {self.folder / file}")
                file_of[name] = file
        for name, file in index.items():
            if file_of.get(name) != file:
                raise ValueError(f"{self.folder / file}: tensor {name} is missing, though {index_name} says it is here")
        return file_of

    def _check(self) -> None:
        shapes: dict[str, Sequence[int]] = {}
        for name, file in self._file_of.items():
            if name.endswith(BUFFER_SUFFIX):
                continue
            shapes[name], dtype = self._open[file].shape(name), self._open[file].dtype(name)
            if dtype not in FLOAT_DTYPES:
                raise ValueError(
                    f"{self.folder / file}: tensor {name} has dtype {dtype}, expected one of "
                    f"{', '.join(FLOAT_DTYPES)}; quantized tensors cannot be imported"
                )
        tied_copy = shapes.pop(LM_HEAD.huggingface, None) if self.config.tie_word_embeddings else None
        files = {name: str(self.folder / file) for name, file in self._file_of.items()}
        check_tensors(shapes, self.config, "huggingface", str(self.folder), files, stored_shapes(self.config))
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
        whole, first = self._part_of.get(name, (name, 0))
        return self._open[self._file_of[whole]].rows(whole, first + start, first + stop)


def stored(config: LlamaConfig) -> dict[str, list[tuple[str, int]]]:
    """{tensor of a file: its parts, each with the first of its rows}, in file order; most are their only part."""
    tensors: dict[str, list[tuple[str, int]]] = {}
    rows: dict[str, int] = {}
    for name, slot in foreign_slots(config, "huggingface").items():
        whole = _fused_name(name) if FAMILIES[config.family].fused else name
        first = rows.get(whole, 0)
        tensors.setdefault(whole, []).append((name, first))
        rows[whole] = first + foreign_shape(slot.rule, config)[0]
    return tensors


def _fused_name(name: str) -> str:
    module = name.removesuffix(".weight").rpartition(".")[2]
    return name.replace(module, FUSED.get(module, module))


def stored_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a file."""
    slots, shapes = foreign_slots(config, "huggingface"), {}
    for name, parts in stored(config).items():
        of_parts = [foreign_shape(slots[part].rule, config) for part, _ in parts]
        shapes[name] = (sum(shape[0] for shape in of_parts), *of_parts[0][1:])
    return shapes


def write_config(
    folder: pathlib.Path, config: LlamaConfig, dtype: str, bos_id: int | None, eos_id: int | list[int] | None
) -> None:
    """Writes the config.json of an exported model."""
    write_json(folder / "config.json", config_to_huggingface(config, dtype, bos_id, eos_id))


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
        for name, slots in names.items():
            parts = [to_foreign(read_layer(slot.rule.path, slot.layer), slot.rule, config) for slot in slots]
            tensors[name] = cast(parts[0] if len(parts) == 1 else np.concatenate(parts), dtype, name)
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
    slots, shapes = foreign_slots(config, "huggingface"), stored_shapes(config)
    for name, parts in stored(config).items():
        num_bytes = itemsize * math.prod(shapes[name])
        if shard and size + num_bytes > max_bytes:
            yield shard
            shard, size = {}, 0
        shard[name] = [slots[part] for part, _ in parts]
        size += num_bytes
    yield shard


def cast(array: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """The array in another float dtype; ValueError if a finite value would become infinite."""
    with np.errstate(over="ignore"):
        result = array.astype(dtype_of(dtype, STORED), copy=False)
    if dtype != "float32" and not np.array_equal(np.isfinite(result), np.isfinite(array)):
        raise ValueError(f"tensor {name} holds values too large for {dtype}; use float32")
    return result
