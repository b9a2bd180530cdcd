"""Several turns as one prompt: what a chat with a model is made of."""

from collections.abc import Sequence

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.tokenizers import Tokenizer


def conversation_ids(
    chat_format: ChatFormat, history: Sequence[tuple[str, str]], user: str, tokenizer: Tokenizer
) -> list[int]:
    """Ids of (user's turn, answer) pairs and of a last user's turn, up to where its answer starts; one BOS in all.

    Without history these are the format's `prompt_ids`.
    """
    ids: list[int] = []
    for turn, answer in history:
        ids += _follow(ids, chat_format.prompt_ids(turn, tokenizer), tokenizer)
        ids += chat_format.answer_ids(answer, tokenizer)
    return ids + _follow(ids, chat_format.prompt_ids(user, tokenizer), tokenizer)


def _follow(before: Sequence[int], prompt: list[int], tokenizer: Tokenizer) -> list[int]:
    """A turn behind others: BOS stands at the beginning only."""
    has_bos = bool(before) and tokenizer.bos_id is not None and prompt[:1] == [tokenizer.bos_id]
    return prompt[1:] if has_bos else prompt
