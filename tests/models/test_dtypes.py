"""Dtypes by name."""

import jax.numpy as jnp
import pytest

from humpback_jax.inference.requests import EngineConfig
from humpback_jax.models.dtypes import CACHE, COMPUTE, DTYPES, STORED, dtype_of


def test_every_name_that_may_be_chosen_is_in_the_table() -> None:
    assert {*COMPUTE, *STORED, *CACHE} == DTYPES.keys()
    assert all(jnp.dtype(dtype).name == name for name, dtype in DTYPES.items())


def test_a_name_that_does_not_serve_is_refused_with_the_choices() -> None:
    assert dtype_of("int8", CACHE) == jnp.int8
    with pytest.raises(ValueError, match=r"unknown dtype 'int8'; choose from float32, bfloat16$"):
        dtype_of("int8")
    with pytest.raises(ValueError, match=r"EngineConfig.kv_dtype takes a text among .*int8.*'float16'"):
        EngineConfig(kv_dtype="float16")
