"""A training mixture read for the trainer: every set once and in order, through seqio or straight from its pairs.

Batches, packing and resume stay the trainer's own, so it reads the same examples where TensorFlow is missing. It is
imported only when it is asked for.
"""

import collections
import contextlib
import dataclasses
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.data.examples import Example
from humpback_jax.data.mixture import ExampleSet, TrainingMixture
from humpback_jax.runtime.console import say
from humpback_jax.runtime.processes import is_leader
from humpback_jax.tokenizers import Tokenizer

SEQIO, DIRECT = "seqio", "direct"
TOO_LONG, PAST_WINDOW = "too_long", "past_window"
READERS = (SEQIO, DIRECT)
_CPP_LOG = re.compile(r"[IWE]\d{4} |WARNING: All log messages before absl")


@dataclasses.dataclass(frozen=True)
class MixtureExamples:
    """What is trained on.

    Attributes:
      examples: of all sets, one set after the other; ids are prefixed by the set's name.
      counts: `{"in": n, "out": m, "rejected": {reason: k}}`: `too_long` for a row, `past_window` of the model.
      sets: the same of every set by its name.
      reader: the one of `READERS` that read them.
    """

    examples: tuple[Example, ...]
    counts: dict[str, Any]
    sets: dict[str, dict[str, Any]]
    reader: str


def read_examples(
    mixture: TrainingMixture, max_length: int, reader: str = SEQIO, window: int | None = None
) -> MixtureExamples:
    """Reads every set of a mixture once, in order.

    Args:
      mixture: what to read.
      max_length: the row length, in positions: an example of n tokens takes n - 1. A longer one is left out, never cut.
      reader: `seqio`, through the registered tasks; where that cannot be imported, and with `direct`, the same examples
        come straight from the pairs.
      window: positions that the model knows; None for any number.

    Raises:
      ValueError: an unknown reader, or no example of a set is left: training goes on with nothing of what it names.
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
    kept: list[Example] = []
    sets: dict[str, dict[str, Any]] = {}
    for name, group in groups:
        lengths = [example.num_positions for example in group]
        reasons = [_rejection(length, max_length, window) for length in lengths]
        fitting = [example for example, reason in zip(group, reasons, strict=True) if reason is None]
        rejected = dict(sorted(collections.Counter(reason for reason in reasons if reason is not None).items()))
        if not fitting:
            raise ValueError(_nothing_left(name, lengths, rejected, max_length, window))
        sets[name] = {"in": len(lengths), "out": len(fitting), "rejected": rejected}
        kept += [dataclasses.replace(example, id=f"{name}/{example.id}") for example in fitting]
    if is_leader():
        for name, counts in sets.items():
            if counts["rejected"]:
                losses = f"of {counts['in']} {name} pairs {counts['out']} are trained on: {counts['rejected']}"
                say(f"[yellow]{losses}[/yellow]")
    total = {key: sum(counts[key] for counts in sets.values()) for key in ("in", "out")}
    rejected = sum((collections.Counter(counts["rejected"]) for counts in sets.values()), collections.Counter())
    return MixtureExamples(tuple(kept), total | {"rejected": dict(rejected)}, sets, reader)


def _rejection(length: int, max_length: int, window: int | None) -> str | None:
    if length > max_length:
        return TOO_LONG
    return PAST_WINDOW if window is not None and length > window else None


def _nothing_left(name: str, lengths: list[int], rejected: dict[str, int], max_length: int, window: int | None) -> str:
    """Why a set has no example, and which setting to change."""
    if not lengths:
        return f"no {name!r} pair to train on: the set is empty; look at what the stage that made it rejected"
    knob = f"raise BatchConfig.row_length above {max_length}" if TOO_LONG in rejected else ""
    if rejected.get(PAST_WINDOW) or (window is not None and min(lengths) > window):
        knob = f"the model knows {window} positions; take one with a larger window"
    return (
        f"no training example is left of {len(lengths)} {name!r} pairs (rejected: {rejected}); {knob}, or give shorter "
        f"pairs (CorpusConfig.max_chars bounds those of web pages). {length_histogram(lengths)}"
    )


def length_histogram(lengths: Sequence[int]) -> str:
    """Lengths in tokens, counted by powers of two."""
    bins = collections.Counter(1 << max(0, int(length) - 1).bit_length() for length in lengths)
    return "Tokens: " + ", ".join(f"up to {bound}: {bins[bound]}" for bound in sorted(bins))


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
