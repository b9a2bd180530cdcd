"""Pairs of an instruction and an output: readers for the seed formats in use, each with a count of what was left out.

JSON lines, Alpaca JSON, and Open Assistant's two exports. From Open Assistant the paper's selection is taken (section
3.1): English, the first turn of each tree, the reply that annotators ranked best (rank 0). Replies and prompts that are
deleted or failed review are left out.
"""

import collections
import dataclasses
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from etils import epath

from humpback_jax.files import PathLike, json_lines, read_jsonl, write_jsonl

OASST_LANGUAGE = "en"

# Keys by which seed files name the same thing: ours first, then Dolly's and others'.
INSTRUCTION_KEYS = ("instruction", "prompt")
CONTEXT_KEYS = ("input", "context")
OUTPUT_KEYS = ("output", "response")


@dataclasses.dataclass(frozen=True)
class Pair:
    """An instruction and its output; `source` says where it is from, `id` is unique within its file."""

    id: str
    instruction: str
    output: str
    source: str


@dataclasses.dataclass(frozen=True)
class Sibling:
    """One of several answers to a prompt, and its rank among them: 0 is the best; `of` is the tree."""

    id: str
    of: str
    rank: int
    instruction: str
    output: str


@dataclasses.dataclass(frozen=True)
class PairsReport:
    """What a reader kept, and the counts: `{"read": n, "kept": m, "rejected": {reason: k}}` with n = m + Σ k."""

    pairs: tuple[Pair, ...]
    counts: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A record of a source file: a pair, or the reason why it is none. `quality` orders candidates under a limit."""

    pair: Pair
    reason: str | None = None
    quality: float = 0.0


@dataclasses.dataclass(frozen=True)
class _Message:
    """What the selection needs of an Open Assistant message; `rank` 0 is the best of its siblings, `quality` is 0..1.

    `reason` says why the message is left out, None where it may be taken.
    """

    id: str
    text: str
    reason: str | None
    rank: int | None
    quality: float


def read_pairs(path: PathLike, format: str = "auto", limit: int | None = None) -> PairsReport:
    """Reads seed pairs.

    Texts are stripped of outer whitespace; an input or context is appended to its instruction after a blank line; a
    pair without an instruction or an output is rejected and counted. An id that occurs again gets `#2`, `#3`, ...
    For Open Assistant the unit that is counted is the conversation tree.

    Args:
      path: the file, `.gz` or not.
      format: one of `READERS`, or "auto": told from the content.
      limit: keep at most so many pairs: of Open Assistant those with the best "quality" label (how the paper came to
        3,200 is not said), otherwise the first; in file order either way. The rest is counted as "over_limit".

    Raises:
      FileNotFoundError: no such file.
      ValueError: the format is unknown or not recognised, or a record (named by file and line) is damaged or lacks the
        instruction or the output.
    """
    if format not in ("auto", *READERS):
        raise ValueError(f"unknown seed format {format!r}; choose auto or one of {', '.join(READERS)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1, or None for all pairs")
    if not epath.Path(path).exists():
        raise FileNotFoundError(f"seed file {path} does not exist; give the path of a JSONL, Alpaca or OASST1 file")
    chosen = _recognise(path) if format == "auto" else format
    return _report(list(READERS[chosen](path)), limit)


def read_siblings(path: PathLike) -> list[Sibling]:
    """Ranked first replies of Open Assistant's trees (one nested tree per line), of prompts with two or more of them.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a line is no tree, or no prompt has two ranked replies.
    """
    siblings = []
    for number, row in _rows(path):
        where, prompt = f"{path}:{number}", row.get("prompt")
        if not isinstance(prompt, dict):
            raise ValueError(f"{where}: no 'prompt' message; expected one Open Assistant tree per line")
        asked = _message(prompt, where)
        replies = [_message(reply, where) for reply in prompt.get("replies") or ()]
        ranked = [reply for reply in replies if reply.rank is not None and not reply.reason]
        if not asked.reason and len(ranked) > 1:
            siblings += [Sibling(r.id, asked.id, int(r.rank or 0), asked.text, r.text) for r in ranked]
    if not siblings:
        raise ValueError(f"{path}: no prompt has two ranked replies; give an export with ranks")
    return siblings


def write_pairs(path: PathLike, pairs: Iterable[Pair]) -> None:
    """Writes pairs as JSON lines, whole or not at all; `read_curated` gives the same pairs back."""
    write_jsonl(path, map(dataclasses.asdict, pairs))


def read_curated(path: PathLike) -> tuple[Pair, ...]:
    """Pairs that a stage wrote, text for text; further keys of a row, such as its score, are ignored.

    Raises:
      ValueError: a row (named by file and line) lacks a field or repeats an id.
    """
    pairs: dict[str, Pair] = {}
    for number, row in read_jsonl(path):
        values = {field.name: row.get(field.name) for field in dataclasses.fields(Pair)}
        if wrong := [name for name, value in values.items() if not isinstance(value, str)]:
            raise ValueError(
                f"{path}:{number}: expected a text under {wrong[0]!r}; write the file again with its stage"
            )
        pair = Pair(**{name: str(value) for name, value in values.items()})
        if pair.id in pairs:
            raise ValueError(f"{path}:{number}: id {pair.id!r} occurs twice; write the file again with its stage")
        pairs[pair.id] = pair
    return tuple(pairs.values())


def domain_of(source: str) -> str:
    """Host without `www.`, or the last part of a path; a URL that cannot be read stands for itself."""
    try:
        host = urlsplit(source).hostname
    except ValueError:
        return source
    if host:
        return host.removeprefix("www.")
    return source.rstrip("/").rsplit("/", 1)[-1] or source


def _report(candidates: list[_Candidate], limit: int | None) -> PairsReport:
    rejected: collections.Counter[str] = collections.Counter(c.reason for c in candidates if c.reason)
    accepted = [candidate for candidate in candidates if not candidate.reason]
    if limit is not None and len(accepted) > limit:
        best = sorted(range(len(accepted)), key=lambda index: (-accepted[index].quality, index))[:limit]
        rejected["over_limit"] = len(accepted) - limit
        accepted = [accepted[index] for index in sorted(best)]
    pairs = tuple(_with_unique_ids(candidate.pair for candidate in accepted))
    counts = {"read": len(candidates), "kept": len(pairs), "rejected": dict(sorted(rejected.items()))}
    return PairsReport(pairs, counts)


def _with_unique_ids(pairs: Iterable[Pair]) -> Iterator[Pair]:
    pairs = list(pairs)
    taken, seen = {pair.id for pair in pairs}, set[str]()
    for pair in pairs:
        name, number = pair.id, 1
        while name in seen or (number > 1 and name in taken):
            number += 1
            name = f"{pair.id}#{number}"
        seen.add(name)
        yield pair if name == pair.id else dataclasses.replace(pair, id=name)


def _recognise(path: PathLike) -> str:
    """The format of a file, from its first character and the keys of its first record."""
    with _open_text(path) as stream:
        try:
            line = next((line for line in stream if line.strip()), "").lstrip()
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not readable as text ({error}); fetch it again") from error
    if line.startswith("["):
        return "alpaca"
    if not line.startswith("{"):
        raise ValueError(f"{path}: neither JSON lines nor a JSON list; expected one of {', '.join(READERS)}")
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return "jsonl"
    if "message_tree_id" in row:
        return "oasst_trees" if "prompt" in row else "oasst_messages"
    return "jsonl"


def _open_text(path: PathLike) -> Any:
    if str(path).endswith(".gz"):
        return gzip.open(epath.Path(path).open("rb"), "rt", encoding="utf-8")
    return epath.Path(path).open("r", encoding="utf-8")


def _rows(path: PathLike) -> Iterator[tuple[int, dict]]:
    """(line number, object) of a JSONL file, unzipped where its name ends in .gz."""
    number = 0
    try:
        with _open_text(path) as stream:
            for number, row in json_lines(stream, path):
                yield number, row
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error}); convert the file to UTF-8") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged gzip after line {number} ({error}); fetch the file again") from error


def _read_jsonl_pairs(path: PathLike) -> Iterator[_Candidate]:
    for number, row in _rows(path):
        yield _candidate(row, path, number, f"{path}:{number}")


def _read_alpaca_pairs(path: PathLike) -> Iterator[_Candidate]:
    with _open_text(path) as stream:
        try:
            records = json.load(stream)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}:{error.lineno}: not valid JSON ({error.msg}); expected a list of pairs"
            ) from error
    if not isinstance(records, list):
        raise ValueError(f"{path}: expected a JSON list of pairs, found {type(records).__name__}")
    for number, row in enumerate(records, start=1):
        where = f"{path}: record {number} of {len(records)}"
        if not isinstance(row, dict):
            raise ValueError(f"{where}: expected a JSON object, found {type(row).__name__}")
        yield _candidate(row, path, number, where)


def _read_trees(path: PathLike) -> Iterator[_Candidate]:
    """Of an Open Assistant export with one nested tree per line; ValueError names a line that holds none."""
    for number, row in _rows(path):
        where = f"{path}:{number}"
        prompt = row.get("prompt")
        if not isinstance(prompt, dict):
            raise ValueError(f"{where}: no 'prompt' message; expected one Open Assistant tree per line")
        replies = [_message(reply, where) for reply in prompt.get("replies") or ()]
        yield _oasst_candidate(str(row.get("message_tree_id")), _message(prompt, where), replies)


def _read_messages(path: PathLike) -> Iterator[_Candidate]:
    """Of an export with one message per line, in any order; trees in the order of their first message."""
    prompts: dict[str, _Message | None] = {}
    replies: dict[str, list[_Message]] = collections.defaultdict(list)
    for number, row in _rows(path):
        message, tree_id = _message(row, f"{path}:{number}"), row.get("message_tree_id")
        if not isinstance(tree_id, str):
            raise ValueError(f"{path}:{number}: no 'message_tree_id'; expected one Open Assistant message per line")
        prompts.setdefault(tree_id, None)
        if row.get("parent_id") is None:
            prompts[tree_id] = message
        else:
            replies[str(row["parent_id"])].append(message)
    for tree_id, prompt in prompts.items():
        yield _oasst_candidate(tree_id, prompt, replies[prompt.id] if prompt else [])


def _oasst_candidate(tree_id: str, prompt: _Message | None, replies: list[_Message]) -> _Candidate:
    """The paper's choice from the first turn of a tree (section 3.1): English prompt, its best-ranked English reply."""
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
        return _Candidate(Pair(best.id, prompt.text, best.text, "oasst1"), quality=best.quality)
    return _Candidate(Pair(tree_id, "", "", "oasst1"), reason)


def _message(row: Any, where: str) -> _Message:
    if not isinstance(row, dict) or not isinstance(row.get("message_id"), str) or not isinstance(row.get("text"), str):
        raise ValueError(f"{where}: a message without 'message_id' or 'text'; expected an Open Assistant export")
    text = row["text"].strip()
    reasons = {
        "deleted": row.get("deleted"),
        "failed_review": row.get("review_result") is False,
        "not_english": row.get("lang") != OASST_LANGUAGE,
        "empty": not text,
    }
    reason = next((name for name, applies in reasons.items() if applies), None)
    return _Message(row["message_id"], text, reason, row.get("rank"), _quality(row.get("labels")))


def _quality(labels: Any) -> float:
    """The mean "quality" label; trees keep labels as a mapping, flat messages as parallel lists. Without one: 0."""
    if not isinstance(labels, dict):
        return 0.0
    if isinstance(labels.get("name"), list):
        return float(dict(zip(labels["name"], labels.get("value", ()), strict=False)).get("quality") or 0.0)
    label = labels.get("quality")
    return float(label.get("value") or 0.0) if isinstance(label, dict) else 0.0


def _candidate(row: dict[str, Any], path: PathLike, number: int, where: str) -> _Candidate:
    """A pair of a row; without an id or a source of its own it is named after its file."""
    instruction = _text(row, INSTRUCTION_KEYS, where)
    output = _text(row, OUTPUT_KEYS, where)
    context = _text(row, CONTEXT_KEYS, where, required=False)
    reason = "empty_instruction" if not instruction else "empty_output" if not output else None
    name = epath.Path(path).name
    pair_id = str(f"{name}:{number}" if row.get("id") is None else row["id"])
    text = f"{instruction}\n\n{context}" if context else instruction
    return _Candidate(Pair(pair_id, text, output, str(row.get("source") or name)), reason)


def _text(row: dict[str, Any], keys: tuple[str, ...], where: str, required: bool = True) -> str:
    present = [key for key in keys if row.get(key) is not None]
    if not present:
        if not required:
            return ""
        raise ValueError(
            f"{where}: no {keys[0]!r} (the keys are {', '.join(map(repr, row)) or 'none'}); "
            f"a pair needs a text under {' or '.join(map(repr, keys))}"
        )
    filled = [key for key in present if row[key] != ""] or present[:1]
    if len(filled) > 1:
        raise ValueError(f"{where}: both {filled[0]!r} and {filled[1]!r} are given; keep one of them")
    value = row[filled[0]]
    if not isinstance(value, str):
        raise ValueError(f"{where}: {filled[0]!r} must be a text, found {type(value).__name__}")
    return value.strip()


READERS: dict[str, Callable[[PathLike], Iterator[_Candidate]]] = {
    "jsonl": _read_jsonl_pairs,
    "alpaca": _read_alpaca_pairs,
    "oasst_trees": _read_trees,
    "oasst_messages": _read_messages,
}
