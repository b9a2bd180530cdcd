"""Stages on the tiny model: short templates, small engines, and product folders written by hand."""

import pytest

from humpback_jax.files import write_jsonl
from humpback_jax.inference.requests import EngineConfig
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.run_files import SEGMENTS
from humpback_jax.stages.jobs import GenerationConfig
from humpback_jax.stages.model import open_model
from humpback_jax.stages.stage import Stage


@pytest.fixture(scope="session")
def tiny_model(tiny_model_dir):
    return open_model(tiny_model_dir)


@pytest.fixture(scope="session")
def short_prompts():
    return Prompts(backward_template="Q: {output}", rating_template="{instruction}|{output}")


@pytest.fixture(scope="session")
def small_generation():
    """Room for prompts of 64 bytes and 8 new tokens, in shards of 4."""
    return GenerationConfig(
        engine=EngineConfig(slots=4, prompt_buckets=(64,), max_new_tokens=8), shard_size=4, dtype="float32"
    )


@pytest.fixture
def make_product(tmp_path):
    """Writes FOLDER/NAME.jsonl, or so many files of segments, as a finished stage would and returns that stage."""

    def make(folder, name, rows, files=1):
        parts = [f"{name}.jsonl"]
        if name == "segments":
            parts = [SEGMENTS.format(i=i, n=files, suffix="jsonl") for i in range(files)]
        rows = list(rows)
        for number, part in enumerate(parts):
            of_part = slice(number * len(rows) // files, (number + 1) * len(rows) // files)
            write_jsonl(tmp_path / folder / part, rows[of_part])
        return Stage(tmp_path / folder, {"outputs": {name: f"hash of {folder}"}, "counts": {}})

    return make
