"""What goes into the engine and what comes out: shapes, requests, completions, probes."""

import collections
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Annotated

from humpback_jax.inference.sampling import SamplingConfig
from humpback_jax.models.dtypes import CACHE
from humpback_jax.ranges import OneOf, PositiveInt, check_fields

PROBE_ROOM = 16  # forced tokens of a probe, the last written one included
PROBE_ROWS = 4  # slots asked per call
PREFILL_TOKENS, CPU_PREFILL_TOKENS = 2048, 512


# Four to an octave, so that padding is a tenth of the tokens and not a quarter.
DEFAULT_BUCKETS = (64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048)


BUCKET_STEP = 16


def fitted_buckets(lengths: Sequence[int], most: int) -> tuple[int, ...]:
    """At most so many lengths to pad these to, multiples of 16, ascending, with the least padding in all.

    Args:
      lengths: of the prompts of a job, each at least 1; what they share not counted.
      most: buckets, at least 1; each is one program more to compile.
    """
    steps = collections.Counter(-(-length // BUCKET_STEP) for length in lengths)
    sizes = sorted(steps)
    below = list(itertools.accumulate((steps[size] for size in sizes), initial=0))
    # The fewest padded steps, and the buckets, of the k shortest sizes with so many buckets as were allowed so far.
    best: list[tuple[int, tuple[int, ...]]] = [(0, ()), *((below[-1] * sizes[-1] + 1, ()) for _ in sizes)]
    for _ in range(most):
        best = [
            min(
                [best[k]]
                + [(best[j][0] + (below[k] - below[j]) * sizes[k - 1], (*best[j][1], sizes[k - 1])) for j in range(k)]
            )
            for k in range(len(best))
        ]
    return tuple(size * BUCKET_STEP for size in best[-1][1])


@dataclasses.dataclass(frozen=True)
class EngineConfig:
    """Shapes of the compiled programs.

    Attributes:
      slots: rows that are decoded together.
      prompt_buckets: prompt lengths to pad to, ascending, the shared prefix not counted; one prefill program for each
        that is in use. The last is also the longest prompt accepted, the shared prefix counted.
      max_new_tokens: room for new tokens in every row; a request may ask for fewer.
      prefill_tokens: tokens of one prefill call; its rows are this over the bucket, and at most a quarter of the slots.
        None: 2048, but 512 on CPU, where the activations of more outgrow the cores' caches.
      decode_steps: steps between two looks of the host at the slots; None: 8, or 4 where chunks overlap.
      overlap: dispatch a chunk of steps before the last one is read; None: yes, but on CPU.
      share_prefix: prefill what all prompts of a job begin with once.
      kv_dtype: of the cache: `float32`, `bfloat16` or `int8`; None: the model's, but float32 on CPU.
      tensor_parallelism: devices that share one copy of the weights; more than a host has make one engine of the
        devices of all hosts, its rows dealt over the copies.
    """

    slots: PositiveInt = 32
    prompt_buckets: tuple[PositiveInt, ...] = DEFAULT_BUCKETS
    max_new_tokens: PositiveInt = 256
    prefill_tokens: PositiveInt | None = None
    decode_steps: PositiveInt | None = None
    overlap: bool | None = None
    share_prefix: bool = True
    kv_dtype: Annotated[str, OneOf(*CACHE)] | None = None
    tensor_parallelism: PositiveInt = 1

    def __post_init__(self) -> None:
        check_fields(self)
        ascending = all(a < b for a, b in zip((0, *self.prompt_buckets), self.prompt_buckets, strict=False))
        if not self.prompt_buckets or not ascending:
            raise ValueError(
                f"EngineConfig.prompt_buckets is {self.prompt_buckets}; give one length or more, in ascending order"
            )

    @property
    def max_prompt_length(self) -> int:
        """Longest prompt in tokens."""
        return self.prompt_buckets[-1]

    def steps_per_chunk(self, overlap: bool) -> int:
        """Decode steps of one dispatch; a row that ends waits for its chunk, and for one more where chunks overlap."""
        return self.decode_steps or (4 if overlap else 8)

    @property
    def rooms(self) -> list[int]:
        """Prompt tokens that caches may have room for, ascending: every other bucket and the last, fewer programs."""
        return list(self.prompt_buckets[::-2][::-1])

    def room(self, bucket: int) -> int:
        """Room of the caches while prompts of this bucket enter."""
        return next(room for room in self.rooms if bucket <= room)

    def scored_rows(self, bucket: int) -> int:
        """Prompts of one scoring call, before they are rounded up to the copies of a mesh."""
        return max(1, (self.prefill_tokens or PREFILL_TOKENS) // bucket)

    def group_size(self, bucket: int) -> int:
        """Prompts of one prefill call."""
        return max(1, min(self.scored_rows(bucket), self.slots // 4))


@dataclasses.dataclass(frozen=True)
class Request:
    """One prompt to complete; `id` is unique in its job and, with the seed, decides the random draws."""

    id: str
    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    sampling: SamplingConfig = SamplingConfig()


@dataclasses.dataclass(frozen=True)
class Completion:
    """Tokens written for a request, without the stop token; `truncated` means the limit ended it, not the model."""

    id: str
    token_ids: tuple[int, ...]
    truncated: bool
    probe_log_probs: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Branch:
    """A question about a text: if `forced_ids` came next, how likely would each candidate be after them?"""

    forced_ids: tuple[int, ...]
    candidate_ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Probe(Branch):
    """Such a question about a completion; `others` are asked as well, and their answers follow its own."""

    others: tuple[Branch, ...] = ()


@dataclasses.dataclass(frozen=True)
class Reading:
    """A text to read once, and what is asked about it.

    Attributes:
      id: unique in its job.
      token_ids: of the whole text.
      spans: (start, length) of parts whose log-likelihood is wanted, which do not overlap.
      candidate_ids: tokens that may come after the text.
    """

    id: str
    token_ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    candidate_ids: tuple[int, ...]
