"""The curator against scikit-learn's own figures, and what it refuses."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from humpback_jax.curation import curator as curator_module
from humpback_jax.curation.curator import (
    CuratorConfig,
    Examples,
    curator_of,
    expected_quality,
    fit_curator,
    with_base_rate,
)
from humpback_jax.curation.features import FEATURES, feature_matrix, scales_of
from humpback_jax.curation.signals import constant_signals

RANGES = {
    "rating": (1.0, 5.0),
    "fit": (-0.4, 1.4),
    "grounding": (0.0, 1.0),
    "prose": (0.0, 1.0),
    "completeness": (-12.0, 0.0),
    "instruction_log_prob": (-6.0, -1.0),
    "furniture": (0, 2),
    "brevity": (-6.0, -3.0),
    "leak": (0.0, 0.1),
    "copy": (0.0, 0.1),
}


def made_rows(number, informative=("fit", "grounding"), seed=0):
    """Rows whose informative signals are higher for good ones; the others are noise."""
    rng = np.random.default_rng(seed)
    good = rng.random(number) < 0.4
    rows = []
    for label in good:
        row = {name: float(rng.uniform(*bounds)) for name, bounds in RANGES.items()} | {"code_missing": 0.0}
        for name in informative:
            low, high = RANGES[name]
            middle = (low + high) / 2
            row[name] = float(rng.uniform(middle, high) if label else rng.uniform(low, middle + 0.2 * (high - low)))
        rows.append(row)
    return rows, good


def fitted(rows, good, weights=None, penalty=0.25):
    examples = Examples(rows, list(good), [1.0] * len(rows) if weights is None else weights)
    seeds = [row for row, label in zip(rows, good, strict=True) if label] or rows
    return fit_curator(examples, rows, seeds, penalty)


def test_without_a_prior_the_weights_are_those_of_scikit_learn(monkeypatch):
    rows, good = made_rows(400, informative=("rating", "fit", "grounding", "prose"))
    flat = {name: dataclasses.replace(f, prior=0.0) for name, f in FEATURES.items() if f.kind == "standard"}
    monkeypatch.setattr(curator_module, "FEATURES", flat)
    monkeypatch.setattr("humpback_jax.curation.features.FEATURES", flat)
    found = fitted(rows, good, penalty=0.1)
    matrix = feature_matrix(rows, scales_of(rows, rows))
    # scikit-learn's loss is a sum over weighted rows: balanced weights sum to their number.
    expected = LogisticRegression(C=1 / (0.1 * len(rows)), class_weight="balanced", max_iter=2000, tol=1e-8)
    expected.fit(matrix, good)
    assert list(found.weights.values()) == pytest.approx(expected.coef_[0].tolist(), abs=2e-3)
    assert found.intercept == pytest.approx(expected.intercept_[0], abs=2e-3)


def test_unseen_pairs_are_told_apart_and_no_weight_is_negative():
    curator = fitted(*made_rows(400))
    rows, good = made_rows(300, seed=1)
    assert roc_auc_score(good, curator.logits(rows)) > 0.85
    assert min(curator.weights.values()) >= 0


def test_few_examples_leave_the_first_weights_and_many_move_them():
    rows, good = made_rows(400)
    strong, weak = (fitted(rows, good, penalty=penalty) for penalty in (1e4, 0.05))
    assert strong.weights == pytest.approx({name: f.prior for name, f in FEATURES.items()}, abs=1e-3)
    assert weak.weights["grounding"] > strong.weights["grounding"]


def test_what_speaks_against_its_meaning_loses_its_weight():
    rows, good = made_rows(400)
    turned = [row | {"fit": 1.0 - row["fit"]} for row in rows]
    assert fitted(turned, good, penalty=0.01).weights["fit"] < 0.1


def test_defects_count_below_what_seed_pairs_show_and_nothing_above():
    rows, good = made_rows(200)
    curator = fitted(rows, good)
    row = rows[0] | {"completeness": 0.0}
    floor = curator.scales["incomplete"].zero
    assert curator.contributions(row | {"completeness": floor})["incomplete"] == 0.0
    assert curator.contributions(row)["incomplete"] == 0.0
    assert curator.contributions(row | {"completeness": floor - 3})["incomplete"] < -0.5
    assert curator.contributions(row | {"leak": 0.5})["leak"] < curator.contributions(row | {"leak": 0.0})["leak"] == 0


def test_contributions_add_up_to_the_logit():
    rows, good = made_rows(100)
    curator = fitted(rows, good)
    for row, logit in zip(rows[:5], curator.logits(rows[:5]), strict=True):
        assert sum(curator.contributions(row).values()) + curator.intercept == pytest.approx(logit)


def test_a_curator_survives_json_and_judges_every_pair_alone():
    rows, good = made_rows(100)
    curator = fitted(rows, good)
    again = curator_of(json.loads(json.dumps(dataclasses.asdict(curator))))
    assert np.array_equal(again.probabilities(rows), curator.probabilities(rows))
    one_by_one = np.concatenate([curator.probabilities([row]) for row in rows])
    assert np.array_equal(one_by_one, curator.probabilities(rows))
    assert curator.probabilities([]).shape == (0,)


def test_heavier_examples_count_more():
    rows, good = made_rows(200)
    labelled, opposite = made_rows(40, informative=("prose",), seed=3)
    logits = []
    for weight in (0.01, 100.0):
        weights = [1 / 200] * 200 + [weight / 40] * 40
        logits.append(fitted([*rows, *labelled], [*good, *opposite], weights, 0.02).logits(labelled))
    assert roc_auc_score(opposite, logits[1]) > roc_auc_score(opposite, logits[0])


@pytest.mark.parametrize("share", [0.01, 0.15, 0.9])
def test_the_base_rate_is_what_is_expected_of_all(share):
    rows, good = made_rows(200)
    curator = with_base_rate(fitted(rows, good), rows, share)
    assert curator.probabilities(rows).mean() == pytest.approx(share, abs=1e-3)


def test_expected_precision_and_recall_are_those_of_calibrated_draws():
    rng = np.random.default_rng(0)
    probabilities = rng.random(500) ** 2
    kept = probabilities > 0.5
    found = expected_quality(probabilities, kept)
    inside = 0
    for seed in range(200):
        good = np.random.default_rng(seed).random(500) < probabilities
        inside += found["precision"]["low"] <= good[kept].mean() <= found["precision"]["high"]
    assert inside > 180
    assert expected_quality(probabilities, np.zeros(500, bool))["precision"]["value"] == 0.0
    assert expected_quality(probabilities, np.ones(500, bool))["recall"]["value"] == 1.0


@pytest.mark.parametrize("good", [[True] * 20, [False] * 20, [True] * 3 + [False] * 17])
def test_too_few_examples_of_a_class_are_named(good):
    rows, _ = made_rows(20)
    with pytest.raises(ValueError, match="needs 5; give more seed pairs or more labels"):
        fitted(rows, good)


def test_a_missing_signal_and_one_that_is_no_number_are_refused():
    rows, good = made_rows(40)
    with pytest.raises(KeyError, match="fit"):
        fitted([*rows[:-1], {k: v for k, v in rows[-1].items() if k != "fit"}], good)
    with pytest.raises(ValueError, match="signal 'fit' of row 39 is nan"):
        fitted([*rows[:-1], rows[-1] | {"fit": float("nan")}], good)


@pytest.mark.parametrize("settings", [{"originals": 3}, {"penalty": 0.0}, {"label_weight": -1.0}, {"base_rate": 1.0}])
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(ValueError, match="CuratorConfig"):
        CuratorConfig(**settings)


def test_a_scorer_that_tells_nothing_apart_is_found():
    rows, _ = made_rows(10)
    full = [row | {"ifd": 1.0, "answer_log_prob": float(i)} for i, row in enumerate(rows)]
    assert constant_signals(full) == ["ifd"]
    assert constant_signals(full[:1]) == []
