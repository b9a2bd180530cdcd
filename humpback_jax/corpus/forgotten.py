"""Pages that a run is to forget: a list in the run directory, which the corpus is cut without.

A line is an object with `url`, the address of a page, or `file`, the name of an input all of whose pages are meant.
"""

import dataclasses
from collections.abc import Iterable

from etils import epath

from humpback_jax.files import PathLike, jsonl_line, read_jsonl, sha256_of_bytes, write_jsonl

KINDS = ("url", "file")


@dataclasses.dataclass(frozen=True)
class Forgotten:
    """What is left out.

    Attributes:
      urls: addresses of pages.
      files: names of inputs, as the files of sources have them.
    """

    urls: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.urls or self.files)

    def __or__(self, other: "Forgotten") -> "Forgotten":
        return Forgotten(self.urls | other.urls, self.files | other.files)

    def holds(self, url: str, file: str) -> bool:
        """Whether a page of a file is to be forgotten."""
        return url in self.urls or file in self.files

    @property
    def rows(self) -> list[dict[str, str]]:
        """Lines of the list, in order."""
        return [{"url": url} for url in sorted(self.urls)] + [{"file": file} for file in sorted(self.files)]

    @property
    def sha256(self) -> str:
        """Of the entries, however they came together."""
        return sha256_of_bytes("".join(map(jsonl_line, self.rows)).encode(errors="surrogatepass"))


def read_forgotten(path: PathLike) -> Forgotten:
    """The list of a run; empty where there is none.

    Raises:
      ValueError: a line names neither a page nor a file.
    """
    found: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for number, row in read_jsonl(path) if epath.Path(path).exists() else ():
        kind = next((kind for kind in KINDS if isinstance(row.get(kind), str)), None)
        if kind is None:
            raise ValueError(f"{path}:{number}: expected one of {', '.join(KINDS)} with a text; correct the line")
        found[kind].add(row[kind])
    return Forgotten(frozenset(found["url"]), frozenset(found["file"]))


def write_forgotten(path: PathLike, forgotten: Forgotten) -> None:
    """Writes the list anew."""
    write_jsonl(path, forgotten.rows)


def forget_entries(urls: Iterable[str] = (), files: Iterable[str] = ()) -> Forgotten:
    """A list of these."""
    return Forgotten(frozenset(urls), frozenset(files))
