"""Folders that are either whole or absent: built in a temporary sibling, then renamed."""

import contextlib
import errno
import os
import pathlib
import shutil
import socket
import uuid
from collections.abc import Iterator

from humpback_jax.files import PathLike

_MARK = ".building-"


@contextlib.contextmanager
def staged_folder(destination: PathLike, *, overwrite: bool = False) -> Iterator[pathlib.Path]:
    """Yields an empty temporary folder that becomes `destination` when the block ends without an error.

    A reader sees the whole folder or none, also after `kill -9`: what dead processes left behind is swept by the next
    one that builds the same destination.

    Args:
      destination: a local path; its parents are made.
      overwrite: replace an existing folder instead of raising FileExistsError.
    """
    destination = pathlib.Path(destination).absolute()
    refuse_existing(destination, overwrite)
    with scratch_folder(destination) as folder:
        yield folder
        for path in [*folder.rglob("*"), folder]:
            _fsync(path)
        _move_into_place(folder, destination, overwrite)


@contextlib.contextmanager
def scratch_folder(beside: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary folder beside a destination, on the same disk, and removes it afterwards."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    _sweep(beside)
    folder = beside.parent / f"{beside.name}{_MARK}{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        yield folder
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"no space left while writing {beside}; free space or choose another folder, then run again"
            raise OSError(error.errno, message) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refuse_existing(destination: pathlib.Path, overwrite: bool = False) -> None:
    """Raises FileExistsError if something other than an empty folder is in the way."""
    if overwrite or not destination.exists() or (destination.is_dir() and not any(destination.iterdir())):
        return
    raise FileExistsError(f"{destination} already exists; choose another destination or delete it first")


def _move_into_place(folder: pathlib.Path, destination: pathlib.Path, overwrite: bool) -> None:
    old = folder.with_name(folder.name + "-old")
    if overwrite and destination.exists():
        os.rename(destination, old)
    try:
        os.rename(folder, destination)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError(f"{destination} was made by another process in the meantime") from error
        raise
    if old.exists():
        shutil.rmtree(old)
    _fsync(destination.parent)


def _sweep(destination: pathlib.Path) -> None:
    """Removes what processes of this machine that are no longer alive left beside `destination`."""
    prefix = f"{destination.name}{_MARK}{socket.gethostname()}-"
    for folder in destination.parent.iterdir():
        if folder.name.startswith(prefix) and not _alive(int(folder.name[len(prefix) :].split("-")[0])):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        pass
    return True


def _fsync(path: pathlib.Path) -> None:
    """Flushes a file or a folder's list of names to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
