"""The curator: a logistic regression over the signals of a pair, which gives it a probability of being good.

It learns from seed pairs against their broken twins, and from people's labels where there are any. Standardised signals
and an L2 penalty keep its few weights readable: they are the picture on the report page. scikit-learn does the fitting.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from humpback_jax.curation.signals import FEATURES, Feature, feature_matrix

LEAST_EXAMPLES = 8  # of each class
_FARTHEST = 3.0  # standard deviations; what lies farther says no more than that it is far
_DIGITS = 6


@dataclasses.dataclass(frozen=True)
class CuratorConfig:
    """How the curator learns.

    Attributes:
      originals: seed pairs that are broken, drawn by id; each costs about six readings.
      labels: JSONL of pairs labelled by people, as `humpback curate label` writes it.
      label_weight: weight of all labelled pairs together, those of all twins together being 1.
      penalty: inverse strength of the L2 penalty.
      seed: of the twins.
    """

    originals: int = 64
    labels: str | None = None
    label_weight: float = 1.0
    penalty: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.originals < LEAST_EXAMPLES:
            raise ValueError(f"CuratorConfig.originals is {self.originals}; give {LEAST_EXAMPLES} seed pairs or more")
        if self.penalty <= 0 or self.label_weight <= 0:
            raise ValueError(f"{self}: penalty and label_weight must be above 0")


@dataclasses.dataclass(frozen=True)
class Curator:
    """A fitted model: p(good) = sigmoid(intercept + Σ weight · (feature - mean) / scale).

    Attributes:
      means, scales: of each feature over what it was fitted on.
      weights: of the standardised features, by name.
      intercept: in logits.
    """

    means: Mapping[str, float]
    scales: Mapping[str, float]
    weights: Mapping[str, float]
    intercept: float

    def logits(self, rows: Sequence[Mapping[str, float]]) -> np.ndarray:
        """float64 [n] of rows of signals; KeyError names a signal that is missing."""
        names = list(self.weights)
        standardised = self._standardised(feature_matrix(rows, names))
        return standardised @ np.asarray([self.weights[name] for name in names]) + self.intercept

    def probabilities(self, rows: Sequence[Mapping[str, float]]) -> np.ndarray:
        """p(good) of rows of signals, float64 [n], rounded to six digits."""
        return np.round(1 / (1 + np.exp(-self.logits(rows))), _DIGITS)

    def contributions(self, row: Mapping[str, float]) -> dict[str, float]:
        """What each signal adds to the logit of one pair, by name: above 0 speaks for it."""
        names = list(self.weights)
        standardised = self._standardised(feature_matrix([row], names))[0]
        return {name: float(self.weights[name] * value) for name, value in zip(names, standardised, strict=True)}

    def _standardised(self, matrix: np.ndarray) -> np.ndarray:
        names = list(self.weights)
        means, scales = (np.asarray([table[name] for name in names]) for table in (self.means, self.scales))
        return np.clip((matrix - means) / scales, -_FARTHEST, _FARTHEST)


def curator_of(values: Mapping[str, Any]) -> Curator:
    """The curator that `dataclasses.asdict` turned into JSON values."""
    return Curator(**{field.name: values[field.name] for field in dataclasses.fields(Curator)})


def fit_curator(
    rows: Sequence[Mapping[str, float]],
    good: Sequence[bool],
    weights: Sequence[float],
    penalty: float,
    features: Mapping[str, Feature] = FEATURES,
) -> Curator:
    """Fits the weights; both classes count the same.

    A signal whose weight would say that worse is better gets none: over few examples that is chance, or a trait of the
    twins which real pairs do not share.

    Args:
      rows: signals of every pair.
      good: whether it is.
      weights: how much each counts.
      penalty: inverse strength of the L2 penalty.
      features: what may be used.

    Raises:
      ValueError: fewer than eight good or eight bad pairs.
    """
    from sklearn.linear_model import LogisticRegression

    labels = np.asarray(good, bool)
    for name, number in (("good", int(labels.sum())), ("bad", int((~labels).sum()))):
        if number < LEAST_EXAMPLES:
            raise ValueError(
                f"the curator has {number} {name} pairs to learn from and needs {LEAST_EXAMPLES}; give more seed pairs "
                "or more labels"
            )
    names = list(features)
    while True:
        matrix = feature_matrix(rows, names)
        means, scales = matrix.mean(axis=0), np.maximum(matrix.std(axis=0), 1e-6)
        standardised = np.clip((matrix - means) / scales, -_FARTHEST, _FARTHEST)
        model = LogisticRegression(C=penalty, class_weight="balanced", max_iter=1000)
        model.fit(standardised, labels, sample_weight=np.asarray(weights, np.float64) * len(labels) / np.sum(weights))
        found = dict(zip(names, model.coef_[0].tolist(), strict=True))
        wrong = {name for name in names if features[name].direction * found[name] < 0}
        if not wrong:
            break
        names = [name for name in names if name not in wrong]
    return Curator(
        dict(zip(names, means.tolist(), strict=True)),
        dict(zip(names, scales.tolist(), strict=True)),
        found,
        float(model.intercept_[0]),
    )
