"""Costs read from HLO text: loops count as often as they run, kernels by their own account."""

import pathlib

import pytest

from humpback_jax.hardware import CHIPS
from humpback_jax.topology.hlo import Kernel, hlo_cost

# A loop of 3 trips that steps by 2 up to 6, around a product and a kernel whose metadata spans lines.
TEXT = (pathlib.Path(__file__).parent / "loop.hlo").read_text()


def test_a_loop_counts_as_often_as_it_runs():
    cost = hlo_cost(TEXT)
    assert cost.loops == (("while.1", 3),)
    assert cost.cycles == 3 * 100
    assert cost.flops == 3 * 2 * 8 * 16 * 32
    assert cost.collectives == {"all-gather": (3, 3 * 8 * 16 * 2)}


def test_kernels_are_counted_by_their_own_account():
    (kernel,) = hlo_cost(TEXT).kernels
    assert kernel == Kernel("attend", 3, 1000.0, 500.0, (("bf16", (8, 16)),))


def test_a_bound_that_is_no_constant_takes_what_is_given():
    text = TEXT.replace("%limit = s32[]{:T(128)} constant(6)", "%limit = s32[]{:T(128)} parameter(1)")
    assert hlo_cost(text, unknown_trips=5).cycles == 5 * 100


@pytest.mark.parametrize(
    ("name", "products"), [("splash_mha_fwd_residuals", 2), ("splash_mha_dq", 3), ("splash_mha_dkv", 4)]
)
def test_splash_gives_no_account_and_is_counted(name, products):
    query, keys = ("bf16", (4, 2048, 128)), ("bf16", (4, 128, 2048))
    kernel = Kernel(name, 1, 0.0, 0.0, (("s8", (1, 4, 4)), query, keys))
    assert kernel.counted_flops == products * 2 * 4 * 128 * 2048 * 2048 / 2


def test_estimated_seconds_are_cycles_over_the_clock_and_kernels_by_the_roofline():
    cost, chip = hlo_cost(TEXT), CHIPS["v5e"]
    assert cost.cycles / chip.clock_hz == pytest.approx(300 / 1.5e9)
    assert cost.kernel_seconds(chip) == pytest.approx(3 * max(1000 / (0.5 * 197e12), 500 / 819e9))
