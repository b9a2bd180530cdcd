"""TPU slices by the names that users type, and the topology that the compiler must be asked for.

`v4-N` and `v5p-N` count TensorCores, two to a chip; `v5e-N` (also `v5litepod-N`) and `v6e-N` count chips. Every JAX
device here is a whole chip: v4 without `megacore` would silently be two half chips, and a torus without `wrap` another
network.
"""

import dataclasses
import difflib
import math
from typing import Any

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip, which is one JAX device.

    Attributes:
      name: as in slice names.
      device_kind: as JAX names it.
      cores: how many of them a slice name counts per chip.
      peak_flops: dense bfloat16 FLOP/s.
      hbm_gib: memory that the compiler lets a program have, in GiB (its own figure when a program is too large).
      hbm_bandwidth: bytes per second.
      clock_hz: of the cycles that the compiler estimates: `peak_flops` over the multiply-adds of one cycle.
      hosts_of: chips of one host.
    """

    name: str
    device_kind: str
    cores: int
    peak_flops: float
    hbm_gib: float
    hbm_bandwidth: float
    clock_hz: float
    hosts_of: int = 4


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", "TPU v4", 2, 275e12, 30.75, 1228e9, 1.05e9),
        Chip("v5e", "TPU v5 lite", 1, 197e12, 15.75, 819e9, 1.5e9),
        Chip("v5p", "TPU v5", 2, 459e12, 95.74, 2765e9, 1.75e9),
        Chip("v6e", "TPU v6 lite", 1, 918e12, 31.25, 1640e9, 1.75e9),
    )
}

# Chips along each axis, as Google Cloud names its slices.
_TORI = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x12", "8x8x16", "8x16x16")
_MESHES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")


@dataclasses.dataclass(frozen=True)
class Slice:
    """A slice: `name` as users type it, and its chips along each axis."""

    name: str
    chip: Chip
    shape: tuple[int, ...]

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
    def topology_arguments(self) -> dict[str, Any]:
        """Arguments of `jax.experimental.topologies.get_topology_desc`."""
        arguments: dict[str, Any] = {
            "topology_name": f"{self.chip.name}:{'x'.join(map(str, self.shape))}",
            "chips_per_host_bounds": (1, 1, 1) if self.num_devices == 1 else (2, 2, 1),
            "wrap": self.wrap,
        }
        if self.chip.cores == 2:
            arguments["chip_config_name"] = "megacore"
        return arguments

    def devices(self) -> list[Any]:
        """The devices of the compiler's topology; needs libtpu, and the environment of `compiler.quiet_environment`.

        Raises:
          RuntimeError: they are not as many, or not of the kind, that the name says.
        """
        from jax.experimental import topologies

        devices: list[Any] = list(topologies.get_topology_desc(platform="tpu", **self.topology_arguments).devices)
        kinds = {device.device_kind for device in devices}
        if len(devices) != self.num_devices or kinds != {self.chip.device_kind}:
            raise RuntimeError(
                f"slice {self.name}: the compiler made {len(devices)} devices of {', '.join(sorted(kinds))}, expected "
                f"{self.num_devices} of {self.chip.device_kind}; install the libtpu that humpback_jax[tpu] pins"
            )
        return devices


def _slices() -> dict[str, Slice]:
    found = {}
    for chip in CHIPS.values():
        for layout in _TORI if chip.cores == 2 else _MESHES:
            shape = tuple(int(size) for size in layout.split("x"))
            one = Slice(f"{chip.name}-{math.prod(shape) * chip.cores}", chip, shape)
            found[one.name] = one
    return found


SLICES = _slices()


def get_slice(name: str) -> Slice:
    """The slice called `name`; ValueError lists the sizes of its kind, or the kinds."""
    canonical = name.lower().replace("v5litepod-", "v5e-")
    if canonical in SLICES:
        return SLICES[canonical]
    kind = canonical.partition("-")[0]
    known = [one for one in SLICES if one.startswith(f"{kind}-")] or list(SLICES)
    near = difflib.get_close_matches(canonical, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown slice {name!r}; known are {', '.join(known)}.{hint}")
