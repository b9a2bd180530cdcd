"""The native model folder that every stage reads and writes: card, parameters, tokenizer.

MODEL_DIR/humpback_model.json   architecture, dtype, where the weights came from, chat format, tags, how it was trained
MODEL_DIR/params/               Orbax checkpoint of the parameter tree
MODEL_DIR/tokenizer/            tokenizer.json or tokenizer.model, tokenizer_config.json
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from humpback_jax.files import PathLike, read_json, write_json
from humpback_jax.models.config import REGISTRY, LlamaConfig, config_from_dict
from humpback_jax.runtime.processes import is_leader
from humpback_jax.tokenizers import CHAT_FORMATS
from humpback_jax.weights.mapping import check_params, flatten
from humpback_jax.weights.params_store import params_sha256, read_params, stored_params_sha256, write_params
from humpback_jax.weights.staging import staged_folder

FORMAT_VERSION = 1
CARD, PARAMS, TOKENIZER = "humpback_model.json", "params", "tokenizer"
# Its key on disk from before it was told apart from a tokenizer's Jinja template.
CHAT_FORMAT_KEY = "chat_template"


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What `humpback_model.json` says.

    Attributes:
      config: the architecture.
      param_dtype: dtype of the stored parameters.
      source: where the weights came from, for people.
      chat_format: one of `CHAT_FORMATS`, or None when the source has no opinion.
      params_sha256: `params_sha256` of the stored tree.
      tags: what is appended to instructions when the model is asked, behind a blank line; "" for nothing, None when
        the source has no opinion.
      training: what the model was trained on and how, for people; empty for weights that came from elsewhere.
    """

    config: LlamaConfig
    param_dtype: str
    source: str
    chat_format: str | None
    params_sha256: str | None
    tags: str | None = None
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model folder in memory: its card, its parameters, and where its tokenizer lies (see `load_tokenizer`)."""

    card: ModelCard
    params: dict[str, Any]
    tokenizer_dir: str

    @property
    def config(self) -> LlamaConfig:
        """The architecture."""
        return self.card.config


def is_model_folder(path: PathLike) -> bool:
    """Whether `path` holds a complete native model."""
    return (epath.Path(path) / CARD).exists()


def read_model_card(path: PathLike) -> ModelCard:
    """Reads the card only. FileNotFoundError says what to type to get a model there."""
    folder = epath.Path(path)
    if not is_model_folder(folder):
        raise FileNotFoundError(_how_to_get(folder))
    fields = read_json(folder / CARD)
    if not isinstance(fields, dict) or fields.get("format_version") != FORMAT_VERSION:
        version = fields.get("format_version") if isinstance(fields, dict) else fields
        raise ValueError(f"{folder / CARD}: format_version {version!r}, this version reads {FORMAT_VERSION}")
    try:
        return ModelCard(
            config=config_from_dict(fields["config"]),
            param_dtype=fields["param_dtype"],
            source=fields["source"],
            chat_format=fields[CHAT_FORMAT_KEY],
            params_sha256=fields.get("params_sha256"),
            tags=fields.get("tags"),
            training=fields.get("training", {}),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / CARD}: missing or unknown field ({error}); import the model again") from error


def load_model_folder(path: PathLike, shardings: Mapping | None = None, dtype: Any = None) -> LoadedModel:
    """Loads a native model.

    Args:
      path: the model folder, local or `gs://`.
      shardings: tree of jax.sharding.Sharding shaped like the parameters; default everything on the first device.
      dtype: cast the parameters while reading; default the stored dtype.
    """
    card = read_model_card(path)
    folder = epath.Path(path)
    stored = dtype if dtype is not None else card.param_dtype
    params = read_params(folder / PARAMS, card.config, jax.numpy.dtype(stored), shardings)
    return LoadedModel(card, params, os.fspath(folder / TOKENIZER))


def save_model_folder(
    path: PathLike,
    config: LlamaConfig,
    params: Mapping,
    tokenizer_dir: PathLike,
    *,
    source: str,
    chat_format: str | None = None,
    tags: str | None = None,
    training: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> ModelCard:
    """Writes a native model; a reader sees all of it or none of it, also after `kill -9`.

    On several hosts, or on `gs://` where nothing can be renamed, the folder is written in place and its card, without
    which nobody reads it, comes last; elsewhere it is built beside `path` and renamed.

    Args:
      path: the model folder to make.
      config: the architecture.
      params: parameter tree of jax or numpy arrays (memory-mapped ones are streamed), all of one dtype.
      tokenizer_dir: folder with the tokenizer's files, copied.
      source: where the weights came from, for people.
      chat_format: one of `CHAT_FORMATS`, or None.
      tags, training: see `ModelCard`.
      overwrite: replace an existing folder instead of raising FileExistsError.
    """
    check_params(params, config, f"cannot write {path}")
    if chat_format is not None and chat_format not in CHAT_FORMATS:
        raise ValueError(f"unknown chat format {chat_format!r}; choose from {', '.join(CHAT_FORMATS)}")
    dtypes = {str(leaf.dtype) for leaf in flatten(params).values()}
    if len(dtypes) != 1:
        raise ValueError(f"cannot write {path}: parameters of several dtypes {sorted(dtypes)}; cast them to one")
    addressable = all(getattr(leaf, "is_fully_addressable", True) for leaf in jax.tree.leaves(dict(params)))
    digest = params_sha256(params) if addressable else None
    card = ModelCard(config, dtypes.pop(), source, chat_format, digest, tags, training or {})
    if jax.process_count() == 1 and "://" not in os.fspath(path):
        with staged_folder(path, overwrite=overwrite) as folder:
            return _write_in(epath.Path(folder), card, params, epath.Path(tokenizer_dir))
    folder = epath.Path(path)
    if overwrite and is_model_folder(folder) and _writes():
        (folder / CARD).unlink()
    elif not overwrite and is_model_folder(folder):
        raise FileExistsError(f"{folder} already exists; choose another destination or delete it first")
    return _write_in(folder, card, params, epath.Path(tokenizer_dir))


def _writes() -> bool:
    """A process by itself writes what it holds; of several that hold the arrays together, the leader."""
    return jax.process_count() == 1 or is_leader()


def _write_in(folder: epath.Path, card: ModelCard, params: Mapping, tokenizer_dir: epath.Path) -> ModelCard:
    """Returns the card; only one process writes it, and knows the hash of a tree that is spread over several."""
    write_params(folder / PARAMS, params)
    if not _writes():
        return card
    if card.params_sha256 is None:  # spread over several hosts: none of them holds all bytes before they are written
        card = dataclasses.replace(card, params_sha256=stored_params_sha256(folder / PARAMS, card.config))
    (folder / TOKENIZER).mkdir(parents=True, exist_ok=True)
    for file in sorted(tokenizer_dir.iterdir()):
        (folder / TOKENIZER / file.name).write_bytes(file.read_bytes())
    fields = {"format_version": FORMAT_VERSION} | dataclasses.asdict(card)
    for name, unsaid in (("tags", None), ("training", {})):
        if fields[name] == unsaid:
            del fields[name]
    fields[CHAT_FORMAT_KEY] = fields.pop("chat_format")
    write_json(folder / CARD, fields)
    return card


def _how_to_get(folder: epath.Path) -> str:
    name = folder.name
    if (folder / "config.json").exists() or name.endswith((".gguf", ".whl", ".zip")):
        return f"{folder} is a foreign model; convert it first: humpback weights import {folder} MODEL_DIR"
    message = f"no model at {folder} ({CARD} is missing). "
    if os.fspath(folder) in REGISTRY:
        message += f"{name} is the name of a size, not a folder. "
    return message + (
        "Get one with `humpback weights fetch smollm2_135m`, with `humpback weights fetch ORG/NAME` from the Hugging "
        f"Face hub, or from files you have with `humpback weights import SRC {folder}`"
    )
