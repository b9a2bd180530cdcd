"""What a turn is made of: text, special tokens, and the slots where texts of users and models go."""

import dataclasses
import enum


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
    """The pieces of a prompt and of an answer; the answer's last piece is its end-of-turn token."""

    prompt: tuple[Part, ...]
    answer: tuple[Part, ...]
