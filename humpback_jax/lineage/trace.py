"""What a run made of pages: their segments, pairs and ratings in every round, and the models that were trained on them.

Everything is read from the products of the stages, one file after the other; rows that are not asked for are passed by.
"""

import collections
import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from etils import epath

from humpback_jax import run_files
from humpback_jax.corpus.segment_files import shard_paths
from humpback_jax.files import PathLike, read_json
from humpback_jax.lineage.scan import rows_of_ids, rows_of_values, rows_with

_SEGMENT_ROWS = (run_files.PAIRS, run_files.REJECTED, run_files.SCORES, run_files.CURATED, run_files.DROPPED)
_SHOWN = 300  # characters of a text that a trace keeps


@dataclasses.dataclass(frozen=True)
class Trace:
    """What became of some segments.

    Attributes:
      segments: rows of the segments, with `file`, `start` and `end` of their pages.
      duplicates: rows of what was dropped because it is like one of them, or of them for being like another.
      rows: {stage: {file: rows}} of pairs, ratings and selections.
      models: {stage: {pair: updates that read it}}; a model that a traced one rated for is in `derived`.
      derived: stages whose products the segments had a part in, in the order of the run.
    """

    segments: list[dict[str, Any]]
    duplicates: list[dict[str, Any]]
    rows: dict[str, dict[str, list[dict[str, Any]]]]
    models: dict[str, dict[str, list[int]]]
    derived: list[str]

    @property
    def pairs(self) -> list[str]:
        """Ids of the pairs of A."""
        found = self.rows.get(run_files.AUGMENTED_STAGE, {}).get(run_files.PAIRS, [])
        return [row["id"] for row in found]

    @property
    def urls(self) -> list[str]:
        """Addresses of the pages, each once."""
        return list(dict.fromkeys(row["url"] for row in self.segments))


def find_segments(run_dir: PathLike, text: str) -> list[dict[str, Any]]:
    """Segments of a page, by id of a segment or pair, or that hold a text; with where their pages stand.

    Raises:
      ValueError: there is none.
    """
    folder = epath.Path(run_dir) / run_files.SEGMENTS_STAGE
    paths = shard_paths(folder, run_files.SEGMENTS)
    for find in (_by_id, _by_url, _by_text):
        if found := [row for path in paths for row in find(path, text)]:
            return found
    for row in _rows_of_pairs(run_dir, text):
        return [found for path in paths for found in rows_of_ids(path, [str(row["id"]).partition("#")[0]])]
    raise ValueError(
        f"{run_dir} has no segment of a page {text}, of this id or with this text; of a page that gave none, "
        f"`humpback corpus explain {folder} URL` says why"
    )


def _by_id(path: epath.Path, text: str) -> Iterator[dict[str, Any]]:
    return rows_of_ids(path, [text.partition("#")[0]])


def _by_url(path: epath.Path, text: str) -> Iterator[dict[str, Any]]:
    return (row for row in rows_with(path, text) if row["url"] == text)


def _by_text(path: epath.Path, text: str) -> Iterator[dict[str, Any]]:
    return (row for row in rows_with(path, text) if text in row["text"] or text in row["header"])


def _rows_of_pairs(run_dir: PathLike, text: str) -> Iterator[dict[str, Any]]:
    path = epath.Path(run_dir) / run_files.AUGMENTED_STAGE / run_files.PAIRS
    return (row for row in rows_with(path, text) if text in row["instruction"])


def segments_of_pages(run_dir: PathLike, urls: Collection[str], files: Collection[str]) -> list[dict[str, Any]]:
    """The segments of pages by their addresses, or by the names of the inputs they lie in."""
    folder = epath.Path(run_dir) / run_files.SEGMENTS_STAGE
    ids: set[str] = set()
    if files:
        for path in shard_paths(folder, run_files.SOURCES):
            ids |= {row["id"] for row in rows_of_values(path, "file", files)}
    found: dict[str, dict[str, Any]] = {}
    for path in shard_paths(folder, run_files.SEGMENTS):
        found |= {row["id"]: row for row in (rows_of_values(path, "url", urls) if urls else ())}
        found |= {row["id"]: row for row in (rows_of_ids(path, ids) if ids else ())}
    return list(found.values())


def trace_segments(run_dir: PathLike, segments: Sequence[dict[str, Any]]) -> Trace:
    """What a run made of segments."""
    folder, ids = epath.Path(run_dir), [row["id"] for row in segments]
    stages = [path.parent.name for path in folder.glob(f"*/{run_files.MANIFEST}")]
    rows: dict[str, dict[str, list[dict[str, Any]]]] = collections.defaultdict(dict)
    models: dict[str, dict[str, list[int]]] = {}
    for stage in sorted(stages):
        for name in _SEGMENT_ROWS:
            path = folder / stage / name
            if path.exists() and (found := list(rows_of_ids(path, ids))):
                rows[stage][name] = found
        path = folder / stage / run_files.TRAINED_ON
        web = {f"web/{row['id']}" for each in rows.values() for row in each.get(run_files.CURATED, ())}
        if path.exists() and web:
            updates = {row["id"].removeprefix("web/"): row["updates"] for row in rows_of_values(path, "id", web)}
            models |= {stage: updates} if updates else {}
    places = _places(folder, ids)
    placed = [row | places.get(row["id"], {}) for row in segments]
    return Trace(placed, _duplicates(folder, ids), dict(rows), models, _derived(folder, stages, rows))


def _places(run_dir: epath.Path, ids: Collection[str]) -> dict[str, dict[str, Any]]:
    paths = shard_paths(run_dir / run_files.SEGMENTS_STAGE, run_files.SOURCES)
    return {row["id"]: row for path in paths for row in rows_of_ids(path, ids)}


def _duplicates(run_dir: epath.Path, ids: Collection[str]) -> list[dict[str, Any]]:
    paths = shard_paths(run_dir / run_files.SEGMENTS_STAGE, run_files.DUPLICATES)
    return [row for path in paths for key in ("kept", "dropped") for row in rows_of_values(path, key, ids)]


def _derived(run_dir: epath.Path, stages: Sequence[str], rows: dict[str, Any]) -> list[str]:
    """Stages that read a product with one of the rows, or of a stage that did; the hashes of inputs lead to them."""
    manifests = {name: read_json(run_dir / name / run_files.MANIFEST) for name in stages}
    reached = {name for name in stages if name == run_files.SEGMENTS_STAGE or name in rows}
    # A selection that holds none of the rows as kept gives nothing on to what is trained on it.
    giving = {name for name in reached if not _is_selection(name) or run_files.CURATED in rows[name]}
    outputs = _outputs(manifests, giving)
    inputs = {name: set(manifests[name]["inputs"].values()) for name in stages}
    while more := {name for name in stages if name not in reached and outputs & inputs[name]}:
        reached |= more
        outputs |= _outputs(manifests, more)
    return sorted(reached, key=lambda name: _order(name, run_dir))


def _outputs(manifests: dict[str, Any], stages: Iterable[str]) -> set[str]:
    return {value for name in stages for value in manifests[name]["outputs"].values()}


def _is_selection(stage: str) -> bool:
    is_round = run_files.round_of(stage, run_files.CURATED_STAGE) is not None
    return is_round or run_files.arm_of(stage, run_files.ARM_PAIRS_STAGE) is not None


def _order(stage: str, run_dir: epath.Path) -> float:
    return (run_dir / stage / run_files.MANIFEST).stat().mtime


def shortened(text: str) -> str:
    """A text for a trace: one line of it."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[:_SHOWN] + " …"
