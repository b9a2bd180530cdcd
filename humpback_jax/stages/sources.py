"""What the algorithm starts from: the base model, the seed pairs, and the segments of web pages."""

import collections
import dataclasses
import os
from collections.abc import Sequence
from typing import Annotated, Any

from etils import epath
from rich.markup import escape

from humpback_jax.corpus.build import build_corpus
from humpback_jax.corpus.config import SEED_LANGUAGES, CorpusConfig
from humpback_jax.corpus.filters.language import seed_languages
from humpback_jax.corpus.forgotten import read_forgotten
from humpback_jax.corpus.readers.inputs import InputFile, list_inputs
from humpback_jax.corpus.readers.web_file import WebPath
from humpback_jax.corpus.segment_files import segments_sha256
from humpback_jax.data.open_assistant import ENGLISH
from humpback_jax.data.pair_rows import SYSTEM_CHOICES, RowReader, column_names
from humpback_jax.data.pairs import Pair, PairsFormat, PairsReport, read_curated, read_pairs, write_pairs
from humpback_jax.files import PathLike, sha256_of_bytes, sha256_of_file
from humpback_jax.models.config import LlamaConfig
from humpback_jax.ranges import OneOf, PathText, PositiveInt, check_fields
from humpback_jax.run_files import FORGOTTEN, HELDOUT_PAIRS, LIBRARY_PAGES, PAGES, SEED_PAIRS
from humpback_jax.runtime.console import say
from humpback_jax.stages.model import ModelHandle, open_model
from humpback_jax.stages.stage import Identity, Stage, StageResult, begin_stage, plain
from humpback_jax.weights.find import find_model

PACKAGE = epath.Path(__file__).parent.parent
BUILTIN = "builtin:"
PYTHON_REFERENCE, LIBRARY_DOCS = "builtin:python_reference", "builtin:library_docs"
NAMED_ROWS = 100  # of those that are no pairs, in the manifest
HASHED_WHOLE = 64 << 20  # bytes; a larger input file is identified by name and size


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """What may be done with the texts of a source; read when a run's data are published, and by no stage.

    Attributes:
      pattern: which texts: an entry of `SegmentsConfig.inputs`; a host, with everything below it; or a pattern (`*`) of
        addresses and file names.
      licence: for the card; None: unknown.
      private: the texts are never published, nor what was written for them.
    """

    pattern: str
    licence: str | None = None
    private: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class SeedConfig:
    """Where seed pairs come from.

    Attributes:
      path: a file of pairs in any format of `data/row_files.py`; `builtin:NAME` is one of the package's own.
      heldout_path: pairs kept out of every training set, for evaluation; None for no evaluation.
      limit: at most this many seed pairs (the paper has 3,200).
      licence, private: of both files; see `SourceConfig`.
      columns: which columns of the files hold what, such as ('instruction=q', 'output=answers.best'); what is not
        named goes by its usual names.
      system: system texts are put above their instruction (`join`) or left out (`drop`), or their pairs are (`reject`).
      languages: of Open Assistant's messages; () takes all.
    """

    path: PathText
    heldout_path: PathText | None = None
    limit: PositiveInt | None = None
    licence: str | None = None
    private: bool = False
    columns: tuple[str, ...] = ()
    system: Annotated[str, OneOf(*SYSTEM_CHOICES)] = "join"
    languages: tuple[str, ...] = ENGLISH

    def __post_init__(self) -> None:
        check_fields(self)
        RowReader(column_names(self.columns), self.system)

    @property
    def pairs_format(self) -> PairsFormat:
        """How the files are read."""
        return PairsFormat("auto", column_names(self.columns), self.system, self.languages)

    def identity(self) -> dict[str, Any]:
        """What decides the pairs beside the files; a setting at its default is not named."""
        names = ("columns", "system", "languages")
        given = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(SeedConfig, name)}
        return {"limit": self.limit} | given


@dataclasses.dataclass(frozen=True)
class SegmentsConfig:
    """Where segments come from.

    Attributes:
      inputs: archives, pages or tables of pages, folders of them or patterns; `builtin:python_reference` is Python's
        language reference, `builtin:library_docs` the documentation of installed libraries.
      corpus: how pages are cut and filtered.
      sources: licences of some inputs, and which are private; the first that matches a text counts.
    """

    inputs: tuple[PathText, ...]
    corpus: CorpusConfig = CorpusConfig()
    sources: tuple[SourceConfig, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


def base_model(weights: str, architecture: LlamaConfig | None, chat_format: str | None) -> ModelHandle:
    """Opens the base model, named as every model is: see `find_model`.

    Raises:
      ValueError: its architecture is not the declared one; the differing fields are named.
    """
    path = find_model(weights)
    model = open_model(path, chat_format)
    if architecture is not None:
        declared, actual = architecture.architecture(), model.card.config.architecture()
        different = [f"{k} is {actual[k]}, declared {declared[k]}" for k in actual if actual[k] != declared[k]]
        if different:
            raise ValueError(
                f"base model {path}: {'; '.join(different)}; include the gin file of this model's size, or drop the "
                "architecture from the recipe"
            )
    return model


def read_seeds(directory: PathLike, config: SeedConfig) -> Stage:
    """Writes DIRECTORY/seed.jsonl, and heldout.jsonl if the config names held-out pairs."""
    claim = begin_stage(directory, *seeds_identity(config), replaces=True)
    if claim.finished:
        return claim.stage

    rejected: collections.Counter[str] = collections.Counter()
    outputs, figures, pairs = {}, {}, {}
    for name, report in read_pair_files(config).items():
        pairs[name] = report.pairs
        product = claim.folder / (SEED_PAIRS if name == "seed" else HELDOUT_PAIRS)
        write_pairs(product, report.pairs)
        outputs[name] = sha256_of_file(product)
        figures[name] = report.counts | ({"problems": report.problems[:NAMED_ROWS]} if report.problems else {})
        if report.problems:
            say(f"[yellow]{escape(report.summary())}[/yellow]")
        rejected.update(report.counts["rejected"])
    total = {there: sum(counts[key] for counts in figures.values()) for there, key in (("in", "read"), ("out", "kept"))}
    in_both = pairs_in_both(pairs["seed"], pairs.get("heldout", ()))
    leaked = {"heldout_in_seeds": len(in_both)} if in_both else {}
    return claim.finish(StageResult(total | {"rejected": dict(rejected)}, outputs, figures | leaked))


def pairs_in_both(seeds: Sequence[Pair], heldout: Sequence[Pair]) -> list[str]:
    """Ids of the held-out pairs whose instruction, whatever its case and spaces, is also that of a seed pair."""
    seen = {_same_words(pair.instruction) for pair in seeds}
    return [pair.id for pair in heldout if _same_words(pair.instruction) in seen]


def _same_words(text: str) -> str:
    return " ".join(text.casefold().split())


def seeds_identity(config: SeedConfig) -> Identity:
    """What decides the pairs: the content of the files, wherever they lie."""
    return config.identity(), {name: sha256_of_file(path) for name, path in _pair_files(config).items()}


def read_pair_files(config: SeedConfig) -> dict[str, PairsReport]:
    """What the files of `seed` and, where there are any, `heldout` pairs hold; raises as `read_pairs`."""
    limits = {"seed": config.limit}
    settings = config.pairs_format
    return {name: read_pairs(path, settings, limits.get(name)) for name, path in _pair_files(config).items()}


def _pair_files(config: SeedConfig) -> dict[str, str]:
    sources = {"seed": config.path} | ({"heldout": config.heldout_path} if config.heldout_path else {})
    return {name: local_path(path) for name, path in sources.items()}


def cut_segments(directory: PathLike, config: SegmentsConfig, seeds: Stage | None = None) -> Stage:
    """Writes the segments of DIRECTORY from web pages, in the languages of `seeds` where the config says so.

    Pages that the run directory's list says to forget are read and left out, each counted as `forgotten`.
    """
    run_dir = epath.Path(directory).parent
    if PYTHON_REFERENCE in config.inputs:
        from humpback_jax.quickstart.pages import write_python_reference_pages

        write_python_reference_pages(run_dir / PAGES)
    if LIBRARY_DOCS in config.inputs:
        from humpback_jax.quickstart.library_docs import write_library_docs

        say("rendering the documentation of installed libraries, once for a run")
        write_library_docs(run_dir / LIBRARY_PAGES)
    answers = [pair.output for pair in read_curated(seeds.directory / SEED_PAIRS)] if seeds else []
    languages = languages_of(config, answers)
    identity = segments_identity(config, run_dir, languages, seeds.outputs["seed"] if seeds else None)
    claim = begin_stage(directory, *identity, replaces=True)
    if claim.finished:
        return claim.stage

    report = build_corpus(
        input_paths(config, run_dir),
        claim.folder,
        config.corpus,
        answers=answers if config.corpus.min_answer_likeness is not None else [],
        seed_languages=languages,
        forgotten=read_forgotten(run_dir / FORGOTTEN),
    )
    counts = {"in": report.candidates, "out": report.segments, "rejected": dict(report.rejected_segments)}
    outputs = {"segments": segments_sha256(claim.folder)}
    return claim.finish(StageResult(counts, outputs, report.to_dict()))


def builtin_pages(source: str, run_dir: epath.Path) -> str | None:
    """Where a run keeps the pages of a built-in corpus; None for any other source."""
    folders = {PYTHON_REFERENCE: PAGES, LIBRARY_DOCS: LIBRARY_PAGES}
    return os.fspath(run_dir / folders[source]) if source in folders else None


def languages_of(config: SegmentsConfig, answers: Sequence[str]) -> tuple[str, ...]:
    """What the stage reads of the seeds, and no more: new seeds in the same languages are no reason to cut again."""
    return seed_languages(answers) if SEED_LANGUAGES in config.corpus.languages else ()


def input_paths(config: SegmentsConfig, run_dir: epath.Path) -> list[str]:
    """Where the web pages are."""
    return [builtin_pages(source, run_dir) or local_path(source) for source in config.inputs]


def segments_identity(
    config: SegmentsConfig, run_dir: epath.Path, languages: Sequence[str], seeds: str | None
) -> Identity:
    """What decides the segments, with the hash of the seed pairs: content, wherever it lies.

    Raises:
      FileNotFoundError: an input, or a file that a setting names, does not exist.
    """
    corpus = plain(config.corpus)
    del corpus["crawl_root"]  # a place; what is read there is hashed
    pages = [_content_hash(path, config.corpus.crawl_root) for path in input_paths(config, run_dir)]
    inputs = {"pages": sha256_of_bytes("\n".join(pages).encode())}
    if hashes := config.corpus.file_hashes():
        for name in ("decontaminate", "blocked_domains", "blocked_phrases"):
            corpus[name] = [hashes.get(entry.removeprefix("@"), entry) for entry in corpus[name]]
    if config.corpus.min_answer_likeness is not None and seeds is not None:
        inputs["seeds"] = seeds
    if forgotten := read_forgotten(run_dir / FORGOTTEN):
        inputs["forgotten"] = forgotten.sha256
    return {"corpus": corpus, "seed_languages": tuple(languages)}, inputs


def local_path(path: str) -> str:
    """The path itself, or of `builtin:NAME` that of a file of the package's quickstart folder."""
    return os.fspath(PACKAGE / "quickstart" / path[len(BUILTIN) :]) if path.startswith(BUILTIN) else path


def _content_hash(path: str, crawl_root: str) -> str:
    """Content hash of a file, or of a folder's files; what is large, remote or unreadable is named by its size."""
    files = list_inputs([path], crawl_root=crawl_root)
    return sha256_of_bytes("\n".join(f"{file.name} {_content_identity(file)}" for file in files).encode())


def _content_identity(file: InputFile) -> str:
    if file.problem or file.ranges or isinstance(file.path, WebPath) or file.size > HASHED_WHOLE:
        return " ".join(map(str, (file.problem, file.size, *(file.ranges or ())))).strip()
    try:
        return sha256_of_file(file.path)
    except OSError:
        return f"unreadable {file.size}"
