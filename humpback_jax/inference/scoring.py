"""Ratings read from logits: where the digits stand in a vocabulary, and what their distribution says."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

RATINGS = (1, 2, 3, 4, 5)


@dataclasses.dataclass(frozen=True)
class ForcedRating:
    """Token ids to add to what is written so that the rating digit comes next, and the id of each rating there."""

    prefix_ids: tuple[int, ...]
    rating_ids: tuple[int, ...]


def force_rating(encode: Callable[[str], Sequence[int]], written: str, forced: str) -> ForcedRating:
    """Finds the digit tokens by tokenizing them where they would stand, since a digit may merge with its left context.

    Args:
      encode: text to token ids.
      written: what the answer says so far; its tokens are not part of the result.
      forced: what is added up to the digit, for example a line break and `Score: `.

    Raises:
      ValueError: the vocabulary does not separate the five ratings by one token.
    """
    before = tuple(encode(written)) if written else ()
    sequences = [tuple(encode(f"{written}{forced}{rating}")) for rating in RATINGS]
    if any(s[: len(before)] != before for s in sequences):
        before, sequences = (), [tuple(encode(f"{forced}{rating}")) for rating in RATINGS]
    sequences = [s[len(before) :] for s in sequences]
    shared = 0
    while all(len(s) > shared for s in sequences) and len({s[shared] for s in sequences}) == 1:
        shared += 1
    if any(len(s) <= shared for s in sequences) or len({s[shared] for s in sequences}) < len(RATINGS):
        raise ValueError(
            f"the tokenizer does not give the ratings 1-5 distinct tokens after {forced!r}; end the rating prompt so "
            "that the digit starts a new token"
        )
    return ForcedRating(sequences[0][:shared], tuple(s[shared] for s in sequences))


@dataclasses.dataclass(frozen=True)
class RatingDistribution:
    """The distribution over 1-5, renormalised: probabilities, mean, most likely rating, entropy in nats."""

    probabilities: tuple[float, ...]
    expected: float
    mode: int
    entropy: float


def rating_distribution(log_probs: np.ndarray) -> RatingDistribution:
    """From the log-probabilities, float [5], of the five rating tokens."""
    shifted = np.exp(np.asarray(log_probs, np.float64) - np.max(log_probs))
    probabilities = shifted / shifted.sum()
    entropy = -sum(p * math.log(p) for p in probabilities.tolist() if p > 0)
    return RatingDistribution(
        probabilities=tuple(round(p, 6) for p in probabilities.tolist()),
        expected=round(float(np.dot(probabilities, RATINGS)), 6),
        mode=RATINGS[int(np.argmax(probabilities))],
        entropy=round(entropy, 6),
    )
