"""Rates against numbers worked out by hand."""

import types

import numpy as np
import pytest

from humpback_jax.hardware import peak_flops
from humpback_jax.models.config import get_config
from humpback_jax.training import throughput
from humpback_jax.training.throughput import Throughput, Workload, model_flops, workload


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5e", 197e12),
        ("TPU v5p", 459e12),
        ("TPU v5", 459e12),
        ("TPU v6 lite", 918e12),
        ("TPU v6e", 918e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("cpu", None),
        ("NVIDIA Unheard-of 9000", None),
    ],
)
def test_peaks_by_device_kind(kind, peak):
    assert peak_flops(kind) == peak


def test_flops_are_six_per_weight_and_token_and_attention():
    config = get_config("llama_7b")
    weights = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008 + 2 * 4096) + 4096 + 32000 * 4096
    assert model_flops(config, 1, 0) == 6 * weights
    assert model_flops(config, 1, 0, frozen=True) == 4 * weights
    # For every pair two products of 2 FLOPs per multiplication, in 32 layers of 32 heads of 128, once and twice back.
    assert model_flops(config, 0, 10) == 10 * 3 * 2 * 2 * 32 * 32 * 128
    tied = get_config("smollm2_135m")
    assert model_flops(tied, 1, 0) == 6 * tied.num_params


def test_a_batch_is_counted_without_its_padding():
    segments = np.array([[[1, 1, 1, 2, 2, 0], [1, 1, 0, 0, 0, 0]], [[0] * 6, [0] * 6]])
    positions = np.array([[[0, 1, 2, 0, 1, 0], [0, 1, 0, 0, 0, 0]], [[0] * 6, [0] * 6]])
    arrays = {"decoder_segment_ids": segments, "decoder_positions": positions}
    assert workload(arrays, 1, 3) == Workload(examples=3, tokens=7, positions=12, attended=1 + 2 + 3 + 1 + 2 + 1 + 2)


def devices(kind, number=2, stats=None):
    make = lambda: types.SimpleNamespace(device_kind=kind, process_index=0, memory_stats=lambda: stats)  # noqa: E731
    return np.array([make() for _ in range(number)], object)


def test_rates_and_percentiles(monkeypatch):
    clock = iter([100.0, 102.0, 103.0, 107.0])
    monkeypatch.setattr(throughput.time, "monotonic", lambda: next(clock))
    config, work = get_config("tiny"), Workload(examples=4, tokens=60, positions=80, attended=500)
    meter = Throughput(config, devices("TPU v4", stats={"peak_bytes_in_use": 123}))
    rows = [meter.measure(work, started) for started in (90.0, 99.0, 102.5, 104.0)]
    # From the start of an update, or from the end of the one before where that was later.
    assert [row["step_seconds"] for row in rows] == [10.0, 2.0, 0.5, 3.0]
    assert (rows[1]["tokens_per_second"], rows[1]["examples_per_second"], rows[1]["packing_fill"]) == (30.0, 2.0, 0.75)
    assert rows[1]["mfu"] == pytest.approx(model_flops(config, 60, 500) / 2.0 / (2 * 275e12))
    assert rows[1]["memory_high_water_bytes"] == 123
    summary = meter.summary()
    assert summary["tokens_per_second"] == pytest.approx(180 / 5.5)
    assert (summary["step_seconds_p50"], summary["step_seconds_p90"]) == (2.0, pytest.approx(2.8))
    assert summary["step_seconds_p99"] == pytest.approx(2.98)


def test_what_a_machine_cannot_say_is_left_out():
    meter = Throughput(get_config("tiny"), devices("cpu"))
    assert meter.summary() == {}
    row = meter.measure(Workload(1, 10, 10, 55), 0.0)
    assert set(row) == {"step_seconds", "packing_fill", "tokens_per_second", "examples_per_second"}
    assert meter.summary() == {}
