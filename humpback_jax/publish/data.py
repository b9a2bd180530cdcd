"""The data of a run as a folder that `datasets.load_dataset` reads: Parquet, the same as JSON lines, and a card."""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from etils import epath

from humpback_jax import run_files
from humpback_jax.files import PathLike, in_blocks, jsonl_line, read_json, read_jsonl, write_jsonl
from humpback_jax.publish.card import data_card
from humpback_jax.publish.sources import KnownSources, SourceTable, source_name
from humpback_jax.stages.sources import SeedConfig, SegmentsConfig, SourceConfig
from humpback_jax.weights.staging import staged_folder

ROWS_PER_BLOCK = 10_000
PARQUET = "data/{name}/{split}-00000-of-00001.parquet"
JSON_LINES = "jsonl/{name}/{split}.jsonl"
CARD, SOURCE_TABLE = "README.md", "sources.jsonl"
# Columns and their types, as Arrow names them.
PAIR = {"id": "string", "instruction": "string", "output": "string", "source": "string"}
RATED = PAIR | {"header": "string", "score": "float", "p_good": "float"}
CANDIDATE = RATED | {"kept": "bool", "reason": "string"}


@dataclasses.dataclass(frozen=True)
class Split:
    """One table: a configuration of the data set and a split of it, its columns, and the files of the run it is of."""

    name: str
    split: str
    columns: dict[str, str]
    files: tuple[epath.Path, ...]


def publish_data(
    run_dir: PathLike,
    destination: PathLike,
    seeds: SeedConfig,
    segments: SegmentsConfig,
    sources: Sequence[SourceConfig] = (),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes the seed pairs, the kept pairs and all rated pairs of the last round, without those of private sources.

    Args:
      run_dir: a run with a round that is curated.
      destination: the folder to make; it is whole or absent.
      seeds, segments: of its recipe: what is private, and licences.
      sources: more sources, which come before those of the recipe.
      overwrite: replace a folder that is there.

    Returns:
      {"path", "rows": {table: rows}, "withheld"}.

    Raises:
      FileNotFoundError: no round of the run is curated.
      ValueError: a private source that no text of the run belongs to.
    """
    run = epath.Path(run_dir)
    t = last_curated_round(run)
    known, table, rows = KnownSources(run, segments, sources), SourceTable(), {}
    with staged_folder(destination, overwrite=overwrite) as folder:
        for split in splits_of(run, t, with_seeds=not seeds.private):
            kept = _public_rows(split, known, table, seeds.licence if split.name == "seeds" else None)
            rows[f"{split.name}/{split.split}"] = write_split(folder, split, kept)
        known.check_all_met()
        private = seeds.private or any(source.private for source in known.sources)
        write_jsonl(folder / SOURCE_TABLE, table.rows())
        if not private and (run / run_files.CONFIG).exists():
            (folder / run_files.CONFIG).write_bytes((run / run_files.CONFIG).read_bytes())
        manifests = {path.parent.name: read_json(path) for path in sorted(run.glob(f"*/{run_files.MANIFEST}"))}
        card = data_card(pathlib.Path(destination).name, rows, table, manifests, private, seeds.private)
        (folder / CARD).write_text(card, encoding="utf-8")
    return {"path": str(destination), "rows": rows, "withheld": table.withheld}


def last_curated_round(run: epath.Path) -> int:
    """The number of the last round whose pairs were chosen; FileNotFoundError where there is none."""
    found = run.glob(f"{run_files.CURATED_STAGE.format(t='*')}/{run_files.MANIFEST}")
    rounds = [run_files.round_of(path.parent.name, run_files.CURATED_STAGE) for path in found]
    if not (numbers := [t for t in rounds if t is not None]):
        raise FileNotFoundError(f"{run} has no curated pairs yet; `humpback align` goes on with it")
    return max(numbers)


def splits_of(run: epath.Path, t: int, with_seeds: bool) -> list[Split]:
    """The tables of a run."""
    seeds, curated = run / run_files.SEEDS_STAGE, run / run_files.CURATED_STAGE.format(t=t)
    kept, dropped = curated / run_files.CURATED, curated / run_files.DROPPED
    splits = [Split("curated", "train", RATED, (kept,)), Split("candidates", "train", CANDIDATE, (kept, dropped))]
    if with_seeds:
        splits.append(Split("seeds", "train", PAIR, (seeds / run_files.SEED_PAIRS,)))
        if (seeds / run_files.HELDOUT_PAIRS).exists():
            splits.append(Split("seeds", "test", PAIR, (seeds / run_files.HELDOUT_PAIRS,)))
    return splits


def _public_rows(split: Split, known: KnownSources, table: SourceTable, licence: str | None) -> Iterator[dict]:
    """The rows of a table without those of private sources; a row of `curated` is counted as the candidate it is."""
    counted = split.name != "curated"
    for file in split.files:
        for _, row in read_jsonl(file):
            source = known.of(row)
            if source is not None and source.private:
                table.withheld += counted
                continue
            if counted:
                table.add(source_name(row), source.licence if source and source.licence else licence)
            row |= {"kept": file.name == run_files.CURATED, "reason": row.get("reason")}
            yield {name: row.get(name) for name in split.columns}


def write_split(folder: pathlib.Path, split: Split, rows: Iterable[dict]) -> int:
    """Writes a table twice, with the same columns in every row; returns how many there are."""
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, pyarrow.type_for_alias(kind)) for name, kind in split.columns.items()])
    parquet, lines = (folder / path.format(name=split.name, split=split.split) for path in (PARQUET, JSON_LINES))
    parquet.parent.mkdir(parents=True, exist_ok=True)
    lines.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with pyarrow.parquet.ParquetWriter(parquet, schema) as writer, lines.open("w", encoding="utf-8") as stream:
        for block in in_blocks(rows, ROWS_PER_BLOCK):
            writer.write_table(pyarrow.Table.from_pylist(block, schema=schema))
            stream.writelines(jsonl_line(row) for row in block)
            count += len(block)
    return count
