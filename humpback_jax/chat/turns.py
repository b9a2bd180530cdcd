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
    users = [turn for turn, _ in history] + [user]
    ids = chat_format.prompt_ids(users[0], tokenizer)
    for (_, answer), following in zip(history, users[1:], strict=True):
        ids += chat_format.answer_ids(answer, tokenizer) + chat_format.next_prompt_ids(following, tokenizer)
    return ids
