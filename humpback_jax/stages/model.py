"""A model as the stages see it: a folder, its tokenizer, its chat format, and an engine made from it on demand."""

import dataclasses
from collections.abc import Sequence

import jax
from etils import epath

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.files import PathLike
from humpback_jax.inference.engine import Engine
from humpback_jax.inference.precision import quantize_params
from humpback_jax.inference.requests import EngineConfig
from humpback_jax.models.dtypes import dtype_of
from humpback_jax.models.llama import Llama
from humpback_jax.tokenizers import Tokenizer, load_tokenizer
from humpback_jax.weights.find import find_model
from humpback_jax.weights.model_folder import ModelCard, load_model_folder, read_model_card


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

    def all_prompt_ids(self, users: Sequence[str]) -> list[tuple[int, ...]]:
        """What `prompt_ids` gives for every user turn, on all cores."""
        return [tuple(ids) for ids in self.chat_format.all_prompt_ids(users, self.tokenizer)]

    def begun_ids(self, answer: str) -> tuple[int, ...]:
        """Token ids of the beginning of an answer, as they follow a prompt."""
        return tuple(self.chat_format.answer_ids(answer, self.tokenizer)[:-1])

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        return tuple(self.chat_format.stop_ids(self.tokenizer))

    def load_params(self, shardings: dict, dtype: str) -> dict:
        """The parameters, placed on the mesh, in `dtype`."""
        return load_model_folder(self.path, shardings, dtype_of(dtype)).params

    def engine(self, config: EngineConfig, dtype: str, weight_dtype: str | None = None) -> Engine:
        """Loads the weights onto the first of this host's devices."""
        return self.engines(config, dtype, weight_dtype, limit=1)[0]

    def engines(
        self, config: EngineConfig, dtype: str, weight_dtype: str | None = None, limit: int | None = None
    ) -> list[Engine]:
        """Replicas: an engine with its own copy of the weights on every group of this host's devices.

        A group larger than the host makes one engine of the devices of all hosts, which must all make the same calls.

        Args:
          config: `tensor_parallelism` is the size of a group.
          dtype: of activations, and of weights and cache where nothing else is said.
          weight_dtype: of weights; `int8` ones are made from weights loaded in `dtype`.
          limit: at most so many engines.

        Raises:
          ValueError: an unknown dtype, or the devices do not fall into whole groups.
        """
        quantized = weight_dtype == "int8"
        loaded = dtype if quantized or weight_dtype is None else weight_dtype
        if spans_hosts(config):
            groups = [jax.devices()]
            device_groups(groups[0], config.tensor_parallelism)  # whole copies, or an error
        else:
            groups = device_groups(jax.local_devices(), config.tensor_parallelism)[:limit]
        model = Llama(self.card.config, dtype=dtype_of(dtype), param_dtype=dtype_of(dtype))
        return [
            Engine(
                model,
                lambda shardings: self.load_params(shardings, loaded),
                config,
                devices=group,
                transform_params=quantize_params if quantized else None,
            )
            for group in groups
        ]


def spans_hosts(config: EngineConfig) -> bool:
    """True where one copy of the weights needs devices of more hosts than this one."""
    return jax.process_count() > 1 and config.tensor_parallelism > jax.local_device_count()


def device_groups(devices: Sequence[jax.Device], size: int) -> list[list[jax.Device]]:
    """Neighbouring devices in groups of `size`; ValueError where some would be left over."""
    if size < 1 or len(devices) % size:
        raise ValueError(
            f"EngineConfig.tensor_parallelism is {size}, which does not divide {len(devices)} devices; "
            "choose a divisor, or show the process fewer devices"
        )
    return [list(devices[i : i + size]) for i in range(0, len(devices), size)]


def open_named_model(model: PathLike, chat_format: str | None = None) -> ModelHandle:
    """The model that people name so: a folder, a stage, a run, foreign weights, a name; see `find_model`."""
    return open_model(find_model(model), chat_format)


def open_model(path: PathLike, chat_format: str | None = None) -> ModelHandle:
    """Reads the card and the tokenizer of a model folder.

    `chat_format` overrides what the card says; without either, the tokenizer's own template, or plain text.
    """
    folder = epath.Path(path)
    card = read_model_card(folder)
    tokenizer = load_tokenizer(folder / "tokenizer")
    fallback = "tokenizer" if tokenizer.chat_template else "plain"
    return ModelHandle(folder, card, tokenizer, ChatFormat(chat_format or card.chat_format or fallback))
