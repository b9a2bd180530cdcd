"""Answers of a model that is no run's business: `humpback generate --model MODEL`."""

from collections.abc import Mapping, Sequence
from typing import Any

from humpback_jax.asking.asked import Asked
from humpback_jax.files import PathLike
from humpback_jax.run_files import ANSWERS_STAGE
from humpback_jax.runtime.compilation_cache import default_cache
from humpback_jax.stages.generate import answers_name, generate, with_options
from humpback_jax.stages.jobs import GenerationConfig
from humpback_jax.stages.stage import Stage


def answer_with_model(
    asked: Asked,
    instructions: Sequence[tuple[str, str]],
    tags: Sequence[str] | None,
    directory: PathLike | None,
    options: Mapping[str, Any],
) -> tuple[Stage, GenerationConfig]:
    """Answers (id, instruction) pairs; returns the finished stage and the settings.

    Args:
      asked: the model, with its defaults.
      instructions: (id, text) of each.
      tags: None for those of the model's run, or none.
      directory: None for a folder of the cache.
      options: as `with_options` takes them.
    """
    config, tags = with_options(asked.config, **options), asked.tags if tags is None else tags
    if directory is None:
        directory = default_cache() / ANSWERS_STAGE / answers_name(asked.model, instructions, config, tags)
    return generate(directory, asked.model, instructions, asked.prompts, config, tags), config
