"""Which files a corpus is built from: files, folders, patterns, lists of crawl archives and indexes into them."""

import dataclasses
import errno
import glob
import os
import re
import stat
from collections.abc import Iterator, Sequence

from etils import epath

from humpback_jax.corpus.readers.crawl_lists import CrawlList, crawl_list
from humpback_jax.corpus.readers.rows import Columns
from humpback_jax.corpus.readers.web_file import WebPath, is_web_url
from humpback_jax.files import PathLike

COMMON_CRAWL = "https://data.commoncrawl.org"
EXPECTED = "pass archives (WARC, ARC, WACZ, WET), HTML, MHTML, JSONL or Parquet files, or folders of them"
_REMOTE_ARCHIVE_BYTES = 1 << 30
_ANY_COLUMNS = Columns()
_GLOB = re.compile(r"[*?\[]")


@dataclasses.dataclass(frozen=True)
class InputFile:
    """A file to read, one shard of the work.

    Attributes:
      name: its name in reports and the URL of an HTML page, the same on every machine; always valid text.
      size: bytes to read; of a listed archive that nobody asked a server about, about those of Common Crawl's (1 GiB).
      ranges: (offset, length) of the records to read, of an archive that an index points into; None for all.
      problem: why it cannot be read, one of `records.PROBLEMS`; empty for a file that can.
      columns: of a JSONL or Parquet file, where its pages are.
    """

    path: epath.Path | WebPath
    name: str
    size: int
    ranges: tuple[tuple[int, int], ...] | None = None
    problem: str = ""
    columns: Columns = _ANY_COLUMNS


def list_inputs(
    inputs: Sequence[PathLike],
    exclude_dir: PathLike | None = None,
    *,
    crawl_root: PathLike | None = None,
    columns: Columns = _ANY_COLUMNS,
) -> list[InputFile]:
    """The files behind `inputs`.

    A file is itself, a folder every file under it in sorted order, a pattern (`*`, `?`, `[…]`, `**`) all that it
    matches. A list of crawl archives (warc.paths.gz) gives the archives it names, an index (CDX, CDXJ, JSONL or Parquet
    with file, offset and length) the archives with the ranges that its rows name; both lie under `crawl_root`: a
    folder, `gs://…`, `s3://…` or `https://…`, by default the folder of the list if they are there, else Common Crawl's
    server.

    `exclude_dir` (where the results go) is left out, so that a second run does not read what the first one wrote.
    Links that lead nowhere or in a circle, and what a list names but is not there, are files with a `problem`.
    Raises FileNotFoundError for an input that does not exist and ValueError where there is nothing to read.
    """
    if not inputs:
        raise ValueError(f"no input given; {EXPECTED}")
    excluded = epath.Path(exclude_dir) if exclude_dir else None
    files: list[InputFile] = []
    for given in inputs:
        for path, base in _matches(os.fspath(given)):
            if excluded and _lies_in(os.fspath(path), os.fspath(excluded)) and not _lies_in(base, os.fspath(excluded)):
                continue
            if isinstance(path, epath.Path) and path.is_dir():
                below = _folder_files(path, base, excluded, crawl_root)
                if not below:
                    raise ValueError(f"folder {printable(path)} has no files; {EXPECTED}")
                files += below
            else:
                files += _file_or_list(path, base, crawl_root)
    return [dataclasses.replace(file, columns=columns) for file in files] if columns != _ANY_COLUMNS else files


def printable(path: PathLike) -> str:
    """A path as valid text: bytes of a name that are not UTF-8 become escapes."""
    return os.fspath(path).encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")


def _matches(text: str) -> Iterator[tuple[epath.Path | WebPath, str]]:
    """(path, the folder that its name is relative to) of all that an input means."""
    if is_web_url(text):
        yield WebPath(text), text.rpartition("/")[0]
        return
    path = epath.Path(text)
    if path.exists():
        yield path, os.fspath(path if path.is_dir() else path.parent)
        return
    if not _GLOB.search(text):
        raise FileNotFoundError(f"input {printable(text)} does not exist; {EXPECTED}")
    base = _GLOB.split(text, maxsplit=1)[0].rpartition("/")[0]
    found = _remote_glob(base, text) if _is_remote(text) else sorted(glob.glob(text, recursive=True))
    if not found:
        raise FileNotFoundError(f"no file matches {printable(text)}; {EXPECTED}")
    # `**` matches folders beside the files in them; where it does, the files are enough.
    kept = [name for name in found if not ("**" in text and epath.Path(name).is_dir())]
    for name in kept or found:
        yield epath.Path(name), base


def _remote_glob(base: str, pattern: str) -> list[str]:
    return sorted(os.fspath(path) for path in epath.Path(base).glob(pattern[len(base) :].lstrip("/")))


def _is_remote(text: str) -> bool:
    return "://" in text


def _file_or_list(path: epath.Path | WebPath, base: str, crawl_root: PathLike | None) -> list[InputFile]:
    found = crawl_list(path)
    if found:
        return _listed_files(found, path, crawl_root)
    return [_input_file(path, base)]


def _input_file(path: epath.Path | WebPath, base: str) -> InputFile:
    if isinstance(path, WebPath):
        return InputFile(path, path.name, path.size())
    name = os.fspath(path)
    name = name[len(base) :].lstrip("/") if base and name.startswith(base) else name.rpartition("/")[2]
    problem = "" if _is_remote(os.fspath(path)) or stat.S_ISREG(os.stat(path).st_mode) else "not_a_file"
    return InputFile(path, printable(name), path.stat().length, problem=problem)


def _folder_files(
    folder: epath.Path, base: str, excluded: epath.Path | None, crawl_root: PathLike | None
) -> list[InputFile]:
    """Every file under a folder, sorted by name; Parquet files that are rows of a crawl index give their archives."""
    found = list(_remote_files(folder, excluded) if _is_remote(os.fspath(folder)) else _local_files(folder, excluded))
    files: list[InputFile] = []
    for path, problem in sorted(found):
        if problem:
            name = os.path.relpath(os.fspath(path), base or ".")
            files.append(InputFile(path, printable(name), 0, problem=problem))
        elif path.suffix == ".parquet":
            files += _file_or_list(path, base, crawl_root)
        else:
            files.append(_input_file(path, base))
    return files


def _remote_files(folder: epath.Path, excluded: epath.Path | None) -> Iterator[tuple[epath.Path, str]]:
    folders = [folder]
    while folders:
        for path in folders.pop().iterdir():
            if not path.is_dir():
                yield path, ""
            elif path != excluded:
                folders.append(path)


def _local_files(folder: epath.Path, excluded: epath.Path | None) -> Iterator[tuple[epath.Path, str]]:
    """(path, problem) of every file; links to folders are followed once, and not where their files are read anyway."""
    folders = [os.fspath(folder)]
    seen = {os.path.realpath(folder)}
    while folders:
        current = folders.pop()
        try:
            with os.scandir(current) as entries:
                found = list(entries)
        except OSError:
            yield epath.Path(current), "unreadable_folder"
            continue
        for entry in found:
            path = epath.Path(entry.path)
            problem = _link_problem(entry.path, seen) if entry.is_symlink() else ""
            if problem:
                yield path, problem
            elif not entry.is_dir():
                yield path, "" if entry.is_file() else "not_a_file"
            elif path != excluded:
                if entry.is_symlink():
                    seen.add(os.path.realpath(entry.path))
                folders.append(entry.path)


def _link_problem(link: str, seen: set[str]) -> str:
    """Why a link is not followed; empty for one to a file, or to a folder that lies outside all that is read."""
    try:
        target = os.path.realpath(link, strict=True)
    except OSError as error:
        return "looping_link" if error.errno == errno.ELOOP else "broken_link"
    if not os.path.isdir(target):
        return ""
    if _lies_in(os.path.realpath(os.path.dirname(link)), target):
        return "looping_link"
    return "repeated_link" if any(_lies_in(target, folder) for folder in seen) else ""


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _listed_files(found: CrawlList, path: epath.Path | WebPath, crawl_root: PathLike | None) -> list[InputFile]:
    """The archives that a list or an index names, in its order."""
    files = []
    beside = None if isinstance(path, WebPath) else path.parent
    for name, ranges in found.archives:
        archive = _archive_path(name, beside, crawl_root)
        is_local = not isinstance(archive, WebPath) and not _is_remote(os.fspath(archive))
        problem = "missing_file" if is_local and not archive.exists() else ""  # type: ignore[union-attr]
        size = sum(length for _, length in ranges or ())
        if ranges is None and not problem:
            size = os.stat(archive).st_size if is_local else _REMOTE_ARCHIVE_BYTES
        files.append(InputFile(archive, printable(name), size, ranges, problem))
    files += [InputFile(path, printable(path.name), 0, problem="bad_index_row")] * found.bad_rows
    return files


def _archive_path(name: str, beside: epath.Path | None, crawl_root: PathLike | None) -> epath.Path | WebPath:
    if is_web_url(name):
        return WebPath(name)
    if _is_remote(name) or name.startswith("/"):
        return epath.Path(name)
    if not crawl_root and beside is not None and (beside / name).exists():
        return beside / name
    root = os.fspath(crawl_root or COMMON_CRAWL).rstrip("/")
    return WebPath(f"{root}/{name}") if is_web_url(root) else epath.Path(root) / name
