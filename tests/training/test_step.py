"""Packed = unpacked, accumulated = whole, any mesh = one device: losses and gradients of one update."""

import json
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from humpback_jax.data.examples import Example
from humpback_jax.data.packing import packed_rows, unpacked_rows
from humpback_jax.models.config import get_config
from humpback_jax.models.llama import Llama, init_params
from humpback_jax.training.loss import summed_loss
from humpback_jax.training.step import accumulate_gradients

TINY = get_config("tiny")


def examples_full_of_id_0(number=9):
    """Prompts and answers in which id 0, where most packers see padding, is the most frequent word."""
    rng = np.random.default_rng(0)
    draw = lambda n: np.where(rng.random(n) < 0.6, 0, rng.integers(0, TINY.vocab_size, n)).astype(np.int32)  # noqa: E731
    return [Example(draw(rng.integers(1, 12)), draw(rng.integers(1, 12)), f"e{i}") for i in range(number)]


@pytest.fixture(scope="module")
def params():
    return init_params(Llama(TINY), jax.random.key(0))


def loss_and_gradients(params, rows, chunk=8):
    model = Llama(TINY)
    batch = {name: jnp.asarray(value) for name, value in rows.items()}
    value = lambda p: summed_loss(model, p, batch, None, chunk)  # noqa: E731
    (loss, weights), gradients = jax.jit(jax.value_and_grad(value, has_aux=True))(params)
    return float(loss), float(weights), gradients


def assert_same_gradients(found, expected, rtol):
    scale = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(expected))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)


def test_packed_and_unpacked_agree_on_data_full_of_id_0(params):
    examples = examples_full_of_id_0()
    packed = packed_rows(examples, 40)
    assert packed["decoder_segment_ids"].max() > 1, "nothing was packed"
    loss, weights, gradients = loss_and_gradients(params, packed)
    loss_alone, weights_alone, gradients_alone = loss_and_gradients(params, unpacked_rows(examples, 40))
    assert weights == weights_alone == sum(len(e.answer_ids) for e in examples)
    assert loss == pytest.approx(loss_alone, rel=1e-6)
    assert_same_gradients(gradients, gradients_alone, 1e-5)


def test_loss_equals_a_plain_float64_computation(params):
    examples = examples_full_of_id_0(4)
    loss, _, _ = loss_and_gradients(params, packed_rows(examples, 64))
    total, apply = 0.0, jax.jit(Llama(TINY).apply)
    for example in examples:
        ids = np.concatenate([example.prompt_ids, example.answer_ids])
        logits = np.asarray(apply({"params": params}, ids[None])[0], np.float64)
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        start = len(example.prompt_ids)
        total -= sum(log_probs[i - 1, ids[i]] for i in range(start, len(ids)))
    assert loss == pytest.approx(total, rel=1e-5)


def test_prompt_tokens_get_no_gradient_and_no_loss(params):
    """Changing which prompt target stands there changes nothing; changing an answer target does."""
    rows = packed_rows(examples_full_of_id_0(3), 64)
    loss, _, _ = loss_and_gradients(params, rows)
    prompt = rows["decoder_loss_weights"] == 0
    other = dict(rows, decoder_target_tokens=np.where(prompt, 7, rows["decoder_target_tokens"]))
    assert loss_and_gradients(params, other)[0] == loss
    other = dict(rows, decoder_target_tokens=np.where(prompt, rows["decoder_target_tokens"], 7))
    assert loss_and_gradients(params, other)[0] != loss


@pytest.mark.parametrize("chunk", [1, 17, 1000])
def test_logits_chunks_change_nothing(params, chunk):
    rows = packed_rows(examples_full_of_id_0(), 40)
    loss, _, gradients = loss_and_gradients(params, rows, chunk)
    whole, _, expected = loss_and_gradients(params, rows, 40)
    assert loss == pytest.approx(whole, rel=1e-6)
    assert_same_gradients(gradients, expected, 1e-5)


def test_z_loss_is_the_squared_log_normalizer_of_every_supervised_token(params):
    rows = {name: jnp.asarray(x) for name, x in packed_rows(examples_full_of_id_0(), 40).items()}
    model = Llama(TINY)
    sums = jax.jit(lambda params, z_loss: summed_loss(model, params, rows, None, 16, z_loss), static_argnums=1)
    (plain, weights), (loss, same_weights) = sums(params, 0.0), sums(params, 0.01)
    arguments = (rows[f"decoder_{name}"] for name in ("input_tokens", "positions", "segment_ids"))
    normalizers = jax.nn.logsumexp(jax.jit(model.apply)({"params": params}, *arguments), axis=-1)
    added = 0.01 * float(jnp.sum(normalizers**2 * rows["decoder_loss_weights"]))
    assert float(weights) == float(same_weights) and added > 0.1
    assert float(loss) == pytest.approx(float(plain) + added, rel=1e-5)


def test_accumulated_microbatches_equal_the_whole_batch_and_empty_ones_cost_nothing(params):
    examples = examples_full_of_id_0()
    rows = unpacked_rows(examples, 40, num_rows=12)
    micro = {name: jnp.asarray(value.reshape(4, 3, 40)) for name, value in rows.items()}

    def loss(params, batch, key):
        return summed_loss(Llama(TINY), params, batch, None, 8)

    accumulate = jax.jit(
        lambda params, micro: accumulate_gradients(loss, params, micro, jnp.int32(3), jax.random.key(0))
    )
    gradients, loss_sum, weight_sum = accumulate(params, micro)
    whole, weights, expected = loss_and_gradients(params, rows)
    assert float(weight_sum) == weights
    assert float(loss_sum) == pytest.approx(whole, rel=1e-6)
    assert_same_gradients(gradients, expected, 1e-5)


MESH_PROGRAM = """
    import json, sys
    import jax, numpy as np
    from humpback_jax.data.examples import Example
    from humpback_jax.data.packing import packed_rows
    from humpback_jax.models.config import get_config
    from humpback_jax.models.llama import Llama, init_params
    from humpback_jax.partitioning import LogicalAxisRules, MeshShape, batch_sharding, make_mesh, put_global, use_mesh
    from humpback_jax.training.optimizer import OptimizerConfig, make_optimizer
    from humpback_jax.training.step import TrainSetup, init_train_state
    from humpback_jax.training.step import BATCH_AXES, make_train_step

    rng = np.random.default_rng(0)
    draw = lambda n: rng.integers(0, 320, n).astype(np.int32)
    examples = [Example(draw(6), draw(10), str(i)) for i in range(24)]
    rows = {k: v.reshape(1, 8, 64) for k, v in packed_rows(examples, 64, num_rows=8).items()}
    model, config, rules = Llama(get_config("tiny"), remat_policy="full"), OptimizerConfig(), LogicalAxisRules()
    results = {}
    for name, shape in json.loads(sys.argv[1]).items():
        mesh = make_mesh(MeshShape(**shape), jax.devices()[: int(np.prod(list(shape.values())))])
        with use_mesh(mesh, rules):
            setup = TrainSetup(model, mesh, rules, config, logits_chunk=16)
            params = init_params(Llama(get_config("tiny")), jax.random.key(0))
            make = lambda p: init_train_state(p, make_optimizer(config))
            state = jax.jit(make, out_shardings=setup.state_shardings())(jax.device_get(params))
            batch = {k: put_global(v, batch_sharding(mesh, rules, BATCH_AXES)) for k, v in rows.items()}
            step = make_train_step(setup)
            losses = []
            for _ in range(3):
                state, metrics = step(state, batch, np.int32(1), np.float32(1e-2), jax.random.key(0))
                losses += [float(metrics["loss"]), float(metrics["grad_norm"])]
        results[name] = losses
    print(json.dumps(results))
"""
MESHES = {
    "one": {"data": 1, "fsdp": 1, "sequence": 1, "tensor": 1},
    "mixed": {"data": 2, "fsdp": 2, "sequence": 1, "tensor": 2},
    "sequence": {"data": 1, "fsdp": 2, "sequence": 2, "tensor": 2},
}


@pytest.mark.slow
def test_updates_on_meshes_of_8_devices_equal_those_of_one_device():
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MESH_PROGRAM), json.dumps(MESHES)],
        env=os.environ | environment, capture_output=True, text=True, timeout=550, check=True,
    )  # fmt: skip
    results = json.loads(run.stdout.splitlines()[-1])
    for name in MESHES:
        np.testing.assert_allclose(results[name], results["one"], rtol=1e-5, err_msg=name)
