"""The scaling fit: known lines come back, intervals hold what they promise, and the plot is a file."""

import json
import math

import numpy as np
import pytest

from humpback_jax.evaluation.scaling.fit import fit_figures, fit_scaling, plot_scaling

SIZES = (100, 800, 1600, 3200, 6400, 12800, 25600, 51200)


@pytest.mark.parametrize("base", ["e", "2", "10"])
def test_a_line_without_noise_comes_back(base):
    values = [3.0 + 6.95 * math.log(size, {"e": math.e, "2": 2, "10": 10}[base]) for size in SIZES]
    fit = fit_scaling(SIZES, values, base)
    assert (fit["alpha"], fit["intercept"], fit["r_squared"]) == pytest.approx((6.95, 3.0, 1.0))
    assert fit["alpha_interval"] == pytest.approx((6.95, 6.95))


def test_the_interval_holds_the_true_slope_95_times_of_100():
    rng, sizes, hits, trials = np.random.default_rng(0), np.repeat(SIZES, 2), 0, 200
    for trial in range(trials):
        values = 3.0 + 6.95 * np.log(sizes) + rng.normal(0, 3.0, len(sizes))
        low, high = fit_scaling(sizes, values, resamples=999, seed=trial)["alpha_interval"]
        hits += low <= 6.95 <= high
    assert 0.92 <= hits / trials <= 0.985


def test_the_interval_is_the_same_every_time_and_wider_with_more_confidence():
    values = [10, 22, 25, 24, 33, 30, 41, 38]
    fit, again = fit_scaling(SIZES, values), fit_scaling(SIZES, values)
    assert fit == again
    sure = fit_scaling(SIZES, values, confidence=0.99)
    (low, high), (lowest, highest) = fit["alpha_interval"], sure["alpha_interval"]
    assert lowest < low < fit["alpha"] < high < highest


def test_two_points_have_a_line_and_no_interval():
    fit = fit_scaling((100, 1000), (1.0, 2.0), "10")
    assert (fit["alpha"], fit["alpha_interval"], fit["residual_error"]) == (pytest.approx(1.0), None, None)


@pytest.mark.parametrize(
    "sizes, values, base, message",
    [
        ((100, 100), (1, 2), "e", "two or more sizes"),
        ((0, 100), (1, 2), "e", "sizes of at least 1"),
        ((10, 100), (1, math.nan), "e", "finite values"),
        ((10, 100), (1,), "e", "as many finite values"),
        ((10, 100), (1, 2), "3", "unknown base '3'"),
    ],
    ids=["one size", "zero", "not a number", "lengths", "base"],
)
def test_what_cannot_be_fitted_is_named(sizes, values, base, message):
    with pytest.raises(ValueError, match=message):
        fit_scaling(sizes, values, base)


ROWS = [{"dataset": "A_5", "size": size, "win_rate": 5 * math.log(size)} for size in SIZES]


def test_every_data_set_of_a_table_has_a_fit():
    figures = fit_figures([*ROWS, {"dataset": "one", "size": 100, "win_rate": 1.0}], "win_rate")
    assert figures["A_5"]["alpha"] == pytest.approx(5.0)
    assert figures["A_5"]["formula"] == "win_rate = alpha * log_e(N) + C"
    assert figures["one"] == {"fit": "none: a single size (100)"}
    with pytest.raises(ValueError, match=r"row 0 of the table: expected dataset, size and win_rate"):
        fit_figures([{"dataset": "A_5", "size": 100}], "win_rate")
    json.dumps(figures)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_plot_is_drawn(tmp_path, suffix):
    plot_scaling(tmp_path / f"a.{suffix}", ROWS, "win_rate", fit_figures(ROWS, "win_rate"))
    data = (tmp_path / f"a.{suffix}").read_bytes()
    assert data.startswith(b"\x89PNG") if suffix == "png" else b"<svg" in data
    with pytest.raises(ValueError, match=r"expected one of \.png"):
        plot_scaling(tmp_path / "a.xyz", ROWS, "win_rate", {})
