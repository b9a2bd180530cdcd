"""A whole alignment run that takes seconds: short pairs, one-sentence pages, short prompt templates, the tiny model."""

import dataclasses
import json

import pytest

from humpback_jax.align import Recipe
from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.data.batching import BatchConfig
from humpback_jax.data.readers import DIRECT
from humpback_jax.inference.requests import EngineConfig
from humpback_jax.stages.evaluate import EvaluationConfig
from humpback_jax.stages.finetune import FinetuneConfig
from humpback_jax.stages.jobs import GenerationConfig
from humpback_jax.stages.rating import CurationConfig
from humpback_jax.stages.selection import SelectionConfig
from humpback_jax.stages.sources import SeedConfig, SegmentsConfig
from humpback_jax.training.config import ComputeConfig, LoopConfig
from humpback_jax.training.optimizer import OptimizerConfig

ANIMALS = ("cat", "dog", "hen", "cow", "owl", "fox", "bee", "ant", "elk", "rat", "pig", "yak")
NUM_SEEDS, NUM_PAGES = 8, 12


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """A folder with seeds.jsonl, heldout.jsonl, pages/ and prompts/."""
    folder = tmp_path_factory.mktemp("sources")
    pair = lambda animal: {"instruction": f"Describe a {animal}.", "output": f"A {animal} runs and eats."}  # noqa: E731
    write = lambda name, rows: (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))  # noqa: E731
    write("seeds.jsonl", map(pair, ANIMALS[:NUM_SEEDS]))
    write("heldout.jsonl", map(pair, ANIMALS[NUM_SEEDS:]))
    (folder / "pages").mkdir()
    for number, animal in enumerate(ANIMALS[:NUM_PAGES]):
        text = f"The {animal} of farm {number} sleeps in the barn by night and walks over the hills by day."
        page = f"<html><body><h1>About the {animal}</h1><p>{text}</p></body></html>"
        (folder / "pages" / f"{animal}.html").write_text(page)
    (folder / "prompts").mkdir()
    (folder / "prompts" / "backward.txt").write_text("Q: {output}")
    (folder / "prompts" / "rating.txt").write_text("{instruction} | {output} | Score: <rating>")
    return folder


@pytest.fixture(scope="session")
def tiny_recipe(sources, tiny_model_dir):
    """Two rounds on these sources; the tiny model learns within 40 updates to end what it writes."""
    training = FinetuneConfig(
        # Without packing every training run has the same shapes, so one compiled step serves them all.
        batches=BatchConfig(batch_size=8, row_length=256, rows_per_microbatch=4, packing=False),
        loop=LoopConfig(num_steps=40),
        compute=ComputeConfig(dtype="float32", remat_policy="none", logits_chunk=64, dropout=0.0),
        optimizer=OptimizerConfig(learning_rate=5e-3, final_learning_rate=5e-3),
    )
    engine = EngineConfig(slots=4, prompt_buckets=(256,), max_new_tokens=96)
    generation = GenerationConfig(engine=engine, shard_size=4, dtype="float32")
    return Recipe(
        base=str(tiny_model_dir),
        seeds=SeedConfig(str(sources / "seeds.jsonl"), str(sources / "heldout.jsonl")),
        segments=SegmentsConfig((str(sources / "pages"),), CorpusConfig(min_chars=40, max_chars=200)),
        chat_format="chatml",
        prompt_dir=str(sources / "prompts"),
        rounds=2,
        data_reader=DIRECT,
        backward=training,
        augmentation=generation,
        seed_model=training,
        curation=CurationConfig(generation=generation),
        selection=SelectionConfig(keep_fraction=0.5, min_instruction_chars=1),
        forward=training,
        evaluation=EvaluationConfig(generation),
        answering=generation,
    )


@pytest.fixture(scope="session")
def gin_text():
    """A function from a recipe to the gin file that says the same."""
    return as_gin


def as_gin(recipe):
    """A recipe of this folder as a gin file."""

    def bindings(owner, value):
        items = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        yield from (f"{owner}.{name} = {item!r}" for name, item in items if not dataclasses.is_dataclass(item))

    training, generation = recipe.forward, recipe.augmentation
    parts = {
        "Recipe": recipe,
        "SeedConfig": recipe.seeds,
        "SegmentsConfig": recipe.segments,
        "CorpusConfig": recipe.segments.corpus,
        "FinetuneConfig": training,
        "BatchConfig": training.batches,
        "LoopConfig": training.loop,
        "CheckpointConfig": training.checkpoints,
        "ComputeConfig": training.compute,
        "OptimizerConfig": training.optimizer,
        "GenerationConfig": generation,
        "EngineConfig": generation.engine,
        "SamplingConfig": generation.sampling,
        "SelectionConfig": recipe.selection,
        "curate/CurationConfig": recipe.curation,
    }
    lines = [line for owner, value in parts.items() for line in bindings(owner, value)]
    return "\n".join(["include 'defaults.gin'", *lines]) + "\n"
