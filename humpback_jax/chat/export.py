"""A chat format as a Jinja template that other programs render to the ids of training.

The template begins with one line that appends the tags to every user turn, unless whoever renders it says `tags=""`.
Then comes the tokenizer's own template where that was the format of training, else one made of the format's pieces.
"""

import json
import re
from collections.abc import Iterable

from humpback_jax.chat.formats import BOS, ChatFormat, Edge, Layout, Part, Slot, Special
from humpback_jax.chat.rendering import PinnedClock, render_template
from humpback_jax.tokenizers import FileTokenizer

TAGS_BEGIN = "{% if tags is not defined %}{% set tags = "
# In the way of the templates that are in use: no functions of Python's, no filters, plain dictionaries.
_TAG_TURNS = (
    "{% endif %}{% set tagged = namespace(turns=[]) %}{% for turn in messages %}"
    "{% if turn['role'] == 'user' and tags %}{% if turn['content'] is string %}"
    "{% set tagged.turns = tagged.turns + [{'role': 'user', 'content': turn['content'] + '\\n\\n' + tags}] %}{% else %}"
    "{% set tagged.turns = tagged.turns + [{'role': 'user', 'content': turn['content'] + "
    "[{'type': 'text', 'text': '\\n\\n' + tags}]}] %}{% endif %}{% else %}"
    "{% set tagged.turns = tagged.turns + [turn] %}{% endif %}{% endfor %}{% set messages = tagged.turns %}\n"
)
_TURNS = """\
{%- set seen = namespace(system='', user=false) -%}
{%- for turn in messages -%}
{%- set parts = namespace(text='') -%}
{%- if turn['content'] is string -%}
{%- set parts.text = turn['content'] -%}
{%- else -%}
{%- for part in turn['content'] -%}{%- set parts.text = parts.text + part['text'] -%}{%- endfor -%}
{%- endif -%}
{%- if turn['role'] == 'system' -%}
{%- set seen.system = seen.system + parts.text + '\\n\\n' -%}
{%- elif turn['role'] == 'user' -%}
{{- FIRST_HEAD if not seen.user else HEAD -}}
{%- set parts.text = seen.system + parts.text -%}
{{- USER_TEXT + CLOSE -}}
{%- set seen.user = true -%}
{%- set seen.system = '' -%}
{%- elif turn['role'] == 'assistant' -%}
{{- OPENING + LEAD + ANSWER_TEXT + END -}}
{%- if not loop.last or add_generation_prompt -%}
{{- SEPARATOR -}}
{%- endif -%}
{%- else -%}
{{- raise_exception('a turn is of system, user or assistant; this one is of ' + turn['role']) -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- OPENING -}}
{%- endif -%}
"""
SAMPLES = (
    ("Why is the sky blue?", "Because of {scattering}."),
    ("Write code:\n\n  def f(x): {{ x }} {% if %}", "def g():\n\ttab"),
    ("日本語 émoji 🙂", "naïve café\n"),
    ("  padded  ", "1. a\n2. b\n\n- c  "),
    ("User: one\n\nAssistant:", "#!/bin/sh"),
)


def exported_template(chat_format: ChatFormat, tokenizer: FileTokenizer, tags: str | None, own: bool) -> str:
    """The Jinja source of a chat format.

    Args:
      chat_format: how turns are written.
      tokenizer: gives the format's special tokens their spelling.
      tags: what is appended to user turns, behind a blank line; "" for nothing; None: leave a template of the
        tokenizer's as it is, whatever tags it has.
      own: keep the tokenizer's own template, for the format `tokenizer`; else write one from the pieces.

    Raises:
      ValueError: the tokenizer lacks what the format needs.
    """
    body = _own_template(tokenizer, tags) if own else _template_of(chat_format.layout(tokenizer), tokenizer)
    return f"{TAGS_BEGIN}{_literal(tags)} %}}{_TAG_TURNS}{body}" if tags else body


def template_difference(
    template: str, chat_format: ChatFormat, tokenizer: FileTokenizer, backend: object
) -> str | None:
    """The first text whose ids are others when `template` is rendered and the text encoded; None where there is none.

    Args:
      template: what `exported_template` gave.
      chat_format, tokenizer: how a training example is written.
      backend: the `tokenizers.Tokenizer` that reads what was rendered, special tokens included.
    """
    for user, answer in SAMPLES:
        prompt = chat_format.prompt_ids(user, tokenizer)
        whole = prompt + chat_format.answer_ids(answer, tokenizer)
        asked = _rendered_ids(template, [("user", user)], tokenizer, backend)
        told = _rendered_ids(template, [("user", user), ("assistant", answer)], tokenizer, backend)
        # Behind the end of turn, templates write at most a line break, which is not learned.
        if asked != prompt or told[: len(whole)] != whole or tokenizer.decode(told[len(whole) :]).strip():
            return user
    return None


def _rendered_ids(template: str, turns: list[tuple[str, str]], tokenizer: FileTokenizer, backend: object) -> list[int]:
    names = {number: token for token, number in tokenizer.special_tokens.items()}
    text = render_template(
        template,
        turns,
        add_generation_prompt=turns[-1][0] == "user",
        bos_token="" if tokenizer.bos_id is None else names[tokenizer.bos_id],
        eos_token="" if tokenizer.eos_id is None else names[tokenizer.eos_id],
        tags="",
    )
    return backend.encode(text, add_special_tokens=False).ids  # type: ignore[attr-defined]


def _own_template(tokenizer: FileTokenizer, tags: str | None) -> str:
    """The tokenizer's template, its EOS and its date as they were in training; without its tags if there are others."""
    template = tokenizer.chat_template or ""
    if tags is not None and template.startswith(TAGS_BEGIN):
        template = template.split("\n", 1)[1]
    names = {number: token for token, number in tokenizer.special_tokens.items()}
    head = ""
    if "eos_token" in template and tokenizer.eos_id is not None and "set eos_token" not in template:
        head += f"{{% set eos_token = {_literal(names[tokenizer.eos_id])} %}}"
    if "strftime_now" in template:
        clock = PinnedClock()
        for turns, opened in (([("user", "x")], True), ([("user", "x"), ("assistant", "y")], False)):
            render_template(template, turns, clock=clock, add_generation_prompt=opened, bos_token="", eos_token="")
        dates = ", ".join(f"{_literal(how)}: {_literal(date)}" for how, date in clock.asked.items())
        head += f"{{% macro strftime_now(how) %}}{{{{ {{{dates}}}[how] }}}}{{% endmacro %}}" if dates else ""
    return f"{head}\n{template}" if head else template


def _template_of(layout: Layout, tokenizer: FileTokenizer) -> str:
    before, slot, after = _around_slot(layout.prompt, tokenizer)
    _, _, close = _around_slot(layout.closed, tokenizer)
    head = layout.prompt[: layout.prompt.index(slot)]
    lead, answer_slot, end = _around_slot(layout.answer, tokenizer)
    values = {
        "FIRST_HEAD": _literal(before),
        "HEAD": _literal(_text([part for part in head if part is not BOS], tokenizer)),
        "USER_TEXT": _stripped(slot),
        "CLOSE": _literal(close),
        "OPENING": _literal(after.removeprefix(close)),
        "LEAD": _literal(lead),
        "ANSWER_TEXT": _stripped(answer_slot),
        "END": _literal(end),
        "SEPARATOR": _literal(layout.separator),
    }
    return re.sub("|".join(values), lambda match: values[match.group()], _TURNS)


def _around_slot(parts: tuple[Part, ...], tokenizer: FileTokenizer) -> tuple[str, Slot, str]:
    slot = next(part for part in parts if isinstance(part, Slot))
    place = parts.index(slot)
    return _text(parts[:place], tokenizer), slot, _text(parts[place + 1 :], tokenizer)


def _text(parts: Iterable[Part], tokenizer: FileTokenizer) -> str:
    names = {number: token for token, number in tokenizer.special_tokens.items()}
    edges = {BOS: tokenizer.bos_id, Edge.EOS: tokenizer.eos_id}
    texts = []
    for part in parts:
        if isinstance(part, Edge):
            number = edges[part]
            texts.append("" if number is None else names[number])
        else:
            texts.append(part.token if isinstance(part, Special) else str(part))
    return "".join(texts)


def _stripped(slot: Slot) -> str:
    """What of a turn's text is written, in Jinja."""
    if slot.left and slot.right:
        return "(parts.text | trim)"
    return "parts.text" + (".lstrip()" if slot.left else ".rstrip()" if slot.right else "")


def _literal(text: str) -> str:
    """A string of Jinja."""
    return json.dumps(text, ensure_ascii=False)
