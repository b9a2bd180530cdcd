"""What every stage has in common: run once, refuse another identity, and lose no record."""

import dataclasses
import json
import pathlib

import pytest

from humpback_jax.stages.stage import StageResult, begin_stage, finished_stage, plain


@dataclasses.dataclass(frozen=True)
class Settings:
    rate: float = 0.5
    sizes: tuple[int, ...] = (1, 2)


COUNTS = {"in": 5, "out": 3, "rejected": {"too_long": 1, "empty": 1}}


def run(folder, calls, settings=None, inputs=None, counts=COUNTS):
    """A stage function whose work is to note that it was called."""
    settings = {"config": Settings(), "tags": ("seed",)} if settings is None else settings
    claim = begin_stage(folder, settings, inputs or {"base": "b0", "seed": "s0"})
    if claim.finished:
        return claim.stage
    calls.append(claim.folder.name)
    return claim.finish(StageResult(counts, {"product": "abc"}, {"fill": 0.25}))


def test_a_complete_stage_is_not_run_again(tmp_path):
    calls = []
    first = run(tmp_path / "m0", calls)
    manifest = (tmp_path / "m0" / "manifest.json").read_bytes()
    second = run(tmp_path / "m0", calls)
    assert calls == ["m0"]
    assert second.manifest == first.manifest
    assert (tmp_path / "m0" / "manifest.json").read_bytes() == manifest
    assert second.counts == COUNTS
    assert second.outputs == {"product": "abc"}


def test_the_manifest_says_what_was_done(tmp_path):
    run(tmp_path / "m0", [])
    manifest = json.loads((tmp_path / "m0" / "manifest.json").read_text())
    assert manifest["stage"] == "m0"
    assert manifest["settings"] == {"config": {"rate": 0.5, "sizes": [1, 2]}, "tags": ["seed"]}
    assert manifest["inputs"] == {"base": "b0", "seed": "s0"}
    assert manifest["counts"] == COUNTS
    assert manifest["figures"] == {"fill": 0.25}
    assert manifest["seconds"] >= 0


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"settings": {"config": Settings(rate=0.6), "tags": ("seed",)}}, r"settings\.config\.rate"),
        ({"settings": {"config": Settings(sizes=(1, 3)), "tags": ("seed",)}}, r"settings\.config\.sizes"),
        ({"settings": {"config": Settings(), "tags": ("web",)}}, r"settings\.tags"),
        ({"inputs": {"base": "b1", "seed": "s0"}}, r"inputs\.base"),
        ({"inputs": {"base": "b0", "seed": "s0", "web": "w0"}}, r"inputs\.web"),
    ],
)
def test_other_settings_or_inputs_are_refused_by_name(tmp_path, changed, named):
    calls = []
    run(tmp_path / "m0", calls)
    with pytest.raises(ValueError, match=rf"m0 was begun with another {named}; use another run directory"):
        run(tmp_path / "m0", calls, **changed)
    assert calls == ["m0"]


def test_a_stage_that_was_cut_off_is_refused_too(tmp_path):
    assert not begin_stage(tmp_path / "m0", {"seed": 0}, {}).finished
    with pytest.raises(ValueError, match=r"settings\.seed"):
        begin_stage(tmp_path / "m0", {"seed": 1}, {})
    assert not begin_stage(tmp_path / "m0", {"seed": 0}, {}).finished


def test_a_leader_without_a_result_leaves_the_stage_incomplete(tmp_path):
    with pytest.raises(AssertionError, match="m0: no result in the leading process"):
        begin_stage(tmp_path / "m0", {}, {}).finish(None)
    assert not (tmp_path / "m0" / "manifest.json").exists()


@pytest.mark.parametrize("counts", [COUNTS | {"out": 4}, COUNTS | {"rejected": {}}, COUNTS | {"in": 4}])
def test_counts_that_do_not_add_up_leave_the_stage_incomplete(tmp_path, counts):
    with pytest.raises(AssertionError, match="does not add up"):
        run(tmp_path / "m0", [], counts=counts)
    assert not (tmp_path / "m0" / "manifest.json").exists()


def test_an_unfinished_stage_says_how_to_make_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="augmented is not complete; run `humpback augment` first"):
        finished_stage(tmp_path / "augmented", "humpback augment")
    run(tmp_path / "augmented", [])
    assert finished_stage(tmp_path / "augmented", "humpback augment").counts == COUNTS


def test_plain_values_are_json():
    value = {"config": Settings(), "path": pathlib.PurePosixPath("a/b"), "none": None}
    assert plain(value["config"]) == {"rate": 0.5, "sizes": [1, 2]}
    assert plain({"path": value["path"], "none": value["none"]}) == {"path": "a/b", "none": None}
