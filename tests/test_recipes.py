"""Every gin file of the package: it parses, its model can be built, two updates of its training run at tiny size."""

import dataclasses
import functools
import math
import pathlib
import re

import jax
import numpy as np
import pytest

from humpback_jax.evaluation.scaling.sweep import Sweep
from humpback_jax.gin_utils import CONFIGURABLES, GIN_CONFIGS, parse_recipe
from humpback_jax.models.config import get_config
from humpback_jax.models.llama import Llama, abstract_params
from humpback_jax.partitioning import LogicalAxisRules, MeshShape, make_mesh, use_mesh
from humpback_jax.stages.finetune import FinetuneConfig
from humpback_jax.training.config import ComputeConfig
from humpback_jax.training.optimizer import make_optimizer
from humpback_jax.training.step import init_train_state, make_train_step

NO_RECIPES = "t5x/"  # files for t5x's own programs; tests/interop runs them
FILES = sorted(str(path.relative_to(GIN_CONFIGS)) for path in pathlib.Path(GIN_CONFIGS).rglob("*.gin"))
FILES = [name for name in FILES if not name.startswith(NO_RECIPES)]
EXPERIMENTS = [name for name in FILES if name.startswith("experiments/")]
PAPER = {"humpback_llama_7b", "humpback_llama_13b", "humpback_llama_33b", "humpback_llama_65b", "humpback_llama2_70b"}
# What the files that are no experiments of their own leave open.
NEEDED = ("Recipe.base = 'somewhere'", "SeedConfig.path = 'seeds.jsonl'", "SegmentsConfig.inputs = ('pages',)")

FAST_COMPILE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def recipe_of(name, *bindings, files=()):
    """The recipe of an experiment, or of another file together with the defaults."""
    if name in EXPERIMENTS:
        return parse_recipe([name, *files], bindings)
    return parse_recipe(["defaults.gin", name, *files], (*NEEDED, *bindings))


def tiny_like(architecture):
    """The tiny size with what makes the program of this architecture its own; of tied ones only grouped queries."""
    tiny, tied = get_config("tiny"), architecture.tie_word_embeddings
    scaling = architecture.rope_scaling and dataclasses.replace(architecture.rope_scaling, factor=8.0)
    if scaling and scaling.short_factor:
        factors = (1.0,) * (tiny.head_dim // 2)
        scaling = dataclasses.replace(scaling, short_factor=factors, long_factor=factors)
    return dataclasses.replace(
        tiny,
        num_kv_heads=4 if architecture.num_kv_heads == architecture.num_heads and not tied else 2,
        rope_scaling=scaling,
        tie_word_embeddings=tied,
    )


@functools.cache
def two_losses(config, llama):
    """Losses of two updates on the same random tokens; one compiled step serves all files with the same program."""
    mesh, rules = make_mesh(MeshShape(), jax.devices()[:1]), LogicalAxisRules()
    setup = config.setup(llama, mesh, rules)
    model, step = setup.model, make_train_step(setup)
    ids = np.random.default_rng(0).integers(0, llama.vocab_size, (1, 2, 16)).astype(np.int32)
    ones = np.ones_like(ids)
    batch = {
        "decoder_input_tokens": ids,
        "decoder_target_tokens": np.roll(ids, -1, axis=-1),
        "decoder_positions": np.cumsum(ones, axis=-1, dtype=np.int32) - 1,
        "decoder_segment_ids": ones,
        "decoder_loss_weights": ones.astype(np.float32),
    }
    losses: list[float] = []
    with use_mesh(mesh, rules):
        shapes, random = abstract_params(model), np.random.default_rng(1)
        params = jax.tree.map(lambda leaf: random.normal(0, 0.1, leaf.shape).astype(np.float32), shapes)
        state = jax.jit(lambda p: init_train_state(p, make_optimizer(config.optimizer)))(params)
        rest = (batch, np.int32(1), np.float32(1e-2), jax.random.key(0))
        compiled = step.lower(state, *rest).compile(FAST_COMPILE)
        for _ in range(2):
            state, metrics = compiled(state, *rest)
            losses.append(float(metrics["loss"]))
    return losses


def test_the_papers_sizes_have_recipes():
    assert {f"experiments/{name}.gin" for name in PAPER} < set(EXPERIMENTS)


@pytest.mark.parametrize("name", FILES)
def test_a_file_parses_builds_its_model_and_takes_two_updates(name):
    recipe = recipe_of(name)
    architecture = recipe.architecture or get_config("tiny")
    shapes = abstract_params(Llama(architecture))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == architecture.num_params
    if name.startswith("models/"):  # what is particular to the architecture
        tiny, trained = tiny_like(architecture), {FinetuneConfig(compute=UNROUNDED)}
    else:  # what is particular to the training
        tiny, trained = get_config("tiny"), {recipe.backward, recipe.seed_model, recipe.forward}
    for config in trained:
        program = dataclasses.replace(ComputeConfig(), **{f: getattr(config.compute, f) for f in PROGRAM})
        same_program = FinetuneConfig(compute=program, lora=config.lora)
        losses = two_losses(same_program, tiny)
        assert all(map(math.isfinite, losses))
        assert losses[1] != losses[0]


# Fields that decide the compiled step, beside adapters.
PROGRAM = ("dropout", "dropout_schedule", "dtype", "remat_policy")
UNROUNDED = ComputeConfig(dtype="float32", remat_policy="none", dropout=0.0)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_can_be_made_small(name):
    full, small = recipe_of(name), recipe_of(name, files=("smoke.gin",))
    assert small.base == small.architecture.name == "smollm2_135m"
    for config in (small.backward, small.seed_model, small.forward):
        assert config.steps_for(100_000, 0) == (2, 4)
    for generation in (small.augmentation, small.curation.generation, small.answering):
        assert generation.engine.tensor_parallelism == 1
        assert generation.engine.max_new_tokens <= 256
    assert (small.sources, small.seed_tags, small.rounds) == (full.sources, full.seed_tags, full.rounds)


BLOCKS = ("# Cost: ", "# What must be given", "# Commonly changed", "# Rarely changed")


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(("experiments/", "sweeps/"))])
def test_a_file_says_what_it_costs_needs_and_lets_be_changed(name):
    text = (pathlib.Path(GIN_CONFIGS) / name).read_text()
    lines = [line for line in text.splitlines() if line.startswith(BLOCKS)]
    assert [line.startswith(block) for line, block in zip(lines, BLOCKS, strict=True)] == [True] * len(BLOCKS)
    assert f"--gin_file={name}" in text.partition("# Cost: ")[0]  # the command that runs it
    fields = {cls.__name__: {field.name for field in dataclasses.fields(cls)} for cls in (*CONFIGURABLES, Sweep)}
    for owner, field in re.findall(r"\b([A-Z]\w+)\.(\w+)", "\n".join(re.findall("#.*", text))):
        assert field in fields[owner], f"a comment names {owner}.{field}"


@pytest.mark.parametrize("name", sorted(PAPER))
def test_the_papers_settings(name):
    """Facts of sections 2.4 and 3.1 and of Table 18."""
    recipe = recipe_of(f"experiments/{name}.gin")
    assert f"humpback_{recipe.architecture.name}" == name
    assert (recipe.rounds, recipe.seeds.limit, recipe.selection.min_score) == (2, 3200, 4.5)
    assert (recipe.segments.corpus.min_chars, recipe.segments.corpus.max_chars) == (600, 3000)
    assert (recipe.seed_tags, recipe.web_tags, recipe.answer_tags) == (("seed",), ("web",), ("seed", "web"))
    for config in (recipe.backward, recipe.seed_model, recipe.forward):
        assert (config.optimizer.learning_rate, config.optimizer.final_learning_rate) == (1e-5, 9e-6)
        assert (config.optimizer.weight_decay, config.compute.dropout, config.batches.batch_size) == (0.1, 0.1, 32)
    sizes = (90, 100, 800, 1600, 3200, 6400, 12800, 25600, 45021, 51200, 10**6)
    steps = {size: recipe.forward.steps_for(size, 0) for size in sizes}
    assert steps == {
        90: (30, 8), 100: (30, 8), 800: (300, 8), 1600: (600, 8), 3200: (500, 32), 6400: (600, 32),
        12800: (600, 32), 25600: (1200, 32), 45021: (1600, 32), 51200: (1600, 32), 10**6: (1600, 32),
    }  # fmt: skip
    for generation in (recipe.augmentation, recipe.answering):
        assert (generation.sampling.temperature, generation.sampling.top_p) == (0.7, 0.9)


def test_ablations_change_what_they_say():
    scaling = recipe_of("experiments/scaling_llama_7b.gin", "N = 6400", "MIN_SCORE = 4.0")
    assert (scaling.sources, scaling.selection.sample, scaling.selection.min_score) == (("web",), 6400, 4.0)
    assert list(scaling.new_rounds) == [2]
    joint = recipe_of("experiments/joint_llama_65b.gin")
    assert (joint.architecture.name, joint.sources, joint.selection.sample) == ("llama_65b", ("seed", "web"), 3200)
    untagged = recipe_of("experiments/tags_none_llama_7b.gin")
    assert untagged.seed_tags == untagged.web_tags == untagged.answer_tags == untagged.evaluation.tags == ()
    picked = recipe_of("experiments/selection_llama_7b.gin", "SCORER_ROUND = 1")
    assert (list(picked.new_rounds), picked.selection.sample, picked.forward.steps_for(100, 0)) == (
        [1],
        100,
        (30, 8),
    )
