"""The question that `humpback fit` asks the compiler, its answers, and its advice."""

import dataclasses
import json

import pytest
from click.testing import CliRunner

from humpback_jax.cli import cli
from humpback_jax.topology import compiler
from humpback_jax.topology.compiler import CompilerError, libtpu_version
from humpback_jax.topology.fit import candidate_batches, candidate_meshes, first_knob, search
from humpback_jax.topology.request import FitReport, FitRequest

with_libtpu = pytest.mark.skipif(libtpu_version() is None, reason="needs libtpu (the extra `tpu`)")
FIELDS = {"fits", "peak_gib", "hbm_gib", "estimated_seconds", "hlo_flops", "mesh", "error"}


def refused(needed):
    return FitReport(False, needed, 15.75, None, None, {"tensor": 1}, "RESOURCE_EXHAUSTED: too large")


def test_requests_survive_json():
    request = FitRequest("llama_7b", "v5e-16", mesh=(("tensor", 4),), options=(("a", "b"),))
    assert FitRequest.from_json(json.loads(json.dumps(dataclasses.asdict(request)))) == request


@pytest.mark.parametrize("wrong", [{"step": "serve"}, {"batch": 0}, {"length": 1}], ids=str)
def test_requests_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError):
        FitRequest("llama_7b", "v5e-16", **wrong)


def test_the_first_knob_is_the_batch_where_rows_are_too_many():
    request = FitRequest("llama_7b", "v5e-16", batch=16)
    knob = first_knob(request, refused(needed=30.0))
    assert 1 <= knob["batch"] < 16


def test_the_first_knob_is_how_weights_are_held_where_one_row_is_too_much():
    request = FitRequest("llama_65b", "v5e-16", batch=1)
    assert first_knob(request, refused(needed=30.0)) == {"param_dtype": "bfloat16"}
    narrow = dataclasses.replace(request, step="decode", mesh=(("tensor", 4),), batch=4)
    assert first_knob(narrow, refused(needed=35.0)) == {"weight_dtype": "int8"}


def test_a_search_takes_the_largest_batch_of_every_mesh_and_the_fastest_mesh():
    asked = []

    def ask(request):
        asked.append((dict(request.mesh).get("tensor", 1), request.batch))
        if request.batch > 2:
            return refused(20.0)
        tensor = dict(request.mesh).get("tensor", 1)
        mesh = {"data": 1, "fsdp": 16 // tensor, "sequence": 1, "tensor": tensor}
        return FitReport(True, 10.0, 15.75, 1.0, 1.0, mesh)

    request, report = search(FitRequest("llama_7b", "v5e-16"), None, None, ask)
    assert asked == [(1, 8), (1, 4), (1, 2), (4, 8), (4, 4), (4, 2)]
    assert request.batch == 2 and report.mesh["fsdp"] == 16


def test_candidates_divide_the_heads():
    for name, slice_name in (("llama_33b", "v5e-16"), ("llama_65b", "v5e-64"), ("llama2_70b", "v5p-16")):
        for mesh in candidate_meshes(FitRequest(name, slice_name, step="decode")):
            assert {"llama_33b": 52, "llama_65b": 64, "llama2_70b": 8}[name] % dict(mesh)["tensor"] == 0
    assert candidate_batches(FitRequest("llama_7b", "v5e-16", step="decode", mesh=(("tensor", 8),)))[-1] == 2


def test_a_missing_compiler_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr(compiler, "libtpu_version", lambda: None)
    with pytest.raises(CompilerError, match=r"humpback_jax\[tpu\]"):
        compiler.ask_worker({})


def run_fit(tmp_path, *arguments, **environment):
    command = ["fit", "--model", "tiny", "--json", *arguments]
    done = CliRunner(env={"HUMPBACK_CACHE": str(tmp_path)} | environment).invoke(cli, command)
    return done, json.loads(done.stdout) if done.exit_code in (0, 2) else None


@with_libtpu
def test_a_tiny_decode_fits_and_its_cache_stays_in_place(tmp_path):
    arguments = ("--slice", "v5e-1", "--step", "decode", "--batch", "8", "--length", "256", "--mesh", "tensor=1")
    done, report = run_fit(tmp_path, *arguments)
    assert done.exit_code == 0 and set(report) >= FIELDS and report["fits"]
    assert report["estimated_seconds"] > 0 and report["peak_gib"] < report["hbm_gib"] == 15.75
    assert run_fit(tmp_path, *arguments)[1]["compile_seconds"] == 0  # from the cache


@with_libtpu
def test_what_does_not_fit_exits_2_with_the_compilers_figure_and_a_knob(tmp_path):
    arguments = ("--slice", "v5e-1", "--step", "decode", "--length", "65536", "--mesh", "tensor=1")
    done, report = run_fit(tmp_path, *arguments, "--batch", "8192")
    assert done.exit_code == 2 and not report["fits"]
    assert report["peak_gib"] > 15.75 and "exceed" in report["error"]
    assert report["knob"]["batch"] < 8192


@with_libtpu
@pytest.mark.parametrize("slice_name", ["v5e-4", pytest.param("v4-8", marks=pytest.mark.slow)])
def test_a_tiny_train_step_donates_its_state_and_runs_splash(tmp_path, slice_name):
    done, report = run_fit(tmp_path, "--slice", slice_name, "--batch", "1", "--length", "128")
    assert done.exit_code == 0, done.output
    assert report["mesh"]["fsdp"] == 4
    assert report["alias_gib"] == pytest.approx(report["argument_gib"], rel=0.2)
    assert any(name.startswith("splash_mha_fwd") for name in report["kernels"])


def test_an_unknown_axis_is_an_error(tmp_path):
    done = CliRunner().invoke(cli, ["fit", "--model", "tiny", "--slice", "v5e-4", "--mesh", "tenser=2"])
    assert isinstance(done.exception, ValueError) and "tenser" in str(done.exception)
