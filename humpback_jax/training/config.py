"""The settings of a training run, in groups; a field that does not change what the run computes is `operational`."""

import dataclasses
from typing import Annotated, Any

from humpback_jax.models.config import LlamaConfig
from humpback_jax.models.dtypes import COMPUTE, dtype_of
from humpback_jax.models.llama import REMAT_POLICIES, Llama
from humpback_jax.ranges import NaturalFloat, OneOf, PathText, PositiveFloat, PositiveInt, Rate, check_fields

DROPOUT_SCHEDULES = ("constant", "linear")
FIRST_UPDATE_FACTOR = 4  # the first update compiles


def operational(default: Any) -> Any:
    """A field that does not change what a run computes: it may change when the run is started again."""
    return dataclasses.field(default=default, metadata={"operational": True})


def deciding_fields(config: Any) -> dict[str, Any]:
    """The fields of a configuration that decide what a run computes, by name."""
    fields = [field for field in dataclasses.fields(config) if not field.metadata.get("operational")]
    return {field.name: getattr(config, field.name) for field in fields}


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How long a run is.

    Attributes:
      num_steps: updates; None lets `step_table` or `epochs` decide.
      step_table: rows of (examples, batch size, updates), ascending, when `num_steps` is None: the first row with room
        for the examples counts, or the last one, and its batch size in the place of `batch_size` (paper, Table 18).
      epochs: passes over the examples when there is neither; the paper's 500 steps of 32 on 3,200 seeds are 5.
      step_limit_minutes: an update that takes longer ends the process, the first one after four times as long; None
        sets no limit.
    """

    num_steps: PositiveInt | None = None
    step_table: tuple[tuple[PositiveInt, PositiveInt, PositiveInt], ...] | None = None
    epochs: PositiveFloat = 5.0
    step_limit_minutes: PositiveFloat | None = operational(30.0)

    def __post_init__(self) -> None:
        check_fields(self)

    def step_limit_seconds(self, *, first: bool) -> float | None:
        """How long an update may take."""
        if self.step_limit_minutes is None:
            return None
        return 60 * self.step_limit_minutes * (FIRST_UPDATE_FACTOR if first else 1)


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """What a run starts from, and when it is saved.

    Attributes:
      init_from: weights to start from instead of the base model's, and nothing else: a model folder, or a checkpoint.
      resume: a checkpoint of another run on the same data, to go on from with weights, moments and step. A run goes
        on from its own newest checkpoint without being told to.
      cast_on_resume: convert a checkpoint that was saved in another dtype instead of refusing it.
      minutes: between temporary checkpoints, of which the newest is kept until the model is written; None makes none.
      period: updates between permanent checkpoints, which are all kept; None makes none.
      save_limit_minutes: a save or a restore that takes longer ends the process; None sets no limit.
    """

    init_from: PathText | None = None
    resume: PathText | None = None
    cast_on_resume: bool = operational(False)
    minutes: PositiveFloat | None = operational(10.0)
    period: PositiveInt | None = operational(None)
    save_limit_minutes: PositiveFloat | None = operational(30.0)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.init_from is not None and self.resume is not None:
            raise ValueError("init_from (weights only) and resume (everything) exclude each other; give one of them")

    @property
    def save_limit_seconds(self) -> float | None:
        """How long a save or a restore may take."""
        return None if self.save_limit_minutes is None else 60 * self.save_limit_minutes


@dataclasses.dataclass(frozen=True)
class ComputeConfig:
    """How the loss of a batch and its gradients are computed.

    Attributes:
      dtype: of activations and matrix products.
      param_dtype: of the weights, `float32`, or `bfloat16` where memory is short; the moments are float32 either way.
      gradient_dtype: of the weights' gradients as devices sum them, `float32`, or `bfloat16`, which halves what they
        exchange and the memory for it; clipping and the moments are float32 either way.
      remat_policy: a name in `humpback_jax.models.llama.REMAT_POLICIES`.
      logits_chunk: positions per row whose logits exist at one time.
      dropout: residual dropout rate.
      dropout_schedule: `constant`, or `linear` with depth (LIMA).
      z_loss: weight of the squared log-normalizer of the logits, added to the loss of every token.
    """

    dtype: Annotated[str, OneOf(*COMPUTE)] = "bfloat16"
    param_dtype: Annotated[str, OneOf(*COMPUTE)] = "float32"
    gradient_dtype: Annotated[str, OneOf(*COMPUTE)] = "float32"
    remat_policy: Annotated[str, OneOf(*REMAT_POLICIES)] = "full"
    logits_chunk: PositiveInt = 256
    dropout: Rate = 0.1
    dropout_schedule: Annotated[str, OneOf(*DROPOUT_SCHEDULES)] = "constant"
    z_loss: NaturalFloat = 0.0

    def __post_init__(self) -> None:
        check_fields(self)

    def model(self, llama: LlamaConfig, platform: str) -> Llama:
        """The decoder that is trained."""
        return Llama(
            llama,
            dtype=dtype_of(self.dtype),
            param_dtype=dtype_of(self.param_dtype),
            remat_policy=self.remat_policy,
            dropout_rates=dropout_rates(self.dropout, llama.num_layers, self.dropout_schedule),
            platform=platform,
            gradient_dtype=dtype_of(self.gradient_dtype),
        )


def dropout_rates(rate: float, num_layers: int, schedule: str) -> tuple[float, ...] | None:
    """Residual dropout per layer: `constant`, or `linear` from 0 at the first layer to `rate` at the last (LIMA)."""
    if schedule not in DROPOUT_SCHEDULES:
        raise ValueError(f"unknown dropout schedule {schedule!r}; choose one of {', '.join(DROPOUT_SCHEDULES)}")
    if rate == 0.0:
        return None
    if schedule == "constant":
        return (rate,) * num_layers
    return tuple(rate * layer / max(num_layers - 1, 1) for layer in range(num_layers))
