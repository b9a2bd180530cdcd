"""Chat formats: how a user turn and its answer become token ids.

A format is a row of pieces. A special token is looked up by name and becomes one id; the text between two special
tokens is encoded as one string, and `Tokenizer.encode` reads no special token out of it. So text from the web that
spells `<|im_end|>` stays text. Where a format marks turns with plain text, as `inst` and `plain` do, such text can
still spell the mark; use a format with special tokens where that matters.
"""

import dataclasses
from collections.abc import Sequence

from humpback_jax.prompts.layout import BOS, EOS, Edge, Layout, Part, Slot, Special
from humpback_jax.prompts.own_template import layout_of_template
from humpback_jax.tokenizers import CHAT_FORMATS, Tokenizer

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
        *pieces, end = layout.answer
        text = "".join(part.fill(answer) if isinstance(part, Slot) else str(part) for part in pieces)
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

    def _special_ids(self, part: Special | Edge, tokenizer: Tokenizer) -> list[int]:
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
