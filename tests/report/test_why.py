"""The sentence that says why a pair was kept or dropped, and the words for everything a selection may say."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.curation.features import FEATURES, STANDARD
from humpback_jax.curation.signals import SIGNALS
from humpback_jax.curation.twins import KINDS
from humpback_jax.report.why import RANK_REASONS, why_sentence
from humpback_jax.report.words import (
    FEATURE_WORDS,
    model_name,
    reason_text,
    signal_label,
    stage_words,
    twin_words,
)
from humpback_jax.stages.arms import ARMS
from humpback_jax.stages.selection import SelectionConfig, drop_reasons

CONTRIBUTIONS = {"fit": -1.2, "rating": 0.7, "brevity": -0.4, "prose": -0.1, "copy": -0.01}


def test_a_dropped_pair_is_told_its_place_and_what_spoke_against_it():
    assert why_sentence("below_best_fraction", 0.21, 0.483, CONTRIBUTIONS) == (
        "Dropped: its p(good) of 0.210 is below 0.483, the lowest kept. "
        "Against it: the instruction makes this answer hardly likelier and the instruction is long. "
        "For it: the scorer rates it high."
    )


def test_a_kept_pair_is_told_what_spoke_for_it():
    contributions = {name: -value for name, value in CONTRIBUTIONS.items()}
    assert why_sentence("kept", 0.9, 0.483, contributions) == (
        "Kept: its p(good) of 0.900 is at or above 0.483, the lowest kept. "
        "For it: the instruction makes this answer much likelier and the instruction is brief. "
        "Against it: the scorer rates it low."
    )


@pytest.mark.parametrize(
    ("state", "rank", "settings", "expected"),
    [
        ("gate_fit", 0.9, {"selection": {"gates": ["copy <= 0.5", "fit >= 0", "fit <= 3"]}}, "fit >= 0 and fit <= 3."),
        ("domain_full", 0.9, {"selection": {"max_per_domain": 7}}, "at most 7 pairs of one site"),
        ("below_min_p_good", 0.1, {"selection": {"min_p_good": 0.4}}, "0.100 is below 0.483"),
        ("unscored", None, {}, "did not fit the engine."),
        ("below_best_fraction", 0.6, {}, "reaches 0.483, the lowest kept, but others"),
        ("quite_new", 0.6, {}, "Dropped: quite new."),
    ],
)
def test_other_reasons_are_told_with_the_run_s_limits(state, rank, settings, expected):
    assert expected in why_sentence(state, rank, 0.483, CONTRIBUTIONS, settings)


def test_without_a_curator_it_is_the_score_that_is_told():
    assert why_sentence("below_min_score", 3.2, 4.5) == "Dropped: its score of 3.20 is below 4.50, the lowest kept."
    assert why_sentence("", 3.2, 4.5) == ""


@given(
    st.sampled_from(["kept", "unscored", "domain_full", "gate_copy", *RANK_REASONS]),
    st.floats(0, 1),
    st.floats(0, 1),
    st.dictionaries(st.sampled_from(list(FEATURES)), st.floats(-4, 4)),
)
def test_every_sentence_is_whole_and_names_the_largest_of_its_side(state, rank, cut, contributions):
    text = why_sentence(state, rank, cut, contributions)
    assert text.startswith("Kept: " if state == "kept" else "Dropped: ")
    assert text.endswith(".")
    assert "None" not in text
    assert "  " not in text
    against = {name: value for name, value in contributions.items() if value <= -0.05}
    if against:
        assert FEATURE_WORDS[min(against, key=against.get)].bad in text
    assert len(re.findall(r" and |: ", text.partition(". ")[2])) <= 4  # two signals and one


def test_every_signal_and_every_broken_twin_has_words():
    assert FEATURE_WORDS.keys() == FEATURES.keys()
    ranks = {name for name, words in FEATURE_WORDS.items() if words.good}
    assert ranks == {name for name, feature in FEATURES.items() if feature.kind == STANDARD}
    assert len({signal_label(name) for name in SIGNALS}) == len(SIGNALS)
    assert not [name for name in SIGNALS if "_" in name and signal_label(name) == name.replace("_", " ").capitalize()]
    assert not [kind for kind in (*KINDS, "labelled") if twin_words(kind) == kind.replace("_", " ")]
    assert signal_label("quite_new") == "Quite new"


def test_every_reason_of_a_selection_has_words():
    """The reasons are those that selections give, not a list of ours."""
    common = {"output": "Water boils at a hundred degrees.", "instruction": "When does water boil?", "source": "a"}
    rows = [
        common | {"id": str(i), "score": score, "p_good": p_good, "signals": {"fit": fit}}
        for i, (score, p_good, fit) in enumerate([(5, 0.9, 1), (5, 0.8, 1), (3, 0.2, 1), (2, 0.1, -1), (None, None, 0)])
    ]
    rows += [rows[0] | {"id": "short", "instruction": "Why?"}, rows[0] | {"id": "long", "instruction": "Why? " * 300}]
    rows += [rows[0] | {"id": "copy", "instruction": common["output"]}]
    rows += [rows[0] | {"id": name, "segment": "s"} for name in ("s#0", "s#1")]
    curator = {"by": "curator", "gates": ("fit >= 0",)}
    configs = [{}, curator | {"min_p_good": 0.5}, curator | {"keep_fraction": 0.2}, {"keep_fraction": 0.2}]
    configs += [curator | {"max_per_domain": 1}, {"min_score": 1.0, "sample": 1}]
    found = {reason for config in configs for reason in drop_reasons(rows, SelectionConfig(**config))} - {None}
    assert {
        "not_best_candidate",
        "gate_fit",
        "domain_full",
        "below_min_p_good",
        "not_sampled",
        "below_best_fraction",
    } <= found
    for reason in (*found, "not_of_this_arm"):
        assert reason_text(reason, {}), reason


@pytest.mark.parametrize("arm", ARMS)
def test_arms_have_words(arm):
    assert model_name(f"m2_{arm}") == f"M_2, {arm} pairs"
    assert f"{arm} pairs" in stage_words(f"curated2_{arm}")[0]
    assert f"{arm} pairs" in stage_words(f"m2_{arm}")[0]
    assert (model_name("m_yx"), model_name("m0"), model_name("base")) == ("M_yx", "M_0", "base")
