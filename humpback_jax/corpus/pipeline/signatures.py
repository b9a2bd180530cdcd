"""MinHash signatures of many texts at once, and the keys of their bands, as arrays of numbers.

The words of a text are those of `words`; a shingle is `SHINGLE_WORDS` = 2 of them in a row, or the only one. Words are
hashed by a polynomial of their characters, modulo 2^64, from differences of running sums over all the texts, so that no
word becomes an object.
"""

import functools
import math
import re
from collections.abc import Sequence

import numpy as np
import rensa

SHINGLE_WORDS = 2
MAX_BANDS = 25
FOUND_AT_THRESHOLD = 0.95  # probability that a pair just at the threshold becomes a candidate
SEED = 20_230_811  # of the hash functions; another one gives other candidates

# Scripts that put no spaces between words: each character is a word.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]")

_UNKNOWN, _GAP, _LETTER, _WHOLE_WORD = range(4)  # kinds of characters
_BASE = 0x9E37_79B9_7F4A_7C15  # odd, so that it has an inverse
_FIRST_FACTOR, _BAND_FACTOR, _MIX_FACTOR = map(
    np.uint64, (0xA24B_AED4_963E_E407, 0x9FB2_1C65_1E98_DF25, 0xD6E8_FEB8_6659_FD93)
)
_HALF = np.uint64(32)
_GAP_TEXT = "\n"


def words_of(text: str) -> list[str]:
    """The words of a text, without case and punctuation."""
    return _WORD.findall(text.casefold())


def bands_for(threshold: float) -> tuple[int, int]:
    """(bands, rows of a band): the most rows, which make the fewest false candidates, that still find what they must.

    A pair of similarity s is a candidate with probability 1 - (1 - s^rows)^bands.
    """
    for rows in range(16, 1, -1):
        missed = 1 - threshold**rows
        bands = math.ceil(math.log(1 - FOUND_AT_THRESHOLD) / math.log(missed)) if missed > 0 else 1
        if bands <= MAX_BANDS:
            return bands, rows
    return MAX_BANDS, 1


def band_keys(texts: Sequence[str], threshold: float) -> np.ndarray:
    """Keys [text, band] of uint64: equal in a band for texts whose signatures agree there."""
    bands, rows = bands_for(threshold)
    hashes, ends = _shingle_hashes([text.casefold() for text in texts])
    offsets = np.concatenate([[0], ends]).astype(np.uint64)
    signatures = rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, bands * rows, SEED)
    values = np.array(signatures.to_rows(), np.uint64).reshape(len(texts), bands, rows)
    keys = np.broadcast_to(np.arange(bands, dtype=np.uint64), values.shape[:2])
    for row in range(rows):
        keys = _mixed(keys * _BAND_FACTOR + values[:, :, row])
    return keys


def _shingle_hashes(folded: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(the hashes of the shingles of all texts, where those of each text end)."""
    words, ends = _word_hashes(folded)
    counts = np.diff(ends, prepend=0)
    # A gap after the words of each text: a shingle ends there only where its word is the text's only one.
    words = np.insert(words, ends, 0)
    shingles = _mixed(words[:-1] * _FIRST_FACTOR + words[1:])
    gaps = ends + np.arange(len(ends))
    is_shingle = np.ones(len(words), bool)
    is_shingle[gaps] = False
    is_shingle[(gaps - 1)[counts > 1]] = False
    return shingles[is_shingle[:-1]], np.cumsum(np.where(counts > 1, counts - 1, counts))


def _word_hashes(folded: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(the hashes of the words of all texts, where those of each text end)."""
    characters = np.frombuffer((_GAP_TEXT.join(folded) + _GAP_TEXT).encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = _kinds_of(characters)
    is_word = kinds >= _LETTER
    bounds = is_word[1:] != is_word[:-1]
    if (alone := kinds == _WHOLE_WORD).any():
        bounds |= alone[1:] | alone[:-1]
    edges = np.concatenate([[0], np.flatnonzero(bounds) + 1])
    is_start = is_word[edges]
    starts, stops = edges[is_start], edges[np.flatnonzero(is_start) + 1]  # the last edge is before the last gap
    power, inverse = _powers(1 << (len(characters) - 1).bit_length())
    sums = np.zeros(len(characters) + 1, np.uint64)
    np.cumsum(characters * power[: len(characters)], out=sums[1:])
    text_ends = np.cumsum(np.fromiter((len(text) + 1 for text in folded), np.int64, len(folded)))
    return _mixed((sums[stops] - sums[starts]) * inverse[starts]), np.searchsorted(starts, text_ends)


_kind_of_character = np.zeros(0x11_0000, np.uint8)  # filled in as characters are met


def _kinds_of(characters: np.ndarray) -> np.ndarray:
    kinds = _kind_of_character[characters]
    if not kinds.all():
        for code in np.unique(characters[kinds == _UNKNOWN]).tolist():
            is_alone = _UNSPACED_CHARACTER.match(chr(code))
            kind = _WHOLE_WORD if is_alone else _LETTER if _WORD.match(chr(code)) else _GAP
            _kind_of_character[code] = kind
        kinds = _kind_of_character[characters]
    return kinds


@functools.lru_cache(maxsize=4)
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(the powers of `_BASE`, those of its inverse), modulo 2^64."""
    factors = np.full((2, count), _BASE, np.uint64)
    factors[1] = pow(_BASE, -1, 1 << 64)
    factors[:, 0] = 1
    first, second = np.cumprod(factors, axis=1)
    return first, second


def _mixed(values: np.ndarray) -> np.ndarray:
    """Every bit of a number depends on all of its bits (after Steele and Vigna)."""
    values = (values ^ (values >> _HALF)) * _MIX_FACTOR
    values = (values ^ (values >> _HALF)) * _MIX_FACTOR
    return values ^ (values >> _HALF)
