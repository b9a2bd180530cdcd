"""Any of our tokenizers as a `seqio.Vocabulary`."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from humpback_jax.tokenizers import Tokenizer


class TokenizerVocabulary(seqio.Vocabulary):
    """A tokenizer as seqio sees it: ids unchanged, nothing reserved.

    seqio pads with 0, which is a word in many of these vocabularies; so does this class (`pad_id`), and our feature
    converter tells padding from words by length, never by the id.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(extra_ids=0)
        self.tokenizer = tokenizer

    @property
    def bos_id(self) -> int | None:
        """Id of the token that begins a text."""
        return self.tokenizer.bos_id

    @property
    def eos_id(self) -> int | None:
        """Id of the token that ends a text; `decode` stops after it."""
        return self.tokenizer.eos_id

    @property
    def unk_id(self) -> int | None:
        """Id of the unknown token."""
        return self.tokenizer.unk_id

    @property
    def _base_vocab_size(self) -> int:
        return self.tokenizer.vocab_size

    def decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        """Text of ids, int32 [..., n], up to and with the first end-of-text token.

        seqio's own puts id 0 in the place of what follows, and so a word behind every text.
        """
        if self.eos_id is not None:
            after_end = tf.cumsum(tf.cast(tf.equal(ids, self.eos_id), tf.int32), exclusive=True, axis=-1)
            ids = tf.where(after_end > 0, tf.cast(-1, ids.dtype), ids)
        return self._decode_tf(ids)

    def _encode(self, s: str | bytes) -> list[int]:
        return self.tokenizer.encode(s.decode() if isinstance(s, bytes) else s)

    def _decode(self, ids: Iterable[int]) -> str:
        return self.tokenizer.decode([int(i) for i in ids if i >= 0])

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        def encode(text: bytes) -> np.ndarray:
            return np.asarray(self._encode(text), np.int32)

        ids = tf.numpy_function(encode, [s], tf.int32, stateful=False)
        ids.set_shape([None])
        return ids

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        def decode(rows: np.ndarray) -> Any:
            if rows.ndim == 1:
                return self._decode(rows).encode()
            return np.array([self._decode(row).encode() for row in rows], dtype=object)

        texts = tf.numpy_function(decode, [ids], tf.string, stateful=False)
        texts.set_shape(ids.shape[:-1])
        return texts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenizerVocabulary) and self.tokenizer == other.tokenizer

    def __hash__(self) -> int:
        return hash(self.tokenizer)

    def __repr__(self) -> str:
        return f"TokenizerVocabulary({self.tokenizer!r})"
