"""The command restarts itself once with a tuned allocator, and only where that serves."""

import json
import os
import subprocess
import sys

import pytest

from humpback_jax import allocator

PROGRAM = """
import json, os, sys
from humpback_jax.allocator import restart_with_tuned_allocator
restart_with_tuned_allocator()
print(json.dumps([os.environ.get("GLIBC_TUNABLES"), sys.argv[1:]]))
"""


def outcome(**variables):
    """What the program sees after the call: the variable and its arguments."""
    environment = {name: value for name, value in os.environ.items() if name != allocator.VARIABLE} | variables
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "a b", "--c"], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
def test_the_program_starts_again_with_the_same_arguments():
    assert outcome(JAX_PLATFORMS="cpu") == [allocator.KEEP_ON_HUGE_PAGES, ["a b", "--c"]]


def test_an_allocator_that_is_set_stays_and_accelerators_are_left_alone():
    assert outcome(JAX_PLATFORMS="cpu", GLIBC_TUNABLES="glibc.malloc.perturb=0")[0] == "glibc.malloc.perturb=0"
    assert outcome(JAX_PLATFORMS="tpu")[0] is None


def test_a_device_file_tells_an_accelerator(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(allocator, "ACCELERATORS", (str(tmp_path / "absent"),))
    assert allocator.computes_on_cpu()
    monkeypatch.setattr(allocator, "ACCELERATORS", (str(tmp_path / "absent"), str(tmp_path)))
    assert not allocator.computes_on_cpu()
