"""Labelled pairs, and the figures that are measured on them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from humpback_jax.curation.labels import read_labels
from humpback_jax.curation.measures import auc, calibration_error, precision_at, recall_at, spearman, with_interval


def label(name, score, **others):
    row = {"id": name, "instruction": "Why?", "output": "Because."}
    return row | {"labels": {"score": score} | others}


def written(tmp_path, rows):
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_good_and_usable_are_what_people_said(tmp_path):
    rows = [
        label("a", [3, 4], text=[1, 2], fit=[2, 1]),
        label("b", [2, 3], text=[2, 2], fit=[0, 1]),
        label("c", [3]),
    ]
    pairs = {pair.id: pair for pair in read_labels(written(tmp_path, rows))}
    assert {name: (pair.good, pair.usable) for name, pair in pairs.items()} == {
        "a": (True, True),
        "b": (False, False),
        "c": (True, None),
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([label("a", [4]), label("b", [3])], "2 of 2 labelled pairs are good.*one class"),
        ([label("a", [1])], "0 of 1 labelled pairs are good"),
        ([label("a", [7]), label("b", [1])], r"jsonl:1: 'score' is \[7\]; expected numbers from 1 to 5"),
        ([label("a", [4], fit=[3]), label("b", [1])], "expected numbers from 0 to 2"),
        ([label("a", [4], style=[1])], "unknown label 'style'"),
        ([label("a", [])], "a list of numbers under 'score'"),
        ([{"id": "a", "instruction": "x", "labels": {"score": [1]}}], "expected a text under 'output'"),
    ],
)
def test_bad_labels_are_named(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        read_labels(written(tmp_path, rows))


def test_labels_of_other_pairs_are_refused_where_the_pairs_are_known(tmp_path):
    path = written(tmp_path, [label("a", [4]), label("b", [1])])
    assert len(read_labels(path, {"a", "b", "c"})) == 2
    with pytest.raises(ValueError, match="jsonl:2: no pair of this run has the id 'b'"):
        read_labels(path, {"a"})


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_is_that_of_scikit_learn(pairs):
    scores, good = np.asarray([p[0] for p in pairs], float), np.asarray([p[1] for p in pairs])
    if good.all() or not good.any():
        assert np.isnan(auc(scores, good))
    else:
        assert auc(scores, good) == pytest.approx(roc_auc_score(good, scores))


def test_precision_and_recall_of_the_best_fifth():
    scores, good = np.arange(10.0), np.asarray([0, 0, 1, 0, 0, 0, 0, 0, 1, 1], bool)
    assert precision_at(0.2)(scores, good) == 1.0
    assert recall_at(0.2)(scores, good) == pytest.approx(2 / 3)
    assert precision_at(0.2)(np.zeros(10), good) == pytest.approx(0.3), "ties are broken by chance"


def test_rank_correlation_and_calibration():
    assert spearman(np.arange(5.0), np.arange(5.0) ** 2) == pytest.approx(1.0)
    assert np.isnan(spearman(np.ones(5), np.arange(5.0)))
    assert calibration_error(np.full(100, 0.3), np.arange(100) % 10 < 3) == pytest.approx(0.0)
    assert calibration_error(np.full(100, 0.9), np.arange(100) % 10 < 3) == pytest.approx(0.6)
    assert calibration_error(np.asarray([0.0, 1.0] * 50), np.asarray([False, True] * 50)) == 0.0


def test_what_is_undefined_is_none_and_not_a_number_that_json_lacks():
    found = with_interval(spearman, np.zeros(5), np.asarray([True, False, True, False, True]))
    assert found == {"value": None, "low": None, "high": None}


def test_intervals_hold_the_value_and_shrink_with_more_pairs():
    rng = np.random.default_rng(0)
    widths = []
    for number in (40, 4000):
        good = rng.random(number) < 0.3
        found = with_interval(auc, good + rng.normal(size=number), good)
        assert found["low"] <= found["value"] <= found["high"]
        widths.append(found["high"] - found["low"])
    assert widths[1] < widths[0] / 4
