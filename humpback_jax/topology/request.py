"""What is asked of the compiler, and what it answers."""

import dataclasses
from typing import Any, Literal, get_args

from humpback_jax.hardware import get_slice
from humpback_jax.models.config import LlamaConfig, get_config

Step = Literal["train", "prefer", "prefill", "decode", "score"]
TRAINING: tuple[Step, ...] = ("train", "prefer")  # programs that hold the state of training
STEPS: tuple[Step, ...] = get_args(Step)
Mesh = tuple[tuple[str, int], ...]  # (axis, size)


@dataclasses.dataclass(frozen=True)
class FitRequest:
    """A program and the slice that should run it.

    Attributes:
      model, step, length, prefix, packed, …: as the options of `humpback fit`, with the same defaults.
      slice: by a name of `humpback_jax.hardware`.
      mesh: (axis, size) of the axes that are not 1; training: `fsdp` defaults to the rest, inference: `data`.
      batch: rows: per device in training, in all otherwise.
      gradient_dtype: of the weights' gradients as devices sum them, as the paper's recipes have it.
      options: compiler options on top of the program's own.
    """

    model: str
    slice: str
    step: Step = "train"
    mesh: Mesh = ()
    batch: int = 1
    length: int = 2048
    prefix: int = 0
    packed: bool = True
    dropout: float = 0.1
    remat: str = "full"
    param_dtype: str = "float32"
    gradient_dtype: str = "bfloat16"
    logits_chunk: int = 256
    microbatches: int = 1
    kv_dtype: str | None = None
    weight_dtype: str = "bfloat16"
    layers: int | None = None
    options: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.step not in STEPS:
            raise ValueError(f"unknown step {self.step!r}; choose from {', '.join(STEPS)}")
        if self.batch < 1 or self.length < 16 or self.prefix < 0 or self.microbatches < 1:
            raise ValueError(
                f"batch {self.batch}, length {self.length}, prefix {self.prefix}, microbatches {self.microbatches}: "
                "batch and microbatches must be at least 1, length at least 16, prefix not negative"
            )

    @property
    def mesh_sizes(self) -> dict[str, int]:
        return dict(self.mesh)

    @property
    def tensor(self) -> int:
        """Devices that share one copy of the weights in inference."""
        return self.mesh_sizes.get("tensor", 1)

    @property
    def trains(self) -> bool:
        """The program is an update."""
        return self.step in TRAINING

    @property
    def devices(self) -> int:
        return get_slice(self.slice).num_devices

    @property
    def hbm_gib(self) -> float:
        """Memory that a program may have on a chip of the slice."""
        return get_slice(self.slice).chip.hbm_gib

    @property
    def config(self) -> LlamaConfig:
        """The model's, with fewer layers where that is asked for."""
        config = get_config(self.model)
        return config if self.layers is None else dataclasses.replace(config, num_layers=self.layers)

    def on(self, mesh: Mesh) -> "FitRequest":
        return dataclasses.replace(self, mesh=mesh)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "FitRequest":
        """Inverse of `dataclasses.asdict` through JSON, which has no tuples."""
        pairs = {name: tuple((key, value) for key, value in fields[name]) for name in ("mesh", "options")}
        return cls(**{**fields, **pairs})


@dataclasses.dataclass(frozen=True)
class FitReport:
    """The compiler's answer.

    Attributes:
      fits: the program fits the memory of every device.
      peak_gib: highest use of memory per device, in GiB; of a program that does not fit, what it asked for.
      hbm_gib: memory that a program may have on this chip.
      estimated_seconds: of one unit (an update, a call, a decode step): fusions by the compiler's cycles, and kernels.
      hlo_flops: of matrix products per device and unit, kernels included.
      mesh: axis sizes.
      error: the compiler's first line, where it refused.
      fusion_seconds, kernel_seconds: the parts of `estimated_seconds`.
      argument_gib, temp_gib, alias_gib: parts of memory: arguments, temporaries, and outputs that lie in arguments.
      collectives: name to count and GiB per device and unit, of those outside fusions.
      kernels: Pallas kernels and how often each runs.
      bound_seconds: what the FLOPs take at the peak.
      knob: what to change first where it does not fit: option name to value.
      libtpu, jax: versions.
      compile_seconds: of compiling; 0 where the answer was cached.
    """

    fits: bool
    peak_gib: float | None
    hbm_gib: float
    estimated_seconds: float | None
    hlo_flops: float | None
    mesh: dict[str, int]
    error: str | None = None
    fusion_seconds: float | None = None
    kernel_seconds: float | None = None
    argument_gib: float | None = None
    temp_gib: float | None = None
    alias_gib: float | None = None
    collectives: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    kernels: dict[str, int] = dataclasses.field(default_factory=dict)
    bound_seconds: float | None = None
    knob: dict[str, Any] = dataclasses.field(default_factory=dict)
    libtpu: str = ""
    jax: str = ""
    compile_seconds: float = 0.0
