"""Chat formats: how a user turn and its answer become token ids.

A format is a row of pieces. A special token is looked up by name and becomes one id; the text between two special
tokens is encoded as one string, and `Tokenizer.encode` reads no special token out of it. So text from the web that
spells `<|im_end|>` stays text. Where a format marks turns with plain text, as `inst` and `plain` do, such text can
still spell the mark; use a format with special tokens where that matters.
"""

import dataclasses
import datetime
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from humpback_jax.tokenizers import CHAT_FORMATS, Tokenizer

# Stand-ins while the tokenizer's own template is rendered: private-use characters, which no template spells.
_USER_MARK, _ANSWER_MARK, _BOS_MARK, _EOS_MARK = "\ue001", "\ue002", "\ue003", "\ue004"
_PADDING = " \n "
# A template that prints the date would give other ids every day; this is the date LLaMA 3's templates fall back to.
TEMPLATE_DATE = datetime.date(2024, 7, 26)
_LONGEST_SPECIAL = 64


@dataclasses.dataclass(frozen=True)
class Special:
    """A special token by its string."""

    token: str


@dataclasses.dataclass(frozen=True)
class Slot:
    """Where the user's text or the answer goes; `left` and `right` say whether its outer whitespace is dropped."""

    left: bool = False
    right: bool = False

    def fill(self, text: str) -> str:
        """The text as it stands in the turn."""
        text = text.lstrip() if self.left else text
        return text.rstrip() if self.right else text


class _Bos:
    """The tokenizer's BOS, or nothing where it has none."""


class _Eos:
    """The tokenizer's EOS, which the format needs."""


BOS, EOS = _Bos(), _Eos()
Part = str | Special | Slot | _Bos | _Eos


@dataclasses.dataclass(frozen=True)
class Layout:
    """The pieces of a prompt and of an answer; the answer's last piece is its end-of-turn token."""

    prompt: tuple[Part, ...]
    answer: tuple[Part, ...]


_TRIMMED = Slot(left=True, right=True)
_LAYOUTS = {
    "plain": Layout((BOS, "User: ", Slot(), "\n\nAssistant:"), (" ", Slot(), EOS)),
    "inst": Layout((BOS, "[INST] ", _TRIMMED, " [/INST]"), (" ", _TRIMMED, EOS)),
    "chatml": Layout(
        (
            *(Special("<|im_start|>"), "user\n", Slot(), Special("<|im_end|>"), "\n"),
            *(Special("<|im_start|>"), "assistant\n"),
        ),
        (Slot(), Special("<|im_end|>")),
    ),
    "llama3": Layout(
        (
            *(BOS, Special("<|start_header_id|>"), "user", Special("<|end_header_id|>"), "\n\n", _TRIMMED),
            *(Special("<|eot_id|>"), Special("<|start_header_id|>"), "assistant", Special("<|end_header_id|>"), "\n\n"),
        ),
        (_TRIMMED, Special("<|eot_id|>")),
    ),
}


@dataclasses.dataclass(frozen=True)
class ChatFormat:
    """One of `CHAT_FORMATS`; "tokenizer" is the Jinja template that the tokenizer brings.

    `prompt_ids(x) + answer_ids(y)` is one training example; the prompt ends exactly where the answer starts, so the
    same ids are what generation is given. Every method raises ValueError where the tokenizer lacks what it needs.
    """

    name: str
    _layouts: dict[int, tuple[Tokenizer, Layout]] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.name not in CHAT_FORMATS:
            raise ValueError(f"unknown chat format {self.name!r}; choose one of {', '.join(CHAT_FORMATS)}")

    def prompt_ids(self, user: str, tokenizer: Tokenizer) -> list[int]:
        """Ids of the user turn and of the opening of the assistant's turn, with one BOS where the format has one."""
        return self._encode(self._layout(tokenizer).prompt, user, tokenizer)

    def answer_ids(self, answer: str, tokenizer: Tokenizer) -> list[int]:
        """Ids of the answer and of its end-of-turn token, as they follow the prompt."""
        layout = self._layout(tokenizer)
        *body, end = layout.answer
        text = "".join(part.fill(answer) if isinstance(part, Slot) else str(part) for part in body)
        return [*_encode_after(_opening(layout.prompt), text, tokenizer), *self._encode((end,), "", tokenizer)]

    def stop_ids(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Ids that end an answer: the format's end of turn first, then the tokenizer's EOS if that is another."""
        end = self._encode(self._layout(tokenizer).answer[-1:], "", tokenizer)
        eos = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
        return tuple(dict.fromkeys([*end, *eos]))

    def _layout(self, tokenizer: Tokenizer) -> Layout:
        if self.name != "tokenizer":
            return _LAYOUTS[self.name]
        # Kept beside its layout, the tokenizer keeps its id(); a copy of this object in another process has old ones.
        known, layout = self._layouts.get(id(tokenizer), (None, None))
        if layout is None or known is not tokenizer:
            layout = layout_of_template(tokenizer)
            self._layouts[id(tokenizer)] = (tokenizer, layout)
        return layout

    def _encode(self, parts: Sequence[Part], text: str, tokenizer: Tokenizer) -> list[int]:
        ids: list[int] = []
        pending = ""
        for part in parts:
            if isinstance(part, str | Slot):
                pending += part.fill(text) if isinstance(part, Slot) else part
                continue
            ids += tokenizer.encode(pending) if pending else []
            pending = ""
            ids += self._special_ids(part, tokenizer)
        return ids + (tokenizer.encode(pending) if pending else [])

    def _special_ids(self, part: Special | _Bos | _Eos, tokenizer: Tokenizer) -> list[int]:
        if isinstance(part, _Bos):
            return [] if tokenizer.bos_id is None else [tokenizer.bos_id]
        found = tokenizer.eos_id if isinstance(part, _Eos) else tokenizer.special_id(part.token)
        if found is None:
            missing = "an EOS token" if isinstance(part, _Eos) else f"the special token {part.token!r}"
            others = ", ".join(name for name in CHAT_FORMATS if name != self.name)
            raise ValueError(
                f"chat format {self.name!r} needs {missing}, which this tokenizer does not have; "
                f"choose another chat format ({others}; plain needs only an EOS)"
            )
        return [found]


def _opening(prompt: Sequence[Part]) -> str:
    """The fixed text that a prompt ends with: what stands right before every answer."""
    return prompt[-1] if isinstance(prompt[-1], str) else ""


def _encode_after(opening: str, text: str, tokenizer: Tokenizer) -> list[int]:
    """Ids of `text` as it is tokenized after `opening`.

    SentencePiece puts a space before whatever a string starts with, so text encoded alone is not what follows a mark.
    Where a token spans the seam, the text's own ids are taken: the prompt must not depend on the answer.
    """
    before = tokenizer.encode(opening) if opening else []
    joined = tokenizer.encode(opening + text)
    return joined[len(before) :] if joined[: len(before)] == before else tokenizer.encode(text)


def layout_of_template(tokenizer: Tokenizer) -> Layout:
    """Finds the pieces of the tokenizer's own Jinja template by rendering it with marks in place of texts.

    The texts themselves never pass through the template, so special tokens and Jinja syntax in them are plain text.

    Raises:
      ValueError: the tokenizer has no template, the template fails, or it changes or leaves out the texts.
    """
    if not tokenizer.chat_template:
        raise ValueError("the tokenizer brings no chat template; choose another chat format (plain needs only an EOS)")
    render = _renderer(tokenizer)
    user, padded_user = (
        render([{"role": "user", "content": text}], True) for text in (_USER_MARK, _PADDING + _USER_MARK + _PADDING)
    )
    user_slot = _slot_of(_USER_MARK, user, padded_user)
    whole, padded = (
        render([{"role": "user", "content": _USER_MARK}, {"role": "assistant", "content": text}], False)
        for text in (_ANSWER_MARK, _PADDING + _ANSWER_MARK + _PADDING)
    )
    answer_slot = _slot_of(_ANSWER_MARK, whole, padded)
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
    body = answer[: after[0] + 1] if after else [*answer, EOS]
    return Layout(tuple(_parts(user, _USER_MARK, user_slot, tokenizer)), tuple(body))


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
        found = _part_at(rendered, position, mark, slot, tokenizer)
        if found is None:
            text += rendered[position]
            position += 1
            continue
        if text:
            yield text
        text = ""
        yield found[0]
        position += found[1]
    if text:
        yield text


def _part_at(rendered: str, position: int, mark: str, slot: Slot, tokenizer: Tokenizer) -> tuple[Part, int] | None:
    """The special, BOS, EOS or slot that starts at a position, with its length; the longest one wins."""
    marks: dict[str, Part] = {mark: slot, _BOS_MARK: BOS, _EOS_MARK: EOS}
    if (part := marks.get(rendered[position])) is not None:
        return part, 1
    for length in range(min(_LONGEST_SPECIAL, len(rendered) - position), 1, -1):
        token = rendered[position : position + length]
        if tokenizer.special_id(token) is not None:
            return Special(token), length
    return None


def _renderer(tokenizer: Tokenizer) -> Callable[[list[dict[str, str]], bool], str]:
    """The template as a function of (messages, add_generation_prompt), in a sandbox: templates come with downloads."""
    import jinja2
    import jinja2.sandbox

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def to_json(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = to_json
    environment.globals.update(raise_exception=raise_exception, strftime_now=TEMPLATE_DATE.strftime)
    variables = {
        "bos_token": "" if tokenizer.bos_id is None else _BOS_MARK,
        "eos_token": "" if tokenizer.eos_id is None else _EOS_MARK,
        "tools": None,
        "documents": None,
    }

    def render(messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        try:
            template = environment.from_string(tokenizer.chat_template or "")
            return template.render(messages=messages, add_generation_prompt=add_generation_prompt, **variables)
        except jinja2.TemplateError as error:
            raise ValueError(
                f"the tokenizer's chat template cannot be rendered ({error}); choose another chat format"
            ) from error

    return render
