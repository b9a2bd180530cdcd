"""What a run is to forget: pages by their address, inputs by their name, and all that derives from them."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from etils import epath

from humpback_jax import run_files
from humpback_jax.align import Alignment, Recipe
from humpback_jax.corpus.filters.blocklists import FILE_MARK, read_entries
from humpback_jax.corpus.forgotten import Forgotten, read_forgotten, write_forgotten
from humpback_jax.corpus.segment_files import shard_paths
from humpback_jax.files import PathLike, read_json
from humpback_jax.lineage.scan import rows_of_ids
from humpback_jax.lineage.trace import Trace, segments_of_pages, trace_segments


@dataclasses.dataclass(frozen=True)
class TakeDown:
    """What goes, and what derives from it.

    Attributes:
      entries: lines for the list of the run.
      trace: the segments of these pages and what the run made of them.
      answers: folders of answers that models gave which were trained on them.
    """

    entries: Forgotten
    trace: Trace
    answers: list[str]

    @property
    def values(self) -> dict[str, Any]:
        """As JSON: names and ids, no texts."""
        trace = self.trace
        like = {row["dropped"] for row in trace.duplicates} | {row["kept"] for row in trace.duplicates}
        return {
            "urls": sorted(self.entries.urls),
            "files": sorted(self.entries.files),
            "segments": [row["id"] for row in trace.segments],
            "pairs": trace.pairs,
            "kept": {
                stage: [row["id"] for row in rows[run_files.CURATED]]
                for stage, rows in trace.rows.items()
                if run_files.CURATED in rows
            },
            "models": {stage: len(pairs) for stage, pairs in trace.models.items()},
            "derived": trace.derived,
            "answers": self.answers,
            "like_them": sorted(like - {row["id"] for row in trace.segments}),
        }


def plan_take_down(run_dir: PathLike, words: Sequence[str]) -> TakeDown:
    """What derives from pages that are named by address, by the name of their input, or by the id of a segment or pair.

    Args:
      run_dir: of the run.
      words: such names; `@FILE` is a file with one on each line.

    Raises:
      ValueError: a word names nothing of the run.
    """
    folder = epath.Path(run_dir)
    asked = set(read_entries(words))
    known = read_forgotten(folder / run_files.FORGOTTEN)
    inputs = read_json(folder / run_files.SEGMENTS_STAGE / run_files.CORPUS_MANIFEST)["inputs"]
    files = _input_names({row["name"] for row in inputs}, asked)
    by_page = segments_of_pages(folder, asked, set(files.values()))
    ids = {word.partition("#")[0] for word in asked if "://" not in word}
    paths = shard_paths(folder / run_files.SEGMENTS_STAGE, run_files.SEGMENTS)
    by_id = [row for path in paths for row in (rows_of_ids(path, ids) if ids else ())]
    urls = {row["url"] for row in by_page if row["url"] in asked} | {row["url"] for row in by_id}
    # A page that gave no segment, and one that is forgotten already, are known by their address alone.
    urls |= {word for word in asked if "://" in word or word in known.urls}
    found = urls | files.keys() | {row["id"] for row in by_id} | known.files
    if unknown := sorted(word for word in asked if word not in found and word.partition("#")[0] not in found):
        raise ValueError(
            f"{run_dir}: nothing is known of {unknown[0]}; give the address of a page, the name of an input as "
            f"`humpback explain` has it, the id of a segment or pair, or {FILE_MARK}FILE with one on each line"
        )
    entries = Forgotten(frozenset(urls), frozenset(files.values()))
    missing = urls - {row["url"] for row in by_page}
    segments = [*by_page, *(segments_of_pages(folder, missing, ()) if missing & {row["url"] for row in by_id} else ())]
    trace = trace_segments(folder, segments)
    return TakeDown(entries, trace, _answers(folder, trace))


def _input_names(names: set[str], words: set[str]) -> dict[str, str]:
    """{word: name} of words that are the name of an input, or a path that ends with it."""
    tails = {word: [word, *("/".join(pathlib.PurePath(word).parts[i:]) for i in range(1, 12))] for word in words}
    found = {word: next((tail for tail in tails[word] if tail in names), None) for word in words}
    return {word: name for word, name in found.items() if name is not None}


def _answers(run_dir: epath.Path, trace: Trace) -> list[str]:
    """Folders of answers of models that derive from what is traced."""
    models = {read_json(run_dir / name / run_files.MANIFEST)["outputs"].get("model") for name in trace.derived} - {None}
    manifests = (run_dir / run_files.ANSWERS_STAGE).glob(f"*/{run_files.MANIFEST}")
    return sorted(path.parent.name for path in manifests if read_json(path)["inputs"].get("model") in models)


def forget(recipe: Recipe, run_dir: PathLike, entries: Forgotten) -> None:
    """Adds to the list of the run, makes again what depends on it, and removes every earlier version of a stage.

    Cut off, it goes on when it is asked again, or with `Alignment.align`.
    """
    folder = epath.Path(run_dir)
    path = folder / run_files.FORGOTTEN
    write_forgotten(path, read_forgotten(path) | entries)
    Alignment(recipe, folder).align()
    if (folder / run_files.REPLACED).exists():
        (folder / run_files.REPLACED).rmtree()
