"""How likely a model finds a text after another: what the benchmarks and the lm-evaluation-harness ask."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence

import numpy as np

from humpback_jax.inference.engine import Engine
from humpback_jax.inference.requests import EngineConfig
from humpback_jax.prompts.prompts import Prompts, load_prompts
from humpback_jax.stages.model import ModelHandle
from humpback_jax.tokenizers import HF_JSON, FileTokenizer, Tokenizer

# Coarser than for bulk scoring: a benchmark is small, and every bucket in use costs a compilation.
BUCKETS = (64, 128, 256, 512, 1024, 2048)


@dataclasses.dataclass(frozen=True)
class ScoringConfig:
    """How continuations are scored.

    Attributes:
      dtype: of activations, and of weights where nothing else is said.
      weight_dtype: `float32`, `bfloat16` or `int8`; None: `dtype`.
      max_length: tokens of context and continuation but the last one; a longer context loses its beginning. None: what
        the model was trained for.
      chat: contexts are user turns of the model's chat format and continuations begin its answer; else plain text.
      tags: of chat contexts, any of "seed" and "web".
      tensor_parallelism: devices that share one copy of the weights.
    """

    dtype: str = "float32"
    weight_dtype: str | None = None
    max_length: int | None = None
    chat: bool = False
    tags: tuple[str, ...] = ()
    tensor_parallelism: int = 1


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Token ids of a context, at least one, and of what continues it, at least one."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


class ContinuationScorer:
    """A model and its engine; texts in, log-likelihoods in nats out."""

    def __init__(self, model: ModelHandle, config: ScoringConfig = ScoringConfig()) -> None:
        self.model, self.config = model, config
        self.max_length = config.max_length or model.card.config.max_position_embeddings
        self.bos_ids = (model.tokenizer.bos_id,) if adds_bos(model.tokenizer) else ()
        self.prompts: Prompts = load_prompts()
        self._engines: dict[int, Engine] = {}

    @property
    def prefix_id(self) -> int:
        """The token that an empty context stands for: BOS, or else EOS."""
        tokenizer = self.model.tokenizer
        token_id = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
        if token_id is None:
            raise ValueError(f"the tokenizer of {self.model.path} has neither BOS nor EOS for an empty context")
        return token_id

    def engine(self, longest: int, max_new_tokens: int = 8) -> Engine:
        """An engine with room for `longest` prompt tokens; loaded once per room for new tokens."""
        if max_new_tokens not in self._engines:
            config = EngineConfig(
                slots=16,
                prompt_buckets=buckets_up_to(max(longest, self.max_length + 1)),
                max_new_tokens=max_new_tokens,
                share_prefix=False,  # questions share a word or two, and each length of a prefix has its own programs
                tensor_parallelism=self.config.tensor_parallelism,
            )
            self._engines.clear()  # one copy of the weights at a time
            self._engines[max_new_tokens] = self.model.engine(config, self.config.dtype, self.config.weight_dtype)
        return self._engines[max_new_tokens]

    def encode_context(self, text: str) -> tuple[int, ...]:
        """Ids of a context alone, as a prompt for generation."""
        if self.config.chat:
            return self.model.prompt_ids(self.prompts.tagged(text, self.config.tags))
        return (*self.bos_ids, *self.model.tokenizer.encode(text)) or (self.prefix_id,)

    def encode(self, context: str, continuation: str) -> Encoded:
        """Ids of both, cut where lm-evaluation-harness cuts: spaces before the seam belong to the continuation.

        Raises:
          ValueError: the continuation has no token.
        """
        if self.config.chat:
            ids = self.model.chat_format.answer_ids(continuation.strip(), self.model.tokenizer)[:-1]
            return self._checked(self.encode_context(context), tuple(ids), continuation)
        stripped = context.rstrip()
        continuation = context[len(stripped) :] + continuation
        if not stripped:
            ids = self.model.tokenizer.encode(continuation)
            return self._checked((self.prefix_id,), tuple(ids), continuation)
        whole = (*self.bos_ids, *self.model.tokenizer.encode(stripped + continuation))
        length = len(self.bos_ids) + len(self.model.tokenizer.encode(stripped))
        return self._checked(whole[:length], whole[length:], continuation)

    def _checked(self, context: tuple[int, ...], continuation: tuple[int, ...], text: str) -> Encoded:
        if not context or not continuation:
            raise ValueError(f"the continuation {text!r} has no token of its own after its context")
        return Encoded(context, continuation)

    def score(
        self, requests: Sequence[Encoded], progress: Callable[[int], None] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log-likelihoods, float64 [n], and whether greedy decoding would write the continuation, bool [n]."""
        pairs = [(str(i), *self._fitting(request)) for i, request in enumerate(requests)]
        longest = max((len(prompt) + len(answer) for _, prompt, answer in pairs), default=1)
        scored = self.engine(longest).log_likelihoods(pairs, progress, count_misses=True)
        return scored[:, 0], scored[:, 1] == 0

    def _fitting(self, request: Encoded) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The last `max_length` + 1 tokens of both; the very last one is only predicted, never read."""
        room = self.max_length + 1 - len(request.continuation)
        if room < 1:
            raise ValueError(
                f"a continuation of {len(request.continuation)} tokens does not fit max_length {self.max_length}; "
                "raise it"
            )
        return request.context[-room:], request.continuation


def buckets_up_to(length: int) -> tuple[int, ...]:
    """Prompt buckets whose last one holds `length` tokens."""
    fitting = [bucket for bucket in BUCKETS if bucket < length]
    if length > BUCKETS[-1]:
        doublings = math.ceil(math.log2(length / BUCKETS[-1]))
        fitting += [BUCKETS[-1] << n for n in range(1, doublings)]
    return (*fitting, -(-length // 32) * 32)


def adds_bos(tokenizer: Tokenizer) -> bool:
    """True where this tokenizer's makers put BOS before every text: configured, in tokenizer.json, or SentencePiece."""
    if tokenizer.bos_id is None or not isinstance(tokenizer, FileTokenizer):
        return False
    if isinstance(configured := tokenizer.config.get("add_bos_token"), bool):
        return configured
    if HF_JSON not in tokenizer.files:
        return True
    special = next((token for token, number in tokenizer.special_tokens.items() if number == tokenizer.bos_id), None)
    return special is not None and special in json.dumps(
        json.loads(tokenizer.files[HF_JSON]).get("post_processor"), ensure_ascii=False
    )
