"""Training examples for the eye: which tokens carry the loss."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice

from rich.panel import Panel
from rich.text import Text

from humpback_jax.data.examples import Example
from humpback_jax.tokenizers import Tokenizer

PROMPT_STYLE = "bright_black"
ANSWER_STYLE = "green"


def show_examples(
    examples: Iterable[Example], tokenizer: Tokenizer, limit: int = 3, with_ids: bool = False
) -> list[Panel]:
    """One rich panel per example: supervised tokens green, prompt tokens grey.

    Args:
      examples: what to show.
      tokenizer: the one that made the ids.
      limit: at most so many.
      with_ids: show token by token, each with its id. Otherwise only tokens without a text, such as the end of
        turn, are shown as an id: ⟨2⟩.
    """
    return [_panel(example, tokenizer, with_ids) for example in islice(examples, limit)]


def _panel(example: Example, tokenizer: Tokenizer, with_ids: bool) -> Panel:
    text = Text()
    for ids, style in ((example.prompt_ids.tolist(), PROMPT_STYLE), (example.answer_ids.tolist(), ANSWER_STYLE)):
        for piece in (f"{tokenizer.decode([i])}⟨{i}⟩" for i in ids) if with_ids else _runs(ids, tokenizer):
            text.append(piece, style=style)
    counts = f"{len(example.prompt_ids)} prompt + {len(example.answer_ids)} supervised tokens"
    return Panel(text, title=Text(example.id), subtitle=counts, title_align="left", subtitle_align="right")


def _runs(ids: Sequence[int], tokenizer: Tokenizer) -> Iterator[str]:
    """Text of the tokens that have one, decoded together as far as they go; ids of the others."""
    for has_text, group in groupby(ids, key=lambda token: bool(tokenizer.decode([token]))):
        run = list(group)
        yield tokenizer.decode(run) if has_text else "".join(f"⟨{token}⟩" for token in run)
