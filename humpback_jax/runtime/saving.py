"""What goes wrong while Orbax writes: one error that names the place, in the place of its threads' tracebacks."""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator

# As TensorStore and the system say it, in whatever type of error Orbax raises.
_NO_SPACE = ("No space left on device", "Disk quota exceeded", f"os_error_code='{errno.ENOSPC}'")


@contextlib.contextmanager
def saving(path: str | os.PathLike[str]) -> Iterator[None]:
    """Around a save, or what waits for one: a full disk is an OSError that says so.

    Args:
      path: what is written.

    Raises:
      OSError: no space is left; other errors are left as they are.
    """
    quieten_orbax()
    try:
        yield
    except Exception as error:
        if not any(words in str(error) for words in _NO_SPACE) or isinstance(error, OSError):
            raise
        message = f"no space left while writing {os.fspath(path)}; free space or choose another folder, then run again"
        raise OSError(errno.ENOSPC, message) from error


def quieten_orbax() -> None:
    """Orbax's threads log a traceback for an error that is raised again where their end is waited for."""
    logging.getLogger("absl").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return "_SignalingThread.run() raised an exception" not in str(record.msg)
