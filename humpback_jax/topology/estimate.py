"""Seconds of a compiled program on a chip, from the compiler's cycles and the kernels' own accounts: an estimate.

The cycles know nothing of kernels, nor of collectives that nothing hides. A kernel takes the longer of its products at
`KERNEL_UTILISATION` of the peak and its bytes at the bandwidth; `splash_attention` gives no account of itself, so its
products are counted here.
"""

import dataclasses
import math

from humpback_jax.hardware import Chip
from humpback_jax.topology.hlo import DTYPE_BYTES, HloCost, Kernel

KERNEL_UTILISATION = 0.5  # of the matrix units, inside an attention kernel: assumed
# Matrix products over all pairs of a query and a key it sees.
_SPLASH_PRODUCTS = {"splash_mha_fwd": 2, "splash_mha_dq": 3, "splash_mha_dkv": 4}


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Seconds of one run: of what the compiler schedules, and of the kernels in it."""

    fusions: float
    kernels: float

    @property
    def total(self) -> float:
        """Both together; collectives that nothing hides would come on top."""
        return self.fusions + self.kernels


def estimate(cost: HloCost, chip: Chip) -> Estimate:
    """Seconds on a chip."""
    kernels = sum(kernel.count * kernel_seconds(kernel, chip) for kernel in cost.kernels)
    return Estimate(cost.cycles / chip.clock_hz, kernels)


def kernel_flops(kernel: Kernel) -> float:
    """FLOPs of one run of a kernel: by its own account, or counted for causal splash attention; else 0."""
    products = next((n for start, n in _SPLASH_PRODUCTS.items() if kernel.name.startswith(start)), 0)
    if kernel.flops or not products:
        return kernel.flops
    tensors = [shape for dtype, shape in kernel.operands if dtype in ("bf16", "f32") and len(shape) >= 3]
    query, key = tensors[0], tensors[1]
    # Keys may lie with their length last or with their width last.
    queries, keys = query[-2], math.prod(key[-2:]) // query[-1]
    pairs = queries * keys - queries * queries / 2
    return products * 2.0 * math.prod(query[:-2]) * query[-1] * pairs


def kernel_seconds(kernel: Kernel, chip: Chip) -> float:
    """Seconds of one run."""
    size = kernel.bytes_accessed or sum(
        math.prod(shape) * DTYPE_BYTES.get(dtype, 4) for dtype, shape in kernel.operands
    )
    return max(kernel_flops(kernel) / (KERNEL_UTILISATION * chip.peak_flops), size / chip.hbm_bandwidth)
