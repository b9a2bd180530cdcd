"""Evaluation prompts are found wherever they stand, and ordinary text is left alone."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.corpus.filters.contamination import PromptIndex, prompt_index, read_prompts

LONG = "Plan a week of meals for two people who eat neither fish nor nuts and have only one pot"


def test_short_prompts_whole_and_long_ones_in_part() -> None:
    index = PromptIndex(
        {"short": ["Who was Ada Byron?"], "long": [LONG], "none": ["?!"], "turns": ["Hi", "Tell me more"]}
    )
    assert index.number == 4 and index.without_words == ("none",)
    assert index.find("I asked: «WHO was\nAda-Byron», and") == {"short"}
    assert index.find("who was ada") == set()
    assert index.find("... " + " ".join(LONG.split()[2:15]) + " ...") == {"long"}
    assert index.find(" ".join(LONG.split()[2:14])) == set()
    assert index.find("Tell me more, hi") == {"turns"}
    assert index.find_whole("Who was Ada Byron") == {"short"}
    assert index.find_whole("So who was Ada Byron") == set()


WORD = st.sampled_from(["river", "lamp", "seven", "blue", "stone", "quick"])


@given(st.lists(WORD, min_size=1, max_size=20), st.lists(WORD, max_size=20), st.lists(WORD, max_size=20))
def test_a_planted_prompt_is_always_found(prompt: list[str], before: list[str], after: list[str]) -> None:
    planted = f"{', '.join(before)}\n\n**{' '.join(prompt).upper()}**! {'_'.join(after)}"
    assert PromptIndex({"p": [" ".join(prompt)]}).find(planted) == {"p"}


def test_files_of_prompts(tmp_path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"instruction": "One?"}, {"id": 7, "question": "Two?"}, "Three?"]))
    (tmp_path / "b.jsonl.gz").write_bytes(
        gzip.compress(b'{"turns": ["Four?", "Five?"]}\n{"prompt": "Six?"}\n', mtime=0)
    )
    (tmp_path / "c.txt").write_text("\ufeffSeven?\n\nEight?\n", encoding="utf-8")
    assert read_prompts(tmp_path / "a.json") == {"0": ("One?",), "7": ("Two?",), "2": ("Three?",)}
    assert read_prompts(tmp_path / "b.jsonl.gz") == {"0": ("Four?", "Five?"), "1": ("Six?",)}
    index = prompt_index([tmp_path / "a.json", tmp_path / "b.jsonl.gz", tmp_path / "c.txt"])
    assert index.find("five, eight and two") == {"b.jsonl.gz:0", "c.txt:1", "a.json:7"}
    assert index.find("nine") == set()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.jsonl", '{"text": "a"}\n', r"x\.jsonl: record 0 has none of instruction, question, prompt, turns"),
        ("x.json", '[{"prompt": null}]', r"x\.json: record 0 has none of"),
        ("x.json", "[]", r"x\.json holds no prompt"),
        ("x.txt", "\n", r"x\.txt holds no prompt"),
        ("x.txt", "???\n", r"no prompt of .*x\.txt has a letter"),
    ],
)
def test_a_file_without_prompts_is_named(tmp_path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        prompt_index([tmp_path / name])
