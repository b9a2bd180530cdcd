"""A training mixture as seqio knows it: one task per set, and the mixture of them.

A task's examples are those of its `TrainingMixture`. Use the tasks with
`feature_converter.PackedDecoderFeatureConverter`; seqio's own converters take id 0 for padding.
"""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.data.mixture import PairSet, TrainingMixture
from humpback_jax.data.pairs import Pair, PairsFormat, read_curated, read_pairs
from humpback_jax.data.vocabulary import TokenizerVocabulary
from humpback_jax.files import PathLike
from humpback_jax.prompts.prompts import Prompts, load_prompts
from humpback_jax.tokenizers import Tokenizer

SPLIT = "train"
TFDS = "tfds:"
PAIR_FIELDS = ("id", "instruction", "output", "source")
FEATURES = ("inputs", "targets")

Metric = Callable[..., dict[str, float]]


def register_tasks(
    name_prefix: str,
    tokenizer: Tokenizer,
    chat_format: ChatFormat,
    seed_path: PathLike,
    augmented_path: PathLike | None = None,
    prompts: Prompts | None = None,
    seed_format: str = "auto",
    seed_limit: int | None = None,
    rates: Mapping[str, float] | None = None,
    metric_fns: Sequence[Metric] = (),
    tfds_data_dir: PathLike | None = None,
    replace: bool = False,
) -> tuple[str, ...]:
    """Registers the tasks of the paper; no file is opened before a task's data are asked for.

    `<prefix>_seed`: tagged seed instruction → output. `<prefix>_backward`: backward prompt of a seed output →
    instruction. With `augmented_path`: `<prefix>_augmented`, with the web tag, and the mixture
    `<prefix>_seed_and_augmented`. They are as `register_mixture` makes them.

    Args:
      name_prefix, rates, metric_fns, replace: see `register_mixture`; `mean_log_likelihood` is such a metric.
      tokenizer, chat_format, prompts: give the ids; None: the package's templates and tags.
      seed_path, augmented_path: files, see `read_pairs` and `read_curated`; or data sets, `tfds:NAME:VERSION`.
      seed_format, seed_limit: `PairsFormat.format`, and the limit of `read_pairs`.
      tfds_data_dir: where TFDS keeps the data sets that are named `tfds:NAME:VERSION`; None: its default.

    Returns:
      The names, the mixture last.

    Raises:
      ValueError: a name is taken and `replace` is False, or `rates` are not for "seed" and "augmented".
    """
    if rates is not None and set(rates) != {"seed", "augmented"}:
        raise ValueError(f"rates are given for {sorted(rates)}; give one for 'seed' and one for 'augmented'")
    if is_tfds(seed_path) and (seed_format != "auto" or seed_limit is not None):
        raise ValueError(f"seed_format and seed_limit are of files, not of {seed_path}; TFDS data are read as they are")
    read_seeds = functools.cache(lambda: read_pairs(seed_path, PairsFormat(seed_format), seed_limit).pairs)
    forward = [PairSet("seed", read_seeds, tags=("seed",))]
    paths = {"seed": seed_path, "backward": seed_path, "augmented": augmented_path}
    sources = {name: _tfds_source(path, tfds_data_dir) for name, path in paths.items() if path and is_tfds(path)}
    if augmented_path is not None:
        forward.append(PairSet("augmented", functools.cache(lambda: read_curated(augmented_path)), tags=("web",)))
    backward = PairSet("backward", read_seeds, direction="backward")
    how = (prompts or load_prompts(), chat_format, tokenizer)
    register = functools.partial(register_mixture, sources=sources, metric_fns=metric_fns, replace=replace)
    seed, *others = register(TrainingMixture(forward, *how), name_prefix, rates=rates)
    return (seed, *register(TrainingMixture([backward], *how), name_prefix), *others)


def register_mixture(
    mixture: TrainingMixture,
    name_prefix: str,
    sources: Mapping[str, seqio.DataSource] | None = None,
    rates: Mapping[str, float] | None = None,
    metric_fns: Sequence[Metric] = (),
    replace: bool = False,
) -> tuple[str, ...]:
    """Registers a task `<prefix>_<set>` for every set of pairs, and of several the mixture `<prefix>_<set>_and_<set>`.

    Each task has the split "train", of which parts can be asked for (`train[:50%]`), and the features "inputs" and
    "targets" (int32 [n]: prompt and answer ids, special tokens included) beside the pair's "id". An example of which
    one feature would not fit its `sequence_length` is left out with a warning, never cut; `task_counts` counts them.

    Args:
      mixture: the declaration.
      name_prefix: letters, digits, `_`, `.`, `:` or `#`.
      sources: {set: seqio source} of sets whose pairs lie elsewhere, with the fields of a pair.
      rates: {set: rate} in the mixture; None: by their numbers of pairs, so each is seen equally often.
      metric_fns: of every task, as seqio takes them.
      replace: register again what is registered under these names.

    Returns:
      The names of the tasks, and last that of the mixture; the mixture of one set is its task.

    Raises:
      ValueError: a name is taken and `replace` is False.
    """
    names = [f"{name_prefix}_{pair_set.name}" for pair_set in mixture.sets]
    joined = [f"{name_prefix}_{'_and_'.join(pair_set.name for pair_set in mixture.sets)}"] if len(names) > 1 else []
    unregister([*names, *joined], replace)
    feature = seqio.Feature(TokenizerVocabulary(mixture.tokenizer), add_eos=False, dtype=tf.int32)
    for pair_set, name in zip(mixture.sets, names, strict=True):
        source = (sources or {}).get(pair_set.name) or PairSource(pair_set.read)
        seqio.TaskRegistry.add(
            name,
            source=source,
            preprocessors=[_encoder(mixture, pair_set), seqio.CacheDatasetPlaceholder(), drop_too_long],
            output_features=dict.fromkeys(FEATURES, feature),
            metric_fns=list(metric_fns),
            task_cls=PairTask,
            # Ours shuffle whole epochs; TFDS shuffles files, and the buffer what is in them.
            shuffle_buffer_size=None if isinstance(source, PairSource) else seqio.SHUFFLE_BUFFER_SIZE,
        )
    for name in joined:
        parts = zip(names, [rates[s.name] if rates else _num_pairs for s in mixture.sets], strict=True)
        seqio.MixtureRegistry.add(name, list(parts))
    return (*names, *joined)


def task_counts(name: str, sequence_length: Mapping[str, int] | None, split: str = SPLIT) -> dict[str, Any]:
    """Reads a split of a registered task once through: `{"read": n, "kept": m, "rejected": {"too_long": k}}`."""
    task = seqio.TaskRegistry.get(name)
    read = sum(1 for _ in task.source.get_dataset(split=split, shuffle=False))
    kept = sum(1 for _ in task.get_dataset(sequence_length, split=split, shuffle=False))
    return {"read": read, "kept": kept, "rejected": {"too_long": read - kept} if read > kept else {}}


def mean_log_likelihood(targets: Sequence[object], scores: Sequence[float]) -> dict[str, float]:
    """A seqio metric: the mean over the examples of the log-probability of a whole answer, in nats."""
    return {"mean_log_likelihood": float(np.mean(scores)), "examples": float(len(targets))}


def drop_too_long(dataset: tf.data.Dataset, sequence_length: Mapping[str, int] | None = None) -> tf.data.Dataset:
    """Leaves out, with a warning, what seqio would cut to `sequence_length`: a cut prompt has lost its tag."""
    if sequence_length is None:
        return dataset

    def fits(key: bytes, num_inputs: np.int32, num_targets: np.int32) -> np.bool_:
        short = num_inputs <= sequence_length["inputs"] and num_targets <= sequence_length["targets"]
        if not short:
            logging.warning("%s left out: %d + %d ids are too long", key.decode(), num_inputs, num_targets)
        return np.bool_(short)

    def keep(example: Mapping[str, tf.Tensor]) -> tf.Tensor:
        sizes = [tf.size(example["inputs"]), tf.size(example["targets"])]
        kept = tf.numpy_function(fits, [example["id"], *sizes], tf.bool, stateful=False)
        return tf.ensure_shape(kept, [])

    return dataset.filter(keep)


def unregister(names: Sequence[str], replace: bool = True) -> None:
    """Takes names out of seqio's registries; without `replace` a name that is there is a ValueError."""
    for name in names:
        taken = [registry for registry in (seqio.TaskRegistry, seqio.MixtureRegistry) if name in registry.names()]
        if taken and not replace:
            raise ValueError(
                f"seqio has a task or mixture {name!r} already; choose another prefix or pass replace=True"
            )
        for registry in taken:
            registry.remove(name)


def is_tfds(path: PathLike) -> bool:
    """Whether `path` names a data set of TFDS, `tfds:NAME:VERSION`."""
    return str(path).startswith(TFDS)


def _tfds_source(path: PathLike, data_dir: PathLike | None) -> seqio.DataSource:
    name = str(path).removeprefix(TFDS)
    if ":" not in name:
        raise ValueError(f"{path}: expected {TFDS}NAME:VERSION, as `humpback data tfds` prints it")
    return seqio.TfdsDataSource(name, tfds_data_dir=None if data_dir is None else os.fspath(data_dir))


class PairTask(seqio.Task):
    """A task that knows how many pairs it has, which its source must not tell: seqio would cache the first epoch."""

    def num_input_examples(self, split: str) -> int | None:
        """Pairs of a split, before any is left out."""
        source = self.source
        return len(source.indices(split)) if isinstance(source, PairSource) else source.num_input_examples(split)


def _num_pairs(task: seqio.Task) -> float:
    return float(task.num_input_examples(SPLIT))


class PairSource(seqio.FunctionDataSource):
    """Pairs as a seqio source that shuffles whole epochs; the state of its iterator is a permutation, not the texts.

    With one seed on every host, the hosts' shards of an epoch share no example; so always pass a seed.
    """

    def __init__(self, read: Callable[[], Sequence[Pair]]) -> None:
        self._read = read
        super().__init__(self._dataset, splits=(SPLIT,))

    @property
    def performs_internal_shuffling(self) -> bool:
        """True: the task adds no shuffle buffer, which would mix epochs."""
        return True

    def indices(self, split: str) -> np.ndarray:
        """Which pairs a split holds: `train`, or a part of it as TFDS writes them, such as `train[:50%]`.

        Raises:
          ValueError: there is no such split; the message names the one there is.
        """
        whole = tfds.core.SplitInfo(name=SPLIT, shard_lengths=[len(self._read())], num_bytes=0)
        parts = tfds.core.ReadInstruction.from_spec(str(split)).to_absolute({SPLIT: whole})
        return np.concatenate([np.arange(whole.num_examples)[part.from_ : part.to] for part in parts])

    def _dataset(self, split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        pairs, indices = self._read(), self.indices(split)
        columns = {
            name: tf.constant([_utf8(getattr(pair, name)) for pair in pairs], tf.string, [len(pairs)])
            for name in PAIR_FIELDS
        }
        order = tf.data.Dataset.from_tensor_slices(indices)
        if shuffle_files:
            order = order.shuffle(max(len(indices), 1), seed=seed, reshuffle_each_iteration=True)
        return order.map(lambda index: {name: column[index] for name, column in columns.items()})


def _utf8(text: str) -> bytes:
    """UTF-8 that also holds what JSON may escape and UTF-8 may not: halves of surrogate pairs."""
    return text.encode(errors="surrogatepass")


def text_of(utf8: bytes) -> str:
    """The text that a task's bytes stand for."""
    return utf8.decode(errors="surrogatepass")


def _encoder(mixture: TrainingMixture, pair_set: PairSet) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """The preprocessor that turns texts into ids."""

    def to_ids(*texts: bytes) -> tuple[np.ndarray, np.ndarray]:
        example = mixture.encode(pair_set, Pair(*map(text_of, texts)))
        return example.prompt_ids, example.answer_ids

    def with_ids(pair: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        # A stateful function would make the whole iterator impossible to checkpoint.
        ids = tf.numpy_function(to_ids, [pair[name] for name in PAIR_FIELDS], (tf.int32, tf.int32), stateful=False)
        features = {name: tf.ensure_shape(part, [None]) for name, part in zip(FEATURES, ids, strict=True)}
        return {"id": pair["id"]} | features

    def preprocess(dataset: tf.data.Dataset) -> tf.data.Dataset:
        return dataset.map(with_ids, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    return preprocess
