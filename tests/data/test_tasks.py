"""seqio tasks: the same examples as the plain functions, and nothing cut."""

import json

import numpy as np
import pytest
import seqio
import tensorflow as tf

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.data.examples import Example, supervised_examples
from humpback_jax.data.feature_converter import PackedDecoderFeatureConverter
from humpback_jax.data.packing import FEATURES, packed_rows
from humpback_jax.data.pairs import Pair, read_pairs, write_pairs
from humpback_jax.data.tasks import register_tasks, task_counts

CHAT = ChatFormat("chatml")


@pytest.fixture
def seed_path(tmp_path):
    rows = [{"instruction": f"Say {'e' * (1 + i % 7)}.", "output": "é " * (1 + i % 11)} for i in range(30)]
    path = tmp_path / "seed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def augmented_path(tmp_path):
    path = tmp_path / "curated.jsonl"
    write_pairs(path, [Pair(f"web{i}", f"What is {i}?", f" page e{i} ", "web") for i in range(10)])
    return path


@pytest.fixture
def names(byte_tokenizer, seed_path, augmented_path):
    return register_tasks("test", byte_tokenizer, CHAT, seed_path, augmented_path, replace=True)


def _examples(name, sequence_length=None, split="train", **options):
    options = {"shuffle": False, **options}
    dataset = seqio.TaskRegistry.get(name).get_dataset(sequence_length, split=split, **options)
    return [Example(row["inputs"], row["targets"], row["id"].decode()) for row in dataset.as_numpy_iterator()]


def test_names(names):
    assert names == ("test_seed", "test_backward", "test_augmented", "test_seed_and_augmented")


def test_task_examples_are_those_of_supervised_examples(names, byte_tokenizer, seed_path, augmented_path):
    seed, augmented = (read_pairs(path).pairs for path in (seed_path, augmented_path))
    augmented = [Pair(pair.id, pair.instruction, f" {pair.output} ", pair.source) for pair in augmented]
    assert _examples("test_seed") == supervised_examples(seed, byte_tokenizer, CHAT, tags=["seed"])[0]
    assert _examples("test_backward") == supervised_examples(seed, byte_tokenizer, CHAT, "backward")[0]
    assert _examples("test_augmented") == supervised_examples(augmented, byte_tokenizer, CHAT, tags=["web"])[0]


def test_a_task_and_the_converter_give_packed_rows(names, byte_tokenizer, seed_path):
    lengths = {"inputs": 256, "targets": 64}
    dataset = seqio.get_dataset("test_seed", lengths, PackedDecoderFeatureConverter(), shuffle=False)
    rows = list(dataset.as_numpy_iterator())
    expected = packed_rows(
        supervised_examples(read_pairs(seed_path).pairs, byte_tokenizer, CHAT, tags=["seed"])[0], 320
    )
    for name in FEATURES:
        np.testing.assert_array_equal(np.stack([row[name] for row in rows]), expected[name])


def test_long_examples_are_left_out_and_counted(names):
    whole = _examples("test_seed")
    limit = sorted(len(example.prompt_ids) for example in whole)[15]
    lengths = {"inputs": limit, "targets": 20}
    kept = [e for e in whole if len(e.prompt_ids) <= limit and len(e.answer_ids) <= 20]
    assert 0 < len(kept) < 30
    assert _examples("test_seed", lengths) == kept
    assert task_counts("test_seed", lengths) == {
        "read": 30,
        "kept": len(kept),
        "rejected": {"too_long": 30 - len(kept)},
    }
    assert task_counts("test_seed", None) == {"read": 30, "kept": 30, "rejected": {}}


def test_a_part_of_the_split_is_a_part_of_the_pairs(names):
    whole = _examples("test_seed")
    assert _examples("test_seed", split="train[:50%]") == whole[:15]
    assert _examples("test_seed", split="train[20:]") == whole[20:]
    assert _examples("test_seed", split="train[:2]+train[28:]") == whole[:2] + whole[28:]
    shuffled = _examples("test_seed", split="train[:50%]", shuffle=True, seed=3, num_epochs=2)
    for epoch in (shuffled[:15], shuffled[15:]):
        assert sorted(example.id for example in epoch) == sorted(example.id for example in whole[:15])
    assert task_counts("test_seed", None, "train[:50%]") == {"read": 15, "kept": 15, "rejected": {}}


def test_a_split_that_does_not_exist_is_an_error_that_names_the_one_there_is(names):
    for read in (_examples, task_counts):
        with pytest.raises(ValueError, match=r"Unknown split 'validation'. Should be one of \['train'\]"):
            read("test_seed", None, split="validation")
    with pytest.raises(ValueError, match="No datasets have a 'validation' split"):
        seqio.MixtureRegistry.get("test_seed_and_augmented").get_dataset(split="validation")


def test_tasks_say_how_many_pairs_they_have(names):
    task = seqio.TaskRegistry.get("test_seed")
    assert [task.num_input_examples(split) for split in ("train", "train[:10%]")] == [30, 3]
    assert seqio.mixing_rate_num_examples(task) == 30
    assert seqio.MixtureRegistry.get("test_seed_and_augmented").num_input_examples("train") == 40


def test_mixture_rates_are_the_numbers_of_pairs_by_default(names, byte_tokenizer, seed_path, augmented_path):
    def rates():
        mixture = seqio.MixtureRegistry.get("test_seed_and_augmented")
        return {task.name: mixture.get_rate(task) / mixture.total_rate for task in mixture.tasks}

    assert rates() == {"test_seed": 0.75, "test_augmented": 0.25}
    even = {"seed": 1.0, "augmented": 1.0}
    register_tasks("test", byte_tokenizer, CHAT, seed_path, augmented_path, rates=even, replace=True)
    assert rates() == {"test_seed": 0.5, "test_augmented": 0.5}
    with pytest.raises(ValueError, match="one for 'seed' and one for 'augmented'"):
        register_tasks("other", byte_tokenizer, CHAT, seed_path, augmented_path, rates={"web": 1.0})


def test_the_mixture_repeats_with_its_seed_and_is_restored_exactly(names, tmp_path):
    def batches():
        converter = PackedDecoderFeatureConverter(group_size=16)
        dataset = seqio.get_dataset(
            "test_seed_and_augmented",
            {"inputs": 256, "targets": 64},
            converter,
            shuffle=True,
            num_epochs=None,
            seed=5,
            batch_size=2,
        )
        return iter(dataset)

    def tokens(batch):
        return batch["decoder_target_tokens"].numpy().tolist()

    first = batches()
    start = [tokens(next(first)) for _ in range(3)]
    path = tf.train.Checkpoint(iterator=first).write(str(tmp_path / "state"))
    rest = [tokens(next(first)) for _ in range(10)]
    again = batches()
    assert [tokens(next(again)) for _ in range(13)] == start + rest
    restored = batches()
    tf.train.Checkpoint(iterator=restored).read(path)
    assert [tokens(next(restored)) for _ in range(10)] == rest


@pytest.mark.parametrize("options", [{"shuffle": False}, {"shuffle": True, "seed": 7}])
def test_hosts_share_every_epoch_without_overlap(names, options):
    whole = sorted(example.id for example in _examples("test_seed"))
    shards = [_examples("test_seed", shard_info=seqio.ShardInfo(i, 3), num_epochs=2, **options) for i in range(3)]
    assert [len(shard) for shard in shards] == [20, 20, 20]
    for epoch in (0, 1):
        ids = [example.id for shard in shards for example in shard[epoch * 10 : epoch * 10 + 10]]
        assert sorted(ids) == whole


def test_epochs_are_shuffled_anew_and_the_same_for_a_seed(names):
    ids = [example.id for example in _examples("test_seed", shuffle=True, seed=7, num_epochs=2)]
    assert sorted(ids[:30]) == sorted(ids[30:])
    assert ids[:30] != ids[30:]
    assert ids == [example.id for example in _examples("test_seed", shuffle=True, seed=7, num_epochs=2)]
    assert ids != [example.id for example in _examples("test_seed", shuffle=True, seed=8, num_epochs=2)]


def test_registering_opens_no_file_and_is_guarded(byte_tokenizer, tmp_path):
    register_tasks("lazy", byte_tokenizer, CHAT, tmp_path / "absent.jsonl", replace=True)
    with pytest.raises(FileNotFoundError, match=r"absent\.jsonl"):
        _examples("lazy_seed")
    with pytest.raises(ValueError, match="'lazy_seed' already"):
        register_tasks("lazy", byte_tokenizer, CHAT, tmp_path / "absent.jsonl")


def test_the_vocabulary_decodes_the_ids(names, byte_tokenizer):
    task = seqio.TaskRegistry.get("test_seed")
    vocabulary = task.output_features["targets"].vocabulary
    assert vocabulary == task.output_features["inputs"].vocabulary
    example = _examples("test_seed")[3]
    assert vocabulary.decode(example.answer_ids.tolist()).startswith(byte_tokenizer.decode(example.answer_ids))
