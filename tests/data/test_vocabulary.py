"""Our tokenizers as seqio vocabularies."""

import json
import pickle

import numpy as np
import pytest
import tensorflow as tf

from humpback_jax.data.vocabulary import TokenizerVocabulary
from humpback_jax.tokenizers import HFTokenizer


def tokenizer(eos: str = "<|end|>") -> HFTokenizer:
    """A byte-level tokenizer in which id 0 is a letter."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    names = ["<|begin|>", "<|end|>", "<|unk|>", "<|stop|>"]
    backend.add_special_tokens([AddedToken(name, special=True) for name in names])
    config = {"bos_token": "<|begin|>", "eos_token": eos, "unk_token": "<|unk|>"}
    files = {"tokenizer.json": backend.to_str().encode(), "tokenizer_config.json": json.dumps(config).encode()}
    return HFTokenizer(files, "here")


TEXTS = ("", "Hello! 12", "naïve 🦙", "<|end|> typed")


def test_ids() -> None:
    vocabulary = TokenizerVocabulary(tokenizer())
    assert (vocabulary.vocab_size, vocabulary.pad_id) == (260, 0)
    assert (vocabulary.bos_id, vocabulary.eos_id, vocabulary.unk_id) == (256, 257, 258)
    assert vocabulary.encode("!!") == [0, 0]


@pytest.mark.parametrize("text", TEXTS)
def test_python_and_tensorflow_agree(text: str) -> None:
    vocabulary = TokenizerVocabulary(tokenizer())
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) == text
    in_graph = tf.function(vocabulary.encode_tf)(tf.constant(text))
    assert in_graph.dtype == tf.int32 and in_graph.shape.rank == 1
    assert in_graph.numpy().tolist() == ids
    if ids:
        assert vocabulary.decode_tf(tf.constant(ids, tf.int32)).numpy().decode() == text


def test_batches_decode_row_by_row_through_the_first_eos() -> None:
    vocabulary = TokenizerVocabulary(tokenizer())
    rows = np.array([[*vocabulary.encode("ab"), 257], [*vocabulary.encode("cde")]], np.int32)
    assert [text.decode() for text in vocabulary.decode_tf(tf.constant(rows)).numpy()] == ["ab", "cde"]
    assert vocabulary.decode([*vocabulary.encode("ab"), 257, *vocabulary.encode("never")]) == "ab"


def test_dataset_map_keeps_the_static_rank() -> None:
    vocabulary = TokenizerVocabulary(tokenizer())
    dataset = tf.data.Dataset.from_tensor_slices(list(TEXTS)).map(vocabulary.encode_tf)
    assert dataset.element_spec.shape.as_list() == [None]
    assert [row.tolist() for row in dataset.as_numpy_iterator()] == [vocabulary.encode(text) for text in TEXTS]


def test_equality_and_pickling() -> None:
    vocabulary = TokenizerVocabulary(tokenizer())
    assert vocabulary == pickle.loads(pickle.dumps(vocabulary)) == TokenizerVocabulary(tokenizer())
    assert hash(vocabulary) == hash(TokenizerVocabulary(tokenizer()))
    assert vocabulary != TokenizerVocabulary(tokenizer(eos="<|stop|>"))


def test_nothing_follows_the_end_of_a_text() -> None:
    """seqio's own `decode_tf` puts id 0, here "!", in the place of what follows."""
    vocabulary = TokenizerVocabulary(tokenizer())
    hello = vocabulary.encode("Hello!")
    rows = np.array([[*hello, 257, 5, 6], [*hello, *hello[:3]], [*hello, -1, -1, -1]], np.int32)
    assert [text.decode() for text in vocabulary.decode_tf(tf.constant(rows)).numpy()] == [
        "Hello!",
        "Hello!Hel",
        "Hello!",
    ]
    assert vocabulary.decode([*hello, 257, 5]) == vocabulary.decode([*hello, -1]) == "Hello!"
