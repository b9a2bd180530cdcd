"""Whose texts a run holds, under which licence, and which of them stay private."""

import collections
import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

from etils import epath

from humpback_jax.corpus.readers.inputs import list_inputs
from humpback_jax.corpus.segment_files import read_shards
from humpback_jax.data.pairs import domain_of
from humpback_jax.run_files import SEGMENTS_STAGE, SOURCES
from humpback_jax.stages.sources import SegmentsConfig, SourceConfig, builtin_pages, local_path


class KnownSources:
    """Which `SourceConfig` a row belongs to; remembers which of them were met."""

    def __init__(self, run_dir: epath.Path, config: SegmentsConfig, extra: Sequence[SourceConfig] = ()) -> None:
        """Reads what the segments stage says of where each segment stands.

        Args:
          run_dir: the run.
          config: of its segments.
          extra: sources that come before those of the config.
        """
        self.sources = (*extra, *config.sources)
        self.met: set[SourceConfig] = set()
        self._files: dict[SourceConfig, set[str]] = {}
        for source in self.sources:
            if source.pattern in config.inputs:
                path = builtin_pages(source.pattern, run_dir) or local_path(source.pattern)
                self._files[source] = {file.name for file in list_inputs([path], crawl_root=config.corpus.crawl_root)}
        rows: Iterable[dict] = read_shards(run_dir / SEGMENTS_STAGE, SOURCES) if self.sources else ()
        self._file_of: dict[str, str] = {row["id"]: row["file"] for row in rows}

    def of(self, row: dict[str, Any]) -> SourceConfig | None:
        """The first source that a pair with `id` and `source` belongs to."""
        file = self._file_of.get(str(row["id"]).partition("#")[0], "")
        for source in self.sources:
            if self._matches(source, str(row.get("source") or ""), file):
                self.met.add(source)
                return source
        return None

    def _matches(self, source: SourceConfig, address: str, file: str) -> bool:
        names = self._files.get(source, ())
        if file in names or address in names:
            return True
        pattern, host = source.pattern.lower(), domain_of(address).lower()
        if host and (host == pattern or host.endswith("." + pattern)):
            return True
        return any(fnmatch.fnmatchcase(name.lower(), pattern) for name in (address, file) if name)

    def check_all_met(self) -> None:
        """ValueError where a private source has no row: a mistyped one would publish what it was meant to keep."""
        for source in self.sources:
            if source.private and source not in self.met:
                raise ValueError(
                    f"the private source {source.pattern!r} matches no text of the run, so nothing was published; "
                    "correct it (an entry of SegmentsConfig.inputs, a host, or a pattern with *), or drop it"
                )


class SourceTable:
    """Published and withheld rows by source."""

    def __init__(self) -> None:
        self.published: collections.Counter[tuple[str, str]] = collections.Counter()
        self.withheld = 0

    def add(self, name: str, licence: str | None) -> None:
        """One row that is published."""
        self.published[name, licence or "unknown"] += 1

    def rows(self) -> list[dict[str, Any]]:
        """`source`, `licence`, `rows` of each, the largest first."""
        ordered = sorted(self.published.items(), key=lambda item: (-item[1], item[0]))
        return [{"source": name, "licence": licence, "rows": count} for (name, licence), count in ordered]


def source_name(row: dict[str, Any]) -> str:
    """The host that a row comes from, or else the name of its file."""
    address = str(row.get("source") or "")
    return domain_of(address) or address or "(not said)"
