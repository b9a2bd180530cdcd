"""How training data reach the trainer decides nothing: through seqio, directly, and where there is no TensorFlow."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from humpback_jax.align import Alignment
from humpback_jax.data.readers import DIRECT, SEQIO
from humpback_jax.files import read_json

pytestmark = pytest.mark.xdist_group("readers")  # one worker: the run is made once

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ("m_yx", "m0", "m1")

# Hides what the environment has, and notes which of our functions asks for it.
WITHOUT = """
import builtins, sys, traceback

HIDDEN = ("tensorflow", "seqio", "tensorflow_datasets")
sys.modules.update(dict.fromkeys(HIDDEN))
find = builtins.__import__

def noting(name, *args, **kwargs):
    if name.partition(".")[0] in HIDDEN:
        functions = [frame.name for frame in traceback.extract_stack() if "humpback_jax" in frame.filename]
        print("asked:", [name for name in functions if name != "<module>"][-1], file=sys.stderr)
    return find(name, *args, **kwargs)

builtins.__import__ = noting
from humpback_jax.cli import main
main()
"""


MODULE = """
import os, seqio, tensorflow as tf

FOLDER = os.path.dirname(os.path.abspath(__file__))
TEXT = seqio.Feature(seqio.PassThroughVocabulary(1), add_eos=False, dtype=tf.string, rank=0)

@seqio.map_over_dataset
def turns(line):
    question, reply = tf.unstack(tf.strings.split(line, "|"), num=2)
    return {"inputs": question, "targets": reply}

for name in ("birds", "fish"):
    source = seqio.TextLineDataSource({"train": os.path.join(FOLDER, name + ".txt")})
    seqio.TaskRegistry.add(name, source, {"inputs": TEXT, "targets": TEXT}, [turns])
seqio.MixtureRegistry.add("animals", ["birds", "fish"], default_rate=1)
"""


def humpback(recipe, folder, *arguments, before="from humpback_jax.cli import main; main()"):
    """Runs a verb on a recipe, in a process of its own that works in `folder`."""
    command = [sys.executable, "-c", before, *arguments, f"--gin_file={recipe}", f"--run_dir={folder / 'run'}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def recipe(tiny_recipe):
    """One round, without an evaluation, its data read through seqio."""
    seeds = dataclasses.replace(tiny_recipe.seeds, heldout_path=None)
    return dataclasses.replace(tiny_recipe, rounds=1, seeds=seeds, data_reader=SEQIO)


@pytest.fixture(scope="module")
def gin_file(recipe, gin_text, tmp_path_factory):
    path = tmp_path_factory.mktemp("gin") / "recipe.gin"
    path.write_text(gin_text(recipe))
    return path


@pytest.fixture(scope="module")
def without_tensorflow(gin_file, tmp_path_factory):
    """(folder, process) of `humpback align` where TensorFlow cannot be imported."""
    folder = tmp_path_factory.mktemp("without")
    return folder, humpback(gin_file, folder, "align", before=WITHOUT)


def test_align_runs_without_tensorflow_and_only_training_asks_for_it(without_tensorflow):
    folder, ended = without_tensorflow
    assert ended.returncode == 0, ended.stderr[-3000:]
    lines = ended.stderr.splitlines()
    assert {line for line in lines if line.startswith("asked:")} == {"asked: import_seqio_reader"}
    assert sum("training pairs are read directly, seqio cannot be imported here" in line for line in lines) == 3
    figures = [read_json(folder / "run" / name / "manifest.json")["figures"] for name in MODELS]
    assert [stage["data_reader"] for stage in figures] == [DIRECT] * 3


def test_both_readers_train_the_same_models(without_tensorflow, recipe, tmp_path):
    directly = without_tensorflow[0] / "run"
    shutil.copytree(directly / "curated1", tmp_path / "curated1")
    alignment = Alignment(recipe, tmp_path)
    alignment.train_backward_model()
    alignment.train_seed_model()
    alignment.train_round(1)
    for name in MODELS:
        manifests = [read_json(folder / name / "manifest.json") for folder in (directly, tmp_path)]
        assert [manifest["figures"]["data_reader"] for manifest in manifests] == [DIRECT, SEQIO]
        assert manifests[0]["outputs"] == manifests[1]["outputs"]
        assert manifests[0]["counts"] == manifests[1]["counts"]
        identities, metrics = (
            [(folder / name / file).read_text() for folder in (directly, tmp_path)]
            for file in ("identity.json", "metrics.jsonl")
        )
        assert identities[0] == identities[1]
        losses = [[json.loads(line)["loss"] for line in lines.splitlines()] for lines in metrics]
        assert losses[0] == losses[1]


@pytest.mark.slow
def test_a_users_own_mixture_of_two_files_joins_the_seeds_and_a_change_of_it_trains_again(gin_file, tmp_path):
    (tmp_path / "zoo.py").write_text(MODULE)
    (tmp_path / "birds.txt").write_text("Describe a jay.|A jay sings.\nDescribe a kite.|A kite soars.\n")
    (tmp_path / "fish.txt").write_text("Describe a cod.|A cod swims.\n")
    arguments = ["train", "--model=m0", "--mixture=zoo:animals", "--json"]
    ended = humpback(gin_file, tmp_path, *arguments)
    assert ended.returncode == 0, ended.stderr[-3000:]
    manifest = json.loads(ended.stdout)
    assert manifest["counts"] == {"in": 8 + 4, "out": 8 + 4, "rejected": {}}  # the one fish as often as the two birds
    assert len(manifest["inputs"]["zoo:animals"]) == 64
    (tmp_path / "fish.txt").write_text("Describe a cod.|A cod dives.\n")
    ended = humpback(gin_file, tmp_path, *arguments)
    assert ended.returncode == 0, ended.stderr[-3000:]
    again = json.loads(ended.stdout)
    assert again["inputs"]["zoo:animals"] != manifest["inputs"]["zoo:animals"]
    assert again["outputs"] != manifest["outputs"]
