"""Sweeps: what a cell is, and that a sweep which was killed twice gives the table of one that was not."""

import itertools
import json
import os
import signal
import subprocess
import sys

import pytest
from waiting import wait_until

from humpback_jax.evaluation.scaling.sweep import Cell, Sweep, run_sweep
from humpback_jax.gin_utils import parse, parse_recipe

ANIMALS = ("cat", "dog", "hen", "cow", "owl", "fox", "bee", "ant", "elk", "rat")


def test_cells_are_every_combination_in_order():
    sweep = Sweep((10, 20), {"A 5": ("MIN_SCORE = 4.5",), "A": ()}, (0, 1), ("N = {size}",))
    assert len(sweep.cells) == 8
    assert [cell.name for cell in sweep.cells[:3]] == ["A_5-10-0", "A_5-10-1", "A_5-20-0"]
    expected = ["N = 20", "BatchConfig.seed = 1", "MIN_SCORE = 4.5"]
    assert sweep.bindings(Cell("A 5", 20, 1)) == expected


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"metric": "loss"}, "choose heldout_nll or win_rate"),
        ({"metric": "win_rate"}, "needs prompts, baseline, and one of judge and judge_model"),
        ({"sizes": ()}, "at least one of sizes"),
        ({"answer_tags": ("all",)}, "unknown .*all"),
    ],
    ids=["metric", "no judge", "no sizes", "tags"],
)
def test_a_sweep_that_cannot_run_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Sweep(**{"sizes": (1,), "datasets": {"A": ()}} | settings)


@pytest.mark.parametrize("name", ["ablations_llama_7b", "joint_llama_7b", "quickstart", "scaling_llama_7b"])
def test_every_data_set_of_the_packages_sweeps_has_a_recipe(name):
    files = [f"sweeps/{name}.gin"]
    sweep = parse(Sweep, files, [])
    cells = {cell.dataset: cell for cell in sweep.cells}.values()  # the last of each data set
    recipes = [parse_recipe(files, sweep.bindings(cell)) for cell in cells]
    assert {recipe.selection.sample for recipe in recipes} == {sweep.sizes[-1]}
    assert {recipe.forward.batches.seed for recipe in recipes} == {sweep.seeds[-1]}
    assert len({repr((r.selection, r.sources, r.seed_tags, r.rounds)) for r in recipes}) == len(sweep.datasets)


def test_a_mistyped_sweep_is_named():
    with pytest.raises(ValueError, match=r"size.*Did you mean 'sizes'"):
        parse(Sweep, ["sweeps/quickstart.gin"], ["Sweep.size = (1,)"])


def test_a_sweep_that_stopped_measures_only_what_is_left(monkeypatch, tmp_path):
    plan = Sweep((10, 20), {"A": (), "B": ()}, (0, 1))
    measured = []

    def measure(alignment, _):
        if len(measured) in stops:
            stops.remove(len(measured))
            raise KeyboardInterrupt
        measured.append(alignment.run_dir.name)
        return [{"heldout_nll": float(len(alignment.run_dir.name)) + hash_of(alignment.run_dir.name)}]

    hash_of = lambda name: sum(map(ord, name)) / 1000  # noqa: E731
    monkeypatch.setattr("humpback_jax.evaluation.scaling.sweep._measure", measure)
    recipe = parse_recipe(["experiments/quickstart.gin"], [])
    stops: list[int] = []
    whole = run_sweep(tmp_path / "whole", plan, lambda bindings: recipe)
    assert measured == [cell.name for cell in plan.cells]
    measured.clear()
    stops += [2, 5]
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_sweep(tmp_path / "stopped", plan, lambda bindings: recipe)
    assert run_sweep(tmp_path / "stopped", plan, lambda bindings: recipe) == whole
    assert measured == [cell.name for cell in plan.cells]
    tables = [(tmp_path / name / "table.jsonl").read_bytes() for name in ("whole", "stopped")]
    assert tables[0] == tables[1]
    with pytest.raises(ValueError, match="was begun with another sizes"):
        run_sweep(tmp_path / "whole", Sweep((10,), {"A": (), "B": ()}, (0, 1)), lambda bindings: recipe)


def test_a_follower_waits_for_no_file_of_the_leader(monkeypatch, tmp_path):
    """Of several processes one writes the table; all of them know it."""
    monkeypatch.setattr("humpback_jax.evaluation.scaling.sweep._measure", lambda alignment, _: [{"heldout_nll": 1.0}])
    recipe, plan = parse_recipe(["experiments/quickstart.gin"], []), Sweep((10,), {"A": ()})
    tables = []
    for index in ("1", "0"):
        monkeypatch.setenv("HUMPBACK_PROCESS_INDEX", index)
        monkeypatch.setenv("HUMPBACK_PROCESS_COUNT", "2")
        tables.append(run_sweep(tmp_path, plan, lambda bindings: recipe))
        assert (tmp_path / "table.jsonl").exists() == (index == "0")
    assert tables[0] == tables[1] == [json.loads((tmp_path / "table.jsonl").read_text())]


GIN = """
include 'defaults.gin'
Recipe.base = '{base}'
Recipe.chat_format = 'chatml'
Recipe.scored_run = '{run}'
Recipe.rounds = 1
SeedConfig.path = '{folder}/seeds.jsonl'
SeedConfig.heldout_path = '{folder}/heldout.jsonl'
SegmentsConfig.inputs = ('nowhere',)
LoopConfig.num_steps = 6
BatchConfig.batch_size = 4
BatchConfig.row_length = 128
BatchConfig.rows_per_microbatch = 4
BatchConfig.packing = False
ComputeConfig.dropout = 0.0
ComputeConfig.dtype = 'float32'
ComputeConfig.logits_chunk = 64
GenerationConfig.dtype = 'float32'
EngineConfig.slots = 4
EngineConfig.prompt_buckets = (128,)
SelectionConfig.keep_fraction = 1.0
SelectionConfig.min_instruction_chars = 1
OptimizerConfig.learning_rate = 3e-3
OptimizerConfig.final_learning_rate = 3e-3
Sweep.sizes = (2, 6)
Sweep.datasets = {{'web': ("Recipe.sources = ('web',)",), 'both': ("Recipe.sources = ('seed', 'web')",)}}
"""


@pytest.fixture
def plan(tmp_path, tiny_model_dir):
    """A gin file whose scored run was written by hand: pairs and their scores."""
    pair = lambda animal: {"instruction": f"Describe a {animal}.", "output": f"A {animal} eats."}  # noqa: E731
    lines = lambda rows: "".join(json.dumps(row) + "\n" for row in rows)  # noqa: E731
    (tmp_path / "seeds.jsonl").write_text(lines(map(pair, ANIMALS[:4])))
    (tmp_path / "heldout.jsonl").write_text(lines(map(pair, ANIMALS[4:6])))
    run = tmp_path / "scored"
    rows = [{"id": str(i), "source": "web", **pair(animal)} for i, animal in enumerate(ANIMALS)]
    products = {
        "augmented": ("pairs", rows),
        "scores1": ("scores", [{"id": row["id"], "score": 5.0} for row in rows]),
    }
    for stage, (name, content) in products.items():
        (run / stage).mkdir(parents=True)
        (run / stage / f"{name}.jsonl").write_text(lines(content))
        (run / stage / "manifest.json").write_text(json.dumps({"outputs": {name: "x"}, "counts": {}}))
    (tmp_path / "sweep.gin").write_text(GIN.format(base=tiny_model_dir, run=run, folder=tmp_path))
    return tmp_path / "sweep.gin"


def start(plan, out):
    arguments = ["evaluate", "sweep", f"--gin_file={plan}", f"--out={out}", "--json"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-m", "humpback_jax", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


def kill_at(process, path):
    """Kills a sweep as soon as it has written this."""
    wait_until(path.exists, path.name, unless=lambda: process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_sweep_killed_twice_gives_the_same_table(plan, tmp_path):
    whole = start(plan, tmp_path / "whole")
    printed, errors = whole.communicate(timeout=500)
    assert whole.returncode == 0, errors.decode()
    assert [(row["dataset"], row["size"]) for row in json.loads(printed)["table"]] == list(
        itertools.product(("web", "both"), (2, 6))
    )
    killed = tmp_path / "killed"
    for cell in ("web-2-0.json", "both-2-0"):  # after a whole cell, and inside another one
        kill_at(start(plan, killed), killed / "cells" / cell)
        assert not (killed / "table.jsonl").exists()
    last = start(plan, killed)
    again, errors = last.communicate(timeout=500)
    assert last.returncode == 0, errors.decode()
    assert again == printed
    assert (killed / "table.jsonl").read_bytes() == (tmp_path / "whole" / "table.jsonl").read_bytes()
    fits = json.loads(again)["fits"]
    assert set(fits) == {"web", "both"}
    assert len({row["heldout_nll"] for row in json.loads(again)["table"]}) == 4
