"""Figures of the report against values worked out by hand or by scipy."""

import numpy as np
import pytest

from humpback_jax.report.statistics import RoundStatistics, SetStatistics, spearman


def test_rank_correlation_is_scipy_s():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    left = rng.integers(1, 6, 200).tolist()
    right = (np.asarray(left) + rng.normal(0, 1, 200)).round().tolist()
    assert spearman(left, right) == pytest.approx(stats.spearmanr(left, right).statistic)


@pytest.mark.parametrize("right", [[1, 1, 1, 1], [2.0]], ids=["constant", "short"])
def test_rank_correlation_may_be_undefined(right):
    assert spearman([1, 2, 3, 4][: len(right)], right) is None


def test_diversity_and_lengths():
    statistics = SetStatistics()
    for instruction in ("Name a cat", "name  a cat", "Name a dog", "Why?"):
        statistics.add(instruction, "four")
    summary = statistics.summary()
    assert summary["distinct_instructions"] == 0.75
    assert summary["distinct_2"] == pytest.approx(3 / 6)  # name a, a cat, a dog of six
    assert (summary["pairs"], summary["output_mean"], summary["instruction_median"]) == (4, 4.0, 10.0)
    assert statistics.openings.most_common(1) == [("name a", 3)]


def test_an_empty_set_has_figures():
    assert SetStatistics().summary()["distinct_2"] == 0.0
    assert RoundStatistics().length_correlation is None


def test_ratings_are_counted():
    statistics = RoundStatistics()
    statistics.add_rating({"parsed": True})
    statistics.add_rating({"parsed": False, "probabilities": [0.1, 0.2, 0.4, 0.2, 0.1]})
    statistics.add_rating({"parsed": False, "probabilities": [0.5, 0.2, 0.1, 0.1, 0.1]})
    statistics.add_rating({"parsed": True, "ratings": [1, 3]})
    assert (statistics.rated, statistics.parsed, statistics.spreads) == (4, 2, [1.0])
    assert statistics.confidences == [0.4, 0.5]
    assert statistics.digit_means == pytest.approx([0.3, 0.2, 0.25, 0.15, 0.1])
