"""The one table of dtype names, and which of them serve where."""

from typing import Any

import jax.numpy as jnp

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16, "int8": jnp.int8}
COMPUTE = ("float32", "bfloat16")  # of activations, of weights and of gradients
STORED = ("float32", "bfloat16", "float16")  # of weights in files
CACHE = ("float32", "bfloat16", "int8")  # of keys and values


def dtype_of(name: str, choices: tuple[str, ...] = COMPUTE, setting: str = "dtype") -> Any:
    """The dtype called `name`; ValueError lists the choices."""
    if name not in choices:
        raise ValueError(f"unknown {setting} {name!r}; choose from {', '.join(choices)}")
    return DTYPES[name]
