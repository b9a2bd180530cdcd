"""What the name of a TPU slice means: chips, hosts, machine type, topology, runtime, compiler flags.

Names and numbers: docs.cloud.google.com/tpu/docs/{runtimes,v5e,v5p,v6e,tpu7x} and compute/docs/tpus/tpu-machines.
"""

import dataclasses
import re

# Accepted by libtpu 0.0.42.1 and 0.0.52; an unknown flag would abort the process.
COMMON_FLAGS = (
    "--xla_tpu_enable_async_collective_fusion=true",
    "--xla_tpu_enable_async_collective_fusion_fuse_all_gather=true",
    "--xla_tpu_enable_async_collective_fusion_multiple_steps=true",
    "--xla_tpu_overlap_compute_collective_tc=true",
    "--xla_enable_async_all_gather=true",
)
V6E_FLAGS = ("--xla_tpu_scoped_vmem_limit_kib=98304",)


@dataclasses.dataclass(frozen=True)
class Generation:
    """One TPU generation.

    Attributes:
      cores_per_chip: TensorCores that the number of the slice's name counts per chip; 1 where it counts chips.
      runtime: runtime version of the Cloud TPU API; None where that API does not offer it.
      machine: machine type of Compute Engine for hosts of a slice; None where it does not offer it.
      image_family: boot image of Compute Engine, in the project ubuntu-os-accelerator-images.
      single_host: slices of so many chips are one host; larger ones have hosts of 4 chips.
      devices_per_chip: JAX devices per chip.
      flags: what LIBTPU_INIT_ARGS gets.
    """

    cores_per_chip: int
    runtime: str | None
    machine: str | None
    image_family: str | None
    single_host: tuple[int, ...] = (1, 4)
    devices_per_chip: int = 1
    flags: tuple[str, ...] = COMMON_FLAGS


_IMAGE = "ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e"
GENERATIONS = {
    "v4": Generation(2, "tpu-ubuntu2204-base", None, None, single_host=(4,)),
    "v5litepod": Generation(1, "v2-alpha-tpuv5-lite", None, None, single_host=(1, 4, 8)),
    "v5p": Generation(2, "v2-alpha-tpuv5", "ct5p-hightpu-4t", _IMAGE, single_host=(4,)),
    "v6e": Generation(1, "v2-alpha-tpuv6e", "ct6e-standard-4t", _IMAGE, (1, 4, 8), flags=COMMON_FLAGS + V6E_FLAGS),
}
_FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_CUBIC = {4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8", 256: "4x8x8", 512: "8x8x8"}


@dataclasses.dataclass(frozen=True)
class Slice:
    """A named slice, `v5litepod-16`: `number` is what stands behind the dash."""

    name: str
    generation: Generation
    number: int

    @property
    def chips(self) -> int:
        """TPU chips."""
        return self.number // self.generation.cores_per_chip

    @property
    def hosts(self) -> int:
        """Workers under the Cloud TPU API."""
        return 1 if self.chips in self.generation.single_host else self.chips // 4

    @property
    def compute_hosts(self) -> int:
        """Workers under Compute Engine, whose machines of multi-host slices have 4 chips."""
        return max(1, self.chips // 4)

    @property
    def topology(self) -> str:
        """Chips along each axis, `2x4`."""
        return self.topologies[self.chips]

    @property
    def topologies(self) -> dict[int, str]:
        """Topology by number of chips, for all slices of this generation."""
        return _CUBIC if self.name.startswith(("v4", "v5p")) else _FLAT


def parse_slice(name: str) -> Slice:
    """The slice of a name; ValueError says which names there are."""
    match = re.fullmatch(r"([a-z0-9]+)-(\d+)", name)
    generation = GENERATIONS.get(match[1]) if match else None
    if match is None or generation is None:
        known = ", ".join(f"{key}-N" for key in GENERATIONS)
        raise ValueError(f"slice {name!r} is not known; expected one of {known}, for example v5litepod-16")
    found = Slice(name, generation, int(match[2]))
    sizes = [chips * generation.cores_per_chip for chips in found.topologies]
    if found.number not in sizes:
        raise ValueError(f"slice {name!r}: expected one of the sizes {', '.join(map(str, sizes))} behind the dash")
    return found
