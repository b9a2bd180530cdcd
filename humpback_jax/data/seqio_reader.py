"""How the trainer reads seqio tasks: each once, whole and in order, as the examples that it packs and orders itself."""

import hashlib
import importlib
import itertools
import os
import sys
from collections.abc import Iterator
from typing import Any

import seqio
import tensorflow as tf

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.data.examples import Example
from humpback_jax.data.mixture import ExampleSet, TrainingMixture
from humpback_jax.data.tasks import FEATURES, SPLIT, register_mixture, text_of, unregister
from humpback_jax.data.vocabulary import TokenizerVocabulary
from humpback_jax.tokenizers import Tokenizer

PREFIX = "humpback_training"  # of the tasks that the trainer registers
SEED = 0  # of a user's preprocessors that draw: every process, and every restart, reads the same


def hide_accelerators() -> None:
    """TensorFlow only reads here; what it held of an accelerator's memory JAX would miss."""
    for kind in ("GPU", "TPU"):
        try:
            tf.config.set_visible_devices([], kind)
        except RuntimeError:  # TensorFlow was in use before: then it is its user who decides
            return


def read_tasks(mixture: TrainingMixture) -> Iterator[tuple[str, list[Example]]]:
    """(set, its examples in the order of its pairs) of a mixture, through the seqio task of each set."""
    names = register_mixture(mixture, PREFIX, replace=True)
    for pair_set, name in zip(mixture.sets, names, strict=False):
        try:
            yield pair_set.name, [_example(row) for row in _rows(seqio.TaskRegistry.get(name))]
        except tf.errors.OpError:
            for pair in pair_set.read():
                mixture.encode(pair_set, pair)  # raises what TensorFlow wrapped in pages of its own
            raise
    unregister(names)  # the registry would keep every text in memory while the model trains


def read_registered(name: str, chat_format: ChatFormat, tokenizer: Tokenizer) -> ExampleSet:
    """The examples of a user's own task or mixture, and the hash of their ids.

    Its features "inputs" and "targets" are texts (dtype string), which become the user turn and the answer of the chat
    format; or ids, with the model's own vocabulary (`TokenizerVocabulary`) or `seqio.PassThroughVocabulary`, which are
    taken as they are. Of a mixture every task is read once. Where its rates are not as the numbers of examples, the
    tasks that are wanted more often are repeated until the rates are met: seen from the least wanted task, an epoch.

    Args:
      name: `MODULE:NAME`; importing the module, from the working directory or the path, registers NAME with seqio.
      chat_format, tokenizer: of the model.

    Raises:
      ValueError: there is no such task or mixture, or no split "train", or its features are others.
    """
    module, _, registered = name.partition(":")
    if not registered:
        raise ValueError(f"mixture {name!r}: write MODULE:NAME, where importing MODULE registers NAME with seqio")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.import_module(module)
    if registered not in {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}:
        there = sorted({*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()})
        raise ValueError(f"{name}: {module} registers no such task or mixture; seqio has {', '.join(there) or 'none'}")
    provider = seqio.get_mixture_or_task(registered)
    groups = {task.name: _user_examples(task, chat_format, tokenizer) for task in seqio.get_subtasks(provider)}
    examples = _at_rates(provider, groups) if isinstance(provider, seqio.Mixture) else groups[provider.name]
    digest = hashlib.sha256()
    for ids in itertools.chain.from_iterable((example.prompt_ids, example.answer_ids) for example in examples):
        digest.update(len(ids).to_bytes(8, "little") + ids.astype("<i4").tobytes())
    return ExampleSet(name, examples, digest.hexdigest())


def _user_examples(task: seqio.Task, chat_format: ChatFormat, tokenizer: Tokenizer) -> list[Example]:
    if SPLIT not in task.splits:
        raise ValueError(f"task {task.name} has no split {SPLIT!r}; its splits are {', '.join(task.splits)}")
    features = task.output_features
    if missing := [name for name in FEATURES if name not in features]:
        raise ValueError(f"task {task.name} has no feature {missing[0]!r}; training reads {' and '.join(FEATURES)}")
    rows = list(_rows(task))
    for number, row in enumerate(rows):
        row.setdefault("id", str(number).encode())
    if all(features[name].dtype == tf.string for name in FEATURES):
        encode = {"inputs": chat_format.prompt_ids, "targets": chat_format.answer_ids}
        rows = [row | {name: encode[name](text_of(row[name]), tokenizer) for name in FEATURES} for row in rows]
        return [_example(row) for row in rows]
    for name in FEATURES:
        vocabulary, size = features[name].vocabulary, tokenizer.vocab_size
        if vocabulary != TokenizerVocabulary(tokenizer) and not isinstance(vocabulary, seqio.PassThroughVocabulary):
            raise ValueError(
                f"task {task.name}: the ids of {name!r} are of {vocabulary}, another vocabulary than the model's; give "
                "texts (dtype string, rank 0), or ids of TokenizerVocabulary or PassThroughVocabulary"
            )
        if strange := [int(i) for row in rows for i in row[name] if not 0 <= i < size]:
            raise ValueError(f"task {task.name}: id {strange[0]} in {name!r} is none of the model's {size}")
    return [_example(row) for row in rows]


def _at_rates(mixture: seqio.Mixture, groups: dict[str, list[Example]]) -> list[Example]:
    """Every task's examples one after the other, as often as the mixture's rates say."""
    shares = {task.name: mixture.get_rate(task) / len(groups[task.name]) for task in mixture.tasks if groups[task.name]}
    least = min((share for share in shares.values() if share > 0), default=1.0)
    sizes = {name: round(len(groups[name]) * share / least) for name, share in shares.items()}
    repeated = (itertools.islice(itertools.cycle(groups[name]), size) for name, size in sizes.items())
    return list(itertools.chain.from_iterable(repeated))


def _rows(task: seqio.Task) -> Iterator[dict[str, Any]]:
    # seqio hands the seed to the source too, and a function need not take one.
    seed = None if isinstance(task.source, seqio.FunctionDataSource) else SEED
    return task.get_dataset(None, split=SPLIT, shuffle=False, seed=seed).as_numpy_iterator()


def _example(row: dict[str, Any]) -> Example:
    return Example(row["inputs"], row["targets"], text_of(row["id"]))
