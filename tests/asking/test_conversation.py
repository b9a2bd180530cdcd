"""A chat: its text is that of `generate`, its prompt is shown to the token, and turns follow each other."""

import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.asking.conversation import exact_text
from humpback_jax.chat.formats import ChatFormat
from humpback_jax.chat.turns import conversation_ids
from humpback_jax.cli import cli
from humpback_jax.prompts.prompts import SEED_TAG, WEB_TAG
from humpback_jax.tokenizers import load_tokenizer

QUESTIONS = ("Why?", "How, and where to, äöü?")


def answered(run_dir, *options):
    result = CliRunner().invoke(cli, ["generate", f"--run_dir={run_dir}", "--json", *QUESTIONS, *options])
    assert result.exit_code == 0, result.output
    return [row["output"] for row in json.loads(result.stdout)]


@pytest.mark.parametrize("temperature", [pytest.param(0.0, marks=pytest.mark.slow), 1.0])
def test_the_pieces_are_the_text_that_generate_gives(run_dir, open_conversation, temperature):
    conversation = open_conversation(temperature=temperature)
    conversation.remembers = False
    pieces = [list(conversation.answer(question)) for question in QUESTIONS]
    assert ["".join(each) for each in pieces] == answered(run_dir, f"--temperature={temperature}")
    assert any(len(each) > 1 for each in pieces)
    assert [answer for _, answer in conversation.turns] == ["".join(each) for each in pieces]


def test_a_stopped_answer_is_remembered_as_far_as_it_came(open_conversation):
    conversation = open_conversation(temperature=1.0)
    pieces = conversation.answer("Why?")
    first = next(pieces)
    pieces.close()
    assert [answer for _, answer in conversation.turns] == [first]
    assert "".join(conversation.answer("Why?"))


def test_the_prompt_is_shown_to_the_token(open_conversation):
    conversation = open_conversation(tags=("seed", "web"))
    conversation.turns.append(("Hello.", "Good day."))
    shown = exact_text(conversation.prompt_ids("Why?"), conversation.asked.model.tokenizer)
    assert shown == (
        "<|im_start|>user\nHello.<|im_end|>\n<|im_start|>assistant\nGood day.<|im_end|>\n"
        f"<|im_start|>user\nWhy?\n\n{SEED_TAG} {WEB_TAG}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_what_is_longer_than_the_window_is_named(open_conversation):
    conversation = open_conversation(tags=(), max_new_tokens=8)
    window = conversation.asked.window
    conversation.prompt_ids("e" * (window - 8 - len(conversation.prompt_ids(""))))
    conversation.turns.append(("Hello.", "e" * window))
    with pytest.raises(ValueError, match=f"with 1 earlier turns is .* window of {window} less max_new_tokens 8 leaves"):
        conversation.prompt_ids("Why?")
    conversation.forget()
    with pytest.raises(ValueError, match=f"this question is .* leaves {window - 8}: shorten it or lower the limit$"):
        conversation.prompt_ids("e" * window)


@given(st.lists(st.tuples(st.text(), st.text()), max_size=3), st.text())
@pytest.mark.parametrize("name", ["plain", "inst", "chatml"])
def test_turns_keep_the_ids_that_they_have_alone(byte_tokenizer_dir, name, history, user):
    tokenizer, chat_format = load_tokenizer(byte_tokenizer_dir), ChatFormat(name)
    if name == "chatml" or tokenizer.eos_id is not None:
        ids = conversation_ids(chat_format, history, user, tokenizer)
        for turn, answer in history:
            example = chat_format.prompt_ids(turn, tokenizer) + chat_format.answer_ids(answer, tokenizer)
            assert ids[: len(example)] == example
            ids = ids[len(example) :]
            if name == "chatml":
                assert ids[:1] == tokenizer.encode("\n")
                ids = ids[1:]
        assert ids == chat_format.prompt_ids(user, tokenizer)
