"""Generating answers: what may be asked, which tags a prompt carries, and the counts."""

import json

import pytest

from humpback_jax.prompts.prompts import BOTH_TAGS, TAG_CHOICES
from humpback_jax.stages.generate import generate, read_instructions


def test_prompts_and_rows_of_a_file_are_read_in_order(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"instruction": "Third?", "id": "x7"}\n\n{"instruction": "Fourth?", "input": 4}\n')
    assert read_instructions(["First?", "Second?"], path) == [
        ("prompt-1", "First?"),
        ("prompt-2", "Second?"),
        ("x7", "Third?"),
        ("prompts.jsonl:3", "Fourth?\n\n4"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"text": "b"}\n', r"prompts\.jsonl:1: no_instruction"),
        ('{"instruction": []}\n', r"prompts\.jsonl:1: "),
        ('{"instruction": "a"\n', r"prompts\.jsonl:1: not_json"),
        ("", r"prompts\.jsonl is empty"),
    ],
)
def test_bad_prompt_files_are_named(tmp_path, text, message):
    path = tmp_path / "prompts.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_instructions([], path)


def test_a_prompt_that_cannot_be_read_is_said_and_the_others_are_asked(tmp_path, capsys):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"instruction": "a"}\n{"output": "b"}\n')
    assert read_instructions([], path) == [("prompts.jsonl:1", "a")]
    assert "1 of 2 rows are no pairs" in " ".join(capsys.readouterr().err.split())


def test_nothing_to_answer_is_an_error():
    with pytest.raises(ValueError, match="nothing to answer"):
        read_instructions([], None)


def test_answers_keep_the_order_and_count_what_does_not_fit(tiny_model, short_prompts, small_generation, tmp_path):
    instructions = [("b", "Why?"), ("long", "x" * 100), ("a", "How?"), ("c", "Why?")]
    stage = generate(tmp_path / "answers", tiny_model, instructions, short_prompts, small_generation, tags=())
    rows = [json.loads(line) for line in (tmp_path / "answers" / "answers.jsonl").read_text().splitlines()]
    assert [(row["id"], row["instruction"]) for row in rows] == [("b", "Why?"), ("a", "How?"), ("c", "Why?")]
    assert stage.counts == {"in": 4, "out": 3, "rejected": {"prompt_too_long": 1}}
    assert all(isinstance(row["truncated"], bool) for row in rows)


def test_the_paper_prompts_with_both_tags():
    assert TAG_CHOICES["both"] == BOTH_TAGS == ("seed", "web")
