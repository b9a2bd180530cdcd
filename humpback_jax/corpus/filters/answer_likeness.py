"""How much a segment reads like a seed answer: a linear model of word n-grams, trained in the run itself.

Logistic regression on hashed 1- and 2-grams of words tells the seed answers from segments drawn at random, as DSIR and
the quality classifiers of other corpora do with their targets. The same answers, segments and seed give the same model.
scikit-learn is imported where it is used: most builds do without, and every worker imports this module.
"""

import dataclasses
import functools
import io
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from humpback_jax.corpus.filters.words import words
from humpback_jax.files import PathLike, sha256_of_bytes, write_atomically

FEATURES = 1 << 18
MOST_CHARS = 3000  # of a text that the model looks at
LEAST_TEXTS = 20
_HELD_OUT = 0.2
_DIGITS = 4


@dataclasses.dataclass(frozen=True)
class AnswerModel:
    """A trained model: weights [FEATURES] of the features and the intercept, both float32.

    Attributes:
      answers, segments: how many it was trained on.
      auc: area under the ROC curve on a fifth of both that was held out: 0.5 is chance, near 1 says that segments have
        nothing in common with answers.
    """

    weights: np.ndarray
    intercept: float
    answers: int
    segments: int
    auc: float

    def score(self, text: str) -> float:
        """The probability, 0 to 1, that a text is an answer and no segment, rounded to 4 digits."""
        features = _vectorizer().transform([text[:MOST_CHARS]])
        logit = float(features.data @ self.weights[features.indices]) + self.intercept
        return round(1 / (1 + float(np.exp(-logit))), _DIGITS)

    def to_bytes(self) -> bytes:
        """The file: a NumPy archive, the same bytes for the same model."""
        stream = io.BytesIO()
        used = np.flatnonzero(self.weights).astype(np.int32)
        np.savez(
            stream,
            indices=used,
            values=self.weights[used],
            intercept=np.float32(self.intercept),
            counts=np.array([self.answers, self.segments], np.int64),
            auc=np.float64(self.auc),
        )
        return stream.getvalue()

    def save(self, path: PathLike) -> str:
        """Writes the file and returns its SHA-256."""
        data = self.to_bytes()
        write_atomically(path, data)
        return sha256_of_bytes(data)


def load(path: PathLike) -> AnswerModel:
    """The model in a file; ValueError names one that is none."""
    try:
        with np.load(io.BytesIO(epath.Path(path).read_bytes()), allow_pickle=False) as archive:
            weights = np.zeros(FEATURES, np.float32)
            weights[archive["indices"]] = archive["values"]
            answers, segments = map(int, archive["counts"])
            return AnswerModel(weights, float(archive["intercept"]), answers, segments, float(archive["auc"]))
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise ValueError(f"{path} is no answer-likeness model ({error}); delete it and run the stage again") from error


def check_number(number: int, name: str) -> None:
    """ValueError where there are too few seed answers or segments to learn from."""
    if number < LEAST_TEXTS:
        raise ValueError(
            f"min_answer_likeness needs {LEAST_TEXTS} {name} or more to learn from, found {number}; give more, or "
            "leave it at None"
        )


def train(answers: Sequence[str], segments: Sequence[str], seed: int) -> AnswerModel:
    """Trains on all texts, after measuring the AUC of a model that sees four fifths of them.

    Raises:
      ValueError: fewer than 20 answers or segments.
    """
    check_number(len(answers), "seed answers")
    check_number(len(segments), "segments")
    from sklearn.metrics import roc_auc_score

    features = _vectorizer().transform([text[:MOST_CHARS] for text in (*answers, *segments)])
    labels = np.concatenate([np.ones(len(answers), np.int32), np.zeros(len(segments), np.int32)])
    held_out = np.random.default_rng(seed).random(len(labels)) < _HELD_OUT
    held_out[[0, len(answers)]] = True, True  # one of each at least, and the second of each is seen
    held_out[[1, len(answers) + 1]] = False, False
    judged = _classifier().fit(features[~held_out], labels[~held_out])
    auc = float(roc_auc_score(labels[held_out], judged.decision_function(features[held_out])))
    model = _classifier().fit(features, labels)
    weights = model.coef_[0].astype(np.float32)
    intercept = float(np.float32(model.intercept_[0]))
    return AnswerModel(weights, intercept, len(answers), len(segments), round(auc, _DIGITS))


def _classifier() -> Any:
    """Both classes weigh the same, however many there are of each: 0.5 is as near to one as to the other."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=1.0, class_weight="balanced", max_iter=200)


@functools.cache
def _vectorizer() -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(n_features=FEATURES, analyzer=_grams, norm="l2", alternate_sign=False, dtype=np.float32)


def _grams(text: str) -> list[str]:
    """Distinct 1- and 2-grams of words: how often one stands in a text depends on the length of the text."""
    found = words(text)
    return list(dict.fromkeys([*found, *map(" ".join, itertools.pairwise(found))]))
