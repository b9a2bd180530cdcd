"""Pairs of an instruction and an output: seed files in any of the formats in use, with a count of what was left out.

`row_files` reads rows, `pair_rows` and `open_assistant` make pairs of them.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from etils import epath

from humpback_jax.data.candidates import Candidate
from humpback_jax.data.open_assistant import ENGLISH, is_message, is_tree, message_candidates, tree_candidates
from humpback_jax.data.pair_rows import RowReader
from humpback_jax.data.row_files import NOT_UTF8, FileRow, read_rows
from humpback_jax.files import PathLike, read_jsonl, write_jsonl

FORMATS = ("auto", "pairs", "oasst_trees", "oasst_messages")
MAX_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Pair:
    """An instruction and its output; `source` says where it is from, `id` is unique within its file."""

    id: str
    instruction: str
    output: str
    source: str


@dataclasses.dataclass(frozen=True)
class PairsReport:
    """What a reader kept, and the counts.

    Attributes:
      pairs: in the order of the file.
      counts: `{"read": n, "kept": m, "rejected": {reason: k}}` with n = m + Σ k; under `notes`, where there are any,
        how many of the kept have had a system text or later turns.
      problems: every row that is no pair, `FILE:ROW: reason`, but for those over the limit.
    """

    pairs: tuple[Pair, ...]
    counts: dict[str, Any]
    problems: tuple[str, ...] = ()

    def summary(self) -> str:
        """What was left out, in a line; empty for nothing."""
        if not self.problems:
            return ""
        more = len(self.problems) - MAX_NAMED
        named = "; ".join(self.problems[:MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")
        return f"{len(self.problems)} of {self.counts['read']} rows are no pairs: {named}"


@dataclasses.dataclass(frozen=True)
class PairsFormat:
    """How a file of pairs is read where its content does not say.

    Attributes:
      format: one of `FORMATS`; "auto": told from the first row that can be read.
      columns: {"instruction": "column of the file"}, see `pair_rows.NAMES`.
      system: what becomes of system texts, see `RowReader`.
      languages: of Open Assistant; none are all.
    """

    format: str = "auto"
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    system: str = "join"
    languages: Sequence[str] = ENGLISH

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"unknown seed format {self.format!r}; choose from {', '.join(FORMATS)}")


_AUTO = PairsFormat()


def read_pairs(path: PathLike, settings: PairsFormat = _AUTO, limit: int | None = None) -> PairsReport:
    """Reads seed pairs: see `row_files` for the files, `pair_rows` and `open_assistant` for what a row may be.

    Texts are stripped of outer whitespace; an input or context is appended to its instruction after a blank line. A
    row that cannot be read or makes no pair, and a pair that occurs again, is rejected and counted, and the file goes
    on. An id that occurs again gets `#2`, `#3`, ... Of Open Assistant the unit that is counted is the tree.

    Args:
      path: the file, packed or not.
      settings: what the content does not say.
      limit: keep at most so many pairs: of Open Assistant those with the best "quality" label (how the paper came to
        3,200 is not said), otherwise the first; in file order either way. The rest is counted as "over_limit".

    Raises:
      FileNotFoundError: no such file.
      ValueError: a setting is unknown, the file is empty or damaged, or no row is a pair: the first ones are named.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1, or None for all pairs")
    reader = RowReader(settings.columns, settings.system)
    report = _report(list(_candidates(path, settings, reader)), limit)
    if not report.pairs:
        found = report.summary() or report.counts
        raise ValueError(f"{path} holds no usable pair: {found}. {_advice(report, settings)}")
    return report


def read_prompts(path: PathLike, settings: PairsFormat = _AUTO) -> PairsReport:
    """Instructions alone, of the same files as pairs; an output that stands beside one is not looked at.

    Raises:
      FileNotFoundError, ValueError: as `read_pairs`.
    """
    reader = RowReader(settings.columns, settings.system, with_outputs=False)
    name = epath.Path(path).name
    candidates = [candidate for row in read_rows(path) for candidate in _row_candidates(row, reader, path, name)]
    report = _report(candidates, None, unique=False)
    if not report.pairs:
        raise ValueError(f"{path} holds no usable instruction: {report.summary()}")
    return report


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


def _candidates(path: PathLike, settings: PairsFormat, reader: RowReader) -> Iterator[Candidate]:
    rows, chosen = read_rows(path), settings.format
    unreadable: list[FileRow] = []
    if chosen == "auto":
        first = None
        for first in rows:
            if first.value is not None:
                break
            unreadable.append(first)
        else:
            first = None
        value = first.value if first is not None and first.value is not None else {}
        chosen = "oasst_trees" if is_tree(value) else "oasst_messages" if is_message(value) else "pairs"
        rows = itertools.chain(unreadable, [first] if first is not None else [], rows)
    if chosen == "oasst_trees":
        return tree_candidates(rows, path, settings.languages)
    if chosen == "oasst_messages":
        return message_candidates(rows, path, settings.languages)
    name = epath.Path(path).name
    return (candidate for row in rows for candidate in _row_candidates(row, reader, path, name))


def _row_candidates(row: FileRow, reader: RowReader, path: PathLike, name: str) -> Iterable[Candidate]:
    where = f"{path}:{row.number}"
    if row.value is None:
        return [Candidate(where, f"{name}:{row.number}", source=name, reason=row.reason, detail=row.detail)]
    return reader.candidates(row.value, where, name, row.number)


def _report(candidates: list[Candidate], limit: int | None, unique: bool = True) -> PairsReport:
    candidates = list(_without_repeats(candidates)) if unique else candidates
    rejected: collections.Counter[str] = collections.Counter(c.reason for c in candidates if c.reason)
    accepted = [candidate for candidate in candidates if not candidate.reason]
    if limit is not None and len(accepted) > limit:
        best = sorted(range(len(accepted)), key=lambda index: (-accepted[index].quality, index))[:limit]
        rejected["over_limit"] = len(accepted) - limit
        accepted = [accepted[index] for index in sorted(best)]
    pairs = tuple(_with_unique_ids(Pair(c.id, c.instruction, c.output, c.source) for c in accepted))
    counts: dict[str, Any] = {"read": len(candidates), "kept": len(pairs), "rejected": dict(sorted(rejected.items()))}
    if notes := collections.Counter(note for candidate in accepted for note in candidate.notes):
        counts["notes"] = dict(sorted(notes.items()))
    return PairsReport(pairs, counts, tuple(map(_problem, (c for c in candidates if c.reason))))


def _without_repeats(candidates: Iterable[Candidate]) -> Iterator[Candidate]:
    """A pair whose texts have occurred is a candidate no more: it would be trained on twice."""
    seen: dict[tuple[str, str], str] = {}
    for candidate in candidates:
        texts = (candidate.instruction, candidate.output)
        if candidate.reason or seen.setdefault(texts, candidate.where) == candidate.where:
            yield candidate
        else:
            yield dataclasses.replace(candidate, reason="duplicate", detail=f"the pair of {seen[texts]} again")


def _problem(candidate: Candidate) -> str:
    detail = f" ({candidate.detail})" if candidate.detail else ""
    return f"{candidate.where}: {candidate.reason}{detail}"


def _advice(report: PairsReport, settings: PairsFormat) -> str:
    reasons = report.counts["rejected"]
    if any("other_language" in reason for reason in reasons):
        return f"Languages are {', '.join(settings.languages)}; name others with SeedConfig.languages, () takes all"
    if NOT_UTF8 in reasons:
        return "Convert the file to UTF-8"
    if any(reason.startswith(("no_", "two_")) for reason in reasons) and settings.format != "oasst_trees":
        return "Name its columns: SeedConfig.columns = ('instruction=…', 'output=…')"
    return "docs/your_seeds.md says what a row may be"


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
