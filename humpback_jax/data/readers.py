"""A training mixture read for the trainer: every set once and in order, through seqio or straight from its pairs.

Batches, packing and resume stay the trainer's own, so it reads the same examples where TensorFlow is missing. It is
imported only when it is asked for.
"""

import contextlib
import dataclasses
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.data.examples import Example
from humpback_jax.data.mixture import ExampleSet, TrainingMixture
from humpback_jax.runtime.console import say
from humpback_jax.runtime.processes import is_leader
from humpback_jax.tokenizers import Tokenizer

SEQIO, DIRECT = "seqio", "direct"
READERS = (SEQIO, DIRECT)
_CPP_LOG = re.compile(r"[IWE]\d{4} |WARNING: All log messages before absl")


@dataclasses.dataclass(frozen=True)
class MixtureExamples:
    """What is trained on.

    Attributes:
      examples: of all sets, one set after the other; ids are prefixed by the set's name.
      counts: `{"in": n, "out": m, "rejected": {"too_long": k}}`.
      reader: the one of `READERS` that read them.
    """

    examples: tuple[Example, ...]
    counts: dict[str, Any]
    reader: str


def read_examples(mixture: TrainingMixture, max_length: int, reader: str = SEQIO) -> MixtureExamples:
    """Reads every set of a mixture once, in order.

    Args:
      mixture: what to read.
      max_length: the row length, in positions: an example of n tokens takes n - 1. A longer one is left out, never cut.
      reader: `seqio`, through the registered tasks; where that cannot be imported, and with `direct`, the same examples
        come straight from the pairs.

    Raises:
      ValueError: an unknown reader, or no example is left.
    """
    if reader not in READERS:
        raise ValueError(f"unknown reader {reader!r}; choose one of {', '.join(READERS)}")
    if reader == SEQIO:
        try:
            seqio_reader = import_seqio_reader()
        except ImportError as error:
            reader = DIRECT
            if is_leader():
                say(f"training pairs are read directly, seqio cannot be imported here ({error})")
    if reader == SEQIO:
        ours = seqio_reader.read_tasks(mixture)
    else:
        ours = ((each.name, [mixture.encode(each, pair) for pair in each.read()]) for each in mixture.sets)
    groups = [*ours, *((added.name, added.examples) for added in mixture.own_sets)]
    examples = [dataclasses.replace(example, id=f"{name}/{example.id}") for name, group in groups for example in group]
    kept = tuple(example for example in examples if example.num_positions <= max_length)
    rejected = {"too_long": len(examples) - len(kept)} if len(examples) > len(kept) else {}
    if not kept:
        raise ValueError(
            f"no training example is left of {len(examples)} pairs (rejected: {rejected}); raise "
            f"BatchConfig.row_length above {max_length}, or give other pairs"
        )
    return MixtureExamples(kept, {"in": len(examples), "out": len(kept), "rejected": rejected}, reader)


def read_own_set(name: str, chat_format: ChatFormat, tokenizer: Tokenizer) -> ExampleSet:
    """The examples of a user's own seqio task or mixture, `MODULE:NAME`; see `seqio_reader.read_registered`.

    Raises:
      ValueError: seqio cannot be imported, or the name is not one that training understands.
    """
    try:
        seqio_reader = import_seqio_reader()
    except ImportError as error:
        raise ValueError(
            f"{name} is a mixture of seqio, which cannot be imported here ({error}); drop it, or repair tensorflow"
        ) from error
    return seqio_reader.read_registered(name, chat_format, tokenizer)


def import_seqio_reader() -> Any:
    """The module `data.seqio_reader`; TensorFlow takes no accelerator and says nothing.

    Raises:
      ImportError: TensorFlow or seqio is missing or does not fit this machine.
    """
    with _without_log_lines():
        try:
            from humpback_jax.data import seqio_reader
        except Exception as error:  # a TensorFlow that does not fit its libraries raises what it likes
            raise ImportError(str(error)) from error
        seqio_reader.hide_accelerators()
    return seqio_reader


@contextlib.contextmanager
def _without_log_lines() -> Iterator[None]:
    """Holds back the lines that TensorFlow's C++ parts write while they start, which no setting of theirs stops."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held, os.fdopen(os.dup(2), "wb", closefd=True) as terminal:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal.fileno(), 2)
            held.seek(0)
            terminal.writelines(line for line in held if not _CPP_LOG.match(line.decode(errors="replace")))
