"""gin files against the registry, and every mistake that a gin file or a binding can hold, by name."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import pytest

from humpback_jax.align import Recipe
from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.data.batching import BatchConfig
from humpback_jax.gin_utils import CONFIGURABLES, GIN_CONFIGS, RENAMED, config_texts, parse_recipe, rewrite_gin_args
from humpback_jax.models.config import REGISTRY
from humpback_jax.models.lora import LoraConfig
from humpback_jax.stages.finetune import FinetuneConfig
from humpback_jax.stages.sources import SeedConfig, SegmentsConfig
from humpback_jax.training.config import CheckpointConfig, ComputeConfig, LoopConfig
from humpback_jax.training.optimizer import OptimizerConfig

FOLDER = pathlib.Path(GIN_CONFIGS)
MODELS = sorted(path.stem for path in (FOLDER / "models").glob("*.gin"))
EXPERIMENTS = sorted(path.name for path in (FOLDER / "experiments").glob("*.gin"))
NEEDED = ("Recipe.base = 'somewhere'", "SeedConfig.path = 'seeds.jsonl'", "SegmentsConfig.inputs = ('pages',)")
DEFAULTS = ("defaults.gin",)


def parse(*bindings, files=DEFAULTS):
    return parse_recipe(files, (*NEEDED, *bindings))


def test_every_size_of_the_registry_has_a_file():
    assert sorted(REGISTRY) == MODELS


@pytest.mark.parametrize("name", MODELS)
def test_a_model_file_is_its_registry_entry(name):
    recipe = parse(files=("defaults.gin", f"models/{name}.gin"))
    assert recipe.architecture == REGISTRY[name]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_a_recipe(name):
    recipe = parse_recipe([f"experiments/{name}"], [])
    assert isinstance(recipe, Recipe)
    assert recipe.rounds >= 1
    assert recipe == parse_recipe([str(FOLDER / "experiments" / name)], [])


def test_the_defaults_are_those_of_the_dataclasses():
    expected = Recipe("somewhere", SeedConfig("seeds.jsonl"), SegmentsConfig(("pages",), CorpusConfig()))
    assert parse() == expected


def test_bindings_win_over_files_and_scopes_over_bindings():
    recipe = parse("BatchConfig.batch_size = 8", "backward/BatchConfig.batch_size = 4", "Recipe.rounds = 5")
    sizes = [config.batches.batch_size for config in (recipe.backward, recipe.seed_model, recipe.forward)]
    assert sizes == [4, 8, 8]
    assert recipe.rounds == 5
    recipe = parse_recipe(["experiments/quickstart.gin"], ["Recipe.rounds = 7", "curate/EngineConfig.slots = 3"])
    assert recipe.rounds == 7
    assert recipe.curation.generation.engine.slots == 3
    assert recipe.augmentation.engine.slots != 3


def test_nothing_is_left_over_from_the_parse_before():
    parse("Recipe.rounds = 5")
    assert parse().rounds == Recipe.rounds


def test_macros_are_replaced():
    recipe = parse("SEED = 11", "BatchConfig.seed = %SEED", "GenerationConfig.seed = %SEED")
    assert (recipe.forward.batches.seed, recipe.augmentation.seed) == (11, 11)


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("FinetuneConfg.lora = None", r"FinetuneConfg.*Did you mean 'FinetuneConfig'"),
        ("BatchConfig.batch_sze = 8", r"batch_sze.*Did you mean 'batch_size'"),
        ("backward/BatchConfig.batch_sze = 8", r"batch_sze.*Did you mean 'batch_size'"),
        ("backwards/BatchConfig.batch_size = 8", r"backwards/BatchConfig.*no effect.*Did you mean 'backward'"),
        ("Typo = 1", r"'Typo' has no effect"),
        ("BatchConfig.seed = %SEEED", r"BatchConfig\.seed uses the macro %SEEED, which is not defined"),
        ("Recipe.backward = @backward/FinetunConfig()", r"FinetunConfig"),
        ("LlamaConfig.num_layers = 3", r"LlamaConfig.*no effect"),
        ("Recipe.rounds = ", r"gin: .*"),
        ("Recipe.rounds 3", r"gin: .*"),
    ],
)
def test_a_mistake_is_named(binding, message):
    with pytest.raises(ValueError, match=message):
        parse(binding)


FIELDS_OF_BEFORE = (
    "num_steps", "step_table", "epochs", "batch_size", "batch_unit", "row_length", "rows_per_microbatch", "packing",
    "dropout", "dropout_schedule", "seed", "dtype", "param_dtype", "gradient_dtype", "remat_policy", "logits_chunk",
    "z_loss", "checkpoint_minutes", "checkpoint_period", "step_limit_minutes", "save_limit_minutes", "init_from",
    "resume", "cast_on_resume",
)  # fmt: skip


@pytest.mark.parametrize("name", FIELDS_OF_BEFORE)
def test_a_name_of_before_leads_to_the_new_one(name, tmp_path):
    owner, _, field = RENAMED[f"FinetuneConfig.{name}"].partition(".")
    configurable = next(cls for cls in CONFIGURABLES if cls.__name__ == owner)
    assert field in {known.name for known in dataclasses.fields(configurable)}
    message = rf"FinetuneConfig\.{name} is called {owner}\.{field} now"
    (binding,) = rewrite_gin_args([f"--gin.FinetuneConfig.{name}=1"])
    for text in (binding.removeprefix("--gin_bindings="), f"backward/FinetuneConfig.{name} = 1"):
        with pytest.raises(ValueError, match=message):
            parse(text)
    for text in (f"FinetuneConfig.{name} = 1\n", f"seed_model/FinetuneConfig:\n    {name} = 1\n"):
        (tmp_path / "mine.gin").write_text("include 'defaults.gin'\n" + text)
        with pytest.raises(ValueError, match=message):
            parse_recipe([str(tmp_path / "mine.gin")], [])


def test_scopes_reach_every_group_of_a_training():
    bindings = ("BatchConfig.seed = 3", "LoopConfig.num_steps = 7", "CheckpointConfig.period = 5",
                "ComputeConfig.dropout = 0.5", "OptimizerConfig.b1 = 0.4", "FinetuneConfig.lora = @LoraConfig()",
                "LoraConfig.rank = 2")  # fmt: skip
    recipe = parse(*(f"{scope}/{binding}" for scope in ("backward", "forward") for binding in bindings))
    assert recipe.seed_model == FinetuneConfig()
    assert recipe.backward == recipe.forward == FinetuneConfig(
        BatchConfig(seed=3), LoopConfig(num_steps=7), CheckpointConfig(period=5), ComputeConfig(dropout=0.5),
        OptimizerConfig(b1=0.4), LoraConfig(rank=2),
    )  # fmt: skip


def test_a_macro_that_is_nearly_the_defined_one_is_suggested():
    with pytest.raises(ValueError, match=r"%SEEED, which is not defined\. Did you mean 'SEED'"):
        parse("SEED = 1", "BatchConfig.seed = %SEEED")


@pytest.mark.parametrize("file", ["experiments/quickstat.gin", "absent.gin"])
def test_a_missing_file_is_named_and_the_packages_own_are_listed(file):
    with pytest.raises(ValueError, match=rf"{file}.*experiments/quickstart\.gin"):
        parse_recipe([file], [])


def test_a_missing_include_is_named(tmp_path):
    (tmp_path / "mine.gin").write_text("include 'nowhere.gin'\n")
    with pytest.raises(ValueError, match=r"nowhere\.gin"):
        parse_recipe([str(tmp_path / "mine.gin")], [])


def test_a_missing_value_is_named():
    with pytest.raises(ValueError, match=r"base"):
        parse_recipe(DEFAULTS, NEEDED[1:])


def test_a_value_that_a_dataclass_refuses_says_why():
    with pytest.raises(ValueError, match=r"curate/CurationConfig.mode takes a text among rationale, .*found 'guess'"):
        parse("curate/CurationConfig.mode = 'guess'")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--gin.Recipe.rounds=3", "Recipe.rounds = 3"),
        ("--gin.Recipe.base=smollm2_135m", "Recipe.base = 'smollm2_135m'"),
        ("--gin.Recipe.base='a b'", "Recipe.base = 'a b'"),
        ("--gin.SeedConfig.path=data/my seeds.jsonl", "SeedConfig.path = 'data/my seeds.jsonl'"),
        ("--gin.SegmentsConfig.inputs=('a', 'b')", "SegmentsConfig.inputs = ('a', 'b')"),
        ("--gin.BatchConfig.seed=%SEED", "BatchConfig.seed = %SEED"),
        ("--gin.Recipe.backward=@FinetuneConfig()", "Recipe.backward = @FinetuneConfig()"),
        ("--gin.a/EngineConfig.slots=2", "a/EngineConfig.slots = 2"),
        ("--gin.OptimizerConfig.max_grad_norm=None", "OptimizerConfig.max_grad_norm = None"),
        ("--gin.Recipe.base=a=b", "Recipe.base = 'a=b'"),
    ],
)
def test_command_line_bindings(argument, expected):
    assert rewrite_gin_args(["align", argument, "--json"]) == ["align", f"--gin_bindings={expected}", "--json"]


def test_other_arguments_stay_and_a_binding_without_a_value_is_refused():
    assert rewrite_gin_args(["align", "--gin_file=a.gin"]) == ["align", "--gin_file=a.gin"]
    with pytest.raises(ValueError, match=r"--gin\.Typo: write --gin\.NAME=VALUE"):
        rewrite_gin_args(["align", "--gin.Typo"])


def test_unquoted_words_reach_the_recipe():
    arguments = ["--gin.Recipe.base=else where", "--gin.ComputeConfig.dtype=float32"]
    bindings = [argument.removeprefix("--gin_bindings=") for argument in rewrite_gin_args(arguments)]
    recipe = parse(*bindings)
    assert (recipe.base, recipe.forward.compute.dtype) == ("else where", "float32")


def test_the_saved_configuration_gives_the_same_recipe(tmp_path):
    recipe = parse_recipe(["experiments/quickstart.gin"], ["Recipe.rounds = 3", "curate/EngineConfig.slots = 2"])
    for number, text in enumerate(config_texts()):
        path = tmp_path / f"config{number}.gin"
        path.write_text(text)
        assert parse_recipe([str(path)], []) == recipe


@pytest.mark.parametrize("written", ["", "gin_configs/", "humpback_jax/gin_configs/"])
@pytest.mark.parametrize("included", [False, True])
def test_the_packages_files_are_found_by_every_name_for_them(tmp_path, monkeypatch, written, included):
    monkeypatch.chdir(tmp_path)
    name = f"{written}experiments/quickstart.gin"
    if included:
        (tmp_path / "mine.gin").write_text(f"include '{name}'\n")
    recipe = parse_recipe(["mine.gin" if included else name], [])
    assert recipe == parse_recipe([str(FOLDER / "experiments" / "quickstart.gin")], [])


def test_a_file_here_goes_before_one_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gin_configs").mkdir()
    (tmp_path / "gin_configs" / "defaults.gin").write_text("include 'defaults.gin'\nRecipe.rounds = 7\n")
    assert parse(files=["gin_configs/defaults.gin"]).rounds == 7


@pytest.mark.parametrize("file", ["gin_configs/quickstat.gin", "humpback_jax/gin_configs/experiments/quickstat.gin"])
def test_a_missing_file_in_a_folder_that_is_no_package_is_named(file):
    with pytest.raises(ValueError, match=rf"{file}.*experiments/quickstart\.gin"):
        parse_recipe([file], [])


SWEEP = """
import sys
from humpback_jax.gin_utils import config_texts, parse, parse_recipe
files = ["sweeps/quickstart.gin"]
recipe = parse_recipe(files, ["LEAST = 3", "Sweep.sizes = (%LEAST,)"])
assert "Sweep.sizes" in config_texts()[0]
assert not any(name.startswith("humpback_jax.evaluation") for name in sys.modules)
try:
    parse_recipe(files, ["Swep.sizes = (1,)"])
except ValueError as error:
    assert "Did you mean 'Sweep'" in str(error), error
from humpback_jax.evaluation.scaling.sweep import Sweep
assert parse(Sweep, files, ["LEAST = 3", "Sweep.sizes = (%LEAST,)"]).sizes == (3,)
assert parse_recipe(files, []) == recipe
"""


def test_the_file_of_a_sweep_is_a_recipe_to_those_who_know_no_evaluation(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", SWEEP], cwd=tmp_path, env=environment, check=True)


def test_every_dataclass_of_a_recipe_can_be_configured():
    def classes(cls):
        """The classes of the fields' default values, all the way down."""
        for field in dataclasses.fields(cls):
            if dataclasses.is_dataclass(field.default):
                yield type(field.default)
                yield from classes(type(field.default))

    assert set(classes(Recipe)) <= set(CONFIGURABLES)


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("CorpusConfig.max_segments = 5", "CorpusConfig.max_segments is called CorpusConfig.num_segments now"),
        ("CorpusConfig.mask_personal_data = 'false'", "mask_personal_data takes True or False, found 'false'"),
        ("CorpusConfig.languages = 'en'", "languages takes several texts .not empty., found 'en'"),
        ("CorpusConfig.languages = ('english',)", "no language has the code 'english'"),
        ("CorpusConfig.blocked_phrases = 'cookie'", "blocked_phrases takes several texts"),
        ("CorpusConfig.near_duplicates = 80", "near_duplicates takes a number above 0 and of at most 1"),
        ("CorpusConfig.max_link_density = '1/3'", "max_link_density takes a number from 0 to 1 or None"),
        ("CorpusConfig.nested = 'inner'", "nested takes a text among outermost, innermost, all"),
    ],
)
def test_settings_of_the_corpus_that_cannot_be_meant(binding, message):
    with pytest.raises(ValueError, match=message):
        parse_recipe(["experiments/quickstart.gin"], [binding])


def test_what_an_included_file_sets_up_can_be_switched_off():
    off = ["Recipe.curator = None", "SelectionConfig.by = 'rating'"]
    assert parse_recipe(["experiments/quickstart.gin"], off).curator is None
    with pytest.raises(ValueError, match="bindings of LoraConfig have no effect"):
        parse_recipe(["experiments/quickstart.gin"], [*off, "LoraConfig.rank = 4"])


def test_an_include_is_looked_for_beside_the_file_that_names_it(tmp_path, monkeypatch):
    (tmp_path / "mine" / "parts").mkdir(parents=True)
    (tmp_path / "mine" / "run.gin").write_text("include 'parts/first.gin'\n")
    (tmp_path / "mine" / "parts" / "first.gin").write_text("include 'second.gin'\n")
    second = "\ufeffinclude 'defaults.gin'\r\n" + "\r\n".join(NEEDED) + "\r\nRecipe.rounds = 6\r\n"
    (tmp_path / "mine" / "parts" / "second.gin").write_bytes(second.encode())
    monkeypatch.chdir(tmp_path)
    assert parse_recipe(["mine/run.gin"], []).rounds == 6
    assert parse_recipe([str(tmp_path / "mine" / "run.gin")], []).rounds == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"include 'mine.gin'\n", r"mine\.gin.* -> .*mine\.gin; drop one of the includes"),
        ("# größer".encode("latin-1"), r"mine\.gin is not UTF-8.*save it as UTF-8"),
        (b"CorpusConfig.include_header = true\n", r"mine\.gin, line 1: true is no value; write True"),
        (b"SeedConfig.limit = null\n", r"mine\.gin, line 1: null is no value; write None"),
        (b"\nRecipe.base = smollm\n", r"mine\.gin, line 2: smollm is no value; write 'smollm'"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.gin").write_bytes(text)
    with pytest.raises(ValueError, match=message):
        parse_recipe(["mine.gin"], [])


@pytest.mark.parametrize("path", ["a (b)/c.jsonl", "(a) b", "[1].jsonl", "@list of mine", "50%/x", "a=b@c", "{x}-y"])
def test_a_path_with_marks_of_gin_is_a_text(path):
    (binding,) = rewrite_gin_args([f"--gin.SeedConfig.path={path}"])
    assert parse(binding.removeprefix("--gin_bindings=")).seeds.path == path
