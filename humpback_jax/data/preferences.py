"""Preferences: two answers to one prompt, of which one is better. Read from files that people made.

A row is a prompt with `chosen` and `rejected`, each a text or messages (UltraFeedback, HH-RLHF, SHP's exports); or a
tree of Open Assistant, of which the best-ranked reply to a turn is better than every worse-ranked one.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.chat.turns import conversation_ids
from humpback_jax.data.candidates import UnusableError, text_of
from humpback_jax.data.examples import Example, ExamplePair
from humpback_jax.data.open_assistant import (
    ENGLISH,
    SOURCE,
    is_message,
    is_tree,
    ranked_replies,
    trees_of_messages,
)
from humpback_jax.data.pair_rows import message_text, role_of
from humpback_jax.data.row_files import FileRow, read_rows
from humpback_jax.files import PathLike, jsonl_line, sha256_of_bytes
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.tokenizers import Tokenizer

PROMPT_KEYS = ("prompt", "instruction", "question", "query", "input", "messages")
CHOSEN_KEYS = ("chosen", "preferred", "response_chosen", "chosen_response")
REJECTED_KEYS = ("rejected", "dispreferred", "response_rejected", "rejected_response")
TOO_LONG, PAST_WINDOW = "too_long", "past_window"
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Preference:
    """Two answers to one prompt.

    Attributes:
      id: unique in its file.
      turns: the user's and the assistant's texts by turns; the last is the user's.
      chosen, rejected: the better answer and the worse one.
      of: what belongs together where some are held out: a tree, or the first turn.
      source: where it is from.
    """

    id: str
    turns: tuple[str, ...]
    chosen: str
    rejected: str
    of: str
    source: str


@dataclasses.dataclass(frozen=True)
class PreferencesReport:
    """What was read.

    Attributes:
      pairs: in the order of the file.
      counts: `{"in": n, "out": m, "rejected": {reason: k}}` with n = m + Σ k.
      problems: every row or turn that gave no pair, `FILE:ROW: reason`.
    """

    pairs: tuple[Preference, ...]
    counts: dict[str, Any]
    problems: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Of the pairs."""
        return sha256_of_bytes("".join(jsonl_line(dataclasses.asdict(pair)) for pair in self.pairs).encode())


def read_preferences(path: PathLike, languages: Sequence[str] = ENGLISH) -> PreferencesReport:
    """Reads pairs of answers; see `row_files` for the files.

    Of Open Assistant what is counted is a turn that has several replies, times the pairs it gives.

    Args:
      path: the file, packed or not.
      languages: of Open Assistant's messages; () takes all.

    Raises:
      FileNotFoundError: no such file.
      ValueError: no row gives a pair; the first reasons are named.
    """
    found = list(_without_repeats(_found(path, languages)))
    pairs = tuple(pair for _, _, pair in found if pair is not None)
    rejected = collections.Counter(reason for _, reason, pair in found if pair is None)
    problems = tuple(f"{where}: {reason}" for where, reason, pair in found if pair is None)
    if not pairs:
        named = "; ".join(problems[:_NAMED]) or "the file is empty"
        raise ValueError(
            f"{path} holds no pair of answers ({named}); a row needs 'prompt', 'chosen' and 'rejected', or is a tree "
            "of Open Assistant with ranks: docs/preference.md says more"
        )
    counts = {"in": len(found), "out": len(pairs), "rejected": dict(sorted(rejected.items()))}
    return PreferencesReport(pairs, counts, problems)


Found = tuple[str, str, Preference | None]  # where, why there is no pair, the pair


def _found(path: PathLike, languages: Sequence[str]) -> Iterator[Found]:
    rows = read_rows(path)
    first = next(rows, None)
    if first is None:
        return
    rows, value = itertools.chain([first], rows), first.value or {}
    if is_tree(value):
        for row in rows:
            yield from _of_tree(f"{path}:{row.number}", row.value or {}, languages)
    elif is_message(value):
        for tree in trees_of_messages(row.value for row in rows if row.value is not None):
            yield from _of_tree(f"{path}: tree {tree['message_tree_id']}", tree, languages)
    else:
        name = epath.Path(path).name
        for row in rows:
            yield _of_row(row, f"{path}:{row.number}", f"{name}:{row.number}", name)


def _of_tree(where: str, tree: dict[str, Any], languages: Sequence[str]) -> Iterator[Found]:
    """The best-ranked reply of every turn against each that is ranked worse."""
    try:
        for found in ranked_replies(tree, languages):
            if found.reason:
                yield f"{where}: message {found.id}", found.reason, None
                continue
            (best, chosen, rank), *others = found.replies
            for name, rejected, other in others:
                if other > rank:
                    pair = Preference(f"{best}/{name}", found.turns, chosen, rejected, found.tree, SOURCE)
                    yield _checked(f"{where}: message {name}", pair)
    except UnusableError as error:
        yield where, error.reason, None


def _of_row(row: FileRow, where: str, fallback: str, source: str) -> Found:
    if row.value is None:
        return where, row.reason or "unreadable", None
    try:
        prompt, chosen = _under(row.value, PROMPT_KEYS), _answer(row.value, CHOSEN_KEYS)
        rejected, name = _answer(row.value, REJECTED_KEYS), text_of(row.value.get("id"), "id")
        turns = _turns(prompt) if prompt is not None else None
        for before, _ in (chosen, rejected):
            if before is not None and turns is not None and before != turns:
                raise UnusableError("other_prompt", "the messages of an answer begin with another prompt")
            turns = turns or before
        if turns is None:
            raise UnusableError("no_prompt")
        if len(turns) % 2 == 0 or not all(turns):
            raise UnusableError("no_question", "the prompt does not end with the user's turn")
    except UnusableError as error:
        return where, error.reason, None
    return _checked(where, Preference(name or fallback, turns, chosen[1], rejected[1], turns[0], source))


def _checked(where: str, pair: Preference) -> Found:
    for name in ("chosen", "rejected"):
        if not getattr(pair, name):
            return where, f"empty_{name}", None
    if pair.chosen.split() == pair.rejected.split():
        return where, "equal_answers", None
    return where, "", pair


def _under(row: Mapping[str, Any], keys: Sequence[str]) -> Any:
    by_case = {str(key).strip().lower(): value for key, value in row.items()}
    return next((by_case[key] for key in keys if by_case.get(key) not in (None, "", [])), None)


def _answer(row: Mapping[str, Any], keys: Sequence[str]) -> tuple[tuple[str, ...] | None, str]:
    """(the turns before an answer where it is a conversation, its text)."""
    value = _under(row, keys)
    if value is None:
        raise UnusableError(f"no_{keys[0]}")
    if isinstance(value, str):
        return None, text_of(value, keys[0])
    *before, text = _turns(value)
    if len(before) % 2 == 0 and before:
        raise UnusableError("no_answer", f"{keys[0]!r} does not end with the assistant's turn")
    return tuple(before) or None, text


def _turns(value: Any) -> tuple[str, ...]:
    """Texts of a prompt, or of messages by turns; a system text stands above the first."""
    if isinstance(value, str):
        return (text_of(value, "prompt"),)
    if not isinstance(value, list) or not value:
        raise UnusableError("not_a_text", f"expected a text or messages, found {type(value).__name__}")
    system: list[str] = []
    turns: list[list[str]] = []
    roles: list[str] = []
    for place, message in enumerate(value):
        role, text = role_of(value, place, message), message_text(message)
        if role == "system":
            system.append(text)
        elif roles and roles[-1] == role:
            turns[-1].append(text)
        else:
            roles.append(role)
            turns.append([text])
    if roles[:1] == ["assistant"] and len(roles) > 1:
        raise UnusableError("begins_with_answer")
    texts = ["\n\n".join(filter(None, each)) for each in turns]
    if system and texts and roles[0] == "user":
        texts[0] = "\n\n".join(filter(None, [*system, texts[0]]))
    return tuple(texts)


def _without_repeats(found: Iterable[Found]) -> Iterator[Found]:
    """A pair whose texts have occurred is one no more; ids that occur again get `#2`, `#3`, …"""
    seen: set[tuple[Any, ...]] = set()
    names: collections.Counter[str] = collections.Counter()
    for where, reason, pair in found:
        if pair is None:
            yield where, reason, None
            continue
        texts = (pair.turns, pair.chosen, pair.rejected)
        if texts in seen:
            yield where, "duplicate", None
        elif (pair.turns, pair.rejected, pair.chosen) in seen:
            yield where, "other_way_round", None
        else:
            seen.add(texts)
            names[pair.id] += 1
            number = names[pair.id]
            yield where, "", pair if number == 1 else dataclasses.replace(pair, id=f"{pair.id}#{number}")


@dataclasses.dataclass(frozen=True)
class EncodedPairs:
    """Pairs as token ids, and the counts `{"in", "out", "rejected"}`: `too_long` for a row, `past_window`."""

    pairs: tuple[ExamplePair, ...]
    counts: dict[str, Any]


def encode_preferences(
    pairs: Sequence[Preference],
    tokenizer: Tokenizer,
    chat_format: ChatFormat,
    prompts: Prompts,
    tags: Sequence[str],
    row_length: int,
    window: int,
) -> EncodedPairs:
    """Both answers of every pair after their prompt; what does not fit is left out, never cut.

    Args:
      pairs: what to encode; ids are unique.
      tokenizer, chat_format: give the ids.
      prompts, tags: every user's turn has these tags.
      row_length: positions of a row, which both answers share, each with its prompt.
      window: positions that the model knows.
    """
    kept: list[ExamplePair] = []
    rejected: collections.Counter[str] = collections.Counter()
    for pair in pairs:
        users = [prompts.tagged(turn, tags) for turn in pair.turns[::2]]
        history = list(zip(users, pair.turns[1::2], strict=False))
        prompt = np.asarray(conversation_ids(chat_format, history, users[-1], tokenizer), np.int32)
        answers = (
            np.asarray(chat_format.answer_ids(text, tokenizer), np.int32) for text in (pair.chosen, pair.rejected)
        )
        better, worse = (Example(prompt, answer, pair.id) for answer in answers)
        encoded = ExamplePair(better, worse, pair.id)
        longest = max(encoded.chosen.num_positions, encoded.rejected.num_positions)
        if encoded.num_positions > row_length or longest > window:
            rejected[TOO_LONG if encoded.num_positions > row_length else PAST_WINDOW] += 1
        elif np.array_equal(encoded.chosen.answer_ids, encoded.rejected.answer_ids):
            rejected["equal_answers"] += 1
        else:
            kept.append(encoded)
    counts = {"in": len(pairs), "out": len(kept), "rejected": dict(sorted(rejected.items()))}
    return EncodedPairs(tuple(kept), counts)


def hold_out(pairs: Sequence[Preference], share: float) -> tuple[list[Preference], list[Preference]]:
    """(pairs to train on, pairs held out): about this share of the trees, whole, drawn by their names alone.

    Raises:
      ValueError: nothing would be left to train on, or nothing held out though a share is asked for.
    """
    groups = sorted({pair.of for pair in pairs}, key=lambda name: sha256_of_bytes(f"held out {name}".encode()))
    number = round(share * len(groups)) or (1 if share else 0)
    if number >= len(groups):
        raise ValueError(
            f"{len(groups)} prompts or trees cannot be split into pairs to train on and {share:g} held out; give more, "
            "or hold out 0"
        )
    held = set(groups[:number])
    return [pair for pair in pairs if pair.of not in held], [pair for pair in pairs if pair.of in held]


def limited(report: PreferencesReport, limit: int) -> PreferencesReport:
    """At most so many pairs, drawn by their ids; the others are counted as `over_limit`."""
    over = len(report.pairs) - limit
    if over <= 0:
        return report
    drawn = sorted(report.pairs, key=lambda pair: sha256_of_bytes(f"limited {pair.id}".encode()))[:limit]
    kept = {pair.id for pair in drawn}
    counts = report.counts | {"out": limit, "rejected": report.counts["rejected"] | {"over_limit": over}}
    return dataclasses.replace(report, pairs=tuple(pair for pair in report.pairs if pair.id in kept), counts=counts)
