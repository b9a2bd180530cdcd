"""The last steps: segments, their sources and the duplicates into files by ranges of ids.

Which file an id is in depends on it and the number of files alone.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator

from etils import epath

from humpback_jax.corpus.pipeline.engine import GroupRows, Row
from humpback_jax.corpus.pipeline.rows import file_number, segments_of
from humpback_jax.corpus.segment_files import FileFormat, RowFile
from humpback_jax.run_files import DUPLICATES, SEGMENTS, SOURCES

KEPT, FILES, BY_DOMAIN, BY_LANGUAGE = "kept", "files", "by_domain", "by_language"


@dataclasses.dataclass(frozen=True)
class Destination:
    """Where and how the files are written."""

    folder: str
    file_format: FileFormat
    rows_per_file: int

    def open(self, template: str, i: int, count: int) -> RowFile:
        """File i of a set of `count`, to be written."""
        name = template.format(i=i, n=count, suffix=self.file_format)
        return RowFile(epath.Path(self.folder) / name, self.file_format)


def num_files(rows: int, rows_per_file: int) -> int:
    """So many that a file has about `rows_per_file` rows; at least one."""
    return max(1, -(-rows // rows_per_file))


def keep(key: str, rows: GroupRows, files: int) -> Iterator[Row]:
    """A segment that no step has dropped, under the number of its file; of several places the first."""
    for _, payload in segments_of(rows)[:1]:
        yield Row(KEPT, f"{file_number(key, files):05d}", key, payload)


def write_segments(key: str, rows: GroupRows, files: int, destination: Destination) -> Iterator[Row]:
    """Writes a file of segments and one of their sources; how many segments are of each domain and language."""
    segments, sources = (destination.open(name, int(key), files) for name in (SEGMENTS, SOURCES))
    counts = Counter[str]()
    with segments, sources:
        for _, payload in rows:
            row, source, counted = payload.split("\n")
            segments.write_json(row)
            sources.write_json(source)
            counts[counted] += 1
    for counted, count in counts.items():
        domain, language = json.loads(counted)
        yield Row(BY_DOMAIN, domain, f"{key}\t{language}", str(count))
        yield Row(BY_LANGUAGE, language, f"{key}\t{domain}", str(count))
    yield from (Row(FILES, "", f.path.name, json.dumps([f.path.name, f.summary])) for f in (segments, sources))


def write_duplicates(key: str, rows: GroupRows, files: int, destination: Destination) -> Iterator[Row]:
    """Writes a file of duplicates in the order of the dropped ids."""
    with destination.open(DUPLICATES, int(key), files) as file:
        for _, payload in rows:
            file.write_json(payload)
    yield Row(FILES, "", file.path.name, json.dumps([file.path.name, file.summary]))
