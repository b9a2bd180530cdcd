"""seqio tasks for the seed, backward and augmented data, and the mixture that a forward model is trained on.

A task's examples are those of `examples.supervised_examples`: the same reader, the same encoder. Use them with
`feature_converter.PackedDecoderFeatureConverter`; seqio's own converters take id 0 for padding.
"""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
from absl import logging

from humpback_jax.data.examples import Example, encode_pair
from humpback_jax.data.pairs import Pair, read_curated, read_pairs
from humpback_jax.data.vocabulary import TokenizerVocabulary
from humpback_jax.files import PathLike
from humpback_jax.prompts.prompts import ChatFormat, Prompts, load_prompts
from humpback_jax.tokenizers import Tokenizer

SPLIT = "train"
TFDS = "tfds:"
PAIR_FIELDS = ("id", "instruction", "output", "source")

_PairReader = Callable[[], tuple[Pair, ...]]


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
    metric_fns: Sequence[Callable[..., dict[str, float]]] = (),
    tfds_data_dir: PathLike | None = None,
    replace: bool = False,
) -> tuple[str, ...]:
    """Registers the tasks of the paper; no file is opened before a task's data are asked for.

    `<prefix>_seed`: tagged seed instruction → output. `<prefix>_backward`: backward prompt of a seed output →
    instruction. With `augmented_path`: `<prefix>_augmented`, with the web tag, and the mixture
    `<prefix>_seed_and_augmented`. Each has the split "train" and the features "inputs" and "targets" (int32 [n]: prompt
    and answer ids, special tokens included). An example of which one would not fit its `sequence_length` is left out
    with a warning, never cut; `task_counts` counts them.

    Args:
      name_prefix: letters, digits, `_`, `.`, `:` or `#`.
      tokenizer, chat_format: give the ids; the tokenizer is also the features' vocabulary.
      seed_path, augmented_path: files, see `read_pairs` and `read_curated`; or data sets, `tfds:NAME:VERSION`.
      prompts: templates and tags; None: the package's.
      seed_format, seed_limit: as `read_pairs` takes them.
      rates: of "seed" and "augmented" in the mixture; None: by their numbers of pairs, so each is seen equally often.
      metric_fns: of every task, as seqio takes them; `mean_log_likelihood` is one.
      tfds_data_dir: where TFDS keeps the data sets that are named `tfds:NAME:VERSION`; None: its default.
      replace: register again what is registered under this prefix.

    Returns:
      The names, the mixture last.

    Raises:
      ValueError: a name is taken and `replace` is False, or `rates` are not for "seed" and "augmented".
    """
    if rates is not None and set(rates) != {"seed", "augmented"}:
        raise ValueError(f"rates are given for {sorted(rates)}; give one for 'seed' and one for 'augmented'")
    sources = {"seed": _seed_source(seed_path, seed_format, seed_limit, tfds_data_dir)}
    kinds = {"seed": ("seed", "forward", ("seed",)), "backward": ("seed", "backward", ())}
    if augmented_path is not None:
        sources["augmented"] = _source(augmented_path, lambda: read_curated(augmented_path), tfds_data_dir)
        kinds["augmented"] = ("augmented", "forward", ("web",))
    mixture = f"{name_prefix}_seed_and_augmented"
    names = [f"{name_prefix}_{kind}" for kind in kinds] + ([mixture] if augmented_path is not None else [])
    _free(names, replace)
    prompts = prompts or load_prompts()
    feature = seqio.Feature(TokenizerVocabulary(tokenizer), add_eos=False, dtype=tf.int32)
    for kind, (data, direction, tags) in kinds.items():
        encode = functools.partial(
            encode_pair, tokenizer=tokenizer, chat_format=chat_format, direction=direction, prompts=prompts, tags=tags
        )
        _add_task(f"{name_prefix}_{kind}", sources[data], encode, feature, metric_fns)
    if augmented_path is not None:
        parts = [(f"{name_prefix}_{kind}", rates[kind] if rates else _count(sources[kind])) for kind in sources]
        seqio.MixtureRegistry.add(mixture, parts)
    return tuple(names)


def task_counts(name: str, sequence_length: Mapping[str, int] | None) -> dict[str, Any]:
    """Reads a registered task once through: `{"read": n, "kept": m, "rejected": {"too_long": k}}`."""
    task = seqio.TaskRegistry.get(name)
    read = sum(1 for _ in task.source.get_dataset(split=SPLIT, shuffle=False))
    kept = sum(1 for _ in task.get_dataset(sequence_length, split=SPLIT, shuffle=False))
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


def _add_task(
    name: str,
    source: seqio.DataSource,
    encode: Callable[[Pair], Example],
    feature: seqio.Feature,
    metric_fns: Sequence[Callable[..., dict[str, float]]],
) -> None:
    seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=[_encoder(encode), seqio.CacheDatasetPlaceholder(), drop_too_long],
        output_features={"inputs": feature, "targets": feature},
        metric_fns=list(metric_fns),
        # Ours shuffle whole epochs; TFDS shuffles files, and the buffer what is in them.
        shuffle_buffer_size=None if isinstance(source, PairSource) else seqio.SHUFFLE_BUFFER_SIZE,
    )


def _free(names: list[str], replace: bool) -> None:
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


def _seed_source(path: PathLike, form: str, limit: int | None, tfds_data_dir: PathLike | None) -> seqio.DataSource:
    if is_tfds(path) and (form != "auto" or limit is not None):
        raise ValueError(f"seed_format and seed_limit are of files, not of {path}; a TFDS data set is read as it is")
    return _source(path, lambda: read_pairs(path, form, limit).pairs, tfds_data_dir)


def _source(path: PathLike, read: _PairReader, tfds_data_dir: PathLike | None) -> seqio.DataSource:
    """The pairs of a file, read once, or of a data set of TFDS."""
    if not is_tfds(path):
        return PairSource(functools.cache(read))
    name = str(path).removeprefix(TFDS)
    if ":" not in name:
        raise ValueError(f"{path}: expected {TFDS}NAME:VERSION, as `humpback data tfds` prints it")
    return seqio.TfdsDataSource(name, tfds_data_dir=None if tfds_data_dir is None else os.fspath(tfds_data_dir))


def _count(source: seqio.DataSource) -> Callable[[object], float]:
    if isinstance(source, PairSource):
        return lambda _: float(len(source.read()))
    return lambda _: float(source.num_input_examples(SPLIT))


class PairSource(seqio.FunctionDataSource):
    """Pairs as a seqio source that shuffles whole epochs; the state of its iterator is a permutation, not the texts.

    With one seed on every host, the hosts' shards of an epoch share no example; so always pass a seed.
    """

    def __init__(self, read: _PairReader) -> None:
        self.read = read
        super().__init__(functools.partial(_pair_dataset, read), splits=(SPLIT,))

    @property
    def performs_internal_shuffling(self) -> bool:
        """True: the task adds no shuffle buffer, which would mix epochs."""
        return True


def _pair_dataset(read: _PairReader, split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
    pairs = read()
    columns = {
        name: tf.constant([getattr(pair, name) for pair in pairs], tf.string, [len(pairs)]) for name in PAIR_FIELDS
    }
    order = tf.data.Dataset.range(len(pairs))
    if shuffle_files:
        order = order.shuffle(max(len(pairs), 1), seed=seed, reshuffle_each_iteration=True)
    return order.map(lambda index: {name: column[index] for name, column in columns.items()})


def _encoder(encode: Callable[[Pair], Example]) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """The preprocessor that turns texts into ids."""

    def to_ids(*texts: bytes) -> tuple[np.ndarray, np.ndarray]:
        example = encode(Pair(*(text.decode() for text in texts)))
        return example.prompt_ids, example.answer_ids

    def with_ids(pair: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        texts = [pair[name] for name in PAIR_FIELDS]
        # A stateful function would make the whole iterator impossible to checkpoint.
        inputs, targets = tf.numpy_function(to_ids, texts, (tf.int32, tf.int32), stateful=False)
        return {
            "id": pair["id"],
            "inputs": tf.ensure_shape(inputs, [None]),
            "targets": tf.ensure_shape(targets, [None]),
        }

    def preprocess(dataset: tf.data.Dataset) -> tf.data.Dataset:
        return dataset.map(with_ids, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    return preprocess
