"""What is checked before a run begins: every fault named, nothing written, and no word against a run that works."""

import dataclasses
import json
import shutil
import types

import pytest
from click.testing import CliRunner

from humpback_jax import preflight
from humpback_jax.align import Recipe
from humpback_jax.cli import cli
from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.curation.curator import CuratorConfig
from humpback_jax.data.batching import BatchConfig
from humpback_jax.data.readers import DIRECT
from humpback_jax.files import write_jsonl
from humpback_jax.inference.requests import EngineConfig
from humpback_jax.models.config import get_config
from humpback_jax.partitioning import MeshShape
from humpback_jax.preflight import check_run, stage_names
from humpback_jax.stages.finetune import FinetuneConfig
from humpback_jax.stages.jobs import GenerationConfig
from humpback_jax.stages.selection import SelectionConfig
from humpback_jax.stages.sources import SeedConfig, SegmentsConfig
from humpback_jax.training.config import CheckpointConfig

WINDOW = 2048  # of the tiny model


@pytest.fixture
def recipe(tmp_path, tiny_model_dir):
    """A recipe that works, of a few pairs of about 300 characters."""
    rows = [{"instruction": f"Say what {n} is.", "output": f"{n} " + "is a number of things. " * 12} for n in range(12)]
    write_jsonl(tmp_path / "seeds.jsonl", rows[:8])
    write_jsonl(tmp_path / "heldout.jsonl", rows[8:])
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "a.html").write_text("<h1>A</h1><p>text</p>")
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "backward.txt").write_text("Q: {output}")
    (tmp_path / "prompts" / "rating.txt").write_text("{instruction} | {output} | Score: <rating>")
    training = FinetuneConfig(batches=BatchConfig(row_length=512))
    generation = GenerationConfig(engine=EngineConfig(prompt_buckets=(512,), max_new_tokens=32))
    return Recipe(
        base=str(tiny_model_dir),
        seeds=SeedConfig(str(tmp_path / "seeds.jsonl"), str(tmp_path / "heldout.jsonl")),
        segments=SegmentsConfig((str(tmp_path / "pages"),), CorpusConfig(min_chars=50, max_chars=400)),
        chat_format="chatml",
        prompt_dir=str(tmp_path / "prompts"),
        data_reader=DIRECT,
        backward=training,
        seed_model=training,
        forward=training,
        augmentation=generation,
        curation=dataclasses.replace(Recipe.curation, generation=generation),
        evaluation=dataclasses.replace(Recipe.evaluation, generation=generation),
        answering=generation,
    )


def changed(settings, path, value):
    """The settings with the field of a dotted path replaced."""
    name, _, rest = path.partition(".")
    inner = changed(getattr(settings, name), rest, value) if rest else value
    return dataclasses.replace(settings, **{name: inner})


def test_nothing_is_said_against_a_recipe_that_works(recipe, tmp_path):
    found = check_run(recipe, tmp_path / "runs" / "new")
    assert (found.faults, found.warnings) == ((), ())
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("base", "/nowhere/model", "Recipe.base: nothing at /nowhere/model.*humpback weights fetch"),
        ("base", "llama_7b", "Recipe.base: unknown model 'llama_7b'.*give the id of a checkpoint"),
        ("architecture", get_config("llama_7b"), "num_layers is 2, declared 32.*Recipe.architecture = None"),
        ("prompt_dir", "/nowhere/prompts", "Recipe.prompt_dir: .*/nowhere/prompts does not exist"),
        ("seeds.path", "/nowhere/s.jsonl", "SeedConfig: .*/nowhere/s.jsonl does not exist"),
        ("seeds.heldout_path", "/nowhere/h.jsonl", "SeedConfig: .*/nowhere/h.jsonl does not exist"),
        ("segments.inputs", ("/nowhere/pages",), "SegmentsConfig.inputs: .*/nowhere/pages does not exist"),
        ("segments.corpus.blocked_domains", ("@/nowhere/d",), "CorpusConfig: .*blocked_domains.*/nowhere/d"),
        ("scored_run", "/nowhere/run", "Recipe.scored_run /nowhere/run lacks augmented, scores2"),
        ("forward.checkpoints", CheckpointConfig(init_from="/nowhere/m"), "forward/Check.*init_from: .*/nowhere/m"),
        ("curator", CuratorConfig(originals=8, labels="/nowhere/l.jsonl"), "CuratorConfig.labels: .*/nowhere/l.jsonl"),
        ("mesh", MeshShape(data=7), "MeshShape: .* does not fit"),
        ("augmentation.engine.tensor_parallelism", 7, "augment/EngineConfig.tensor_parallelism is 7"),
        (
            "forward.batches",
            BatchConfig(batch_unit="tokens", batch_size=1000, row_length=512),
            "forward/BatchConfig: batch_size is 1000 tokens, .* such as 1024",
        ),
        ("answering.engine.max_new_tokens", 2000, "answer/EngineConfig: max_new_tokens = 2000 leaves 48 of .* 2048"),
        (
            "backward.batches.row_length",
            64,
            "none of 8 seed pairs fits backward/BatchConfig.row_length = 64; raise",
        ),
        ("seed_model.batches.row_length", 64, r"seed_model/.*Tokens: up to \d+: 8"),
        ("evaluation.generation.engine.prompt_buckets", (64,), "none of 4 held-out pairs fits evaluate/EngineConfig"),
        ("augmentation.engine.prompt_buckets", (32,), "augment/EngineConfig.prompt_buckets: .*CorpusConfig.min_chars"),
        ("curation.generation.engine.prompt_buckets", (32,), "curate/EngineConfig.prompt_buckets: .*shortest segments"),
        ("segments.corpus.min_chars", 390, "augment/EngineConfig.prompt_buckets"),
    ],
)
def test_a_fault_is_named(recipe, tmp_path, path, value, message):
    if path == "segments.corpus.min_chars":
        recipe = changed(recipe, "augmentation.engine.prompt_buckets", (256,))
    found = check_run(changed(recipe, path, value), tmp_path / "run")
    assert len(found.faults) == 1, found.faults
    with pytest.raises(ValueError, match=message):
        raise ValueError(found.list_of_faults())


def test_all_faults_come_in_one_list(recipe, tmp_path):
    broken = recipe
    for path, value in (
        ("base", "/nowhere/model"),
        ("prompt_dir", "/nowhere/prompts"),
        ("seeds.path", "/nowhere/s.jsonl"),
        ("segments.inputs", ("/nowhere/a", "/nowhere/b")),
    ):
        broken = changed(broken, path, value)
    found = check_run(broken, tmp_path / "run")
    assert len(found.faults) == 5
    assert found.list_of_faults().startswith("5 faults, nothing was started:\n  ")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("forward.batches.row_length", 380, r"forward/BatchConfig.row_length: .*max_chars = 400.*characters are lost"),
        ("curation.generation.engine.prompt_buckets", (400,), r"curate/EngineConfig.prompt_buckets: .* are lost"),
    ],
)
def test_what_will_be_lost_is_a_warning(recipe, tmp_path, path, value, message):
    found = check_run(changed(recipe, path, value), tmp_path / "run")
    assert not found.faults
    with pytest.raises(ValueError, match=message):
        raise ValueError("; ".join(found.warnings))


def test_held_out_pairs_that_are_seeds_too_are_a_warning(recipe, tmp_path):
    rows = [json.loads(line) for line in (tmp_path / "seeds.jsonl").read_text().splitlines()]
    write_jsonl(
        tmp_path / "mixed.jsonl", [rows[0] | {"instruction": "SAY  what 0 is."}, {**rows[1], "instruction": "New"}]
    )
    found = check_run(changed(recipe, "seeds.heldout_path", str(tmp_path / "mixed.jsonl")), tmp_path / "run")
    (text,) = found.warnings
    assert text.startswith("1 of 2 held-out pairs") and "seed pairs too" in text


def test_pairs_past_the_window_of_the_model_are_named(recipe, tmp_path):
    long = changed(recipe, "forward.batches.row_length", 4 * WINDOW)
    rows = [{"instruction": f"Say {n}.", "output": "word " * size} for n, size in enumerate([10, 10, WINDOW])]
    write_jsonl(tmp_path / "seeds.jsonl", rows)
    texts = check_run(long, tmp_path / "run").warnings
    assert any("1 of 3 seed pairs are longer than the model's window of 2048 positions" in text for text in texts)
    write_jsonl(tmp_path / "seeds.jsonl", rows[2:])
    texts = check_run(long, tmp_path / "run").faults
    assert any("none of 1 seed pairs fits the model's window of 2048 positions" in text for text in texts)


def test_a_full_disk_is_said_before_anything_is_written(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1000))
    (text,) = check_run(recipe, tmp_path / "run").faults
    assert "has 0.0 GB free" in text and "4 models" in text


def test_a_run_directory_that_cannot_be_is_named(recipe, tmp_path):
    (tmp_path / "file").write_text("")
    (text,) = check_run(recipe, tmp_path / "file" / "run").faults
    assert "is a file" in text


def test_a_base_that_must_be_downloaded_is_no_fault(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("HUMPBACK_CACHE", str(tmp_path / "cache"))
    assert not check_run(changed(recipe, "base", "some-org/some-model"), tmp_path / "run").faults
    assert not (tmp_path / "cache").exists()


def test_a_foreign_folder_is_looked_at_and_not_converted(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("HUMPBACK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text(
        json.dumps({"architectures": ["MambaForCausalLM"], "model_type": "mamba"})
    )
    (text,) = check_run(changed(recipe, "base", str(tmp_path / "hf")), tmp_path / "run").faults
    assert text.startswith("Recipe.base: ")
    assert not (tmp_path / "cache").exists()


def test_stage_names_are_those_of_a_run(recipe):
    with_all = dataclasses.replace(
        recipe, curator=CuratorConfig(), arms=("random",), selection=SelectionConfig(by="curator", keep_fraction=0.5)
    )
    names = ["seeds", "segments", "m_yx", "augmented", "m0"]
    names += [f"{name}{t}" for t in (1, 2) for name in ("scores", "curator", "curated", "m")]
    assert stage_names(with_all) == [*names, "curated2_random", "m2_random", "evaluation"]


def as_gin(recipe, tmp_path):
    """The part of the recipe that the command line needs, as a gin file."""
    lines = [
        "include 'defaults.gin'", f"Recipe.base = {recipe.base!r}", f"SeedConfig.path = {recipe.seeds.path!r}",
        f"SegmentsConfig.inputs = {recipe.segments.inputs!r}", f"Recipe.prompt_dir = {recipe.prompt_dir!r}",
        "Recipe.chat_format = 'chatml'", "CorpusConfig.min_chars = 50", "CorpusConfig.max_chars = 400",
        "BatchConfig.row_length = 512", "EngineConfig.prompt_buckets = (512,)", "EngineConfig.max_new_tokens = 32",
    ]  # fmt: skip
    (tmp_path / "mine.gin").write_text("\n".join(lines) + "\n")
    return str(tmp_path / "mine.gin")


def test_check_says_what_will_run_and_makes_no_folder(recipe, tmp_path):
    arguments = ["align", "--check", f"--gin_file={as_gin(recipe, tmp_path)}", f"--run_dir={tmp_path / 'run'}"]
    shown = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert shown.exit_code == 0
    for name in ("seeds", "m_yx", "scores2", "m2"):
        assert any(line.split()[:3] == [name, "to", "do"] for line in shown.output.splitlines()), shown.output
    as_json = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False)
    assert [each["complete"] for each in json.loads(as_json.stdout)["stages"]] == [False] * 11
    assert not (tmp_path / "run").exists()


def test_values_and_what_they_name_are_one_list_and_nothing_is_made(recipe, tmp_path):
    shutil.rmtree(tmp_path / "pages")
    arguments = ["align", f"--gin_file={as_gin(recipe, tmp_path)}", f"--run_dir={tmp_path / 'run'}"]
    arguments += ["--gin_bindings=BatchConfig.batch_size = 0", "--gin_bindings=ComputeConfig.dropout = 1.5"]
    with pytest.raises(ValueError, match="3 faults, nothing was started") as caught:
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
    for text in ("BatchConfig.batch_size takes", "ComputeConfig.dropout takes", "SegmentsConfig.inputs: "):
        assert text in str(caught.value)
    assert not (tmp_path / "run").exists()
