"""Open Assistant's exports, trees and single messages: the paper's selection, and ranked siblings.

The selection (section 3.1): the first turn of each tree, in the wanted languages, and the reply that annotators ranked
best (rank 0). Replies and prompts that are deleted or failed review are left out.
"""

import collections
import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from humpback_jax.data.candidates import Candidate, UnusableError, text_of
from humpback_jax.data.row_files import FileRow, read_rows
from humpback_jax.files import PathLike

SOURCE = "oasst1"
ENGLISH = ("en",)  # what the paper takes
NOT_OASST = "not_open_assistant"


@dataclasses.dataclass(frozen=True)
class Sibling:
    """One of several answers to a prompt, and its rank among them: 0 is the best; `of` is the tree."""

    id: str
    of: str
    rank: int
    instruction: str
    output: str


@dataclasses.dataclass(frozen=True)
class RankedReplies:
    """Replies to one turn of a prompter's, anywhere in a tree, the best first; only those that may be taken.

    Attributes:
      tree: the tree's id.
      id: of the prompter's message.
      turns: all texts from the root to that message, the prompter's and the assistant's by turns.
      replies: (id, text, rank) of each.
      reason: why no pair can be made of them; None where two replies have different ranks.
    """

    tree: str
    id: str
    turns: tuple[str, ...]
    replies: tuple[tuple[str, str, int], ...]
    reason: str | None


@dataclasses.dataclass(frozen=True)
class _Message:
    """What the selection needs of a message; `rank` 0 is the best of its siblings, `quality` is 0..1.

    `reason` says why the message is left out, None where it may be taken.
    """

    id: str
    text: str
    reason: str | None
    rank: int | None
    quality: float


def is_tree(row: dict[str, Any]) -> bool:
    """Whether a row is a tree of messages."""
    return "message_tree_id" in row and isinstance(row.get("prompt"), dict)


def is_message(row: dict[str, Any]) -> bool:
    """Whether a row is one message of a tree."""
    return "message_tree_id" in row and "message_id" in row


def holds_trees(path: PathLike) -> bool:
    """Whether the first row of a file is a tree."""
    first = next(iter(read_rows(path)), None)
    return first is not None and isinstance(first.value, dict) and is_tree(first.value)


def read_siblings(path: PathLike, languages: Sequence[str] = ENGLISH) -> list[Sibling]:
    """Ranked first replies of trees (one nested tree per row), of prompts with two or more of them.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a row is no tree, or no prompt has two ranked replies.
    """
    siblings = []
    for row in read_rows(path):
        try:
            prompt, replies = _tree(row, languages)
        except UnusableError as error:
            raise ValueError(f"{path}:{row.number}: {error.detail or error.reason}") from error
        ranked = [reply for reply in replies if reply.rank is not None and not reply.reason]
        if not prompt.reason and len(ranked) > 1:
            siblings += [Sibling(r.id, prompt.id, int(r.rank or 0), prompt.text, r.text) for r in ranked]
    if not siblings:
        raise ValueError(f"{path}: no prompt has two ranked replies; give an export with ranks")
    return siblings


def ranked_replies(tree: dict[str, Any], languages: Sequence[str] = ENGLISH) -> Iterator[RankedReplies]:
    """Every turn of a prompter's in a tree that has two replies or more, the first turn first.

    Below a message that may not be taken nothing is.

    Raises:
      UnusableError: it is no tree.
    """
    if not isinstance(tree.get("prompt"), dict):
        raise UnusableError(NOT_OASST, "no 'prompt' message; expected one Open Assistant tree per row")
    turns_left: list[tuple[dict[str, Any], tuple[str, ...]]] = [(tree["prompt"], ())]
    while turns_left:
        row, before = turns_left.pop(0)
        prompt = _message(row, languages)
        if prompt.reason:
            continue
        rows = row.get("replies") or ()
        replies = [(reply, _message(reply, languages)) for reply in rows]
        taken = [(message.id, message.text, message.rank) for _, message in replies if not message.reason]
        ranked = sorted((rank, name, text) for name, text, rank in taken if rank is not None)
        turns = (*before, prompt.text)
        if len(rows) > 1:
            reason = "no_two_ranks" if len({rank for rank, _, _ in ranked}) < 2 else None
            found = tuple((name, text, rank) for rank, name, text in ranked)
            yield RankedReplies(str(tree.get("message_tree_id")), prompt.id, turns, found, reason)
        for reply, message in replies:
            if not message.reason:
                turns_left += [(below, (*turns, message.text)) for below in reply.get("replies") or ()]


def trees_of_messages(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Trees of an export with one message per row in any order, in the order of their first messages."""
    messages = {row["message_id"]: dict(row, replies=[]) for row in rows if isinstance(row.get("message_id"), str)}
    for message in messages.values():
        parent = messages.get(message.get("parent_id") or "")
        if parent is not None:
            parent["replies"].append(message)
    for message in messages.values():
        if not message.get("parent_id"):
            yield {"message_tree_id": message.get("message_tree_id"), "prompt": message}


def tree_candidates(rows: Iterable[FileRow], path: PathLike, languages: Sequence[str]) -> Iterator[Candidate]:
    """One per tree, of an export with one nested tree per row."""
    for row in rows:
        where = f"{path}:{row.number}"
        try:
            prompt, replies = _tree(row, languages)
        except UnusableError as error:
            yield Candidate(where, source=SOURCE, reason=error.reason, detail=error.detail)
        else:
            yield _candidate(where, str((row.value or {}).get("message_tree_id")), prompt, replies)


def message_candidates(rows: Iterable[FileRow], path: PathLike, languages: Sequence[str]) -> Iterator[Candidate]:
    """One per tree, of an export with one message per row in any order; trees in the order of their first message."""
    prompts: dict[str, _Message | None] = {}
    replies: dict[str, list[_Message]] = collections.defaultdict(list)
    first: dict[str, str] = {}
    for row in rows:
        where = f"{path}:{row.number}"
        try:
            message = _message(_value(row), languages)
            tree_id = text_of(_value(row).get("message_tree_id"), "message_tree_id")
            if not tree_id:
                raise UnusableError(NOT_OASST, "no 'message_tree_id'; expected one Open Assistant message per row")
        except UnusableError as error:
            yield Candidate(where, source=SOURCE, reason=error.reason, detail=error.detail)
            continue
        first.setdefault(tree_id, where)
        prompts.setdefault(tree_id, None)
        parent = text_of(_value(row).get("parent_id"), "parent_id")
        if parent:
            replies[parent].append(message)
        else:
            prompts[tree_id] = message
    for tree_id, prompt in prompts.items():
        yield _candidate(first[tree_id], tree_id, prompt, replies[prompt.id] if prompt else [])


def _value(row: FileRow) -> dict[str, Any]:
    if row.value is None:
        raise UnusableError(row.reason, row.detail)
    return row.value


def _tree(row: FileRow, languages: Sequence[str]) -> tuple[_Message, list[_Message]]:
    """(prompt, its replies); UnusableError where a row is no tree."""
    prompt = _value(row).get("prompt")
    if not isinstance(prompt, dict):
        raise UnusableError(NOT_OASST, "no 'prompt' message; expected one Open Assistant tree per row")
    return _message(prompt, languages), [_message(reply, languages) for reply in prompt.get("replies") or ()]


def _candidate(where: str, tree_id: str, prompt: _Message | None, replies: list[_Message]) -> Candidate:
    """The paper's choice from the first turn of a tree: its prompt, and the best-ranked reply."""
    # Equal ranks do not occur in the published data; the id makes the choice independent of the file's order.
    best = min((reply for reply in replies if reply.rank == 0), key=lambda reply: reply.id, default=None)
    if prompt is None:
        reason = "no_prompt"
    elif prompt.reason:
        reason = f"prompt_{prompt.reason}"
    elif best is None:
        reason = "no_rank_0_reply"
    elif best.reason:
        reason = f"reply_{best.reason}"
    else:
        return Candidate(where, best.id, prompt.text, best.text, SOURCE, quality=best.quality)
    return Candidate(where, tree_id, source=SOURCE, reason=reason)


def _message(row: Any, languages: Sequence[str]) -> _Message:
    if not isinstance(row, dict) or not isinstance(row.get("message_id"), str) or not isinstance(row.get("text"), str):
        raise UnusableError(NOT_OASST, "a message without 'message_id' or 'text'; expected an Open Assistant export")
    reasons = {
        "deleted": row.get("deleted"),
        "failed_review": row.get("review_result") is False,
        "other_language": not _is_wanted(row.get("lang"), languages),
    }
    reason = next((name for name, applies in reasons.items() if applies), None)
    text = ""
    try:
        text = text_of(row["text"], "text")
        reason = reason or (None if text else "empty")
    except UnusableError as error:
        reason = reason or error.reason
    return _Message(row["message_id"], text, reason, _rank(row.get("rank")), _quality(row.get("labels")))


def _is_wanted(language: Any, languages: Sequence[str]) -> bool:
    """Whether a message is in one of the languages, `en-US` in `en`; no languages are all, and unsaid is any."""
    said = str(language or "").lower().replace("_", "-")
    return not languages or not said or any(said == want or said.startswith(f"{want}-") for want in languages)


def _rank(value: Any) -> int | None:
    """A rank as number, also where a table has made it a fraction or a text; None for none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if math.isfinite(number) else None


def _quality(labels: Any) -> float:
    """The mean "quality" label; trees keep labels as a mapping, flat messages as parallel lists. Without one: 0."""
    if not isinstance(labels, dict):
        return 0.0
    if isinstance(labels.get("name"), list):
        return float(dict(zip(labels["name"], labels.get("value", ()), strict=False)).get("quality") or 0.0)
    label = labels.get("quality")
    return float(label.get("value") or 0.0) if isinstance(label, dict) else 0.0
