"""Verdicts in the forms that judges write them in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.evaluation.judging.verdicts import parse_verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        *[("A", "A"), (" b.\n", "B"), ("**A**", "A"), ("Because of this:\nAnswer: B", "B"), ("(a)", "A")],
        *[("", None), ("neither", None), ("A or B", None), ("A\nbut then again", None), ("tie", None), ("AB", None)],
        *[('{"winner": "B"}', "B"), ('{"reason": "B is long", "verdict": "Answer A"}', "A"), ('{"best": "tie"}', None)],
        *[('```json\n{"better_answer": "a"}\n```', "A"), ('{"score": 4}', None)],
        *[('{"winner": "A", "best": "B"}', None), ('{"A": 4, "B": 5}', None)],
        *[("Both are kind. [[B]]", "B"), ("[[A]] if the first, [[B]] if not:\n[[ A ]]", "A"), ("[[A]] [[B]]", None)],
        *[("[[C]]", None), ("[[tie]]", None), ("\\boxed{B}", "B")],
        *[("Answer A is better.", "A"), ("So **Answer B** is clearly the better.", "B"), ("B is the winner!", "B")],
        *[("Final answer: B", "B"), ("My verdict is A, since it is whole.", "A"), ("The better answer is A", "A")],
        *[("I prefer Answer B over Answer A.", "B"), ("I choose A because it is short", "A"), ("Option A wins.", "A")],
        *[("Answer B is better than Answer A.", "B"), ("Model A is stronger", "A"), ("The winner is: *B*", "B")],
        *[("Answer A is not better.", None), ("Answer A is better if short.", None), ("A better answer", None)],
        *[("Answer A is worse.", None), ("The better answer is a guess", None), ("Answer: A better one", None)],
        *[("Answer A is better and answer B is better", None), ("Neither A nor B is better", None)],
        *[("<think>A is better</think>\nB", "B"), ("<think>\nA", None), ("<think>x\n[[A]]\nHm", None)],
        *[("Answer A is better.\nAnswer B is better.", "B"), ("Answer B is better.\n\nI hope this helps", None)],
    ],
)  # fmt: skip
def test_what_a_reply_says(text, verdict):
    assert parse_verdict(text) == verdict


FORMS = ("{}", "[[{}]]", '{{"winner": "{}"}}', "Answer {} is better.", "Final answer: {}", "The better answer is {}.")


@given(st.sampled_from("AB"), st.sampled_from(FORMS), st.text(alphabet="xyz .,\n", max_size=30))
def test_the_letters_change_places_together(letter, form, before):
    assert parse_verdict(f"{before}\n{form.format(letter)}") == letter


@given(st.text(alphabet='AB{}[]":<think>/ answer is better', max_size=60))
def test_any_text_is_one_letter_or_none(text):
    assert parse_verdict(text) in {None, "A", "B"}
