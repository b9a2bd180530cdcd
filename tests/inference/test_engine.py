"""The engine against brute force: every figure is computed again from full forward passes, without a cache."""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from humpback_jax.inference.engine import Engine, shared_prefix
from humpback_jax.inference.requests import EngineConfig, Probe, Request
from humpback_jax.inference.sampling import (
    SamplingConfig,
    perturbed_log_probs,
    request_keys,
    request_number,
)
from humpback_jax.models.config import get_config
from humpback_jax.models.llama import Llama, init_params

BUCKETS, MAX_NEW, LONGEST = (12, 24), 10, 48
STOP_IDS = tuple(range(0, 320, 8))  # one token in eight, so that about half of the rows stop by themselves
SEED = 5
MODEL = Llama(get_config("tiny"))
ROUNDING = 1e-4  # of log-probabilities, between compiled programs of different shapes


@pytest.fixture(scope="module")
def params():
    # Ten times the usual scale at the output: a random model that prefers some tokens to others.
    params = init_params(MODEL, jax.random.key(0))
    return params | {"lm_head": {"kernel": 10 * params["lm_head"]["kernel"]}}


@pytest.fixture(scope="module")
def engine(params):
    return make_engine(params, 4)


def make_engine(params, batch_size, buckets=BUCKETS):
    config = EngineConfig(slots=batch_size, prompt_buckets=buckets, max_new_tokens=MAX_NEW)
    return Engine(MODEL, lambda shardings: jax.device_put(params, shardings), config)


def make_requests(count, sampling=None):
    """Prompts and limits of many lengths; every third request is greedy unless `sampling` is given."""
    rng = np.random.default_rng(count)
    requests = []
    for i in range(count):
        prompt = tuple(rng.integers(0, 320, rng.integers(1, BUCKETS[-1] + 1)).tolist())
        chosen = sampling or SamplingConfig(0.0 if i % 3 == 0 else 0.9, 0.9 if i % 2 else 1.0)
        requests.append(Request(f"r{i}", prompt, int(rng.integers(1, MAX_NEW + 1)), chosen))
    return requests


@functools.partial(jax.jit, static_argnums=0)
def _logits_at(model, params, tokens, index):
    return model.apply({"params": params}, tokens)[0, index]


def next_logits(params, ids):
    """Logits after `ids`, by one full pass; padding on the right cannot change them in a causal model."""
    tokens = np.zeros((1, LONGEST), np.int32)
    tokens[0, : len(ids)] = ids
    return _logits_at(MODEL, params, tokens, len(ids) - 1)


def next_log_probs(params, ids):
    return np.asarray(jax.nn.log_softmax(next_logits(params, ids)), np.float64)


_perturbed = jax.jit(perturbed_log_probs)
_keys = jax.jit(request_keys)


def draw_scores(params, request, written):
    """The scores whose argmax is the next token of a request that has written `written`, by one full pass."""
    ids = [*request.prompt_ids, *written]
    logits = next_logits(params, ids)[None]
    if request.sampling.temperature == 0:
        return np.asarray(jax.nn.log_softmax(logits))[0]
    number = np.asarray([request_number(request.id)], np.uint32)
    one = lambda value: jnp.asarray([value], jnp.float32)  # noqa: E731
    settings = request.sampling
    scores = _perturbed(
        logits, _keys(SEED, number), jnp.asarray([len(ids)]), one(settings.temperature), one(settings.top_p)
    )
    return np.asarray(scores)[0]


def token_at(completion, place):
    """The token drawn at `place`, or None where the model stopped."""
    return completion.token_ids[place] if place < len(completion.token_ids) else None


def score_of(scores, token):
    return scores[list(STOP_IDS)].max() if token is None else scores[token]


def replay(params, request, completion):
    """Follows a completion token by token and asserts that each draw is the best by the recomputed scores."""
    draws = len(completion.token_ids) + (not completion.truncated)
    for place in range(draws):
        scores = draw_scores(params, request, completion.token_ids[:place])
        assert scores.max() - score_of(scores, token_at(completion, place)) < ROUNDING, (request.id, place)


def test_greedy_and_sampled_text_is_what_full_passes_give(engine, params):
    requests = make_requests(12)
    for request, completion in zip(requests, engine.generate(requests, SEED, STOP_IDS), strict=True):
        replay(params, request, completion)


def test_stops_and_limits(engine):
    requests = make_requests(60)
    completions = engine.generate(requests, SEED, STOP_IDS)
    assert [c.id for c in completions] == [r.id for r in requests]
    for request, completion in zip(requests, completions, strict=True):
        assert not set(completion.token_ids) & set(STOP_IDS)
        assert completion.truncated == (len(completion.token_ids) == request.max_new_tokens)
    assert {c.truncated for c in completions} == {True, False}
    assert any(not c.token_ids for c in completions)


def test_any_order_of_requests_gives_the_same_text(engine):
    requests = make_requests(30)
    completions = engine.generate(requests, SEED, STOP_IDS)
    order = np.random.default_rng(0).permutation(30)
    shuffled = engine.generate([requests[i] for i in order], SEED, STOP_IDS)
    assert shuffled == [completions[i] for i in order]


def test_a_part_of_the_requests_gives_the_same_text(engine):
    requests = make_requests(30)
    completions = engine.generate(requests, SEED, STOP_IDS)
    assert engine.generate(requests[7:13], SEED, STOP_IDS) == completions[7:13]


def test_another_seed_draws_other_text(engine):
    requests = make_requests(20, SamplingConfig(1.0, 1.0))
    assert engine.generate(requests, SEED, STOP_IDS) != engine.generate(requests, SEED + 1, STOP_IDS)


@pytest.mark.slow
def test_batch_sizes_give_the_same_text_but_for_ties(params):
    requests = make_requests(200)
    by_size = [make_engine(params, size, BUCKETS[1:]).generate(requests, SEED, STOP_IDS) for size in (16, 3, 1)]
    for request, *completions in zip(requests, *by_size, strict=True):
        for other in completions[1:]:
            if other != completions[0]:
                assert_tie(params, request, completions[0], other)


def assert_tie(params, request, one, other):
    """The first draw in which two completions differ must be a tie within rounding, recomputed on its own."""
    place = next(i for i in range(MAX_NEW + 1) if token_at(one, i) != token_at(other, i))
    scores = draw_scores(params, request, one.token_ids[:place])
    gap = abs(score_of(scores, token_at(one, place)) - score_of(scores, token_at(other, place)))
    assert gap < ROUNDING, f"{request.id} differs at place {place} by {gap}"


def test_log_likelihoods_are_sums_over_the_answer(engine, params):
    rng = np.random.default_rng(0)
    ids = lambda low, high: tuple(rng.integers(0, 320, rng.integers(low, high)).tolist())  # noqa: E731
    pairs = [(f"p{i}", ids(1, 12), ids(1, 12)) for i in range(10)]
    expected = [
        sum(next_log_probs(params, [*prompt, *answer[:i]])[answer[i]] for i in range(len(answer)))
        for _, prompt, answer in pairs
    ]
    np.testing.assert_allclose(engine.log_likelihoods(pairs), expected, atol=1e-3)


def test_candidate_log_probs_are_those_after_the_prompt(engine, params):
    prompts = [(request.id, request.prompt_ids) for request in make_requests(10)]
    candidates = [(i, i + 1, 300 - i) for i in range(10)]
    advanced = []
    found = engine.candidate_log_probs(prompts, candidates, advanced.append)
    expected = [next_log_probs(params, ids)[list(c)] for (_, ids), c in zip(prompts, candidates, strict=True)]
    np.testing.assert_allclose(found, expected, atol=ROUNDING)
    assert sum(advanced) == 10


@pytest.mark.filterwarnings("error:Some donated buffers were not usable")
def test_probes_see_what_was_written_and_what_is_forced(engine, params):
    requests = make_requests(40)
    forced, candidates = (9, 17, 0, 25), (1, 2, 3, 4, 5)
    kinds = []

    def probe(completion):
        if completion.id.endswith("7"):
            return None
        kinds.append("truncated" if completion.truncated else "stopped" if completion.token_ids else "empty")
        return Probe(forced[: 1 + int(completion.id[1:]) % 4], candidates)

    completions = engine.generate(requests, SEED, STOP_IDS, probe=probe)
    assert set(kinds) == {"truncated", "stopped", "empty"}
    plain = engine.generate(requests, SEED, STOP_IDS)
    for request, completion, without in zip(requests, completions, plain, strict=True):
        assert (completion.token_ids, completion.truncated) == (without.token_ids, without.truncated)
        if request.id.endswith("7"):
            assert completion.probe_log_probs is None
            continue
        ids = [*request.prompt_ids, *completion.token_ids, *forced[: 1 + int(request.id[1:]) % 4]]
        expected = next_log_probs(params, ids)[list(candidates)]
        np.testing.assert_allclose(completion.probe_log_probs, expected, atol=ROUNDING, err_msg=request.id)


def test_a_probe_that_is_too_long_is_refused(engine):
    with pytest.raises(ValueError, match="request 'r0': a probe of 20 tokens; 15 fit"):
        engine.generate(make_requests(1), SEED, STOP_IDS, probe=lambda completion: Probe((1,) * 20, (1,)))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("bad", (), 2), "request 'bad' has an empty prompt"),
        (Request("bad", (1,) * 25, 2), "request 'bad' has a prompt of 25 tokens, but the longest bucket holds 24"),
        (
            Request("bad", (1,), MAX_NEW + 1),
            r"request 'bad' asks for 11 new tokens; .* \(EngineConfig\.max_new_tokens\)",
        ),
        (Request("bad", (1,), 0), "request 'bad' asks for 0 new tokens"),
        (Request("r0", (1,), 2), "two requests have the id 'r0'"),
    ],
)
def test_bad_requests_are_named(engine, request_, message):
    with pytest.raises(ValueError, match=message):
        engine.generate([*make_requests(3), request_], SEED, STOP_IDS)


def test_weights_that_are_not_numbers_name_the_request(params):
    broken = params | {"final_norm": {"scale": params["final_norm"]["scale"].at[3].set(jnp.nan)}}
    with pytest.raises(FloatingPointError, match=r"request 'r0': the model produced logits that are not numbers"):
        make_engine(broken, 4).generate(make_requests(1), SEED, STOP_IDS)


@contextlib.contextmanager
def compilations():
    """The list of programs compiled meanwhile."""
    compiled = []

    def listen(event, duration, **fields):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(fields.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.slow
def test_a_mixed_workload_compiles_the_declared_programs_and_no_other(params):
    engine = make_engine(params, 2, buckets=(4, 9, 20))
    prompts = [(1,) * length for length in (1, 4, 2, 15, 20, 3, 13)]  # none for the bucket of 9
    settings = (SamplingConfig(0.0), SamplingConfig(0.7, 0.9), SamplingConfig(1.3, 1.0))
    requests = [Request(f"q{i}", ids, 1 + i % MAX_NEW, settings[i % 3]) for i, ids in enumerate(prompts)]
    with compilations() as compiled:
        engine.generate(requests, SEED, STOP_IDS)
    per_bucket = ["jit(prefill_into_slots)", "jit(decode_chunk)"]
    assert compiled == ["jit(init_slots)", *per_bucket, "jit(grow_cache)", *per_bucket]
    with compilations() as compiled:
        engine.generate(requests[::-1], SEED + 1, STOP_IDS)
    assert compiled == []


def test_programs_are_compiled_at_the_start_and_none_later(params):
    engine = make_engine(params, 5, buckets=(3, 6, 11, 17))
    head, lengths = (9, 8), [3, 4, 7, 12, 17, 16]
    requests = [Request(f"q{i}", (*head, *range(i, i + n - 2)), 1 + i % MAX_NEW) for i, n in enumerate(lengths)]
    prompts, candidates = [(request.id, request.prompt_ids) for request in requests], [(1, 2, 3)] * len(requests)
    engine.job_prefix_ids = head
    with compilations() as compiled:
        engine.compile_generation(lengths, STOP_IDS, probe_width=3)
        engine.compile_scoring(lengths, 3)
    kinds = {"init_slots": 2, "prefill_into_slots": 4, "decode_chunk": 2, "probe_slots": 2, "grow_cache": 1}
    counted = {kind: compiled.count(f"jit({kind})") for kind in (*kinds, "candidate_log_probs", "compute_prefix")}
    assert counted == kinds | {"candidate_log_probs": 4, "compute_prefix": 1}
    with compilations() as compiled:
        for part in (requests, requests[3:], requests[:1], requests[4:5]):
            engine.generate(part, SEED, STOP_IDS, probe=lambda completion: Probe((9,), (1, 2, 3)))
        engine.candidate_log_probs(prompts, candidates)
    assert compiled == []


def test_engines_of_the_same_shapes_share_programs(params):
    lengths = [4, 9]
    make_engine(params, 6).compile_generation(lengths, STOP_IDS)
    with compilations() as compiled:
        make_engine(params, 6).compile_generation(lengths, STOP_IDS)
    assert not {"jit(prefill_into_slots)", "jit(decode_chunk)", "jit(init_slots)"} & set(compiled)


@pytest.mark.slow
def test_a_shared_prefix_changes_neither_text_nor_logits(params):
    """Shared prefix, no shared prefix, other buckets and slots, single unpadded rows: one and the same."""
    head = (7, 200, 31, 5, 64)
    requests = [
        dataclasses.replace(request, prompt_ids=(*head, *request.prompt_ids[:12])) for request in make_requests(24)
    ]
    candidates = (1, 2, 3, 4, 5)
    probe = lambda completion: Probe((9, 17), candidates)  # noqa: E731

    def run(slots, buckets, share_prefix):
        config = EngineConfig(slots, buckets, MAX_NEW, share_prefix=share_prefix)
        engine = Engine(MODEL, lambda shardings: jax.device_put(params, shardings), config)
        prompts = [(request.id, request.prompt_ids) for request in requests]
        scores = engine.candidate_log_probs(prompts, [candidates] * len(prompts))
        return scores, engine.generate(requests, SEED, STOP_IDS, probe=probe)

    runs = [run(8, (6, 12, 24), True), run(8, (12, 24), False), run(3, (20,), True)]
    alone = [next_log_probs(params, request.prompt_ids)[list(candidates)] for request in requests]
    for scores, completions in runs:
        np.testing.assert_allclose(scores, alone, atol=ROUNDING)
        for request, completion, first in zip(requests, completions, runs[0][1], strict=True):
            if completion.token_ids != first.token_ids:
                assert_tie(params, request, first, completion)
            ids = [*request.prompt_ids, *completion.token_ids, 9, 17]
            expected = next_log_probs(params, ids)[list(candidates)]
            np.testing.assert_allclose(completion.probe_log_probs, expected, atol=ROUNDING, err_msg=request.id)


def test_a_prefix_that_a_prompt_lacks_is_refused(engine, monkeypatch):
    monkeypatch.setattr(engine, "job_prefix_ids", (1, 2))
    with pytest.raises(ValueError, match="does not begin with the 2 shared tokens"):
        engine.generate(make_requests(3), SEED, STOP_IDS)


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ([(1, 2, 3), (1, 2, 4, 5)], (1, 2)),
        ([(1, 2), (1, 2, 3)], (1,)),
        ([(1, 2)], (1,)),
        ([(1,), (2,)], ()),
        ([], ()),
    ],
)
def test_shared_prefix_leaves_every_prompt_a_token(prompts, expected):
    assert shared_prefix(prompts) == expected


def test_progress_counts_every_request_once(engine):
    advanced = []
    engine.generate(make_requests(30), SEED, STOP_IDS, advanced.append)
    assert sum(advanced) == 30


@pytest.mark.parametrize("values", [{"slots": 0}, {"prompt_buckets": ()}, {"prompt_buckets": (8, 4)}])
def test_impossible_shapes_are_refused(values):
    with pytest.raises(
        ValueError, match=r"slots takes a whole number of at least 1|give one length or more, in ascending order"
    ):
        EngineConfig(**values)
