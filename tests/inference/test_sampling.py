"""Sampling: the nucleus against a sort in float64, and draws that depend on (seed, request, position) alone."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humpback_jax.inference.sampling import SamplingConfig, nucleus, request_keys, request_number, sample

UNITS = 1024  # probabilities in units of 1/1024 add up without rounding, so that the comparison is exact
VOCAB = 12
compiled_nucleus = jax.jit(nucleus)
compiled_sample = jax.jit(sample)


def reference_nucleus(probabilities, top_p):
    """Sorted, float64: the most probable tokens until their mass reaches top_p, and all that tie with the last."""
    descending = np.sort(np.asarray(probabilities, np.float64))[::-1]
    reached = np.nonzero(np.cumsum(descending) >= top_p)[0]
    threshold = descending[reached[0]] if len(reached) else 0.0
    return np.asarray(probabilities, np.float64) >= threshold


def nucleus_of_row(probabilities, top_p):
    return np.asarray(compiled_nucleus(jnp.asarray([probabilities], jnp.float32), jnp.asarray([top_p], jnp.float32)))[0]


@st.composite
def exact_probabilities(draw):
    cuts = sorted(draw(st.lists(st.integers(0, UNITS), min_size=VOCAB - 1, max_size=VOCAB - 1)))
    return np.diff([0, *cuts, UNITS]) / UNITS


@settings(deadline=None, max_examples=200)
@given(exact_probabilities(), st.integers(1, 2 * UNITS))
def test_the_nucleus_is_that_of_a_sort(probabilities, half_units):
    top_p = half_units / (2 * UNITS)
    assert nucleus_of_row(probabilities, top_p).tolist() == reference_nucleus(probabilities, top_p).tolist()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.floats(0.05, 0.99), st.floats(0.1, 5.0))
def test_the_nucleus_of_a_softmax_lies_between_those_of_slightly_other_masses(seed, top_p, scale):
    probabilities = np.asarray(jax.nn.softmax(scale * np.random.default_rng(seed).normal(size=320).astype(np.float32)))
    found = nucleus_of_row(probabilities, top_p)
    smaller, larger = (reference_nucleus(probabilities, top_p + delta) for delta in (-1e-5, 1e-5))
    assert not np.any(smaller & ~found)
    assert not np.any(found & ~larger)


def test_tokens_that_tie_with_the_last_member_are_members():
    assert nucleus_of_row([0.5, 0.125, 0.125, 0.125, 0.125], 0.6).tolist() == [True] * 5
    assert nucleus_of_row([0.25] * 4, 0.1).tolist() == [True] * 4


def test_the_whole_mass_keeps_every_token_of_weight():
    probabilities = np.asarray(jax.nn.softmax(np.random.default_rng(0).normal(size=320).astype(np.float32)))
    assert probabilities.min() > 1e-6
    assert nucleus_of_row(probabilities, 1.0).all()


@pytest.mark.parametrize("top_p", [0.01, 0.5, 1.0])
def test_a_certain_token_is_alone(top_p):
    one_hot = np.eye(VOCAB)[3]
    assert nucleus_of_row(one_hot, top_p).tolist() == one_hot.astype(bool).tolist()


def test_every_row_has_its_own_mass():
    probabilities = jnp.asarray([[0.5, 0.25, 0.125, 0.125]] * 3, jnp.float32)
    members = compiled_nucleus(probabilities, jnp.asarray([0.4, 0.7, 0.8], jnp.float32))
    assert np.asarray(members).sum(axis=1).tolist() == [1, 2, 4]


def draw(logits, numbers, positions, temperature=0.8, top_p=0.9, seed=0):
    rows = len(numbers)
    return np.asarray(
        compiled_sample(
            jnp.asarray(logits, jnp.float32),
            request_keys(seed, np.asarray(numbers, np.uint32)),
            jnp.asarray(positions, jnp.int32),
            jnp.full(rows, temperature, jnp.float32),
            jnp.full(rows, top_p, jnp.float32),
        )
    )


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(32, 50)), rng.integers(0, 2**32, 32), rng.integers(0, 100, 32)


def test_temperature_zero_is_greedy_beside_rows_that_are_not(rows):
    logits, numbers, positions = rows
    temperature = np.where(np.arange(32) % 2, 0.0, 3.0).astype(np.float32)
    drawn = np.asarray(
        compiled_sample(
            jnp.asarray(logits, jnp.float32),
            request_keys(0, np.asarray(numbers, np.uint32)),
            jnp.asarray(positions, jnp.int32),
            jnp.asarray(temperature),
            jnp.ones(32, jnp.float32),
        )
    )
    best = logits.argmax(axis=1)
    assert drawn[1::2].tolist() == best[1::2].tolist()
    assert drawn[::2].tolist() != best[::2].tolist()
    assert draw(logits, numbers, positions, temperature=0.0).tolist() == best.tolist()


def test_a_row_draws_the_same_in_any_place_and_batch(rows):
    logits, numbers, positions = rows
    together = draw(logits, numbers, positions)
    order = np.random.default_rng(1).permutation(32)
    assert draw(logits[order], numbers[order], positions[order]).tolist() == together[order].tolist()
    alone = [draw(logits[i : i + 1], numbers[i : i + 1], positions[i : i + 1])[0] for i in range(4)]
    assert alone == together[:4].tolist()


@pytest.mark.parametrize("changed", ["seed", "request", "position"])
def test_another_seed_request_or_position_draws_anew(rows, changed):
    logits, numbers, positions = rows
    together = draw(logits, numbers, positions)
    other = draw(
        logits,
        numbers + (changed == "request"),
        positions + (changed == "position"),
        seed=int(changed == "seed"),
    )
    assert (other != together).mean() > 0.5


def test_frequencies_are_those_of_the_renormalised_nucleus():
    probabilities = np.asarray([0.4, 0.25, 0.15, 0.1, 0.05, 0.03, 0.02])
    temperature, top_p, draws = 0.7, 0.9, 20_000
    tempered = probabilities ** (1 / temperature) / (probabilities ** (1 / temperature)).sum()
    members = reference_nucleus(tempered, top_p)
    expected = np.where(members, tempered, 0) / tempered[members].sum() * draws
    assert 1 < members.sum() < len(probabilities)
    logits = np.broadcast_to(np.log(probabilities), (draws, len(probabilities)))
    drawn = draw(logits, np.full(draws, 7), np.arange(draws), temperature, top_p)
    counts = np.bincount(drawn, minlength=len(probabilities))
    assert counts[~members].sum() == 0
    chi_square = ((counts - expected)[members] ** 2 / expected[members]).sum()
    assert chi_square < 25  # members - 1 degrees of freedom: beyond 25 in fewer than one of 10,000 fair experiments


def test_request_numbers_are_the_same_everywhere():
    assert request_number("r1") == 2_197_023_174
    assert request_number("é") == 1_251_562_878
    assert request_keys(3, np.asarray([2_197_023_174], np.uint32)).shape == (1,)


@pytest.mark.parametrize("values", [{"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_impossible_settings_are_refused(values):
    with pytest.raises(ValueError, match=r"temperature takes a number of at least 0|top_p takes a number above 0"):
        SamplingConfig(**values)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from humpback_jax.inference.sampling import sample
from humpback_jax.partitioning import MeshShape, make_mesh

mesh = make_mesh(MeshShape(fsdp=1, tensor=2))
logits = 4 * jax.random.normal(jax.random.key(0), (6, 512))
temperature = jnp.asarray([0, 0.7, 0.7, 1, 1, 9.0])
settings = (jax.random.split(jax.random.key(1), 6), jnp.arange(6), temperature, jnp.full(6, 0.9))
sharded = jax.device_put(logits, NamedSharding(mesh, PartitionSpec(None, "tensor")))
print(np.array_equal(jax.jit(sample)(sharded, *settings), jax.jit(sample)(logits, *settings)))
"""


def test_a_vocabulary_over_two_devices_gives_the_same_draws():
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-c", SHARDED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | flags)
    assert done.stdout.strip() == "True", done.stderr[-2000:]
