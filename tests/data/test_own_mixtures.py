"""A user's own seqio tasks and mixtures, registered by a module of their own, are trained on by name."""

import json

import numpy as np
import pytest

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.data.mixture import TrainingMixture
from humpback_jax.data.readers import DIRECT, SEQIO, read_examples, read_own_set
from humpback_jax.prompts.prompts import load_prompts

# As a seqio user writes it: two files of JSON lines, texts as they are, one task each, and a mixture.
MODULE = """
import functools, json, os, seqio, tensorflow as tf

FOLDER = os.path.dirname(os.path.abspath(__file__))
TEXT = seqio.Feature(seqio.PassThroughVocabulary(1), add_eos=False, dtype=tf.string, rank=0)
IDS = seqio.Feature(seqio.PassThroughVocabulary(264), add_eos=False)


def parse(line):
    row = json.loads(line)
    return row["question"].encode(), row["reply"].encode()


@functools.partial(seqio.map_over_dataset)
def texts(line):
    question, reply = tf.numpy_function(parse, [line], (tf.string, tf.string), stateful=False)
    return {"inputs": tf.ensure_shape(question, []), "targets": tf.ensure_shape(reply, [])}


@seqio.map_over_dataset
def bytes_of(example):
    return {name: tf.cast(tf.io.decode_raw(text, tf.uint8), tf.int32) for name, text in example.items()}


def task(name, preprocessors, feature, **splits):
    seqio.TaskRegistry.add(
        name,
        source=seqio.TextLineDataSource({split: os.path.join(FOLDER, file) for split, file in splits.items()}),
        preprocessors=preprocessors,
        output_features={"inputs": feature, "targets": feature},
    )


task("PREFIX_first", [texts], TEXT, train="first.jsonl", validation="second.jsonl")
task("PREFIX_second", [texts], TEXT, train="second.jsonl")
task("PREFIX_ids", [texts, bytes_of], IDS, train="second.jsonl")
task("PREFIX_validation", [texts], TEXT, validation="second.jsonl")
task("PREFIX_t5", [texts, bytes_of], seqio.Feature(seqio.ByteVocabulary(), add_eos=False), train="second.jsonl")
seqio.MixtureRegistry.add("PREFIX_even", ["PREFIX_first", "PREFIX_second"], default_rate=1.0)
seqio.MixtureRegistry.add("PREFIX_as_they_are", [("PREFIX_first", 4), ("PREFIX_second", 2)])
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes the module and its files into the working directory; a function from a name to MODULE:NAME."""
    prefix = f"own{abs(hash(tmp_path))}"
    (tmp_path / f"{prefix}_data.py").write_text(MODULE.replace("PREFIX", prefix))
    for name, number in (("first", 4), ("second", 2)):
        rows = [{"question": f"{name} {i}?\0", "reply": f"e{i}"} for i in range(number)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # taken away again after the test
    return lambda name: f"{prefix}_data:{prefix}_{name}"


def read(name, tokenizer, chat_format="inst"):
    return read_own_set(name, ChatFormat(chat_format), tokenizer)


def prompts_of(own_set, tokenizer):
    return [tokenizer.decode(example.prompt_ids.tolist()) for example in own_set.examples]


def test_texts_become_turns_of_the_chat_format(own, byte_tokenizer):
    first = read(own("first"), byte_tokenizer)
    assert prompts_of(first, byte_tokenizer) == [f"[INST] first {i}?\0 [/INST]" for i in range(4)]
    assert [example.answer_ids[-1] for example in first.examples] == [byte_tokenizer.eos_id] * 4
    assert byte_tokenizer.decode(first.examples[3].answer_ids.tolist()) == " e3"
    assert first.name == own("first")


def test_ids_are_taken_as_they_are(own, byte_tokenizer):
    examples = read(own("ids"), byte_tokenizer).examples
    assert [bytes(example.answer_ids.tolist()) for example in examples] == [b"e0", b"e1"]
    with pytest.raises(ValueError, match=r"the ids of 'inputs' are of .*another vocabulary than the model's; give te"):
        read(own("t5"), byte_tokenizer)
    byte_tokenizer = type(byte_tokenizer)()
    byte_tokenizer.vocab_size = 100
    with pytest.raises(ValueError, match=r"id 1\d\d in 'inputs' is none of the model's 100"):
        read(own("ids"), byte_tokenizer)


def test_a_mixture_reads_every_task_once_or_as_its_rates_ask(own, byte_tokenizer):
    names = [f"[INST] first {i}?\0 [/INST]" for i in range(4)] + [f"[INST] second {i}?\0 [/INST]" for i in range(2)]
    assert prompts_of(read(own("as_they_are"), byte_tokenizer), byte_tokenizer) == names
    assert prompts_of(read(own("even"), byte_tokenizer), byte_tokenizer) == names + names[-2:]


def test_a_changed_file_has_another_hash(own, byte_tokenizer, tmp_path):
    before, again = (read(own("even"), byte_tokenizer) for _ in range(2))
    assert before.sha256 == again.sha256
    with (tmp_path / "second.jsonl").open("a") as file:
        file.write('{"question": "more?", "reply": "yes"}\n')
    assert read(own("even"), byte_tokenizer).sha256 != before.sha256
    assert read(own("first"), byte_tokenizer).sha256 == read(own("first"), byte_tokenizer).sha256


@pytest.mark.parametrize("reader", [SEQIO, DIRECT])
def test_they_join_the_sets_of_a_mixture(own, byte_tokenizer, reader):
    own_set = read(own("first"), byte_tokenizer)
    mixture = TrainingMixture([], load_prompts(), ChatFormat("inst"), byte_tokenizer, [own_set])
    joined = read_examples(mixture, 64, reader)
    assert [example.id for example in joined.examples] == [f"{own_set.name}/{i}" for i in range(4)]
    assert mixture.hashes() == {own_set.name: own_set.sha256}
    np.testing.assert_array_equal(joined.examples[0].prompt_ids, own_set.examples[0].prompt_ids)


def test_what_is_not_there_is_named(own, byte_tokenizer, monkeypatch):
    with pytest.raises(ValueError, match="has no split 'train'; its splits are validation"):
        read(own("validation"), byte_tokenizer)
    with pytest.raises(ValueError, match=r"registers no such task or mixture; seqio has .*_as_they_are"):
        read(own("absent"), byte_tokenizer)
    with pytest.raises(ValueError, match="write MODULE:NAME"):
        read("somewhere", byte_tokenizer)
    monkeypatch.setitem(__import__("sys").modules, "humpback_jax.data.seqio_reader", None)
    monkeypatch.delattr("humpback_jax.data.seqio_reader")
    with pytest.raises(ValueError, match="is a mixture of seqio, which cannot be imported here"):
        read(own("first"), byte_tokenizer)
