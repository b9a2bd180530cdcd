"""Open Assistant conversations (OASST1): first turns of nested trees and of flat messages, the paper's selection."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

LANGUAGE = "en"


@dataclasses.dataclass(frozen=True)
class Message:
    """What the selection needs of a message; `rank` 0 is the best of its siblings, `quality` is 0..1."""

    id: str
    text: str
    language: str
    deleted: bool
    failed_review: bool
    rank: int | None
    quality: float


@dataclasses.dataclass(frozen=True)
class Conversation:
    """The first turn of a tree: its prompt (None where the file lacks it) and the direct replies."""

    tree_id: str
    prompt: Message | None
    replies: tuple[Message, ...]


def conversations_of_trees(rows: Iterable[tuple[int, dict[str, Any]]], path: str) -> Iterator[Conversation]:
    """First turns of an export with one nested tree per line; ValueError names a line that holds none."""
    for number, row in rows:
        where = f"{path}:{number}"
        prompt = row.get("prompt")
        if not isinstance(prompt, dict):
            raise ValueError(f"{where}: no 'prompt' message; expected one Open Assistant tree per line")
        replies = tuple(_message(reply, where) for reply in prompt.get("replies") or ())
        yield Conversation(str(row.get("message_tree_id")), _message(prompt, where), replies)


def conversations_of_messages(rows: Iterable[tuple[int, dict[str, Any]]], path: str) -> Iterator[Conversation]:
    """First turns of an export with one message per line, in any order; trees in the order of their first message."""
    prompts: dict[str, Message | None] = {}
    replies: dict[str, list[Message]] = {}
    for number, row in rows:
        where = f"{path}:{number}"
        message = _message(row, where)
        tree_id = row.get("message_tree_id")
        if not isinstance(tree_id, str):
            raise ValueError(f"{where}: no 'message_tree_id'; expected one Open Assistant message per line")
        prompts.setdefault(tree_id, None)
        if row.get("parent_id") is None:
            prompts[tree_id] = message
        else:
            replies.setdefault(str(row["parent_id"]), []).append(message)
    for tree_id, prompt in prompts.items():
        yield Conversation(tree_id, prompt, tuple(replies.get(prompt.id, ())) if prompt else ())


def select(conversation: Conversation) -> tuple[str | None, Message | None]:
    """The paper's choice from a conversation (section 3.1): English prompt, its best-ranked English reply.

    Returns:
      (None, reply), or (the reason why there is none, None).
    """
    if conversation.prompt is None:
        return "no_prompt", None
    if reason := _reason(conversation.prompt):
        return f"prompt_{reason}", None
    # Equal ranks do not occur in the published data; the id makes the choice independent of the file's order.
    best = sorted((reply for reply in conversation.replies if reply.rank == 0), key=lambda reply: reply.id)
    if not best:
        return "no_rank_0_reply", None
    if reason := _reason(best[0]):
        return f"reply_{reason}", None
    return None, best[0]


def _reason(message: Message) -> str | None:
    if message.deleted:
        return "deleted"
    if message.failed_review:
        return "failed_review"
    if message.language != LANGUAGE:
        return "not_english"
    return None if message.text else "empty"


def _message(row: Any, where: str) -> Message:
    if not isinstance(row, dict) or not isinstance(row.get("message_id"), str) or not isinstance(row.get("text"), str):
        raise ValueError(f"{where}: a message without 'message_id' or 'text'; expected an Open Assistant export")
    return Message(
        id=row["message_id"],
        text=row["text"].strip(),
        language=str(row.get("lang")),
        deleted=bool(row.get("deleted")),
        failed_review=row.get("review_result") is False,
        rank=row.get("rank"),
        quality=_quality(row.get("labels")),
    )


def _quality(labels: Any) -> float:
    """The mean "quality" label; trees keep labels as a mapping, flat messages as parallel lists. Without one: 0."""
    if not isinstance(labels, dict):
        return 0.0
    if isinstance(labels.get("name"), list):
        return float(dict(zip(labels["name"], labels.get("value", ()), strict=False)).get("quality") or 0.0)
    label = labels.get("quality")
    return float(label.get("value") or 0.0) if isinstance(label, dict) else 0.0
