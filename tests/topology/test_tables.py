"""The generated tables: every size has a slice of every kind of chip, and its state or weights leave room there."""

import dataclasses
import importlib.util
import pathlib

import pytest

from humpback_jax.hardware import CHIPS, get_slice
from humpback_jax.topology.fit import least_gib, resident_gib
from humpback_jax.topology.request import FitReport

SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "slice_tables.py"
SPEC = importlib.util.spec_from_file_location("slice_tables", SCRIPT)
tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tables)
EVERY = [(model, chip) for model in tables.PAPER_SIZES for chip in CHIPS]


def ask(request):
    """Fits where arithmetic says so; a second per row."""
    hbm, needed = get_slice(request.slice).chip.hbm_gib, least_gib(request)
    mesh = {"data": 1, "fsdp": 1, "sequence": 1, "tensor": 1} | request.mesh_sizes
    return FitReport(needed < hbm, needed, hbm, float(request.batch), None, mesh)


@pytest.mark.parametrize(("model", "chip"), EVERY)
def test_the_state_of_training_leaves_room_for_activations(model, chip):
    request = tables.training_request(model, chip)
    assert resident_gib(request) <= tables.STATE_SHARE * CHIPS[chip].hbm_gib


@pytest.mark.parametrize(("model", "chip"), EVERY)
def test_weights_leave_room_for_caches(model, chip):
    request = tables.decode_request(model, chip)
    split = dataclasses.replace(request, mesh=(("tensor", get_slice(request.slice).num_devices),))
    assert resident_gib(split) <= tables.WEIGHT_SHARE * CHIPS[chip].hbm_gib


def test_weights_are_int8_only_where_their_heads_are_too_few():
    quantized = [one for one in EVERY if tables.decode_request(*one).weight_dtype == "int8"]
    assert quantized == [("llama_33b", "v5e"), ("llama2_70b", "v5e")]


@pytest.mark.parametrize("make", [tables.training_request, tables.decode_request])
def test_a_row_for_every_size_and_chip_in_order(make):
    head, rule, *rows = tables.recommendation_rows(ask, make, jobs=2)
    assert head.count("|") == rule.count("|") == 11
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [(model, get_slice(name).chip.name) for model, _, _, name, *_ in cells] == EVERY
    assert not any("does not fit" in row for row in rows)
