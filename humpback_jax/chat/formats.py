"""Chat formats: how a user turn and its answer become token ids.

A format is a row of pieces. A special token is looked up by name and becomes one id; the text between two special
tokens is encoded as one string, and `Tokenizer.encode` reads no special token out of it. So text from the web that
spells `<|im_end|>` stays text. Where a format marks turns with plain text, as `inst` and `plain` do, such text can
still spell the mark; use a format with special tokens where that matters.
"""

import dataclasses
import enum
import functools
import itertools
import string
from collections.abc import Iterable, Sequence

from humpback_jax.chat.rendering import render_template
from humpback_jax.tokenizers import CHAT_FORMATS, Tokenizer

# Stand-ins while the template is rendered: private-use characters, which no template spells.
_USER_MARK, _ANSWER_MARK, _BOS_MARK, _EOS_MARK = "\ue001", "\ue002", "\ue003", "\ue004"
_PADDING = " \n "
# What a template must leave as it is inside a text.
_CONTENT = string.printable.strip() + "äöü ß 漢字 🙂  \n\ta\r\n"
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


class Edge(enum.Enum):
    """The tokenizer's BOS, or nothing where it has none; its EOS, which the format then needs."""

    BOS = enum.auto()
    EOS = enum.auto()


BOS, EOS = Edge.BOS, Edge.EOS
Part = str | Special | Slot | Edge


@dataclasses.dataclass(frozen=True)
class Layout:
    """The pieces of a prompt and of an answer; the answer's last piece is its end-of-turn token.

    Attributes:
      prompt: the user's turn, and the opening of the assistant's.
      answer: what follows the prompt.
      closed: the user's turn alone: the prompt without the opening.
      separator: text between an answer and the next turn, which is never learned.
    """

    prompt: tuple[Part, ...]
    answer: tuple[Part, ...]
    closed: tuple[Part, ...]
    separator: str = ""


_TRIMMED = Slot(left=True, right=True)
_PLAIN: tuple[Part, ...] = (BOS, "User: ", Slot())
_INST: tuple[Part, ...] = (BOS, "[INST] ", _TRIMMED, " [/INST]")
_CHATML: tuple[Part, ...] = (Special("<|im_start|>"), "user\n", Slot(), Special("<|im_end|>"), "\n")
_START, _END, _EOT = Special("<|start_header_id|>"), Special("<|end_header_id|>"), Special("<|eot_id|>")
_LLAMA3: tuple[Part, ...] = (BOS, _START, "user", _END, "\n\n", _TRIMMED, _EOT)
_LAYOUTS = {
    "plain": Layout((*_PLAIN, "\n\nAssistant:"), (" ", Slot(), EOS), _PLAIN),
    "inst": Layout(_INST, (" ", _TRIMMED, EOS), _INST),
    "chatml": Layout(
        (*_CHATML, Special("<|im_start|>"), "assistant\n"), (Slot(), Special("<|im_end|>")), _CHATML, separator="\n"
    ),
    "llama3": Layout((*_LLAMA3, _START, "assistant", _END, "\n\n"), (_TRIMMED, _EOT), _LLAMA3),
}


@dataclasses.dataclass(frozen=True)
class ChatFormat:
    """One of `CHAT_FORMATS`; "tokenizer" is the Jinja template that the tokenizer brings.

    `prompt_ids(x) + answer_ids(y)` is one training example; the prompt ends exactly where the answer starts, so the
    same ids are what generation is given. Every method raises ValueError where the tokenizer lacks what it needs.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in CHAT_FORMATS:
            raise ValueError(f"unknown chat format {self.name!r}; choose one of {', '.join(CHAT_FORMATS)}")

    def prompt_ids(self, user: str, tokenizer: Tokenizer) -> list[int]:
        """Ids of the user turn and of the opening of the assistant's turn, with one BOS where the format has one."""
        return self.all_prompt_ids([user], tokenizer)[0]

    def all_prompt_ids(self, users: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
        """What `prompt_ids` gives for every user turn, tokenized together."""
        return self._encode(self.layout(tokenizer).prompt, users, tokenizer)

    def next_prompt_ids(self, user: str, tokenizer: Tokenizer) -> list[int]:
        """Ids of a user turn that follows an answer, and of the opening of the assistant's turn."""
        if self.name == "tokenizer":
            return self._encode(following_turn(tokenizer), [user], tokenizer)[0]
        layout = self.layout(tokenizer)
        parts = [layout.separator, *(part for part in layout.prompt if part is not BOS)]
        return self._encode(parts, [user], tokenizer)[0]

    def answer_ids(self, answer: str, tokenizer: Tokenizer) -> list[int]:
        """Ids of the answer and of its end-of-turn token, as they follow the prompt."""
        layout = self.layout(tokenizer)
        text = _fill(layout.answer[:-1], answer)
        return _encode_after(layout.prompt[-1], text, tokenizer) + self._end_ids(tokenizer)

    def stop_ids(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Ids that end an answer: the format's end of turn first, then the tokenizer's EOS, then the makers' others."""
        eos = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
        return tuple(dict.fromkeys([*self._end_ids(tokenizer), *eos, *tokenizer.end_ids]))

    def layout(self, tokenizer: Tokenizer) -> Layout:
        """The pieces of a turn and its answer."""
        return layout_of_template(tokenizer) if self.name == "tokenizer" else _LAYOUTS[self.name]

    def _end_ids(self, tokenizer: Tokenizer) -> list[int]:
        return self._encode(self.layout(tokenizer).answer[-1:], [""], tokenizer)[0]

    def _encode(self, parts: Sequence[Part], texts: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
        """Ids of the parts with each of the texts in their slot."""
        ids: list[list[int]] = [[] for _ in texts]
        for special, group in itertools.groupby(parts, lambda part: isinstance(part, Special | Edge)):
            pieces = list(group)
            if special:
                numbers = [number for part in pieces for number in self._special_ids(part, tokenizer)]
                encoded = [numbers] * len(texts)
            else:
                filled = [_fill(pieces, text) for text in texts]
                # Some tokenizers make a token of nothing.
                encoded = [new if text else [] for text, new in zip(filled, tokenizer.encode_all(filled), strict=True)]
            for row, added in zip(ids, encoded, strict=True):
                row += added
        return ids

    def _special_ids(self, part: Part, tokenizer: Tokenizer) -> list[int]:
        if part is BOS:
            return [] if tokenizer.bos_id is None else [tokenizer.bos_id]
        number = tokenizer.special_id(part.token) if isinstance(part, Special) else tokenizer.eos_id
        if number is None:
            missing = f"the special token {part.token!r}" if isinstance(part, Special) else "an EOS token"
            others = ", ".join(name for name in CHAT_FORMATS if name != self.name)
            raise ValueError(
                f"chat format {self.name!r} needs {missing}, which this tokenizer does not have; "
                f"choose another chat format ({others}; plain needs only an EOS)"
            )
        return [number]


def _fill(parts: Iterable[Part], text: str) -> str:
    """Text and slots as one string."""
    return "".join(part.fill(text) if isinstance(part, Slot) else str(part) for part in parts)


def _encode_after(last: Part, text: str, tokenizer: Tokenizer) -> list[int]:
    """Ids of `text` as it is tokenized after the last piece of a prompt, which may be fixed text.

    SentencePiece puts a space before whatever a string starts with, so text encoded alone is not what follows a mark.
    Where a token spans the seam, the text's own ids are taken: the prompt must not depend on the answer.
    """
    opening = last if isinstance(last, str) else ""
    before = tokenizer.encode(opening) if opening else []
    joined = tokenizer.encode(opening + text)
    return joined[len(before) :] if joined[: len(before)] == before else tokenizer.encode(text)


@functools.lru_cache(maxsize=8)
def layout_of_template(tokenizer: Tokenizer) -> Layout:
    """Finds the pieces of the tokenizer's own Jinja template by rendering it with marks in place of texts.

    The texts themselves never pass through the template, so special tokens and Jinja syntax in them are plain text.

    Raises:
      ValueError: the tokenizer has no template, the template fails, or it changes or leaves out the texts.
    """
    if not tokenizer.chat_template:
        raise ValueError("the tokenizer brings no chat template; choose another chat format (plain needs only an EOS)")
    user = _render(tokenizer, _USER_MARK)
    user_slot = _slot_of(_USER_MARK, user, *(_render(tokenizer, around) for around in _around(_USER_MARK)))
    whole = _render(tokenizer, _USER_MARK, _ANSWER_MARK)
    answers = (_render(tokenizer, _USER_MARK, around) for around in _around(_ANSWER_MARK))
    answer_slot = _slot_of(_ANSWER_MARK, whole, *answers)
    if not whole.startswith(user) or whole.count(_ANSWER_MARK) != 1:
        raise ValueError(
            "the tokenizer's chat template does not continue its generation prompt with the answer, "
            "so the two cannot be told apart; choose another chat format"
        )
    answer = _parts(whole[len(user) :], _ANSWER_MARK, answer_slot, tokenizer)
    ends = [index for index, part in enumerate(answer) if not isinstance(part, str | Slot)]
    after = [index for index in ends if index > answer.index(answer_slot)]
    if len(after) != len(ends):
        raise ValueError("the tokenizer's chat template puts special tokens into an answer; choose another chat format")
    # A template without an end-of-turn token would teach the model never to stop.
    ended = answer[: after[0] + 1] if after else [*answer, EOS]
    closed = _render(tokenizer, _USER_MARK, opened=False)
    closed = closed if user.startswith(closed) and _USER_MARK in closed else user
    turns = (_parts(text, _USER_MARK, user_slot, tokenizer) for text in (user, closed))
    prompt, alone = map(tuple, turns)
    return Layout(prompt, tuple(ended), alone)


@functools.lru_cache(maxsize=8)
def following_turn(tokenizer: Tokenizer) -> tuple[Part, ...]:
    """The pieces that the tokenizer's own template puts behind an answer's end: a second user turn and an opening."""
    layout = layout_of_template(tokenizer)
    slot = next(part for part in layout.prompt if isinstance(part, Slot))
    rendered = render_template(
        tokenizer.chat_template or "",
        [("user", "."), ("assistant", _ANSWER_MARK), ("user", _USER_MARK)],
        add_generation_prompt=True,
        bos_token="" if tokenizer.bos_id is None else _BOS_MARK,
        eos_token="" if tokenizer.eos_id is None else _EOS_MARK,
        tags="",
    )
    parts = _parts(rendered.partition(_ANSWER_MARK)[2], _USER_MARK, slot, tokenizer)
    if slot not in parts:
        raise ValueError("the tokenizer's chat template leaves out the second turn of a user; use /history off")
    # The end of an answer is part of the answer, unless the template has none.
    ends = [number for number, part in enumerate(parts) if part == layout.answer[-1]]
    return tuple(parts[ends[0] + 1 :] if ends and ends[0] < parts.index(slot) else parts)


def _around(mark: str) -> tuple[str, str]:
    """A mark between whitespace, and between texts that a template has no reason to change."""
    return _PADDING + mark + _PADDING, _CONTENT + mark + _CONTENT


def _slot_of(mark: str, rendered: str, padded: str, surrounded: str) -> Slot:
    """Whether the template drops the whitespace around a text, seen from renderings with more around the mark."""
    for left, right in itertools.product((False, True), repeat=2):
        slot = Slot(left, right)
        expected = [rendered.replace(mark, slot.fill(text)) for text in _around(mark)]
        if mark in rendered and expected == [padded, surrounded]:
            return slot
    raise ValueError("the tokenizer's chat template changes or leaves out a turn's text; choose another chat format")


def _parts(rendered: str, mark: str, slot: Slot, tokenizer: Tokenizer) -> list[Part]:
    """Splits rendered text into specials, slots and the text between."""
    parts: list[Part] = []
    position = 0
    while position < len(rendered):
        part, length = _part_at(rendered, position, mark, slot, tokenizer)
        position += length
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += part
        else:
            parts.append(part)
    return parts


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


def _render(tokenizer: Tokenizer, user: str, answer: str | None = None, opened: bool = True) -> str:
    """A user turn and the opening of the assistant's (unless `opened` is false), or both turns; without tags."""
    turns = [("user", user)] if answer is None else [("user", user), ("assistant", answer)]
    try:
        return render_template(
            tokenizer.chat_template or "",
            turns,
            add_generation_prompt=answer is None and opened,
            bos_token="" if tokenizer.bos_id is None else _BOS_MARK,
            eos_token="" if tokenizer.eos_id is None else _EOS_MARK,
            tags="",
        )
    except ValueError as error:
        raise ValueError(f"{error}; choose another chat format") from error
