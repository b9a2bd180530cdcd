"""Contrasts, their intervals, and verdicts: against closed forms, and on likelihoods whose truth is known."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.evaluation.evidence.findings import (
    NOISE,
    OPPOSITE,
    REPRODUCED,
    Contrast,
    Likelihoods,
    all_findings,
    difference,
    judge_findings,
    measure_findings,
    steeper,
)
from humpback_jax.evaluation.evidence.run import Measured
from humpback_jax.evaluation.evidence.trials import Evidence, Trial, all_trials

PAIRS = 60


def measured(nll: dict[str, float], repeats: int = 3, noise: float = 0.02, asked: tuple[str, ...] = ("seed",)):
    """Trials of groups whose NLL per token is known, with noise of pairs that all groups share, and of repeats."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(20, 200, PAIRS)
    hardness = rng.normal(0, 0.5, PAIRS)
    rows = []
    for group, value in nll.items():
        for repeat in range(repeats):
            sums = -(value + hardness + rng.normal(0, noise, PAIRS)) * tokens
            likelihoods = {tags: sums.tolist() for tags in asked}
            rows.append(Measured(Trial(group, repeat), {"seed": 1}, 0.0, likelihoods, tokens.tolist(), 1.0))
    return rows


def test_difference_and_interval_against_the_truth():
    figures = Likelihoods(measured({"a": 2.0, "b": 2.05})).contrast(difference("a, b", "a", "b"))
    assert figures["low"] < figures["value"] < figures["high"]
    assert figures["value"] == pytest.approx(-0.05, abs=0.01)
    assert figures["low"] < -0.05 < figures["high"]
    assert figures["high"] < 0 and figures["p_value"] < 0.01


def test_what_pairs_share_drops_out():
    """Unpaired, the hardness of pairs would hide the difference."""
    likelihoods = Likelihoods(measured({"a": 2.0, "b": 2.05}))
    alone = likelihoods.contrast(Contrast("a", {("a", "seed"): 1.0}))
    beside = likelihoods.contrast(difference("a, b", "a", "b"))
    assert beside["high"] - beside["low"] < (alone["high"] - alone["low"]) / 5


def test_exponent_is_that_of_a_fit():
    sizes = {"a8": 8, "a32": 32, "a128": 128}
    curve = {name: 3 - 0.1 * np.log(n) for name, n in sizes.items()}
    flat = {f"flat{n}": 2.5 for n in sizes.values()}
    rows = measured(curve | flat, noise=0.0)
    contrast = steeper("a over flat", sizes, {f"flat{n}": n for n in sizes.values()})
    assert Likelihoods(rows).contrast(contrast)["value"] == pytest.approx(-0.1, abs=1e-4)


@given(st.lists(st.floats(1.0, 4.0), min_size=3, max_size=3, unique=True))
def test_slope_is_least_squares(values):
    sizes = {"a": 4, "b": 16, "c": 256}
    contrast = steeper("", sizes, {"flat1": 1, "flat2": 2})
    found = dict(zip(sizes, values, strict=True)) | {"flat1": 0.0, "flat2": 0.0}
    got = sum(weight * found[group] for (group, _), weight in contrast.weights.items())
    slope = np.polyfit(np.log(list(sizes.values())), values, 1)[0]
    assert got == pytest.approx(slope, abs=1e-9)


@pytest.mark.parametrize(
    ("low", "value", "high", "p_value", "verdict"),
    [
        (-0.3, -0.2, -0.1, 0.001, REPRODUCED),
        (-0.3, -0.1, 0.1, 0.4, NOISE),
        (0.1, 0.2, 0.3, 0.001, OPPOSITE),
        (-0.1, 0.1, 0.3, 0.4, NOISE),
        (-0.3, -0.2, -0.01, 0.04, NOISE),  # not after adjustment for two findings
    ],
)
def test_verdict(low, value, high, p_value, verdict):
    contrast = {"words": "", "value": value, "low": low, "high": high, "p_value": p_value}
    other = {"name": "other", "contrasts": [contrast | {"value": -1.0, "high": -0.5, "p_value": 0.03}]}
    judged = judge_findings([{"name": "one", "contrasts": [contrast]}, other], 0.05)
    assert judged[0]["verdict"] == verdict


def test_one_contrast_the_wrong_way_round_decides():
    good = {"words": "", "value": -1.0, "low": -1.2, "high": -0.8, "p_value": 0.001}
    bad = good | {"value": 1.0, "low": 0.8, "high": 1.2}
    finding = judge_findings([{"name": "both", "contrasts": [good, bad]}], 0.05)[0]
    assert finding["verdict"] == OPPOSITE and not finding["sign"]


def test_every_finding_speaks_of_groups_that_are_trained():
    evidence = Evidence(sizes=(2, 4), seed_sizes=(2, 4))
    trained = {(trial.group, asked) for trial in all_trials(evidence) for asked in trial.asked}
    wanted = {key for finding in all_findings(evidence) for c in finding.contrasts for key in c.weights}
    assert wanted <= trained
    assert len({finding.name for finding in all_findings(evidence)}) == len(all_findings(evidence)) == 12


def test_findings_of_trials_that_do_not_differ_are_noise():
    evidence = Evidence(sizes=(2, 4), seed_sizes=(2, 4))
    groups = {trial.group: 2.0 for trial in all_trials(evidence)}
    rows = measured(groups, asked=("seed", "both", "web", "none"))
    judged = judge_findings(measure_findings(all_findings(evidence), Likelihoods(rows)), 0.05)
    assert {finding["verdict"] for finding in judged} == {NOISE}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sizes": ()}, "sizes"),
        ({"sizes": (4, 2)}, "ascending"),
        ({"orders": ("curated", "best")}, "best"),
        ({"orders": ("curated", "random")}, "needs"),
        ({"repeats": (0, 0)}, "repeats"),
        ({"significance": 5}, "significance"),
    ],
)
def test_bad_settings_are_named(fields, words):
    with pytest.raises(ValueError, match=words):
        Evidence(**{"sizes": (2, 4)} | fields)


def test_trials_have_names_of_their_own():
    trials = list(all_trials(Evidence(sizes=(2, 4), seed_sizes=(2, 4))))
    assert len({trial.name for trial in trials}) == len(trials)
    assert all(dataclasses.asdict(trial)["group"] for trial in trials)
