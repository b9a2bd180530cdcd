"""Pairs of rows in the layouts that people use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.data.candidates import Candidate
from humpback_jax.data.pair_rows import NAMES, RowReader, column_names

SYSTEM = {"role": "system", "content": "Answer in verse."}
ASKED, SAID = {"role": "user", "content": " Why rain? "}, {"role": "assistant", "content": "Clouds cool."}
MORE = [{"role": "user", "content": "And snow?"}, {"role": "assistant", "content": "Colder."}]


def read(row, **settings):
    """(instruction, output, notes) of every pair of a row, or (reason, detail)."""
    candidates = list(RowReader(**settings).candidates(row, "f:1", "f", 1))
    return [(c.reason, c.detail) if c.reason else (c.instruction, c.output, c.notes) for c in candidates]


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Why rain?", "output": "Clouds cool."},
        {"instruction": "Why rain?", "input": "", "output": "Clouds cool.", "text": "Below is …"},
        {"Prompt": "Why rain?", "Completion": "Clouds cool."},
        {"question": "Why rain?", "answer": "Clouds cool."},
        {"INPUTS": "Why rain?", "targets": "Clouds cool."},
        {"input": "Why rain?", "output": "Clouds cool."},
        {"instruction": "", "prompt": "Why rain?", "response": "Clouds cool.", "output": None},
        {"user": "Why rain?", "assistant": "Clouds cool."},
        {"user": "bert", "query": "weather", "instruction": "Why rain?", "output": "Clouds cool."},
        {"messages": [ASKED, SAID]},
        {"prompt": "Why rain?", "messages": [ASKED, SAID], "prompt_id": "x"},
        {"conversations": [{"from": "human", "value": "Why rain?"}, {"from": "gpt", "value": "Clouds cool."}]},
        {"conversations": ["Why rain?", "Clouds cool."]},
        {"conversation": [{"Role": 0, "role": "Human", "text": "Why rain?"}, {"role": "bot", "text": "Clouds cool."}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Why rain?"}]}, SAID]},
        {"prompt": [ASKED], "completion": [SAID]},
        {"messages": [ASKED], "response": "Clouds cool."},
        {"instruction": "Why rain?", "instances": [{"input": "<noinput>", "output": "Clouds cool."}]},
    ],
)
def test_layouts_in_use(row):
    assert read(row) == [("Why rain?", "Clouds cool.", ())]


@pytest.mark.parametrize("nothing", ["<noinput>", "Noinput", "No input", "<no input>.", " ", None, float("nan")])
def test_no_input_is_no_text(nothing):
    assert read({"instruction": "a", "input": nothing, "output": "b"}) == [("a", "b", ())]
    assert read({"instruction": "a", "input": "noinputs", "output": "b"}) == [("a\n\nnoinputs", "b", ())]


def test_later_turns_and_system_texts_are_counted():
    assert read({"messages": [ASKED, SAID, *MORE]}) == [("Why rain?", "Clouds cool.", ("later_turns_left_out",))]
    with_system = {"messages": [SYSTEM, ASKED, SAID]}
    beside = {"system": "Answer in verse.", "instruction": "Why rain?", "output": "Clouds cool."}
    for row in (with_system, beside):
        assert read(row) == [("Answer in verse.\n\nWhy rain?", "Clouds cool.", ("system_joined",))]
        assert read(row, system="drop") == [("Why rain?", "Clouds cool.", ("system_left_out",))]
        assert read(row, system="reject")[0][0] == "with_system"


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([SAID, ASKED, SAID], "begins_with_answer"),
        ([ASKED], "no_output"),
        ([ASKED, {"role": "assistant", "tool_calls": [{}]}, {"role": "tool", "content": "3"}], "other_role"),
        ([ASKED, {"role": "assistant", "content": ""}], "empty_output"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, SAID], "not_a_text"),
        ([3, 4], "not_a_message"),
        ([{"text": "a"}, {"text": "b"}], "not_a_message"),
    ],
)  # fmt: skip
def test_conversations_without_a_first_turn(turns, reason):
    assert [found[0] for found in read({"messages": turns})] == [reason]


def test_instances_are_pairs_of_their_own():
    row = {
        "id": "s",
        "instruction": "Add.",
        "instances": [{"input": "1 2", "output": 3}, {"input": "2 2", "output": ""}],
    }
    candidates = list(RowReader().candidates(row, "f:1", "f", 1))
    assert candidates[0] == Candidate("f:1", "s", "Add.\n\n1 2", "3", "f")
    assert (candidates[1].id, candidates[1].reason) == ("s/1", "empty_output")


def test_columns_are_named_by_a_setting():
    row = {"instruction": "template", "prompt": "P", "meta": {"best": "B"}, "out.put": "O", "output": "x"}
    assert read(row)[0][0] == "two_instructions"
    assert read(row, columns=column_names(["instruction=prompt", "output=meta.best"])) == [("P", "B", ())]
    assert read(row, columns=column_names(["instruction=prompt", "output = out.put"])) == [("P", "O", ())]
    reason, detail = read(row, columns={"instruction": "gone"})[0]
    assert reason == "no_instruction" and "'meta'" in detail


@pytest.mark.parametrize("column", ["", "instruction", "=q", "instruction="])
def test_a_column_of_another_form_is_named(column):
    with pytest.raises(ValueError, match="not of the form instruction=NAME"):
        column_names([column])


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r"'question'; .*instruction, input, output"):
        RowReader({"question": "q"})
    with pytest.raises(ValueError, match="join, drop, reject"):
        RowReader(system="keep")


_NAMES = [key for keys in NAMES.values() for key in keys]
_KEYS = st.sampled_from([*_NAMES, "role", "from", "content", "value", "instances"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_KEYS, _VALUES, max_size=6), st.booleans())
def test_any_row_is_pairs_or_reasons(row, with_outputs):
    candidates = list(RowReader(with_outputs=with_outputs).candidates(row, "f:1", "f", 1))
    assert candidates
    for candidate in candidates:
        assert candidate.reason or (candidate.instruction.strip() and (candidate.output.strip() or not with_outputs))
