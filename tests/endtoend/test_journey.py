"""A day with the command: own seeds, own pages, a base from elsewhere, a mistake, a run, and all that comes of it."""

import json
import os
import pathlib
import subprocess
import sys

import pyarrow.parquet
import pytest

from humpback_jax.weights.convert import export_weights

PLANTS = ("oak", "elm", "ash", "yew", "fir", "fig", "ivy", "hop", "rye", "oat", "pea", "flax")
# Every path of the day is in here, once. The first three settings are mistaken.
RECIPE = """
include 'defaults.gin'
SeedConfig.path = 'seed.jsonl'
SelectionConfig.keep_fraction = 50
BatchConfig.row_length = '256'
SeedConfig.heldout_path = 'heldout.jsonl'
SegmentsConfig.inputs = ('handbook',)
Recipe.base = 'base'
Recipe.prompt_dir = 'prompts'
Recipe.chat_format = 'chatml'
Recipe.rounds = 1
SeedConfig.licence = 'CC0-1.0'
CorpusConfig.min_chars = 40
CorpusConfig.max_chars = 200
CorpusConfig.languages = ()
BatchConfig.batch_size = 8
BatchConfig.rows_per_microbatch = 4
LoopConfig.num_steps = 40
ComputeConfig.dtype = 'float32'
ComputeConfig.dropout = 0.0
OptimizerConfig.learning_rate = 5e-3
GenerationConfig.dtype = 'float32'
EngineConfig.slots = 4
EngineConfig.prompt_buckets = (256,)
EngineConfig.max_new_tokens = 96
SelectionConfig.min_instruction_chars = 1
"""


@pytest.fixture
def desk(tmp_path, tiny_model_dir):
    """The folder of someone who begins: conversations, a handbook as HTML, a base model as it comes from a hub."""
    rows = [
        [{"role": "user", "content": f"Describe {plant}."}, {"role": "assistant", "content": f"The {plant} is green."}]
        for plant in PLANTS
    ]
    rows[1].insert(0, {"role": "system", "content": "Be brief."})
    for name, part in (("seeds.jsonl", rows[:9]), ("heldout.jsonl", rows[9:])):
        (tmp_path / name).write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in part))
    (tmp_path / "handbook" / "plants").mkdir(parents=True)
    for number, plant in enumerate(PLANTS):
        text = f"The {plant} of garden {number} drinks at the brook by night and turns to the hills by day."
        page = f"<html><body><h1>About {plant}</h1><p>{text}</p></body></html>"
        (tmp_path / "handbook" / "plants" / f"{plant}.html").write_text(page)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "backward.txt").write_text("Q: {output}")
    (tmp_path / "prompts" / "rating.txt").write_text("{instruction} | {output} | Score: <rating>")
    export_weights(tiny_model_dir, tmp_path / "base", show_progress=False)
    (tmp_path / "base" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A small model\n")
    (tmp_path / "mine.gin").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def humpback(desk):
    """The command, typed in that folder: (exit status, what it printed, what it said)."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(desk / ".cache"), "COLUMNS": "200"}
    environment |= {"PYTHONPATH": str(pathlib.Path(__file__).parents[2])}

    def run(line, typed=None):
        command = [sys.executable, "-m", "humpback_jax", *line.split()]
        done = subprocess.run(command, input=typed, capture_output=True, text=True, cwd=desk, env=environment)
        return done.returncode, done.stdout, done.stderr

    return run


def correct(desk, *pairs):
    text = (desk / "mine.gin").read_text()
    for wrong, right in pairs:
        assert text.count(wrong) == 1
        text = text.replace(wrong, right)
    (desk / "mine.gin").write_text(text)


@pytest.mark.slow
def test_from_own_files_to_a_published_model(desk, humpback):
    # Mistakes are all named at once with what would be right, and nothing is begun.
    status, out, err = humpback("align --gin_file=mine.gin --check")
    said = out + err
    assert status == 1, said
    for words in ("keep_fraction takes a number above 0 and of at most 1", "write it without quotes", "seed.jsonl"):
        assert words in said, said
    assert not (desk / "runs").exists()
    correct(desk, ("= 50", "= 0.5"), ("'256'", "256"), ("'seed.jsonl'", "'seeds.jsonl'"))
    status, out, err = humpback("align --gin_file=mine.gin --check")
    assert status == 0, out + err
    assert "m_yx" in out + err and not (desk / "runs" / "mine" / "m_yx").exists()

    # The run, and the same again.
    status, out, err = humpback("align --gin_file=mine.gin")
    assert status == 0, err
    run = desk / "runs" / "mine"
    assert (run / "report.html").exists()
    status, out, err = humpback("align --gin_file=mine.gin")
    assert status == 0 and "Nothing to do" in out + err

    # From here on the run is named, and no file of the recipe again.
    status, out, err = humpback("report runs/mine")
    assert status == 0 and "curated1" in out, err
    status, chatted, err = humpback("chat runs/mine --temperature=0", "Describe oak.\n")
    assert status == 0 and chatted.strip(), err
    status, out, err = humpback("weights export runs/mine exported")
    assert status == 0, err
    status, again, err = humpback("chat exported --temperature=0 --tags=both --max_new_tokens=96", "Describe oak.\n")
    assert status == 0 and again == chatted, err

    status, out, err = humpback("publish data runs/mine published/pairs --licence=handbook=CC-BY-4.0")
    assert status == 0, err
    kept = pyarrow.parquet.read_table(desk / "published/pairs/data/curated/train-00000-of-00001.parquet").to_pylist()
    rows = [json.loads(line) for line in (run / "curated1" / "curated.jsonl").read_text().splitlines()]
    assert [row["instruction"] for row in kept] == [row["instruction"] for row in rows] and kept
    assert "oak.html" in (desk / "published/pairs/README.md").read_text()
    status, out, err = humpback("publish model runs/mine published/model --licence=handbook=CC-BY-4.0")
    assert status == 0, err
    page = (desk / "published/model/README.md").read_text()
    for line in ("- base model: apache-2.0", "- seed pairs: CC0-1.0", "- pages of handbook: CC-BY-4.0", "`handbook`"):
        assert line in page
    assert "other pages" not in page and str(desk) not in page
