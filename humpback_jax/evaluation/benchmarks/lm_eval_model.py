"""Our models in lm-evaluation-harness: `--model humpback --model_args path=MODEL`. Importing this registers the name.

    humpback evaluate harness --model humpback --model_args path=runs/quickstart/m2 --tasks arc_easy

runs the harness's own command line; programs import this module and call `lm_eval.simple_evaluate(model="humpback")`.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from humpback_jax.evaluation.benchmarks.continuations import (
    ContinuationScorer,
    Encoded,
    ScoringConfig,
)
from humpback_jax.inference.requests import Request
from humpback_jax.inference.sampling import SamplingConfig
from humpback_jax.prompts.prompts import TAG_CHOICES
from humpback_jax.runtime.progress import progress_bar
from humpback_jax.stages.model import open_named_model

MAX_GEN_TOKENS = 256
SEED = 1234


@register_model("humpback")
class HumpbackLM(LM):
    """A native model under the harness.

    Model arguments: `path` (a run, a stage, a folder or a name; see `find_model`), and of
    `ScoringConfig` `dtype`, `weight_dtype`, `max_length`, `chat`, `tensor_parallelism`, and `tags` (both, seed, web or
    none). With `chat=True` every context is a user turn in the model's chat format; `--apply_chat_template` is not for
    this class, because our chat formats are token ids, which a string cannot carry.
    """

    def __init__(self, path: str, tags: str = "none", **arguments: Any) -> None:
        super().__init__()
        names = {field.name for field in dataclasses.fields(ScoringConfig)}
        if unknown := set(arguments) - names - {"batch_size", "max_batch_size", "device"}:
            raise ValueError(f"model_args: unknown {', '.join(sorted(unknown))}; see HumpbackLM for the names")
        if tags not in TAG_CHOICES:
            raise ValueError(f"model_args: tags is {tags!r}; choose from {', '.join(TAG_CHOICES)}")
        scoring = {name: value for name, value in arguments.items() if name in names}
        config = ScoringConfig(tags=TAG_CHOICES[tags], **scoring)
        self.scorer = ContinuationScorer(open_named_model(path), config)

    @property
    def tokenizer_name(self) -> str:
        """Names the tokenizer in the harness's request caches."""
        return str(self.scorer.model.path).replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Refused: says what to write instead."""
        raise NotImplementedError("write --model_args chat=True instead of --apply_chat_template with --model humpback")

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """(log-likelihood in nats, whether greedy decoding writes it) of every (context, continuation)."""
        encoded = [self.scorer.encode(*request.args) for request in requests]
        scores = self._scored(encoded, "loglikelihood")
        for request, score in zip(requests, scores, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, score)
        return scores

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Log-likelihood in nats of every whole text, in windows of the model's length that overlap by one token."""
        windows, owners = [], []
        for number, request in enumerate(requests):
            tokens = self.scorer.model.tokenizer.encode(request.args[0])
            rolling = utils.get_rolling_token_windows(
                token_list=tokens,
                prefix_token=self.scorer.prefix_id,
                max_seq_len=self.scorer.max_length,
                context_len=1,
            )
            for context, continuation in map(utils.make_disjoint_window, rolling):
                windows.append(Encoded(tuple(context), tuple(continuation)))
                owners.append(number)
        totals = [0.0] * len(requests)
        for number, (value, _) in zip(owners, self._scored(windows, "rolling"), strict=True):
            totals[number] += value
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """A continuation of every context up to the first stop string; greedy unless `do_sample`."""
        settings = [_generation_settings(request.args[1]) for request in requests]
        longest = max((limit for _, limit, _ in settings), default=1)
        room = self.scorer.max_length - longest
        if room < 1:
            raise ValueError(f"max_gen_toks {longest} leaves no room for a context in max_length {room + longest}")
        prompts = [self.scorer.encode_context(request.args[0])[-room:] for request in requests]
        engine_requests = [
            Request(str(i), prompt, limit, sampling)
            for i, (prompt, (_, limit, sampling)) in enumerate(zip(prompts, settings, strict=True))
        ]
        engine, model = self.scorer.engine(max(map(len, prompts), default=1), longest), self.scorer.model
        with progress_bar("generate_until", len(requests), "requests") as bar:
            completions = engine.generate(engine_requests, SEED, model.stop_ids, bar.advance)
        texts = []
        for request, completion, (until, _, _) in zip(requests, completions, settings, strict=True):
            texts.append(_cut(_decoded_after(model.tokenizer, completion.token_ids), until))
            self.cache_hook.add_partial("generate_until", request.args, texts[-1])
        return texts

    def _scored(self, encoded: Sequence[Encoded], description: str) -> list[tuple[float, bool]]:
        with progress_bar(description, len(encoded), "requests") as bar:
            values, greedy = self.scorer.score(encoded, bar.advance)
        return list(zip(values.tolist(), greedy.tolist(), strict=True))


def _generation_settings(arguments: dict[str, Any]) -> tuple[list[str], int, SamplingConfig]:
    """(stop strings, most new tokens, sampling) of the harness's generation arguments."""
    until = arguments.get("until") or []
    limit = int(arguments.get("max_gen_toks") or arguments.get("max_new_tokens") or MAX_GEN_TOKENS)
    sampled = arguments.get("do_sample") and float(arguments.get("temperature") or 0.0) > 0
    temperature = float(arguments["temperature"]) if sampled else 0.0
    sampling = SamplingConfig(temperature=temperature, top_p=float(arguments.get("top_p") or 1.0))
    return [until] if isinstance(until, str) else list(until), limit, sampling


def _cut(text: str, until: Sequence[str]) -> str:
    """The text before the first stop string."""
    ends = [text.find(stop) for stop in until if stop and stop in text]
    return text[: min(ends)] if ends else text


def _decoded_after(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of ids as it stands after other text: SentencePiece takes off the first space of what it decodes alone."""
    opening = tokenizer.encode("a")
    return tokenizer.decode([*opening, *ids])[len(tokenizer.decode(opening)) :]


def run_harness(arguments: Sequence[str]) -> None:
    """The harness's own command line, with `humpback` among its models."""
    from lm_eval.__main__ import cli_evaluate

    previous = sys.argv
    sys.argv = ["lm_eval", *arguments]
    try:
        cli_evaluate()
    finally:
        sys.argv = previous
