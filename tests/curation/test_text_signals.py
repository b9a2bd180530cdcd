"""Signals that need no model."""

import pathlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.curation.signals import SIGNALS, text_signals
from humpback_jax.curation.text_signals import (
    code_missing,
    copied_share,
    ends_closed,
    grounding,
    leaked_share,
    prose_share,
)
from humpback_jax.prompts.prompts import load_prompts

HERON = "A heron stands still in shallow water until a fish comes close. Then it strikes with its long bill."
TEMPLATE = "Below is an answer that an AI assistant gave. Write the one question that it answers best."


def test_an_instruction_is_grounded_in_the_text_that_has_its_words():
    assert grounding("How does a heron catch fish?", HERON) > grounding("How do I bake bread?", HERON)
    assert grounding("heron strikes", HERON) == 1.0
    assert grounding("Herons striking", HERON) == 1.0, "inflected forms begin alike"


@pytest.mark.parametrize("instruction", ["", "a b c", "?!"])
def test_without_words_that_carry_meaning_nothing_is_grounded(instruction):
    assert grounding(instruction, HERON) == 0.0


def test_scripts_without_spaces_are_compared_by_character():
    assert grounding("鷺は魚", "鷺が魚をとる") == pytest.approx(2 / 3)


def test_prose_is_what_stands_in_closed_sentences():
    assert prose_share(HERON) == 1.0
    assert prose_share("Home\nAbout us\nContact") == 0.0
    menu = "Home | News | About us and all our many friends"
    assert prose_share(f"{menu}\n{HERON}") == pytest.approx(len(HERON) / len(menu + HERON))
    assert prose_share("") == 0.0


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        (HERON, 1.0),
        (HERON[:50], 0.0),
        ('He said "stop."', 1.0),
        ("Is it?)", 1.0),
        ("def f():\n    pass\n```", 1.0),
        ("これは鷺です。", 1.0),
        ("a list:\n- of herons", 0.0),
    ],
)
def test_an_end_is_closed_by_a_mark(text, closed):
    assert ends_closed(text) == closed


@pytest.mark.parametrize(
    ("instruction", "leaks"),
    [
        ("Below is an answer that an AI assistant gave.", True),
        ("Write the one question that it answers best.", True),
        ("Explain {instruction}", True),
        ("Summarize [insert text here]", True),
        ("Answer in the style of an AI Assistant.", True),
        ("How does a heron catch fish in shallow water?", False),
        ("What is an answer?", False),
    ],
)
def test_the_words_of_the_prompt_leak(instruction, leaks):
    share = leaked_share(instruction, TEMPLATE, ("Answer in the style of an AI Assistant.",))
    assert (share > 0.5) == leaks


CODE = "Count from the end:\n\nfor i in range(9, 0, -1):\n    print(i)\n    total += i"


@pytest.mark.parametrize(
    ("instruction", "output", "missing"),
    [
        ("Write a Python function that counts down.", HERON, 1.0),
        ("Can you write me a short program which prints every bird?", HERON, 1.0),
        ("Schreibe ein Programm, das rückwärts zählt.", HERON, 1.0),
        ("Escribe una función que cuente aves.", HERON, 1.0),
        ("Write a Python function that counts down.", CODE, 0.0),
        ("Write a query for all herons.", "Use this:\n\n```sql\nSELECT * FROM birds;\n```", 0.0),
        ("Write a regex for a year.", "`[0-9]{4}` does.", 0.0),
        ("Write a poem about herons.", HERON, 0.0),
        ("How does a heron's brain function?", HERON, 0.0),
        ("How does Python create a class?", HERON, 0.0),
        ("What happens when you write a query without an index?", HERON, 0.0),
        ("I keep birds. Please write a program that counts them.", HERON, 1.0),
        ("What does this function return?", HERON, 0.0),
        ("Describe a method of catching fish.", HERON, 0.0),
    ],
)
def test_a_program_that_is_asked_for_and_not_there_is_missed(instruction, output, missing):
    assert code_missing(instruction, output) == missing


@given(st.text(max_size=200), st.text(max_size=400))
def test_every_signal_of_any_text_is_a_number_in_its_bounds(instruction, output):
    signals = text_signals(instruction, output, load_prompts())
    assert set(signals) == {name for name, signal in SIGNALS.items() if not signal.asks_model}
    for name in ("grounding", "prose", "closed", "copy", "leak", "code_missing"):
        assert 0 <= signals[name] <= 1
    assert signals["instruction_chars"] == len(instruction)


def test_a_copy_of_the_text_is_a_copy():
    assert copied_share(HERON, HERON) == 1.0


def test_the_docs_define_every_signal():
    text = (pathlib.Path(__file__).parents[2] / "docs" / "curation.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text.partition("<!-- /signals -->")[0], flags=re.MULTILINE))
    assert rows == {name: signal.definition.replace("|", r"\|") for name, signal in SIGNALS.items()}
