"""The model that is asked, with the settings of its run where it has one."""

import dataclasses

import jax

from humpback_jax.align import Recipe
from humpback_jax.inference.engine import Engine
from humpback_jax.inference.requests import EngineConfig
from humpback_jax.prompts.prompts import TAG_CHOICES, Prompts, load_prompts
from humpback_jax.stages.jobs import GenerationConfig
from humpback_jax.stages.model import ModelHandle

ROOM = 512  # new tokens, unless more are asked for
SMALLEST_BUCKET = 64
STEPS_PER_CHUNK = 4  # few, so that a reader sees words as they come


@dataclasses.dataclass(frozen=True)
class Asked:
    """A model, and how it answers where nothing else is said.

    Attributes:
      model: who answers.
      config: shapes, sampling and dtype: those of its run, `Recipe.answering`, or the defaults in float32.
      tags: appended to instructions: `Recipe.answer_tags` of its run, else what its card says.
    """

    model: ModelHandle
    config: GenerationConfig
    tags: tuple[str, ...]

    @property
    def prompts(self) -> Prompts:
        """The texts of the tags."""
        return load_prompts()

    @property
    def window(self) -> int:
        """Tokens of prompt and answer together that the model was made for."""
        return self.model.card.config.max_position_embeddings

    def engine(self, dtype: str | None = None, weight_dtype: str | None = None, room: int | None = None) -> Engine:
        """The model loaded for one question at a time.

        Args:
          dtype: None: that of `config`, but float32 on CPUs, which compute nothing else as fast.
          weight_dtype: None: that of `config`.
          room: longest answer in tokens; None: what `config` has, and `ROOM` at least.
        """
        shapes = self.config.engine
        room = min(room or max(shapes.max_new_tokens, ROOM), self.window - 1)
        engine = EngineConfig(
            slots=1,
            prompt_buckets=doublings(SMALLEST_BUCKET, self.window - 1),
            max_new_tokens=room,
            decode_steps=STEPS_PER_CHUNK,
            share_prefix=False,
            kv_dtype=shapes.kv_dtype,
            tensor_parallelism=shapes.tensor_parallelism,
        )
        own = "float32" if jax.default_backend() == "cpu" else self.config.dtype
        return self.model.engine(engine, dtype or own, weight_dtype or self.config.weight_dtype)


def doublings(first: int, last: int) -> tuple[int, ...]:
    """first, 2 first, 4 first, … below `last`, and `last`."""
    below = [first << n for n in range(last.bit_length()) if first << n < last]
    return (*below, last)


def as_asked(model: ModelHandle, recipe: Recipe | None) -> Asked:
    """A model, asked as the recipe of its run says; None: a model of no run."""
    if recipe is not None:
        return Asked(model, recipe.answering, tuple(recipe.answer_tags))
    last = model.card.config.max_position_embeddings - 1
    shapes = EngineConfig(prompt_buckets=doublings(SMALLEST_BUCKET, last), max_new_tokens=min(ROOM, last))
    words = (model.card.tags or "").strip()
    tags = next((tags for tags in TAG_CHOICES.values() if load_prompts().tagged("", tags).strip() == words), ())
    return Asked(model, GenerationConfig(engine=shapes, dtype="float32"), tags)
