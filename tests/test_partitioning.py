"""Mesh shapes, logical axis rules and their errors."""

import subprocess
import sys
import textwrap

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from humpback_jax.models.config import get_config
from humpback_jax.models.llama import Llama, abstract_params, logical_specs
from humpback_jax.partitioning import LogicalAxisRules, MeshShape, make_mesh, shardings


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8))
def test_free_axis_takes_what_is_left(data, tensor, fsdp):
    assert MeshShape(data=data, fsdp=-1, tensor=tensor).resolve(data * tensor * fsdp) == (data, fsdp, 1, tensor)


@pytest.mark.parametrize(
    ("shape", "devices"), [(MeshShape(data=3, fsdp=-1), 8), (MeshShape(fsdp=2), 3), (MeshShape(data=-1, fsdp=-1), 8)]
)
def test_mesh_that_does_not_fit_is_an_error(shape, devices):
    with pytest.raises(ValueError, match="mesh"):
        shape.resolve(devices)


def test_two_axes_on_one_mesh_axis_is_an_error_that_names_both():
    rules = LogicalAxisRules(mlp=("fsdp",))
    with pytest.raises(ValueError, match=r"'embed' and 'mlp'.*'fsdp'"):
        rules.partition_spec(("embed", "mlp"))


def test_mistyped_names_are_errors():
    with pytest.raises(ValueError, match="'fsdpp'"):
        LogicalAxisRules(embed=("fsdpp",))
    with pytest.raises(ValueError, match="'embedd'"):
        LogicalAxisRules().partition_spec(("embedd",))


def test_specs_follow_the_rules():
    assert LogicalAxisRules().partition_spec(("layers", "embed", "heads", "head_dim")) == PartitionSpec(
        None, ("fsdp",), ("tensor",), None
    )


def test_single_device_mesh_shards_every_parameter():
    model = Llama(get_config("tiny"))
    tree = shardings(make_mesh(), LogicalAxisRules(), logical_specs(model), abstract_params(model))
    assert tree["lm_head"]["kernel"].spec == PartitionSpec(("fsdp",), ("tensor",))


def test_indivisible_axis_is_named_before_any_compile():
    code = """
        import jax
        from humpback_jax.models.config import get_config
        from humpback_jax.models.llama import Llama, abstract_params, logical_specs
        from humpback_jax.partitioning import LogicalAxisRules, MeshShape, make_mesh, shardings
        model = Llama(get_config("tiny"))
        mesh = make_mesh(MeshShape(fsdp=1, tensor=3))
        try:
            shardings(mesh, LogicalAxisRules(), logical_specs(model), abstract_params(model))
        except ValueError as error:
            print(error)
    """
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3", "JAX_PLATFORMS": "cpu"}
    import os

    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "is not divisible by 3" in run.stdout
    assert "layers/attention/key/kernel" in run.stdout or "token_embedder" in run.stdout


def test_default_mesh_covers_all_devices():
    assert make_mesh().size == len(jax.devices())
