"""The corpus stage: pages in; segments, their sources, the duplicates and a report out. Every record is counted."""

import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

import humpback_jax
from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.filters import answer_likeness
from humpback_jax.corpus.filters.effect import filter_notes
from humpback_jax.corpus.forgotten import Forgotten
from humpback_jax.corpus.page_segments import ToolsRecipe, cut_page
from humpback_jax.corpus.pipeline.cutting import PageFunction, Shard, make_shards
from humpback_jax.corpus.pipeline.flow import Destination, FlowResult, run_flow
from humpback_jax.corpus.pipeline.local import LocalEngine
from humpback_jax.corpus.pipeline.pool import Pool, default_workers
from humpback_jax.corpus.readers.inputs import list_inputs
from humpback_jax.corpus.readers.records import DAMAGE
from humpback_jax.corpus.readers.rows import Columns
from humpback_jax.corpus.segment_files import ROWS_PER_FILE, FileFormat, remove_shards
from humpback_jax.files import PathLike, read_json, sha256_of_bytes, write_json
from humpback_jax.run_files import CORPUS_MANIFEST, CORPUS_REPORT, CORPUS_WORK, DUPLICATES, SEGMENTS, SOURCES
from humpback_jax.runtime.console import say

SECONDS_PER_RECORD = 60.0

_BYTES_PER_PARTITION = 64_000_000  # of inputs, compressed about 10,000 segments; a partition takes 0.1 s to begin
_MAX_PARTITIONS = 1024
_SORT_BYTES = 1 << 30  # of memory for all workers together, beyond which a sort goes to the disk


@dataclasses.dataclass
class CorpusReport:
    """Counts of a build. They depend on the pages and the settings, not on how pages are spread over files.

    Attributes:
      pages: records that are pages.
      segments: candidates that are kept.
      rejected_records: records that are no page, by reason.
      rejected_segments: candidates that are no segment, by reason.
      page_outcomes: pages by what they came to.
      furniture: blocks of pages that are no content, by reason.
      languages, domains: the most common of the segments.
      notes: filters that rejected nothing or everything.
      problems: names the damaged inputs, the first 100 of them.
    """

    pages: int = 0
    segments: int = 0
    rejected_records: Counter[str] = dataclasses.field(default_factory=Counter)
    rejected_segments: Counter[str] = dataclasses.field(default_factory=Counter)
    page_outcomes: Counter[str] = dataclasses.field(default_factory=Counter)
    furniture: Counter[str] = dataclasses.field(default_factory=Counter)
    languages: dict[str, int] = dataclasses.field(default_factory=dict)
    domains: dict[str, int] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)

    @property
    def records(self) -> int:
        """All records, pages or not."""
        return self.pages + self.rejected_records.total()

    @property
    def candidates(self) -> int:
        """All candidates, kept or not."""
        return self.segments + self.rejected_segments.total()

    @property
    def readable(self) -> bool:
        """Whether there was any record besides damage: an archive without segments is not a broken one."""
        return bool(self.pages or self.rejected_records.keys() - DAMAGE)

    def to_dict(self) -> dict[str, object]:
        """The same as plain JSON values, reasons in alphabetical order."""
        return {
            "records": self.records,
            "pages": self.pages,
            "rejected_records": dict(sorted(self.rejected_records.items())),
            "page_outcomes": dict(sorted(self.page_outcomes.items())),
            "furniture": dict(sorted(self.furniture.items())),
            "candidates": self.candidates,
            "segments": self.segments,
            "rejected_segments": dict(sorted(self.rejected_segments.items())),
            "languages": self.languages,
            "domains": self.domains,
            "notes": self.notes,
            "problems": self.problems,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CorpusReport":
        """Back from `to_dict`."""
        fields = {field.name: values[field.name] for field in dataclasses.fields(cls)}
        counters = ("rejected_records", "rejected_segments", "page_outcomes", "furniture")
        return cls(**fields | {name: Counter(fields[name]) for name in counters})


class EmptyCorpusError(ValueError):
    """No segment is left; `report` has the counts."""

    def __init__(self, report: CorpusReport) -> None:
        self.report = report
        super().__init__(
            f"no segment is left of {report.records} records and {report.candidates} candidates "
            f"(records rejected: {_reasons(report.rejected_records)}; pages: {_reasons(report.page_outcomes)}; "
            f"candidates rejected: {_reasons(report.rejected_segments)}); add pages with headers, or loosen "
            "CorpusConfig (min_chars, max_chars, jaccard_threshold)"
        )


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a build is run; none of it changes a byte of what is written.

    Attributes:
      workers: processes; None: one per core, or what HUMPBACK_CORPUS_WORKERS says.
      seconds_per_record: a record that takes longer is rejected as `timeout`.
      runner: None: processes of this machine. Else Apache Beam with this runner, which needs the extra `beam`.
      beam_options: options of the runner, such as `--region=europe-west4`.
    """

    workers: int | None = None
    seconds_per_record: float = SECONDS_PER_RECORD
    runner: str | None = None
    beam_options: tuple[str, ...] = ()


def build_corpus(
    inputs: Sequence[PathLike],
    out_dir: PathLike,
    config: CorpusConfig,
    *,
    answers: Sequence[str] = (),
    seed_languages: tuple[str, ...] = (),
    forgotten: Forgotten = Forgotten(),  # noqa: B008 (immutable)
    file_format: FileFormat = "jsonl",
    rows_per_file: int = ROWS_PER_FILE,
    execution: Execution = Execution(),
    show_progress: bool = True,
    cut: PageFunction = cut_page,
) -> CorpusReport:
    """Builds a corpus from `inputs` (what `list_inputs` takes) in `out_dir`, or goes on with one that was cut off.

    The same pages and settings give the same segments, duplicates and report, however the pages are spread over files
    and however many workers there are. The manifest is written last: a folder that has one for the same inputs and
    settings is not built again. Damaged inputs are counted and named in the report.

    Args:
      inputs: files, folders, patterns.
      out_dir: the folder of the corpus.
      config: what becomes a segment.
      answers: of the seed pairs, for `min_answer_likeness`.
      seed_languages: the languages of the seeds; empty where none are known.
      forgotten: pages that are left out.
      file_format: of the segments, sources and duplicates.
      rows_per_file: about how many.
      execution: how it is run.
      show_progress: a bar on a terminal, log lines elsewhere.
      cut: a page to its segments; a function that worker processes can import.

    Raises:
      FileNotFoundError: an input does not exist.
      EmptyCorpusError: no segment is left; all files are written then too.
    """
    folder = epath.Path(out_dir)
    columns = Columns(config.url_column, config.content_column)
    shards = make_shards(list_inputs(inputs, exclude_dir=folder, crawl_root=config.crawl_root, columns=columns))
    recipe = ToolsRecipe(config, seed_languages, forgotten=forgotten)
    recipe.load()  # so that a file that a setting names is missed here and not in a worker
    if config.min_answer_likeness is not None:
        answer_likeness.check_number(len(answers), "seed answers")
    identity = _identity(shards, recipe, answers, file_format, rows_per_file)
    report = _finished(folder, identity)
    if report is None:
        destination = Destination(str(folder), file_format, rows_per_file)
        result = _run(shards, recipe, cut, answers, destination, identity, execution, show_progress)
        report = _report(result, config, seed_languages)
        for line in (*report.problems, *report.notes):
            say(f"corpus: {line}")
        write_json(folder / CORPUS_REPORT, report.to_dict())
        _write_manifest(folder, identity, inputs, shards, recipe, result)
    if not report.segments:
        raise EmptyCorpusError(report)
    return report


def _run(
    shards: Sequence[Shard],
    recipe: ToolsRecipe,
    cut: PageFunction,
    answers: Sequence[str],
    destination: Destination,
    identity: str,
    execution: Execution,
    show_progress: bool,
) -> FlowResult:
    """Runs the pipeline on the engine that is asked for; what another build left here goes first."""
    folder = epath.Path(destination.folder)
    work = _work_folder(folder) / identity[:16]
    if execution.runner or not work.exists():
        shutil.rmtree(work.parent, ignore_errors=True)
        for name in (CORPUS_MANIFEST, CORPUS_REPORT):
            (folder / name).unlink(missing_ok=True)
        for template in (SEGMENTS, SOURCES, DUPLICATES):
            remove_shards(folder, template)
        work.mkdir(parents=True)
    if execution.runner:
        from humpback_jax.corpus.pipeline.beam import BeamEngine

        shared = folder / CORPUS_WORK / identity[:16]
        shared.mkdir(parents=True, exist_ok=True)
        beam = BeamEngine(str(shared), execution.runner, execution.beam_options)
        result = run_flow(beam, shards, recipe, cut, answers, destination)
        shared.parent.rmtree()
    else:
        workers = execution.workers or default_workers()
        partitions = min(max(1, sum(shard.size for shard in shards) // _BYTES_PER_PARTITION), _MAX_PARTITIONS)
        with Pool(workers, execution.seconds_per_record) as pool:
            engine = LocalEngine(work, pool, partitions, _SORT_BYTES // workers, show_progress)
            result = run_flow(engine, shards, recipe, cut, answers, destination)
    if missing := [name for name in result.files if not (folder / name).exists()]:
        raise RuntimeError(f"{folder / missing[0]} was removed while the corpus was built; delete {work} and run again")
    shutil.rmtree(work.parent, ignore_errors=True)
    return result


def _work_folder(folder: epath.Path) -> pathlib.Path:
    """A folder of this machine: in the corpus's own if that is local."""
    if "://" not in str(folder):
        return pathlib.Path(folder) / CORPUS_WORK
    return pathlib.Path(tempfile.gettempdir()) / f"humpback-{sha256_of_bytes(str(folder).encode())[:16]}" / CORPUS_WORK


def _identity(
    shards: Sequence[Shard], recipe: ToolsRecipe, answers: Sequence[str], file_format: str, rows_per_file: int
) -> str:
    """Hash of all that decides the files: inputs by place, size and time of change; settings and what they point to."""
    values = {
        "version": humpback_jax.__version__,
        "inputs": [[(repr(file), _changed(file.path)) for file in shard.files] for shard in shards],
        "config": dataclasses.asdict(recipe.config),
        "files": recipe.config.file_hashes(),
        "seed_languages": recipe.seed_languages,
        "answers": sha256_of_bytes("\0".join(answers).encode(errors="replace")),
        "format": [file_format, rows_per_file],
    } | ({"forgotten": recipe.forgotten.sha256} if recipe.forgotten else {})
    return sha256_of_bytes(json.dumps(values, sort_keys=True, default=str).encode())


def _changed(path: Any) -> float:
    """When a file was last changed; 0 where that is not known."""
    try:
        return float(path.stat().mtime)
    except (OSError, AttributeError):
        return 0.0


def _finished(folder: epath.Path, identity: str) -> CorpusReport | None:
    """The report of a complete build of the same inputs and settings."""
    manifest = folder / CORPUS_MANIFEST
    if not manifest.exists() or not (folder / CORPUS_REPORT).exists():
        return None
    values = read_json(manifest)
    if values["identity"] != identity or not all((folder / name).exists() for name in values["files"]):
        return None
    say(f"[green]✓[/green] {folder}: complete")
    return CorpusReport.from_dict(read_json(folder / CORPUS_REPORT))


def _report(result: FlowResult, config: CorpusConfig, seed_languages: tuple[str, ...]) -> CorpusReport:
    rejected = result.counts.candidates + Counter(result.dropped)
    report = CorpusReport(
        pages=result.counts.pages,
        segments=result.segments,
        rejected_records=result.counts.records,
        rejected_segments=rejected,
        page_outcomes=result.counts.outcomes,
        furniture=result.counts.furniture,
        languages=result.languages,
        domains=result.domains,
        problems=result.counts.problems,
    )
    if result.counts.segments != result.segments + sum(result.dropped.values()):
        raise AssertionError(f"{result.counts.segments} segments came from pages, {report} have been counted")
    report.notes = filter_notes(config, report.candidates, rejected, seed_languages)
    return report


def _write_manifest(
    folder: epath.Path,
    identity: str,
    inputs: Sequence[PathLike],
    shards: Sequence[Shard],
    recipe: ToolsRecipe,
    result: FlowResult,
) -> None:
    """`given` is what `list_inputs` took, so that a page can be found again."""
    given = [os.fspath(path) for path in inputs]
    manifest = {
        "identity": identity,
        "version": humpback_jax.__version__,
        "config": dataclasses.asdict(recipe.config),
        "seed_languages": recipe.seed_languages,
        "forgotten": recipe.forgotten.rows,
        "given": [path if "://" in path else os.path.abspath(path) for path in given],
        "inputs": [{"name": file.name, "size": file.size} for shard in shards for file in shard.files],
        "files": result.files,
    }
    write_json(folder / CORPUS_MANIFEST, manifest)


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in sorted(counts.items())) or "none"
