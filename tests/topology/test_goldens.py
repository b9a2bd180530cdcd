"""Full-size programs against the figures that the compiler once gave: no change may quietly cost memory or cycles."""

import json
import pathlib

import pytest

from humpback_jax.topology.compiler import libtpu_version
from humpback_jax.topology.fit import fit
from humpback_jax.topology.request import FitRequest

GOLDENS = json.loads((pathlib.Path(__file__).parent / "goldens.json").read_text())
# The others are one of these on another slice.
OFTEN = ("llama_7b train v5e-16", "llama_7b decode v5e-8")
PEAK_SLACK, CYCLES_SLACK = 1.02, 1.05


@pytest.mark.timeout(1800)
@pytest.mark.skipif(libtpu_version() is None, reason="needs libtpu (the extra `tpu`)")
@pytest.mark.parametrize(
    "golden",
    [pytest.param(golden, marks=[] if golden["name"] in OFTEN else [pytest.mark.slow]) for golden in GOLDENS],
    ids=lambda golden: golden["name"],
)
def test_a_full_size_program_takes_no_more_than_it_did(golden):
    request = FitRequest.from_json({"mesh": [], "options": []} | golden["request"])
    report = fit(request, cache=None)
    assert report.fits, report.error
    assert report.peak_gib <= golden["peak_gib"] * PEAK_SLACK
    if report.libtpu == golden["libtpu"]:  # cycles of two compilers do not compare
        assert report.fusion_seconds <= golden["fusion_seconds"] * CYCLES_SLACK
