"""Ratings in a scorer's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.prompts.ratings import asked_label, parse_rating


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("It is good.\nScore: 4", 4.0),
        ("score:5", 5.0),
        ("SCORE : 1.", 1.0),
        ("Score: 4.5", 4.5),
        ("Score: 4.5.", 4.5),
        ("Score: 3.0", 3.0),
        ("Score: 4/5", 4.0),
        ("Score: 4 / 5.", 4.0),
        ("Score: 4 out of 5", 4.0),
        ("**Score:** 4", 4.0),
        ("**Score: 4**", 4.0),
        ("Score: **2**", 2.0),
        ("Score: _2_", 2.0),
        ("Score: [5]", 5.0),
        ("Score: <3>", 3.0),
        ('"Score: 3"', 3.0),
        ("Score: 2\nOn reflection.\nScore: 4", 4.0),
        ("Score: 2, then Score: 3", 3.0),
        ("Score: 4\nScore: <rating>", 4.0),
        ("Score: 4\n\nScore: ", 4.0),
        ("Score: 1: it is an advert", 1.0),
        ("Score: 5 - perfect", 5.0),
        ("Score:\n4", 4.0),
        ("**Score:**\n\n4/5", None),
        ("Score:\n**4**", 4.0),
        ("Score: 4/5.0", 4.0),
        ("Score: 4.0/5.0", 4.0),
        ("Score (1-5): 4", 4.0),
        ("The score is 4.", 4.0),
        ("My score is: 4", 4.0),
        ('{"reason": "short", "score": 4}', 4.0),
        ("{'score': '4.5'}", 4.5),
        ("Good. [[4]]", 4.0),
        ("\\boxed{4}", 4.0),
        ("Score：4", 4.0),
        ("Score:\u00a04", 4.0),
        ("Score\u202f: ４", 4.0),
        ("4: the answer above is on topic", 4.0),
        ("4/5: on topic", 4.0),
        ("4", 4.0),
        ("1: unusable\n2: on topic\n3: useful", None),
        ("4 tools are named: good", None),
        ("<think>maybe Score: 2 or", None),
        ("<think>Score: 2</think>\nScore: 4", 4.0),
        ('The page says "its Score: 5 of 5" and no more.', None),
        ("> Score: 5\nIt is quoted.", None),
        ("The score is 4 to 5", None),
        ("The score is high", None),
        ("", None),
        ("no score at all", None),
        ("Score:", None),
        ("Score: five", None),
        ("Score: <rating>", None),
        ("Score 4", None),
        ("Underscore: 4", None),
        ("Score: 0", None),
        *((f"Score: {n}", None) for n in (6, 7, 8, 9, 10, 45, 10502)),
        ("Score: 0.5", None),
        ("Score: 5.5", None),
        ("Score: 3.7", None),
        ("Score: 4.25", None),
        ("Score: 4,5", None),
        ("Score: -4", None),
        ("Score: 4/10", None),
        ("Score: 4/50", None),
        ("Score: 4 out of 10", None),
        ("Score: 4%", None),
        ("Score: 3-4", None),
        ("Score: 3 to 4", None),
        ("Score: 4 or 5", None),
        ("Score: 4th", None),
        ("Score: 1.2.3", None),
        ("Score:\n1. The answer is good", None),
        ("Score: ٤", None),
        ("Score: 4\nScore: 10", None),
    ],
)
def test_parse_rating(text, score):
    assert parse_rating(text) == score


@given(st.text(), st.sampled_from([1, 1.5, 2, 3, 3.5, 4, 4.5, 5]), st.sampled_from(["", "\n", " \n\nEnd."]))
def test_a_last_line_in_the_asked_form_is_always_read(rationale, rating, tail):
    assert parse_rating(f"{rationale}\nScore: {rating}{tail}") == float(rating)


@given(st.text(alphabet="Score: 0123456789./-*[]\n", max_size=60))
def test_a_score_is_a_half_step_from_1_to_5_or_none(text):
    assert parse_rating(text) in {None, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0}


@pytest.mark.parametrize(
    ("text", "label", "rating"),
    [
        ("Gut.\nPunktzahl: 4", "Punktzahl", 4.0),
        ("评分：4", "评分", 4.0),
        ("Note : 4", "Note", 4.0),
        ("Notenote: 4", "Note", None),
        ("Score: 4", "Note", None),
    ],
)
def test_the_label_of_the_rubric_is_read(text, label, rating):
    assert parse_rating(text, label) == rating


@pytest.mark.parametrize(
    ("template", "label"),
    [
        ('End with "Score: <rating>".', "Score"),
        ("Schreibe „Punktzahl: <1-5>“.", "Punktzahl"),
        ("最后一行：评分：<1到5>", "评分"),
        ("Terminez par « Note : [1-5] ».", "Note"),
        ("Score: 1 to 5", "Score"),
        ("Is it good?", None),
    ],
)
def test_the_label_is_what_the_rubric_asks_for(template, label):
    assert asked_label(template) == label
