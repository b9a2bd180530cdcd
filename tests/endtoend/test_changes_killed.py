"""`kill -9` at random moments of changes in place: in the end the run is what a fresh one gives."""

import dataclasses
import pathlib
import random
import shutil
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import test_changes as changes
import test_kill as kills

KILLS = 5  # in each of the four kinds of change
KINDS = ("pages", "rubric", "threshold", "rounds")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.xdist_group("changes_killed")]


@pytest.fixture(scope="module")
def finished(tiny_recipe, gin_text, tmp_path_factory):
    """A recipe of one round and its finished run."""
    recipe, folder = dataclasses.replace(tiny_recipe, rounds=1), tmp_path_factory.mktemp("finished")
    (folder / "one.gin").write_text(gin_text(recipe))
    kills.finish(folder / "one.gin", folder / "run")
    return recipe, folder / "run"


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_killed_again_and_again_ends_like_a_fresh_run(kind, finished, sources, gin_text, tmp_path):
    recipe, before = finished
    gin_file, killed, draw = tmp_path / "changed.gin", tmp_path / "killed", random.Random(kind)
    gin_file.write_text(gin_text(changes.change(kind, recipe, sources, tmp_path / "other")))
    shutil.copytree(before, tmp_path / "timed")
    began = time.monotonic()
    kills.finish(gin_file, tmp_path / "timed")
    seconds = time.monotonic() - began
    kills.finish(gin_file, tmp_path / "fresh")
    died = 0
    while died < KILLS:
        if not killed.exists():
            shutil.copytree(before, killed)
        process = kills.start(gin_file, killed)
        time.sleep(draw.uniform(0, seconds))
        process.kill()
        if process.wait() == 0:
            shutil.rmtree(killed)  # it was faster: once more from the finished run
        else:
            died += 1
    kills.finish(gin_file, killed)
    for run_dir in (tmp_path / "timed", killed):
        assert changes.products(run_dir) == changes.products(tmp_path / "fresh")
        figures = [changes.manifest(each, "evaluation")["figures"] for each in (run_dir, tmp_path / "fresh")]
        assert figures[0] == figures[1]
    assert [path for path in killed.rglob("*.tmp") if path.is_file()] == []
