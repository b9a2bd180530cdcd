"""What words tell of a rewriting: its numbers, its wording, its length."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.curation.faithful import kept_wording, unfaithful_reason

TEXT = "The grey heron is 98 cm tall and weighs up to 2.08 kg. It stands still in shallow water and waits for fish."
CASES = {
    "The grey heron weighs up to 2.08 kg and is 98 cm tall. It waits for fish in shallow water.": None,
    "1. The grey heron is 98 cm tall.\n2. It weighs up to 2.08 kg.\n3. It stands still in shallow water.": None,
    "Of the 12 herons: the grey heron is 98 cm tall.": None,  # the instruction's number
    "The grey heron is 99 cm tall and weighs up to 2.08 kg. It waits for fish.": "new_number",
    "The grey heron is 98 cm tall and weighs up to 2.80 kg.": "new_number",
    "Swans glide over lakes because their feathers keep them dry, as most people know.": "other_wording",
    "The grey heron.": "other_length",
    f"{TEXT} {TEXT}": "other_length",
    f" {TEXT}\n": "unchanged",
    "": "empty_rewriting",
}


@pytest.mark.parametrize(("rewritten", "reason"), CASES.items())
def test_reasons(rewritten, reason):
    assert unfaithful_reason(rewritten, TEXT, 0.4, "Tell me of one of the 12 herons.") == reason


def test_scripts_without_spaces_are_compared_too():
    text = "\u7070\u8272\u7684\u9e6d\u7ad9\u5728\u6d45\u6c34\u91cc\u7b49\u9c7c\u3002"
    assert unfaithful_reason("\u9e6d\u7ad9\u5728\u6d45\u6c34\u91cc\u3002", text, 0.4) is None
    assert unfaithful_reason("\u5929\u9e45\u6e38\u8fc7\u5927\u6e56\u3002", text, 0.4) == "other_wording"


@given(st.text(), st.text(), st.floats(0, 1))
def test_any_text_has_a_share_and_a_stricter_bound_takes_no_more(rewritten, text, bound):
    assert 0 <= kept_wording(rewritten, text) <= 1
    if unfaithful_reason(rewritten, text, bound) is None:
        assert unfaithful_reason(rewritten, text, bound / 2) is None
