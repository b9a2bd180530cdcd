"""Training examples as a model would see them, for `humpback data show`."""

from typing import Any

from humpback_jax.data.examples import Example, supervised_examples
from humpback_jax.data.pairs import read_pairs
from humpback_jax.prompts.prompts import TAG_CHOICES
from humpback_jax.stages.sources import base_model
from humpback_jax.tokenizers import Tokenizer


def training_examples(
    path: str, model: str, direction: str, tags: str
) -> tuple[Tokenizer, list[Example], dict[str, Any]]:
    """(tokenizer, examples, counts) of a pairs file under a model's tokenizer and chat format."""
    handle = base_model(model, None, None)
    report = read_pairs(path)
    chosen = TAG_CHOICES[tags] if direction == "forward" else ()
    examples, _ = supervised_examples(report.pairs, handle.tokenizer, handle.chat_format, direction, tags=chosen)
    return handle.tokenizer, examples, report.counts
