"""Several questions about one reading give what each gives alone, whatever the batch, the order and the prefix."""

import dataclasses

import numpy as np
import pytest

from humpback_jax.inference.requests import EngineConfig, Reading
from humpback_jax.stages.model import open_model

CONFIG = EngineConfig(slots=4, prompt_buckets=(16, 32, 64), max_new_tokens=8)
HEAD = (5, 6, 7, 8)


@pytest.fixture(scope="module")
def model(tiny_model_dir):
    return open_model(tiny_model_dir)


@pytest.fixture(scope="module")
def readings():
    rng = np.random.default_rng(0)
    made = []
    for i in range(11):
        ids = (*HEAD, *rng.integers(3, 200, int(rng.integers(8, 50))).tolist())
        first = int(rng.integers(1, 3))
        spans = ((len(HEAD) + 1, first), (len(HEAD) + 1 + first, len(ids) - len(HEAD) - 1 - first))
        made.append(Reading(f"r{i}", tuple(ids), spans, (3, 9)))
    return made


def test_spans_and_candidates_are_what_each_question_alone_gives(model, readings):
    engine = model.engine(CONFIG, "float32")
    found = engine.read_spans(readings)
    for s in range(2):
        parts = [(r.id, r.token_ids[: r.spans[s][0]], r.token_ids[r.spans[s][0] :][: r.spans[s][1]]) for r in readings]
        np.testing.assert_allclose(found[:, s], engine.log_likelihoods(parts), atol=1e-4)
    after = engine.candidate_log_probs([(r.id, r.token_ids) for r in readings], [r.candidate_ids for r in readings])
    np.testing.assert_allclose(found[:, 2:], after, atol=1e-4)


@pytest.mark.parametrize(("tokens", "prefix"), [(16, ()), (64, HEAD), (512, HEAD)])
def test_values_do_not_depend_on_the_batch_the_order_or_the_prefix(model, readings, tokens, prefix):
    plain = model.engine(CONFIG, "float32").read_spans(readings)
    engine = model.engine(dataclasses.replace(CONFIG, prefill_tokens=tokens), "float32")
    turned = engine.read_spans(readings[::-1], prefix)[::-1]
    np.testing.assert_allclose(turned, plain, atol=1e-4)


def test_an_empty_span_has_no_likelihood(model, readings):
    reading = dataclasses.replace(readings[0], spans=((5, 0), readings[0].spans[1]))
    assert model.engine(CONFIG, "float32").read_spans([reading])[0, 0] == 0.0


def test_progress_counts_readings_and_none_are_no_work(model, readings):
    engine, done = model.engine(CONFIG, "float32"), []
    engine.read_spans(readings, (), done.append)
    assert sum(done) == len(readings)


@pytest.mark.parametrize("prefix", [(9, 9), (*HEAD, 1)])
def test_a_reading_that_does_not_begin_with_the_prefix_is_named(model, readings, prefix):
    with pytest.raises(ValueError, match="reading 'r0' does not begin with"):
        model.engine(CONFIG, "float32").read_spans(readings, prefix)


def test_a_span_inside_the_prefix_is_refused(model, readings):
    early = dataclasses.replace(readings[0], spans=((2, 1), readings[0].spans[1]))
    with pytest.raises(ValueError, match="asks for the likelihood of what stands in them"):
        model.engine(CONFIG, "float32").read_spans([early], HEAD)
