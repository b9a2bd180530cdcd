"""How seed instructions begin, by the shape of their outputs: counted, and drawn by name alone."""

import collections
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.curation.openings import CODE, LIST, PROSE, SHAPES, STEPS, learn_openings, shape_of
from humpback_jax.data.pairs import Pair

PROSE_TEXT = "Herons fish in shallow water. They stand still until something moves."
CODE_TEXT = "```python\ndef weigh(heron):\n    return heron.mass\n```\nCall it with a heron."
STEPS_TEXT = "Do this:\n1. Boil the water.\n2. Pour it.\n3) Wait."


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (PROSE_TEXT, PROSE),
        (CODE_TEXT, CODE),
        ("~~~\nls -l\n~~~", CODE),
        ("A long explanation of the command that comes here, with all it does and does not do.\n```\nls\n```", PROSE),
        (STEPS_TEXT, STEPS),
        ("- eggs\n- milk\n\n- flour", LIST),
        ("\u2022 \u5375\n\u2022 \u725b\u4e73\n\u2022 \u7c89", LIST),
        ("In 1984. it rained\n- once", PROSE),
        ("", PROSE),
        ("```\nnever closed\nx = 1", CODE),
    ],
)
def test_shapes(text, shape):
    assert shape_of(text) == shape


def seeds(*groups):
    """Pairs from (first word, output, number)."""
    rows = [(word, output) for word, output, number in groups for _ in range(number)]
    return [Pair(f"p{i}", f"{word} about number {i}?", output, "") for i, (word, output) in enumerate(rows)]


def test_openings_are_those_that_are_typical_of_a_shape():
    learned = learn_openings(
        seeds(
            ("What", PROSE_TEXT, 9),
            ("Why", PROSE_TEXT, 3),
            ("Write", PROSE_TEXT, 2),
            ("Once", PROSE_TEXT, 1),
            ("Write", CODE_TEXT, 8),
        )
    )
    assert learned.of_shape[PROSE] == {"What": 9, "Why": 3}, "writing is asked for where code is wanted; Once is rare"
    assert learned.of_shape[CODE] == {"Write": 8}
    assert set(learned.of_shape[STEPS]) == {"What", "Why", "Write"}, "no seeds of this shape: as all seeds"


def test_openings_are_drawn_as_often_as_they_are_used_and_without_repeats():
    learned = learn_openings(seeds(("What", PROSE_TEXT, 30), ("How", PROSE_TEXT, 10)))
    drawn = [learned.drawn(f"segment {i}", PROSE_TEXT, 2) for i in range(400)]
    assert all(sorted(pair) == ["How", "What"] for pair in drawn)
    first = collections.Counter(pair[0] for pair in drawn)
    assert 260 < first["What"] < 340, "three of four"
    assert learned.drawn("a", PROSE_TEXT, 5) == (learned.drawn("a", PROSE_TEXT, 2) * 3)[:5]
    assert [learned.drawn(f"segment {i}", PROSE_TEXT, 2) for i in reversed(range(400))] == drawn[::-1]


def test_seeds_without_common_openings_leave_instructions_free():
    sentence = "\u9dfa\u306f\u3069\u3053\u306b\u4f4f\u3093\u3067\u3044\u307e\u3059\u304b" * 3
    learned = learn_openings(seeds((sentence, PROSE_TEXT, 12)))
    assert learned.drawn("a", PROSE_TEXT, 3) == ["", "", ""]
    assert learn_openings([]).drawn("a", CODE_TEXT, 1) == [""]


@given(
    st.lists(
        st.tuples(st.text(string.ascii_letters + " \n`-1.", min_size=1).filter(str.strip), st.text()), max_size=40
    ),
    st.text(),
    st.integers(0, 6),
)
def test_any_seeds_give_openings_of_theirs(rows, text, number):
    pairs = [Pair(str(i), instruction, output, "") for i, (instruction, output) in enumerate(rows)]
    learned = learn_openings(pairs)
    assert set(learned.of_shape) == set(SHAPES)
    drawn = learned.drawn("name", text, number)
    assert len(drawn) == number
    assert set(drawn) <= {""} | {pair.instruction.split()[0] for pair in pairs}
