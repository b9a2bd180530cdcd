"""Ratings read from logits: where the options stand in a vocabulary, and what their distribution says."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from humpback_jax.inference.requests import Branch

RATINGS = (1, 2, 3, 4, 5)
_OPTIONS = tuple(map(str, RATINGS))


@dataclasses.dataclass(frozen=True)
class ForcedRating:
    """How a rating is asked for after what is written.

    Attributes:
      branches: tokens to add, and those that may come next. Of options that begin with one token, such as `1` and `10`,
        a further branch adds it and asks what follows. All have as many candidates; those that repeat the last one
        fill up.
      paths: of every option the (branch, candidate) whose probabilities are multiplied.
      ends_at: of every option the branch after which it ends while another option goes on, or -1.
    """

    branches: tuple[Branch, ...]
    paths: tuple[tuple[tuple[int, int], ...], ...]
    ends_at: tuple[int, ...]

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """What is added before the rating."""
        return self.branches[0].forced_ids

    @property
    def rating_ids(self) -> tuple[int, ...]:
        """The tokens that may come there."""
        return self.branches[0].candidate_ids

    def option_log_probs(self, log_probs: np.ndarray) -> np.ndarray:
        """Log-probability of every option, float64 [options], from those of all candidates, branch by branch."""
        rows = np.asarray(log_probs, np.float64).reshape(len(self.branches), -1)
        sums = [sum(rows[branch, place] for branch, place in path) for path in self.paths]
        for i, branch in enumerate(self.ends_at):
            if branch >= 0:
                going_on = set(self.branches[branch].candidate_ids)
                places = [self.branches[branch].candidate_ids.index(token) for token in going_on]
                sums[i] += math.log1p(-min(float(np.exp(rows[branch, places]).sum()), 1 - 1e-9))
        return np.asarray(sums)


def force_rating(
    encode: Callable[[str], Sequence[int]], written: str, forced: str, options: Sequence[str] = _OPTIONS
) -> ForcedRating:
    """Finds the options' tokens by tokenizing them where they would stand, since a digit may merge with what is left.

    Args:
      encode: text to token ids.
      written: what the answer says so far; its tokens are not part of the result.
      forced: what is added up to the rating, for example a line break and `Score: `.
      options: what may be said, from the worst to the best.

    Raises:
      ValueError: the vocabulary does not separate the options.
    """
    before = tuple(encode(written)) if written else ()
    sequences = [tuple(encode(f"{written}{forced}{option}")) for option in options]
    if any(s[: len(before)] != before for s in sequences):
        before, sequences = (), [tuple(encode(f"{forced}{option}")) for option in options]
    sequences = [s[len(before) :] for s in sequences]
    shared = 0
    while all(len(s) > shared for s in sequences) and len({s[shared] for s in sequences}) == 1:
        shared += 1
    if len(set(sequences)) < len(options):
        raise ValueError(
            f"the tokenizer does not give the ratings {options[0]}-{options[-1]} distinct tokens after {forced!r}; end "
            "the rating prompt so that the rating starts a new token"
        )
    return _tree(sequences, shared)


def _tree(sequences: Sequence[tuple[int, ...]], shared: int) -> ForcedRating:
    """The branches where options of these tokens part, the first one after `shared` of them."""
    branches: list[tuple[tuple[int, ...], list[int]]] = []
    paths: list[list[tuple[int, int]]] = [[] for _ in sequences]
    ends_at = [-1] * len(sequences)
    open_nodes = [(list(range(len(sequences))), shared)]
    while open_nodes:
        members, depth = open_nodes.pop(0)
        going_on = [i for i in members if len(sequences[i]) > depth]
        following = list(dict.fromkeys(sequences[i][depth] for i in going_on))
        if len(going_on) == len(members) and len(following) == 1:
            open_nodes.append((members, depth + 1))  # they part later
            continue
        for i in set(members) - set(going_on):
            ends_at[i] = len(branches)
        for place, token in enumerate(following):
            after = [i for i in going_on if sequences[i][depth] == token]
            for i in after:
                paths[i].append((len(branches), place))
            if len(after) > 1:
                open_nodes.append((after, depth + 1))
        branches.append((sequences[members[0]][:depth], following))
    width = max(len(following) for _, following in branches)
    padded = [Branch(ids, (*following, *following[-1:] * (width - len(following)))) for ids, following in branches]
    return ForcedRating(tuple(padded), tuple(map(tuple, paths)), tuple(ends_at))


@dataclasses.dataclass(frozen=True)
class RatingDistribution:
    """The distribution over the options, renormalised: probabilities, mean, most likely rating, entropy in nats."""

    probabilities: tuple[float, ...]
    expected: float
    mode: int
    entropy: float


def rating_distribution(log_probs: np.ndarray, values: Sequence[int] = RATINGS) -> RatingDistribution:
    """From the log-probabilities, float [options], of options that count so much."""
    shifted = np.exp(np.asarray(log_probs, np.float64) - np.max(log_probs))
    probabilities = shifted / shifted.sum()
    entropy = -sum(p * math.log(p) for p in probabilities.tolist() if p > 0)
    return RatingDistribution(
        probabilities=tuple(round(p, 6) for p in probabilities.tolist()),
        expected=round(float(np.dot(probabilities, values)), 6),
        mode=values[int(np.argmax(probabilities))],
        entropy=round(entropy, 6),
    )
