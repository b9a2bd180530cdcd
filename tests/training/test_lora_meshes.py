"""Adapters on 8 forced devices: every mesh trains them as one device does, and shards what the weights shard."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

PROGRAM = """
    import json, sys
    import jax, numpy as np
    from humpback_jax.data.examples import Example
    from humpback_jax.data.packing import packed_rows
    from humpback_jax.models.config import get_config
    from humpback_jax.models.llama import Llama, init_params
    from humpback_jax.models.lora import LoraConfig, init_adapters
    from humpback_jax.partitioning import LogicalAxisRules, MeshShape, batch_sharding, make_mesh, put_global, use_mesh
    from humpback_jax.training.optimizer import OptimizerConfig, make_optimizer
    from humpback_jax.training.step import TrainSetup, init_train_state
    from humpback_jax.training.step import BATCH_AXES, make_train_step

    rng = np.random.default_rng(0)
    draw = lambda n: rng.integers(0, 320, n).astype(np.int32)
    rows = packed_rows([Example(draw(6), draw(10), str(i)) for i in range(24)], 64, num_rows=8)
    rows = {k: v.reshape(1, 8, 64) for k, v in rows.items()}
    model, config, rules = Llama(get_config("tiny")), OptimizerConfig(max_grad_norm=None), LogicalAxisRules()
    lora, optimizer = LoraConfig(rank=4, alpha=8.0), make_optimizer(config)
    frozen = jax.device_get(init_params(model, jax.random.key(0)))
    fresh = jax.device_get(init_adapters(model, lora, jax.random.key(1)))
    results, specs = {}, {}
    for name, shape in json.loads(sys.argv[1]).items():
        mesh = make_mesh(MeshShape(**shape), jax.devices()[: int(np.prod(list(shape.values())))])
        with use_mesh(mesh, rules):
            setup = TrainSetup(model, mesh, rules, config, lora, logits_chunk=16)
            make = lambda adapters, params: init_train_state(adapters, optimizer)._replace(frozen=params)
            state = jax.jit(make, out_shardings=setup.state_shardings())(fresh, frozen)
            batch = {k: put_global(v, batch_sharding(mesh, rules, BATCH_AXES)) for k, v in rows.items()}
            step = make_train_step(setup)
            losses = []
            for _ in range(3):
                state, metrics = step(state, batch, np.int32(1), np.float32(1e-2), jax.random.key(0))
                losses += [float(metrics["loss"]), float(metrics["grad_norm"])]
        results[name] = losses
        query = state.params["layers"]["attention"]["query"]
        specs[name] = [query[part].addressable_shards[0].data.shape for part in "ab"]
        same = jax.tree.map(lambda a, b: bool((jax.device_get(a) == b).all()), state.frozen, frozen)
        assert all(jax.tree.leaves(same)), "a frozen weight changed"
    print(json.dumps([results, specs]))
"""
MESHES = {
    "one": {"data": 1, "fsdp": 1, "sequence": 1, "tensor": 1},
    "mixed": {"data": 2, "fsdp": 2, "sequence": 1, "tensor": 2},
}


@pytest.mark.slow
def test_a_mesh_of_8_devices_trains_adapters_as_one_device_does():
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), json.dumps(MESHES)],
        env=os.environ | environment, capture_output=True, text=True, timeout=550,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    results, shapes = json.loads(run.stdout.splitlines()[-1])
    np.testing.assert_allclose(results["mixed"], results["one"], rtol=1e-5)
    assert results["one"][-2] < results["one"][0]
    # [layers, embed / fsdp, rank] and [layers, rank, heads / tensor, head_dim]
    assert shapes == {"one": [[2, 32, 4], [2, 4, 4, 8]], "mixed": [[2, 16, 4], [2, 4, 2, 8]]}
