"""`humpback chat`: a model that stays loaded, asked from a terminal or through a pipe."""

import click

from humpback_jax.command_options import recipe_of_model, tags_option
from humpback_jax.runtime.compilation_cache import use_compilation_cache


@click.command()
@click.argument("model")
@tags_option(None, "Appended to questions (default: those of the model's run).")
@click.option("--max_new_tokens", type=click.IntRange(min=1), help="Longest answer (default: that of the run).")
@click.option("--temperature", type=float, help="Of sampling; 0 is greedy (default: that of the run).")
@click.option("--top_p", type=float, help="Of sampling (default: that of the run).")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Of the draws (default: that of the run).")
@click.option("--dtype", help="Of activations and weights (default: that of the run, but float32 on CPUs).")
@click.option("--weight_dtype", help="Of weights, if another: float32, bfloat16 or int8.")
def chat(
    model: str,
    tags: tuple[str, ...] | None,
    max_new_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    dtype: str | None,
    weight_dtype: str | None,
) -> None:
    """Ask MODEL: a run directory, a stage, a model folder, a Hugging Face folder, a GGUF file, or a name.

    Reads questions line by line, also from a pipe, and prints answers as they are written; /help lists commands.
    """
    use_compilation_cache()
    from humpback_jax.asking.asked import as_asked
    from humpback_jax.asking.conversation import Conversation, Settings
    from humpback_jax.asking.terminal import check_settings, talk
    from humpback_jax.runtime.console import say
    from humpback_jax.stages.model import open_named_model

    handle = open_named_model(model)
    asked = as_asked(handle, recipe_of_model(handle.path))
    say(f"loading {asked.model.path}")
    engine = asked.engine(dtype, weight_dtype, max_new_tokens)
    config = asked.config
    settings = Settings(
        config.sampling.temperature if temperature is None else temperature,
        config.sampling.top_p if top_p is None else top_p,
        min(max_new_tokens or config.engine.max_new_tokens, engine.config.max_new_tokens),
        config.seed if seed is None else seed,
    )
    conversation = Conversation(asked, engine, settings, asked.tags if tags is None else tags)
    check_settings(settings, conversation)
    # What a first question of some words needs; a longer one compiles when it comes.
    shortest = len(conversation.prompt_ids("."))
    engine.compile_generation([shortest, 2 * shortest], asked.model.stop_ids)
    talk(conversation)
