"""A conversation with a loaded model: turns, tags and settings to a prompt, and its answer as it is written."""

import dataclasses
from collections.abc import Generator

from humpback_jax.asking.asked import Asked
from humpback_jax.chat.turns import conversation_ids
from humpback_jax.inference.engine import Engine
from humpback_jax.inference.requests import Request
from humpback_jax.inference.sampling import SamplingConfig
from humpback_jax.tokenizers import FileTokenizer, Tokenizer

UNFINISHED = "\ufffd"  # what a tokenizer makes of the first bytes of a character


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the next answer is written.

    Attributes:
      temperature, top_p: of sampling; temperature 0 is greedy.
      max_new_tokens: limit of the answer.
      seed: of the draws.
    """

    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int

    @property
    def sampling(self) -> SamplingConfig:
        """As the engine takes them."""
        return SamplingConfig(temperature=self.temperature, top_p=self.top_p)


@dataclasses.dataclass
class Conversation:
    """What was said so far, and how the next answer is asked for.

    Attributes:
      asked: the model.
      engine: the model, loaded.
      settings: of the next answer.
      tags: of the next question; earlier ones keep theirs.
      remembers: earlier turns are part of the prompt.
      turns: (the user's turn with its tags, the answer) of each.
      questions: asked since the start: the number of the next one decides its draws.
      last_prompt: token ids of the last question.
    """

    asked: Asked
    engine: Engine
    settings: Settings
    tags: tuple[str, ...]
    remembers: bool = True
    turns: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    questions: int = 0
    last_prompt: tuple[int, ...] | None = None

    @property
    def history(self) -> list[tuple[str, str]]:
        """The turns that the next prompt holds."""
        return self.turns if self.remembers else []

    def prompt_ids(self, text: str) -> tuple[int, ...]:
        """Token ids of the next prompt, if it asked `text`.

        Raises:
          ValueError: prompt and limit are more than the model's window.
        """
        model = self.asked.model
        user = self.asked.prompts.tagged(text, self.tags)
        ids = conversation_ids(model.chat_format, self.history, user, model.tokenizer)
        room = self.asked.window - self.settings.max_new_tokens
        if len(ids) > room:
            turns = f" with {len(self.history)} earlier turns" if self.history else ""
            forget = ", or forget the earlier turns" if self.history else ""
            raise ValueError(
                f"this question{turns} is {len(ids)} tokens long; the model's window of {self.asked.window} less "
                f"max_new_tokens {self.settings.max_new_tokens} leaves {room}: shorten it or lower the limit{forget}"
            )
        return tuple(ids)

    def answer(self, text: str) -> Generator[str]:
        """Asks, and yields the answer in pieces; joined they are the text that `humpback generate` gives.

        What was written when nobody asks for more pieces is the answer that the conversation remembers.
        """
        model, written = self.asked.model, ""
        ids = self.prompt_ids(text)
        self.questions, self.last_prompt = self.questions + 1, ids
        request = Request(f"prompt-{self.questions}", ids, self.settings.max_new_tokens, self.settings.sampling)
        completion = None
        try:
            for completion in self.engine.stream(request, self.settings.seed, model.stop_ids):
                whole = model.tokenizer.decode(completion.token_ids).strip().rstrip(UNFINISHED).rstrip()
                if len(whole) > len(written) and whole.startswith(written):
                    piece, written = whole[len(written) :], whole
                    yield piece
            if completion is not None:
                whole = model.tokenizer.decode(completion.token_ids).strip()
                if whole != written:
                    piece, written = whole[len(written) :], whole
                    yield piece
        finally:
            self.turns.append((self.asked.prompts.tagged(text, self.tags), written))

    def forget(self) -> None:
        """The next question is the first one again."""
        self.turns.clear()


def exact_text(ids: tuple[int, ...], tokenizer: Tokenizer) -> str:
    """What the model reads, special tokens by their names."""
    specials = {}
    if isinstance(tokenizer, FileTokenizer):
        specials = {number: token for token, number in tokenizer.special_tokens.items()}
    text = ""
    run: list[int] = []
    for number in ids:
        if number in specials:
            text, run = text + tokenizer.decode(run) + specials[number], []
        else:
            run.append(number)
    return text + tokenizer.decode(run)
