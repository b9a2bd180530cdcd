"""A model as the stages see it: a folder, its tokenizer, its chat format, and an engine made from it on demand."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from etils import epath

from humpback_jax.chat import ChatFormat
from humpback_jax.files import PathLike
from humpback_jax.inference.engine import Engine, EngineConfig
from humpback_jax.models.llama import Llama
from humpback_jax.tokenizers import Tokenizer, load_tokenizer
from humpback_jax.weights.model_folder import ModelCard, load_model_folder, read_model_card

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class ModelHandle:
    """A native model folder, its card and its tokenizer; the weights stay on disk."""

    path: epath.Path
    card: ModelCard
    tokenizer: Tokenizer
    chat_format: ChatFormat

    @property
    def sha256(self) -> str:
        """Hash of the weights: names this model in manifests."""
        return self.card.params_sha256 or str(self.path)

    def prompt_ids(self, user: str) -> tuple[int, ...]:
        """Token ids of a prompt that ends where the answer starts."""
        return tuple(self.chat_format.prompt_ids(user, self.tokenizer))

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        return tuple(self.chat_format.stop_ids(self.tokenizer))

    def load_params(self, shardings: dict, dtype: str) -> dict:
        """The parameters, placed on the mesh, in `dtype`."""
        return load_model_folder(self.path, shardings, dtype_of(dtype)).params

    def engine(self, config: EngineConfig, dtype: str) -> Engine:
        """Loads the weights onto this host's devices."""
        model = Llama(self.card.config, dtype=dtype_of(dtype), param_dtype=dtype_of(dtype))
        return Engine(model, lambda shardings: self.load_params(shardings, dtype), config)


def dtype_of(name: str) -> Any:
    """The dtype called `name`; ValueError lists the choices."""
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; choose from {', '.join(DTYPES)}")
    return DTYPES[name]


def open_model(path: PathLike, chat_format: str | None = None) -> ModelHandle:
    """Reads the card and the tokenizer of a model folder.

    `chat_format` overrides what the card says; without either, the tokenizer's own template, or plain text.
    """
    folder = epath.Path(path)
    card = read_model_card(folder)
    tokenizer = load_tokenizer(folder / "tokenizer")
    fallback = "tokenizer" if tokenizer.chat_template else "plain"
    return ModelHandle(folder, card, tokenizer, ChatFormat(chat_format or card.chat_template or fallback))
