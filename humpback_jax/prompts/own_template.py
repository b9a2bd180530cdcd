"""The tokenizer's own Jinja template as a layout: rendered once with marks in place of texts, in a sandbox."""

import datetime
import json
from collections.abc import Iterator
from typing import Any

import jinja2
import jinja2.sandbox

from humpback_jax.prompts.layout import BOS, EOS, Layout, Part, Slot, Special
from humpback_jax.tokenizers import Tokenizer

# Stand-ins while the template is rendered: private-use characters, which no template spells.
_USER_MARK, _ANSWER_MARK, _BOS_MARK, _EOS_MARK = "\ue001", "\ue002", "\ue003", "\ue004"
_PADDING = " \n "
# A template that prints the date would give other ids every day; this is the date LLaMA 3's templates fall back to.
TEMPLATE_DATE = datetime.date(2024, 7, 26)
_LONGEST_SPECIAL = 64


def layout_of_template(tokenizer: Tokenizer) -> Layout:
    """Finds the pieces of the tokenizer's own Jinja template by rendering it with marks in place of texts.

    The texts themselves never pass through the template, so special tokens and Jinja syntax in them are plain text.

    Raises:
      ValueError: the tokenizer has no template, the template fails, or it changes or leaves out the texts.
    """
    if not tokenizer.chat_template:
        raise ValueError("the tokenizer brings no chat template; choose another chat format (plain needs only an EOS)")
    user = _render(tokenizer, _USER_MARK)
    user_slot = _slot_of(_USER_MARK, user, _render(tokenizer, _PADDING + _USER_MARK + _PADDING))
    whole = _render(tokenizer, _USER_MARK, _ANSWER_MARK)
    answer_slot = _slot_of(_ANSWER_MARK, whole, _render(tokenizer, _USER_MARK, _PADDING + _ANSWER_MARK + _PADDING))
    if not whole.startswith(user) or whole.count(_ANSWER_MARK) != 1:
        raise ValueError(
            "the tokenizer's chat template does not continue its generation prompt with the answer, "
            "so the two cannot be told apart; choose another chat format"
        )
    answer = list(_parts(whole[len(user) :], _ANSWER_MARK, answer_slot, tokenizer))
    ends = [index for index, part in enumerate(answer) if not isinstance(part, str | Slot)]
    after = [index for index in ends if index > answer.index(answer_slot)]
    if len(after) != len(ends):
        raise ValueError("the tokenizer's chat template puts special tokens into an answer; choose another chat format")
    # A template without an end-of-turn token would teach the model never to stop.
    ended = answer[: after[0] + 1] if after else [*answer, EOS]
    return Layout(tuple(_parts(user, _USER_MARK, user_slot, tokenizer)), tuple(ended))


def _slot_of(mark: str, rendered: str, padded: str) -> Slot:
    """Whether the template drops the whitespace around a text, seen from a rendering with padding around it."""
    for left in (False, True):
        for right in (False, True):
            text = ("" if left else _PADDING) + mark + ("" if right else _PADDING)
            if mark in rendered and rendered.replace(mark, text) == padded:
                return Slot(left, right)
    raise ValueError("the tokenizer's chat template changes or leaves out a turn's text; choose another chat format")


def _parts(rendered: str, mark: str, slot: Slot, tokenizer: Tokenizer) -> Iterator[Part]:
    """Splits rendered text into specials, slots and the text between."""
    text, position = "", 0
    while position < len(rendered):
        part, length = _part_at(rendered, position, mark, slot, tokenizer)
        position += length
        if isinstance(part, str):
            text += part
            continue
        if text:
            yield text
        text = ""
        yield part
    if text:
        yield text


def _part_at(rendered: str, position: int, mark: str, slot: Slot, tokenizer: Tokenizer) -> tuple[Part, int]:
    """The special (the longest one), BOS, EOS or slot that starts at a position, else one character; and its length."""
    marks: dict[str, Part] = {mark: slot, _BOS_MARK: BOS, _EOS_MARK: EOS}
    if (part := marks.get(rendered[position])) is not None:
        return part, 1
    for length in range(min(_LONGEST_SPECIAL, len(rendered) - position), 1, -1):
        token = rendered[position : position + length]
        if tokenizer.special_id(token) is not None:
            return Special(token), length
    return rendered[position], 1


def _render(tokenizer: Tokenizer, user: str, answer: str | None = None) -> str:
    """A user turn and the opening of the assistant's, or both turns; in a sandbox: templates come with downloads."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_raise_exception, strftime_now=TEMPLATE_DATE.strftime)
    turns = [("user", user)] if answer is None else [("user", user), ("assistant", answer)]
    try:
        return environment.from_string(tokenizer.chat_template or "").render(
            messages=[{"role": role, "content": content} for role, content in turns],
            add_generation_prompt=answer is None,
            bos_token="" if tokenizer.bos_id is None else _BOS_MARK,
            eos_token="" if tokenizer.eos_id is None else _EOS_MARK,
            tools=None,
            documents=None,
        )
    except jinja2.TemplateError as error:
        raise ValueError(
            f"the tokenizer's chat template cannot be rendered ({error}); choose another chat format"
        ) from error


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
