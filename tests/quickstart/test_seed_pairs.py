"""The quickstart's seed and held-out pairs: counts, lengths, balance and code that compiles."""

import collections
import importlib.resources
import json
import re
from typing import Any

import pytest

Pairs = list[dict[str, str]]

FILES = {"seed": ("seed_pairs.jsonl", 64), "heldout": ("heldout_pairs.jsonl", 16)}
CATEGORIES = {"facts", "advice", "code", "writing", "reasoning", "how-to", "explanation", "comparison"}
FIELDS = ("id", "instruction", "output", "category")
CHAT_OPENINGS = ("sure", "certainly", "of course", "great question", "as an ai", "here is", "here's", "happy to", "i ")
PYTHON_FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def file_text(name: str) -> str:
    return importlib.resources.files("humpback_jax.quickstart").joinpath(FILES[name][0]).read_text(encoding="utf-8")


def load(name: str) -> Pairs:
    return [json.loads(line) for line in file_text(name).splitlines()]


def normalized(text: str) -> str:
    """Lower-case words and digits only, so that punctuation and spacing do not hide a repeat."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def content_words(text: str) -> set[str]:
    return {word for word in normalized(text).split() if len(word) > 3}


@pytest.fixture(params=sorted(FILES))
def name(request: pytest.FixtureRequest) -> str:
    chosen: Any = request.param
    return str(chosen)


def test_count_ids_and_fields(name: str) -> None:
    pairs = load(name)
    assert len(pairs) == FILES[name][1]
    assert [pair["id"] for pair in pairs] == [f"{name}-{n:03d}" for n in range(1, len(pairs) + 1)]
    for pair in pairs:
        assert tuple(pair) == FIELDS, pair["id"]
        assert all(isinstance(value, str) for value in pair.values()), pair["id"]


def test_lines_are_plain_and_end_with_one_newline(name: str) -> None:
    text = file_text(name)
    assert text.isascii()
    assert text.endswith("}\n")
    assert all(line == line.strip() and line for line in text.removesuffix("\n").split("\n"))


def test_categories_are_spread_evenly(name: str) -> None:
    counts = collections.Counter(pair["category"] for pair in load(name))
    assert set(counts) == CATEGORIES
    assert set(counts.values()) == {FILES[name][1] // len(CATEGORIES)}


def test_lengths(name: str) -> None:
    pairs = load(name)
    for pair in pairs:
        assert 25 <= len(pair["instruction"]) <= 160, pair["id"]
        assert 250 <= len(pair["output"]) <= 700, pair["id"]
    assert 390 <= sum(len(pair["output"]) for pair in pairs) / len(pairs) <= 470


def test_text_has_no_stray_space(name: str) -> None:
    for pair in load(name):
        for field in ("instruction", "output"):
            lines = pair[field].split("\n")
            assert pair[field] == pair[field].strip(), pair["id"]
            assert all(line == line.rstrip() and "\t" not in line for line in lines), pair["id"]
        assert "\n" not in pair["instruction"], pair["id"]


def test_instructions_and_outputs_are_unique(name: str) -> None:
    pairs = load(name)
    for field in ("instruction", "output"):
        assert len({normalized(pair[field]) for pair in pairs}) == len(pairs), field


def test_output_does_not_repeat_its_instruction(name: str) -> None:
    for pair in load(name):
        instruction, output = normalized(pair["instruction"]), normalized(pair["output"])
        assert instruction not in output, pair["id"]
        assert output not in instruction, pair["id"]


def test_output_starts_with_the_answer(name: str) -> None:
    for pair in load(name):
        assert not pair["output"].lower().startswith(CHAT_OPENINGS), pair["id"]


def test_python_fences_compile(name: str) -> None:
    blocks = [(pair["id"], code) for pair in load(name) for code in PYTHON_FENCE.findall(pair["output"])]
    assert blocks
    for pair_id, code in blocks:
        compile(code, pair_id, "exec")


def test_every_fence_is_closed_and_named(name: str) -> None:
    for pair in load(name):
        marks = [line for line in pair["output"].split("\n") if line.startswith("```")]
        assert len(marks) % 2 == 0, pair["id"]
        assert all(re.fullmatch(r"```[a-z]+", mark) for mark in marks[::2]), pair["id"]
        assert all(mark == "```" for mark in marks[1::2]), pair["id"]


def test_seed_and_heldout_are_disjoint() -> None:
    seed, heldout = load("seed"), load("heldout")
    for field in ("id", "instruction", "output"):
        assert {normalized(pair[field]) for pair in seed}.isdisjoint(normalized(pair[field]) for pair in heldout), field


def test_heldout_instructions_are_not_reworded_seed_instructions() -> None:
    for held in load("heldout"):
        words = content_words(held["instruction"])
        for pair in load("seed"):
            other = content_words(pair["instruction"])
            assert len(words & other) / len(words | other) < 0.4, (held["id"], pair["id"])
