"""Pairs become token ids: a prompt, which carries no loss, and an answer, whose end-of-turn token is learned."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.data.pairs import Pair
from humpback_jax.prompts.prompts import Prompts, load_prompts
from humpback_jax.tokenizers import Tokenizer

DIRECTIONS = ("forward", "backward")


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One training example.

    Attributes:
      prompt_ids: int32 [p], p >= 1: no loss.
      answer_ids: int32 [a], a >= 1: the loss is on these; the last is the end-of-turn token.
      id: the pair's id.
    """

    prompt_ids: np.ndarray
    answer_ids: np.ndarray
    id: str

    def __post_init__(self) -> None:
        for name in ("prompt_ids", "answer_ids"):
            ids = np.asarray(getattr(self, name), np.int32)
            if ids.ndim != 1 or not ids.size:
                raise ValueError(f"example {self.id!r}: {name} has shape {ids.shape}; expected one id or more")
            object.__setattr__(self, name, ids)

    @property
    def num_positions(self) -> int:
        """Positions that the example takes in a row: its tokens but the last, which is only a target."""
        return len(self.prompt_ids) + len(self.answer_ids) - 1

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Example)
            and self.id == other.id
            and np.array_equal(self.prompt_ids, other.prompt_ids)
            and np.array_equal(self.answer_ids, other.answer_ids)
        )

    def __hash__(self) -> int:
        return hash(self.id)


@dataclasses.dataclass(frozen=True)
class ExamplePair:
    """Two answers to one prompt, the first of them preferred; both stand in one row, side by side.

    Attributes:
      chosen, rejected: the examples.
      id: the pair's id.
      reference: log-probabilities of both answers under the reference model, in nats; None where none are known.
    """

    chosen: Example
    rejected: Example
    id: str
    reference: tuple[float, float] | None = None

    @property
    def num_positions(self) -> int:
        """Positions that both answers take in a row, each with the prompt before it."""
        return self.chosen.num_positions + self.rejected.num_positions


Trainable = Example | ExamplePair


def supervised_examples(
    pairs: Iterable[Pair],
    tokenizer: Tokenizer,
    chat_format: ChatFormat,
    direction: str = "forward",
    prompts: Prompts | None = None,
    tags: Sequence[str] = (),
    max_length: int | None = None,
) -> tuple[list[Example], dict[str, Any]]:
    """Encodes pairs for finetuning (paper, sections 2.2 and 2.3).

    Args:
      pairs: what to encode.
      tokenizer: gives the ids.
      chat_format: gives the turns.
      direction: "forward": tagged instruction → output; "backward": backward prompt of the output → instruction.
      prompts: templates and tags; None: the package's.
      tags: "seed" and "web" for the forward direction; the backward prompt has a tag only if its template holds one.
      max_length: the row length, in positions: an example of n tokens takes n - 1. A longer one is left out, never cut.

    Returns:
      The examples in the order of the pairs, and `{"read": n, "kept": m, "rejected": {"too_long": k}}`.
    """
    prompts = prompts or load_prompts()
    encoded = [encode_pair(pair, tokenizer, chat_format, direction, prompts, tags) for pair in pairs]
    kept = [example for example in encoded if max_length is None or example.num_positions <= max_length]
    too_long = len(encoded) - len(kept)
    return kept, {"read": len(encoded), "kept": len(kept), "rejected": {"too_long": too_long} if too_long else {}}


def encode_pair(
    pair: Pair, tokenizer: Tokenizer, chat_format: ChatFormat, direction: str, prompts: Prompts, tags: Sequence[str]
) -> Example:
    """One example of `supervised_examples`, of any length; ValueError on an unknown direction or misplaced tags."""
    if direction not in DIRECTIONS:
        raise ValueError(f"unknown direction {direction!r}; choose one of {', '.join(DIRECTIONS)}")
    if direction == "forward":
        user, answer = prompts.tagged(pair.instruction, tags), pair.output
    elif tags:
        raise ValueError("a backward example takes no tags; write the tag into the backward.txt template instead")
    else:
        user, answer = prompts.backward(pair.output), pair.instruction
    prompt_ids, answer_ids = chat_format.prompt_ids(user, tokenizer), chat_format.answer_ids(answer, tokenizer)
    return Example(np.asarray(prompt_ids, np.int32), np.asarray(answer_ids, np.int32), pair.id)
