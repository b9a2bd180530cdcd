"""Full-size programs against the figures that the compiler once gave: no change may quietly cost memory or cycles."""

import json
import pathlib

import pytest

from humpback_jax.topology.compiler import libtpu_version
from humpback_jax.topology.fit import fit
from humpback_jax.topology.request import FitRequest

GOLDENS = json.loads((pathlib.Path(__file__).parent / "goldens.json").read_text())
PEAK_SLACK, CYCLES_SLACK = 1.02, 1.05


@pytest.mark.timeout(1800)
@pytest.mark.skipif(libtpu_version() is None, reason="needs libtpu (the extra `tpu`)")
@pytest.mark.parametrize("golden", GOLDENS, ids=lambda golden: golden["name"])
def test_a_full_size_program_takes_no_more_than_it_did(golden):
    request = FitRequest.from_json({"mesh": [], "options": []} | golden["request"])
    report = fit(request, cache=None)
    assert report.fits, report.error
    assert report.peak_gib <= golden["peak_gib"] * PEAK_SLACK
    if report.libtpu == golden["libtpu"]:  # cycles of two compilers do not compare
        assert report.fusion_seconds <= golden["fusion_seconds"] * CYCLES_SLACK
