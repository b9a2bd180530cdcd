"""How fast training runs: step times, tokens and examples per second, use of the chips' peak, memory."""

import dataclasses
import time
from collections.abc import Mapping

import jax
import numpy as np

from humpback_jax.hardware import peak_flops
from humpback_jax.models.config import LlamaConfig

PERCENTILES = (50, 90, 99)


def model_flops(config: LlamaConfig, tokens: int, attended: int, frozen: bool = False) -> float:
    """FLOPs that an update needs, recomputation and padding not counted: 6 N per token + attention.

    N counts the weights that multiply a token: all but an input embedding that is not also the output projection. A
    weight takes 2 FLOPs forwards and 4 backwards; a frozen one 2 backwards, as it has no gradient (LoRA; the adapters
    themselves are not counted). A query and a key that it attends to take 4 FLOPs per head dimension, head and layer
    forwards, twice that backwards.

    Args:
      config: the model.
      tokens: positions that hold a token.
      attended: pairs of a query and a key at or before it in the same example, over all examples.
      frozen: the weights have no gradients.
    """
    multiplied = config.num_params - (0 if config.tie_word_embeddings else config.vocab_size * config.emb_dim)
    attention = 12 * config.num_layers * config.num_heads * config.head_dim
    return (4 if frozen else 6) * float(multiplied) * tokens + float(attention) * attended


@dataclasses.dataclass(frozen=True)
class Workload:
    """What one update worked on: examples, positions with a token, positions computed, and query-key pairs."""

    examples: int
    tokens: int
    positions: int
    attended: int


def workload(arrays: Mapping[str, np.ndarray], num_microbatches: int, num_examples: int) -> Workload:
    """Counts of a packed batch whose features are [microbatches, rows, length]."""
    held = arrays["decoder_segment_ids"] > 0
    # Position p of an example attends to p + 1 keys.
    attended = int((arrays["decoder_positions"] + 1)[held].sum())
    return Workload(num_examples, int(held.sum()), num_microbatches * held[0].size, attended)


class Throughput:
    """Figures of every update as it ends, and of all of them at the end of training."""

    def __init__(self, config: LlamaConfig, devices: np.ndarray, frozen: bool = False) -> None:
        """`devices` of the training mesh; `frozen`: only adapters train."""
        self._config, self._frozen = config, frozen
        self._local = [device for device in devices.flat if device.process_index == jax.process_index()]
        peak = peak_flops(devices.flat[0].device_kind)
        self._peak = None if peak is None else peak * devices.size
        self._seconds: list[float] = []
        self._work: list[Workload] = []
        self._last_end = 0.0

    def measure(self, work: Workload, started: float) -> dict[str, float]:
        """Figures of an update that has just ended; those that this machine cannot give are left out.

        Its time runs from `started` (`time.monotonic()`), or from the end of the update before where that was later.
        """
        now = time.monotonic()
        seconds, self._last_end = now - max(started, self._last_end), now
        self._seconds.append(seconds)
        self._work.append(work)
        return {"step_seconds": seconds, "packing_fill": work.tokens / work.positions} | self._rates(work, seconds)

    def _rates(self, work: Workload, seconds: float) -> dict[str, float]:
        figures = {"tokens_per_second": work.tokens / seconds, "examples_per_second": work.examples / seconds}
        if self._peak is not None:
            flops = model_flops(self._config, work.tokens, work.attended, self._frozen)
            figures["mfu"] = flops / seconds / self._peak
        memory = memory_high_water(self._local)
        return figures | ({} if memory is None else {"memory_high_water_bytes": memory})

    def summary(self) -> dict[str, float]:
        """Rates and step-time percentiles over this process's updates but its first, which compiles."""
        seconds, work = self._seconds[1:], self._work[1:]
        if not seconds:
            return {}
        total = Workload(*np.sum([dataclasses.astuple(update) for update in work], axis=0).tolist())
        times = dict(zip(PERCENTILES, np.percentile(seconds, PERCENTILES).tolist(), strict=True))
        return self._rates(total, sum(seconds)) | {f"step_seconds_p{p}": round(time, 6) for p, time in times.items()}


def memory_high_water(devices: list[jax.Device]) -> int | None:
    """Most bytes in use at one time on any of these devices; None where the platform does not say."""
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in devices]
    return max((peak for peak in peaks if peak is not None), default=None)
