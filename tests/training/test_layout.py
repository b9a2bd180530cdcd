"""What does not divide over a mesh is named, with the sizes and the way out, before anything is compiled."""

import dataclasses

import pytest
from jax.sharding import AbstractMesh

from humpback_jax.models.config import REGISTRY, get_config
from humpback_jax.partitioning import MESH_AXES, LogicalAxisRules
from humpback_jax.training.layout import check_layout, rows_on

TINY = get_config("tiny")  # vocab 320, emb 32, heads 4, kv heads 2, mlp 64


def abstract_mesh(data=1, fsdp=1, sequence=1, tensor=1):
    return AbstractMesh((data, fsdp, sequence, tensor), MESH_AXES)


@pytest.mark.parametrize(
    ("mesh", "change", "batch", "message"),
    [
        ({"tensor": 4}, {}, (8, 64), "num_kv_heads = 2 is not divisible by tensor = 4: choose tensor from 1, 2, or"),
        ({"tensor": 8}, {"num_kv_heads": 4}, (8, 64), "num_heads = 4 is not divisible by tensor = 8: .* 1, 2, 4, or"),
        ({"tensor": 2}, {"vocab_size": 321}, (8, 64), "vocab_size = 321 .* tensor = 2: choose tensor from 1, or"),
        ({"tensor": 2}, {"mlp_dim": 63}, (8, 64), "mlp_dim = 63 is not divisible by tensor = 2"),
        ({"fsdp": 3}, {}, (6, 64), "emb_dim = 32 is not divisible by fsdp = 3: choose fsdp from 1, 2, or hold whole "
         r"copies with LogicalAxisRules.embed = LogicalAxisRules.norm = \(\)"),
        ({"data": 2, "fsdp": 4}, {}, (1, 64), "rows_per_microbatch = 1 is not divisible by data x fsdp = 8: choose "
         "rows_per_microbatch = 8, or a data x fsdp that divides 1"),
        ({"sequence": 4}, {}, (8, 450), "row_length = 450 is not divisible by sequence = 4: choose row_length = 452"),
    ],
)  # fmt: skip
def test_what_does_not_divide_is_named(mesh, change, batch, message):
    with pytest.raises(ValueError, match=message):
        check_layout(dataclasses.replace(TINY, **change), abstract_mesh(**mesh), LogicalAxisRules(), *batch)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ValueError, match=r"'tiny' .*sequence 4, tensor 4") as error:
        check_layout(TINY, abstract_mesh(sequence=4, tensor=4), LogicalAxisRules(), 8, 450)
    assert "num_kv_heads" in str(error.value) and "row_length" in str(error.value)
    assert "LogicalAxisRules.kv_heads = LogicalAxisRules.activation_kv_heads = ()" in str(error.value)


def test_the_advice_works():
    mesh, rules = abstract_mesh(data=2, tensor=4), LogicalAxisRules(kv_heads=(), activation_kv_heads=())
    check_layout(TINY, mesh, rules, 8, 64)
    check_layout(TINY, abstract_mesh(data=2, sequence=2, tensor=2), LogicalAxisRules(), 8, 452)


@pytest.mark.parametrize("name", ["llama_7b", "llama_65b", "llama2_70b", "llama3_8b", "llama3_1_70b"])
def test_the_papers_sizes_fit_pods(name):
    """8 key heads allow a tensor axis of 8; every published vocabulary divides by it."""
    assert name in REGISTRY
    check_layout(get_config(name), abstract_mesh(data=2, fsdp=16, tensor=4), LogicalAxisRules(), 32, 2048)
    check_layout(get_config(name), abstract_mesh(fsdp=8, sequence=2, tensor=4), LogicalAxisRules(), 8, 2048)


@pytest.mark.parametrize(
    ("mesh", "rows", "expected"),
    [({}, 3, 3), ({"fsdp": 8}, 2, 8), ({"data": 2, "fsdp": 2}, 5, 8), ({"fsdp": 4}, 8, 8), ({"tensor": 2}, 1, 1)],
)
def test_rows_of_a_microbatch_are_raised_to_what_the_devices_ask(mesh, rows, expected):
    assert rows_on(abstract_mesh(**mesh), LogicalAxisRules(), rows) == expected
