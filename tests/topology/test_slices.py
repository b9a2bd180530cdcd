"""Slices by the names that users type: their chips, and what the compiler makes of them."""

import json
import subprocess
import sys

import pytest

from humpback_jax.hardware import CHIPS, SLICES, get_slice, peak_flops
from humpback_jax.topology.compiler import libtpu_version, quiet_environment

NUM_DEVICES = {
    "v4-8": 4,
    "v4-32": 16,
    "v4-256": 128,
    "v5p-8": 4,
    "v5p-16": 8,
    "v5p-256": 128,
    "v5e-1": 1,
    "v5e-16": 16,
    "v5e-256": 256,
    "v6e-8": 8,
    "v6e-64": 64,
}
COUNT_ALL = """
import json
from humpback_jax.hardware import SLICES
from humpback_jax.topology.compiler import slice_devices
print(json.dumps({name: len(slice_devices(one)) for name, one in SLICES.items()}))
"""
LAY_OUT = """
from humpback_jax.partitioning import MeshShape, make_mesh
from humpback_jax.hardware import get_slice
from humpback_jax.topology.compiler import slice_devices
shapes = [dict(), dict(tensor=16), dict(data=2, tensor=8), dict(sequence=2, tensor=2)]
for name in ("v4-64", "v4-256", "v5p-256", "v5e-64", "v6e-64"):
    devices = slice_devices(get_slice(name))
    for shape in shapes:
        mesh = make_mesh(MeshShape(**shape), devices)
        assert sorted(d.id for d in mesh.devices.flat) == sorted(d.id for d in devices), (name, shape)
        assert mesh.shape["tensor"] == shape.get("tensor", 1), (name, shape)
"""


@pytest.mark.parametrize(("name", "expected"), NUM_DEVICES.items())
def test_names_count_cores_or_chips(name, expected):
    assert get_slice(name).num_devices == expected


def test_other_spellings_are_known():
    assert get_slice("v5litepod-16") is get_slice("V5E-16") is SLICES["v5e-16"]


@pytest.mark.parametrize(
    ("name", "message"), [("v4-24", r"known are v4-8, v4-16.*'v4-2"), ("v5e-17", "'v5e-1"), ("h100-8", "v6e-256")]
)
def test_an_unknown_name_is_an_error_with_advice(name, message):
    with pytest.raises(ValueError, match=message):
        get_slice(name)


def test_the_table_of_hardware_needs_nothing_heavy():
    heavy = "import sys, humpback_jax.hardware; assert not {'jax', 'numpy', 'etils'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", heavy], timeout=300).returncode == 0


def test_only_whole_tori_wrap():
    wrapped = {name for name, one in SLICES.items() if any(one.wrap)}
    assert {"v4-128", "v4-256", "v5p-256", "v5e-256", "v6e-256"} <= wrapped
    assert not wrapped & {"v4-8", "v4-64", "v5p-32", "v5e-16", "v5e-64"}


def test_peaks_are_those_of_the_throughput_table():
    assert all(peak_flops(kind) == chip.peak_flops for chip in CHIPS.values() for kind in chip.device_kinds)


@pytest.mark.skipif(libtpu_version() is None, reason="needs libtpu (the extra `tpu`)")
def test_the_compiler_makes_as_many_devices():
    command = [sys.executable, "-c", COUNT_ALL]
    done = subprocess.run(command, env=quiet_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {name: one.num_devices for name, one in SLICES.items()}


@pytest.mark.skipif(libtpu_version() is None, reason="needs libtpu (the extra `tpu`)")
def test_every_mesh_is_laid_out_on_every_torus():
    """Also where a mesh axis has to be a part of an axis of the torus, which `jax.make_mesh` refuses on v4 and v5p."""
    done = subprocess.run([sys.executable, "-c", LAY_OUT], env=quiet_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
