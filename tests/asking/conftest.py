"""A run with one trained model, and what is asked of it."""

import shutil

import pytest

from humpback_jax.asking.asked import as_asked
from humpback_jax.asking.conversation import Conversation, Settings
from humpback_jax.command_options import recipe_of_model
from humpback_jax.stages.model import open_named_model

RECIPE = """
include 'defaults.gin'
Recipe.base = 'a place that is gone'
Recipe.answer_tags = ('seed',)
SeedConfig.path = 'not read'
SegmentsConfig.inputs = ('not read',)
GenerationConfig.dtype = 'float32'
EngineConfig.slots = 4
EngineConfig.prompt_buckets = (64, 96)
EngineConfig.max_new_tokens = 24
SamplingConfig.temperature = 0.0
"""


@pytest.fixture
def run_dir(tmp_path, tiny_model_dir):
    """A run whose M_1 is finished."""
    folder = tmp_path / "run"
    shutil.copytree(tiny_model_dir, folder / "m1" / "model")
    (folder / "m1" / "manifest.json").write_text("{}")
    (folder / "config.gin").write_text(RECIPE + "Recipe.rounds = 1\n")
    return folder


@pytest.fixture
def open_conversation(run_dir):
    """Conversations with M_1: a function of tags and settings."""
    model = open_named_model(run_dir)
    asked = as_asked(model, recipe_of_model(model.path))
    engine = asked.engine()

    def make(tags=("seed",), **settings):
        given = {"temperature": 0.0, "top_p": 0.9, "max_new_tokens": 24, "seed": 0} | settings
        return Conversation(asked, engine, Settings(**given), tuple(tags))

    return make
