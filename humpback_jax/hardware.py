"""The hardware we know: chips with their peaks, and TPU slices by the names that users type. One table for `fit`,
`plan`, `launch` and the utilisation of training; no accelerator and no jax is needed to ask it.

`v4-N` and `v5p-N` count TensorCores, two to a chip; `v5e-N` (the cloud says `v5litepod-N`) and `v6e-N` count chips.
Sources: docs.cloud.google.com/tpu/docs/{runtimes,v5e,v5p,v6e}, compute/docs/tpus/tpu-machines, the makers' data sheets.
"""

import dataclasses
import difflib
import math


@dataclasses.dataclass(frozen=True)
class Chip:
    """One TPU chip, which is one JAX device.

    Attributes:
      name: as in slice names.
      device_kinds: as JAX names it; the compiler of a slice uses the first.
      cores: how many of them a slice name counts per chip.
      peak_flops: dense bfloat16 FLOP/s.
      hbm_gib: memory that the compiler lets a program have, in GiB (its own figure when a program is too large).
      hbm_bandwidth: bytes per second.
      clock_hz: of the cycles that the compiler estimates: `peak_flops` over the multiply-adds of one cycle.
      runtime: runtime version of the Cloud TPU API.
      single_host: slices of so many chips are one host under the Cloud TPU API; larger ones have hosts of 4 chips.
      machine: machine type of Compute Engine for hosts of 4 chips; None where it offers none.
      accelerator: what the clouds write in front of the dash, where that is not `name`.
    """

    name: str
    device_kinds: tuple[str, ...]
    cores: int
    peak_flops: float
    hbm_gib: float
    hbm_bandwidth: float
    clock_hz: float
    runtime: str
    single_host: tuple[int, ...] = (1, 4, 8)
    machine: str | None = None
    accelerator: str = ""


V4 = Chip("v4", ("TPU v4",), 2, 275e12, 30.75, 1228e9, 1.05e9, "tpu-ubuntu2204-base", (4,))
V5E = Chip(
    "v5e", ("TPU v5 lite", "TPU v5e"), 1, 197e12, 15.75, 819e9, 1.5e9, "v2-alpha-tpuv5-lite", accelerator="v5litepod"
)
V5P = Chip(
    "v5p", ("TPU v5", "TPU v5p"), 2, 459e12, 95.74, 2765e9, 1.75e9, "v2-alpha-tpuv5", (4,), machine="ct5p-hightpu-4t"
)
V6E = Chip(
    "v6e", ("TPU v6 lite", "TPU v6e"), 1, 918e12, 31.25, 1640e9, 1.75e9, "v2-alpha-tpuv6e", machine="ct6e-standard-4t"
)
CHIPS = {chip.name: chip for chip in (V4, V5E, V5P, V6E)}
# Boot image of Compute Engine for all its machines, in the project ubuntu-os-accelerator-images.
IMAGE_FAMILY = "ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e"
CHIP_OF_KIND = {kind: chip for chip in CHIPS.values() for kind in chip.device_kinds}

# Dense bfloat16 FLOP/s of one JAX device by the start of its `device_kind`; the longest that fits counts. A TPU v2 or
# v3 chip is two devices.
PEAK_FLOPS = {kind: chip.peak_flops for kind, chip in CHIP_OF_KIND.items()} | {
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4 lite": 138e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H200": 989e12,
}

# Chips along each axis, as Google Cloud offers them: of chips with two cores, and of the others.
_TORI = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x12", "8x8x16", "8x16x16")
_MESHES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")


@dataclasses.dataclass(frozen=True)
class Slice:
    """A TPU slice; `topology` is its chips along each axis, `4x4`."""

    chip: Chip
    topology: str

    @property
    def name(self) -> str:
        """As users type it."""
        return f"{self.chip.name}-{self.num_devices * self.chip.cores}"

    @property
    def accelerator_type(self) -> str:
        """As the clouds' tools want it: `v5litepod-16`."""
        return f"{self.chip.accelerator or self.chip.name}-{self.num_devices * self.chip.cores}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Chips along each axis."""
        return tuple(int(size) for size in self.topology.split("x"))

    @property
    def num_devices(self) -> int:
        """JAX devices, which are chips."""
        return math.prod(self.shape)

    @property
    def wrap(self) -> tuple[bool, bool, bool]:
        """Axes whose ends are joined: of v4 and v5p all where every axis is a multiple of 4, else those of 16 chips."""
        if len(self.shape) == 3:
            cube = all(size % 4 == 0 for size in self.shape)
            return (cube, cube, cube)
        return (self.shape[0] == 16, self.shape[1] == 16, False)

    @property
    def hosts(self) -> int:
        """Workers under the Cloud TPU API and on GKE."""
        return 1 if self.num_devices in self.chip.single_host else self.num_devices // 4

    @property
    def compute_hosts(self) -> int:
        """Workers under Compute Engine, whose machines have 4 chips."""
        return max(1, self.num_devices // 4)


def _all_slices() -> dict[str, Slice]:
    slices = [Slice(c, topology) for c in CHIPS.values() for topology in (_TORI if c.cores == 2 else _MESHES)]
    return {slice_.name: slice_ for slice_ in slices}


SLICES = _all_slices()


def get_slice(name: str) -> Slice:
    """The slice called `name`, in any case and in the clouds' spelling too.

    Raises:
      ValueError: there is none; lists the sizes of its kind, or the kinds.
    """
    kind, dash, number = name.lower().partition("-")
    chip = next((chip.name for chip in CHIPS.values() if kind in (chip.name, chip.accelerator)), kind)
    wanted = f"{chip}{dash}{number}"
    if wanted in SLICES:
        return SLICES[wanted]
    known = [known for known, slice_ in SLICES.items() if slice_.chip.name == chip] or list(SLICES)
    near = difflib.get_close_matches(wanted, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown slice {name!r}; known are {', '.join(known)}.{hint}")


def peak_flops(device_kind: str) -> float | None:
    """Dense bfloat16 FLOP/s of a JAX device of this kind; None where the table has none, as for a CPU."""
    starts = [start for start in PEAK_FLOPS if device_kind.startswith(start)]
    return PEAK_FLOPS[max(starts, key=len)] if starts else None
