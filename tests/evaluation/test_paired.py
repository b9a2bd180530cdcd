"""Paired comparisons: small differences on the same items are found, and none is made up."""

import json

import numpy as np
import pytest
from scipy import stats

from humpback_jax.evaluation.paired import compare, compare_all, holm, item_values


def test_a_difference_that_unpaired_errors_would_hide_is_found():
    rng = np.random.default_rng(0)
    first = {str(i): float(v) for i, v in enumerate(rng.integers(0, 2, 250))}
    second = {name: 1.0 if rng.random() < 0.1 else value for name, value in first.items()}
    found = compare(first, second)
    assert 0 < found["difference"] < 7
    assert found["unpaired_error"] > 2 * found["paired_error"]
    assert found["interval"][0] > 0
    assert found["p_value"] < 0.01
    assert (found["items"], found["worse"], found["unmatched"]) == (250, 0, 0)
    assert found["better"] / 250 * 100 == pytest.approx(found["difference"])


def test_equal_runs_do_not_differ():
    same = {"a": 1.0, "b": 0.0, "c": 0.5}
    found = compare(same, same)
    assert (found["difference"], found["p_value"], found["interval"], found["equal"]) == (0.0, 1.0, None, 3)


def test_the_test_keeps_its_level():
    rng = np.random.default_rng(1)
    below = 0
    for trial in range(20):
        first, second = ({str(i): float(v) for i, v in enumerate(rng.integers(0, 2, 60))} for _ in range(2))
        below += compare(first, second, seed=trial)["p_value"] < 0.05
    assert stats.binomtest(below, 20, 0.05).pvalue > 0.01


def test_files_of_both_kinds_are_compared(tmp_path):
    annotations = [{"instruction": "x", "preference": p} for p in (1, 2, 0, None)]
    (tmp_path / "a.json").write_text(json.dumps(annotations))
    (tmp_path / "b.json").write_text(json.dumps([row | {"preference": 2} for row in annotations]))
    assert list(item_values(tmp_path / "a.json").values()) == [0.0, 1.0, 0.5]
    figures = compare_all([tmp_path / "a.json", tmp_path / "b.json", tmp_path / "a.json"])
    assert figures[str(tmp_path / "b.json")]["difference"] == pytest.approx(50.0)
    assert figures[str(tmp_path / "b.json")]["unmatched"] == 1
    assert figures[str(tmp_path / "a.json")]["p_value_holm"] == 1.0
    (tmp_path / "c.jsonl").write_text('{"id": "q1", "correct": true}\n{"id": "q2", "correct": false}\n')
    assert item_values(tmp_path / "c.jsonl") == {"q1": 1.0, "q2": 0.0}
    with pytest.raises(ValueError, match="share 0 items"):
        compare_all([tmp_path / "a.json", tmp_path / "c.jsonl"])


def test_holm_adjusts_step_by_step():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
