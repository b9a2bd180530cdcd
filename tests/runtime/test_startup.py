"""The command restarts itself once with a tuned allocator and looks for no TPU, and only where that serves."""

import json
import os
import subprocess
import sys

import pytest

from humpback_jax.runtime import startup

PROGRAM = """
import json, os, sys
from humpback_jax.runtime import startup
startup.ACCELERATORS = (sys.argv[1],)
startup.prepare_process()
print(json.dumps([os.environ.get("JAX_PLATFORMS"), os.environ.get("GLIBC_TUNABLES"), sys.argv[2:]]))
"""
VARIABLES = (startup.ALLOCATOR_VARIABLE, startup.PLATFORM_VARIABLE)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="device files and glibc's allocator are Linux's")


def outcome(device="/nowhere", **variables):
    """The variables after the call, on a machine with this device file, and the arguments."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | variables
    command = [sys.executable, "-c", PROGRAM, str(device), "a b", "--c"]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def test_on_a_cpu_the_program_starts_again_with_the_same_arguments():
    assert outcome() == ["cpu", startup.KEEP_ON_HUGE_PAGES, ["a b", "--c"]]
    assert outcome(JAX_PLATFORMS="cpu") == outcome()


def test_an_accelerator_is_left_alone(tmp_path):
    (tmp_path / "accel0").touch()
    assert outcome(tmp_path / "accel*")[:2] == [None, None]
    assert outcome(JAX_PLATFORMS="tpu")[:2] == ["tpu", None]


def test_variables_that_are_set_stay():
    assert outcome(GLIBC_TUNABLES="glibc.malloc.perturb=0")[1] == "glibc.malloc.perturb=0"
