"""The curator: a logistic regression over the signals of a pair, which gives it a probability of being good.

It begins with weights that are sensible for any corpus (`features.py`), and learns from seed pairs against their broken
twins, and from people's labels where there are any. The penalty pulls to the first weights, and none changes its sign.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from scipy import optimize

from humpback_jax.curation.features import FEATURES, Rows, Scale, feature_matrix, scales_of
from humpback_jax.ranges import NaturalInt, PathText, PositiveFloat, Range, check_fields

LEAST_ORIGINALS, LEAST_EXAMPLES = 8, 5  # the latter of each class, so that a fifth may be left out
_DIGITS = 6
_FARTHEST_INTERCEPT = 50.0


@dataclasses.dataclass(frozen=True)
class CuratorConfig:
    """How the curator learns.

    Attributes:
      originals: seed pairs that are broken, drawn by id; each costs about six readings.
      labels: JSONL of pairs labelled by people, as `humpback curate label` writes it.
      label_weight: weight of all labelled pairs together, those of all twins together being 1.
      penalty: strength of the pull to the first weights.
      base_rate: share of good pairs among the candidates, an assumption; labels, where there are any, set the level
        instead, such that p(good) adds up to what people found on the labelled pairs.
      seed: of the twins.
    """

    originals: Annotated[int, Range(LEAST_ORIGINALS)] = 64
    labels: PathText | None = None
    label_weight: PositiveFloat = 5.0
    penalty: PositiveFloat = 0.25
    base_rate: Annotated[float, Range(above=0, below=1)] = 0.15
    seed: NaturalInt = 0

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class Curator:
    """A fitted model: p(good) = sigmoid(intercept + Σ weight · feature).

    Attributes:
      scales: of each feature, by name.
      weights: of the features, by name; none is negative.
      intercept: in logits.
    """

    scales: Mapping[str, Scale]
    weights: Mapping[str, float]
    intercept: float

    def logits(self, rows: Rows) -> np.ndarray:
        """float64 [n] of rows of signals; KeyError names a signal that is missing."""
        return self.terms(rows).sum(axis=1) + self.intercept

    def probabilities(self, rows: Rows) -> np.ndarray:
        """p(good) of rows of signals, float64 [n], rounded to six digits."""
        return np.round(sigmoid(self.logits(rows)), _DIGITS)

    def contributions(self, row: Mapping[str, float]) -> dict[str, float]:
        """What each feature adds to the logit of one pair, by name: above 0 speaks for it."""
        return dict(zip(self.scales, self.terms([row])[0].tolist(), strict=True))

    def terms(self, rows: Rows) -> np.ndarray:
        """What each feature adds to the logit of each pair: float64 [n, features], in the order of `scales`."""
        if not rows:
            return np.zeros((0, len(self.scales)))
        return feature_matrix(rows, self.scales) * np.asarray([self.weights[name] for name in self.scales])


def curator_of(values: Mapping[str, Any]) -> Curator:
    """The curator that `dataclasses.asdict` turned into JSON values."""
    scales = {name: Scale(**scale) for name, scale in values["scales"].items()}
    return Curator(scales, dict(values["weights"]), values["intercept"])


@dataclasses.dataclass(frozen=True)
class Examples:
    """What a curator learns from: signals, whether the pair is good, and how much it counts, one entry per pair."""

    rows: Rows
    good: Sequence[bool]
    weights: Sequence[float]


def fit_curator(examples: Examples, candidates: Rows, seeds: Rows, penalty: float) -> Curator:
    """Fits the weights; good and bad examples count the same. The intercept is 0 where both are as likely.

    Args:
      examples: twins and labelled pairs.
      candidates: signals of the pairs that are chosen from.
      seeds: signals of whole seed pairs.
      penalty: strength of the pull to the first weights.

    Raises:
      ValueError: fewer than five good or five bad examples.
    """
    good = np.asarray(examples.good, bool)
    for name, number in (("good", int(good.sum())), ("bad", int((~good).sum()))):
        if number < LEAST_EXAMPLES:
            raise ValueError(
                f"the curator has {number} {name} pairs to learn from and needs {LEAST_EXAMPLES}; give more seed pairs "
                "or more labels"
            )
    scales = scales_of(candidates, seeds)
    matrix = feature_matrix(examples.rows, scales)
    prior = np.asarray([FEATURES[name].prior for name in scales])
    shares = np.asarray(examples.weights, np.float64)
    for label in (True, False):
        shares[good == label] /= 2 * shares[good == label].sum()
    sign = np.where(good, 1.0, -1.0)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        margins = sign * (matrix @ parameters[:-1] + parameters[-1])
        away = parameters[:-1] - prior
        slope = -shares * sign * sigmoid(-margins)
        value = shares @ np.logaddexp(0.0, -margins) + penalty / 2 * away @ away
        return float(value), np.append(matrix.T @ slope + penalty * away, slope.sum())

    bounds = [*[(0.0, None)] * len(prior), (-_FARTHEST_INTERCEPT, _FARTHEST_INTERCEPT)]
    found = optimize.minimize(loss, np.append(prior, 0.0), jac=True, method="L-BFGS-B", bounds=bounds).x
    weights = np.round(found, _DIGITS).tolist()
    return Curator(scales, dict(zip(scales, weights[:-1], strict=True)), weights[-1])


def with_base_rate(curator: Curator, rows: Rows, share: float) -> Curator:
    """The same curator, its intercept such that `share` of these rows are expected to be good."""
    logits = curator.logits(rows) - curator.intercept
    far = _FARTHEST_INTERCEPT + float(np.abs(logits).max(initial=0.0))

    def excess(intercept: float) -> float:
        return float(sigmoid(logits + intercept).mean()) - share

    return dataclasses.replace(curator, intercept=round(float(optimize.brentq(excess, -far, far)), _DIGITS))


def expected_quality(probabilities: np.ndarray, kept: np.ndarray) -> dict[str, dict[str, float]]:
    """Precision and recall that the probabilities promise a kept set, each with a 95 % interval.

    The intervals are of which pairs turn out good (each with its probability, independently), by 2,000 draws.

    Args:
      probabilities: p(good) of every candidate, float64 [n].
      kept: bool [n].
    """
    draws = np.random.default_rng(0).random((2000, len(probabilities))) < probabilities
    good_kept, good = (draws & kept).sum(axis=1), draws.sum(axis=1)
    precision, recall = good_kept / max(1, int(kept.sum())), good_kept / np.maximum(1, good)
    values = {
        "precision": float(probabilities[kept].mean()) if kept.any() else 0.0,
        "recall": float(probabilities[kept].sum() / max(probabilities.sum(), 1e-9)),
    }
    intervals = {"precision": np.percentile(precision, [2.5, 97.5]), "recall": np.percentile(recall, [2.5, 97.5])}
    return {
        name: {"value": round(value, 4), "low": round(float(low), 4), "high": round(float(high), 4)}
        for (name, value), (low, high) in zip(values.items(), intervals.values(), strict=True)
    }


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Probabilities of logits, without overflow."""
    return np.exp(-np.logaddexp(0.0, -values))
