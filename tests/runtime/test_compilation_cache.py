"""Compiled programs on disk: a second process loads what the first one compiled."""

import os
import subprocess
import sys

import pytest

from humpback_jax.runtime.compilation_cache import machine_name

SCRIPT = """
import jax

from humpback_jax.runtime.compilation_cache import use_compilation_cache

use_compilation_cache()
if jax.config.jax_compilation_cache_dir:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("cache_hits") else None)
jax.jit(lambda x: x * 3 + 1)(2.0).block_until_ready()
print(len(hits), jax.config.jax_compilation_cache_dir)
"""


def run(folder, **variables):
    """(cache hits, cache directory) of a fresh process."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")} | {"JAX_PLATFORMS": "cpu"}
    environment["HUMPBACK_CACHE"] = str(folder)
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment | variables)
    hits, directory = done.stdout.split()
    return int(hits), directory


def test_a_second_process_loads_what_the_first_compiled(tmp_path):
    assert run(tmp_path) == (0, str(tmp_path / "compiled" / machine_name()))
    hits, _ = run(tmp_path)
    assert hits > 0


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HUMPBACK_COMPILATION_CACHE": "off"}, "None"),
        ({"HUMPBACK_COMPILATION_CACHE": "{}/own"}, "{}/own"),
        ({"JAX_COMPILATION_CACHE_DIR": "{}/jax"}, "{}/jax"),
    ],
    ids=["off", "own folder", "the folder given to JAX"],
)
def test_where_programs_are_kept_is_the_users_choice(tmp_path, variables, place):
    _, directory = run(tmp_path / "default", **{name: value.format(tmp_path) for name, value in variables.items()})
    assert directory == place.format(tmp_path)
