"""Relatives of LLaMA on 8 forced devices: loss and gradients as on one device."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

PROGRAM = """
    import dataclasses, json
    import jax, jax.numpy as jnp, numpy as np
    from humpback_jax.models.config import get_config
    from humpback_jax.models.llama import Llama, abstract_params, init_params, logical_specs
    from humpback_jax.partitioning import LogicalAxisRules, MeshShape, make_mesh, put_global, shardings, use_mesh
    from humpback_jax.training.loss import summed_loss

    small = dict(vocab_size=320, emb_dim=32, num_layers=4, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=64)
    rng, rules = np.random.default_rng(0), LogicalAxisRules()
    draw = lambda: rng.integers(0, 320, (8, 64)).astype(np.int32)
    row = {
        "decoder_input_tokens": draw(), "decoder_target_tokens": draw(),
        "decoder_positions": np.tile(np.arange(32, dtype=np.int32), (8, 2)),
        "decoder_segment_ids": np.repeat(np.asarray([[1, 2]], np.int32), 32, 1).repeat(8, 0),
        "decoder_loss_weights": np.ones((8, 64), np.float32),
    }
    results = {}
    for name in ("gemma3_1b", "olmo2_1b", "qwen2_5_0_5b", "smollm3_3b"):
        config = get_config(name)
        window = {"sliding_window": 7} if config.sliding_window else {}
        config = dataclasses.replace(config, query_scale=None, **small, **window)
        if window:
            config = dataclasses.replace(config, window_pattern=(True, False))
        model = Llama(config, remat_policy="full")
        params = jax.device_get(init_params(model, jax.random.key(0)))
        for shape in ((1, 1, 1, 1), (2, 2, 1, 2), (1, 2, 2, 2)):
            mesh = make_mesh(MeshShape(*shape), jax.devices()[: int(np.prod(shape))])
            with use_mesh(mesh, rules):
                placed = shardings(mesh, rules, logical_specs(model), abstract_params(model))
                held = jax.tree.map(put_global, params, placed)
                loss = lambda p: summed_loss(model, p, row, None, 32)[0] / 512
                value, gradients = jax.jit(jax.value_and_grad(loss), out_shardings=(None, placed))(held)
            norms = [float(jnp.linalg.norm(x)) for x in jax.tree.leaves(jax.device_get(gradients))]
            results.setdefault(name, []).append([float(value), *norms])
    print(json.dumps(results))
"""


@pytest.mark.slow
def test_a_mesh_of_8_devices_gives_the_gradients_of_one() -> None:
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 0, run.stderr[-3000:]
    for name, (one, *others) in json.loads(run.stdout.splitlines()[-1]).items():
        for other in others:
            np.testing.assert_allclose(other, one, rtol=2e-4, atol=1e-6, err_msg=name)
