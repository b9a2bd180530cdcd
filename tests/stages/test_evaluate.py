"""Held-out figures against brute force, and what happens when nothing fits."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from humpback_jax.data.pairs import Pair
from humpback_jax.inference.requests import EngineConfig
from humpback_jax.models.llama import Llama
from humpback_jax.stages.evaluate import EvaluationConfig, evaluate

HELDOUT = [Pair("a", "Say x.", "x!", "test"), Pair("b", "Say y.", "yes, y", "test"), Pair("c", "?", "z" * 300, "test")]


@pytest.fixture(scope="module")
def config(small_generation):
    return EvaluationConfig(dataclasses.replace(small_generation, engine=EngineConfig(4, (128,), 8)))


def test_likelihoods_and_instructions(tiny_model, short_prompts, config, tmp_path):
    stage = evaluate(
        tmp_path / "evaluation", HELDOUT, "h0", {"base": tiny_model}, {"m_yx": tiny_model}, short_prompts, config
    )
    params = tiny_model.load_params(None, "float32")
    apply = jax.jit(Llama(tiny_model.card.config).apply)
    total, tokens = 0.0, 0
    for pair in HELDOUT[:2]:
        prompt = tiny_model.prompt_ids(short_prompts.tagged(pair.instruction, ("seed",)))
        answer = tiny_model.chat_format.answer_ids(pair.output, tiny_model.tokenizer)
        padding = [0] * (128 - len(prompt) - len(answer))
        logits = apply({"params": params}, np.asarray([[*prompt, *answer, *padding]]))
        log_probs = np.asarray(jax.nn.log_softmax(logits[0]), np.float64)
        total -= sum(log_probs[len(prompt) - 1 + i, token] for i, token in enumerate(answer))
        tokens += len(answer)
    figures = stage.manifest["figures"]["nll_per_token"]["base"]
    assert figures["nll"] == pytest.approx(total / tokens, abs=1e-3)
    assert figures["perplexity"] == pytest.approx(np.exp(total / tokens), rel=1e-2)
    assert (figures["pairs"], figures["tokens"]) == (2, tokens)
    assert 0 <= stage.manifest["figures"]["backward_chrf"]["m_yx"] <= 100
    rows = [json.loads(line) for line in (stage.directory / "backward_instructions.jsonl").read_text().splitlines()]
    assert [(row["id"], row["instruction"]) for row in rows] == [(pair.id, pair.instruction) for pair in HELDOUT]
    assert rows[2]["m_yx"] == ""
    assert stage.counts == {"in": 3, "out": 2, "rejected": {"too_long": 1}}


def test_pairs_that_do_not_fit_at_all_are_an_error_that_says_so(tiny_model, short_prompts, config, tmp_path):
    with pytest.raises(ValueError, match=r"held-out pairs? .*prompt_buckets"):
        evaluate(tmp_path / "evaluation", HELDOUT[2:], "h0", {"base": tiny_model}, {}, short_prompts, config)
