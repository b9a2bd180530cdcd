"""TFDS data sets: each builder by TFDS's own test, and tasks that read them."""

import json
import math
import pathlib
import shutil

import numpy as np
import pytest
import seqio
import tensorflow_datasets as tfds

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.data import tfds_builders
from humpback_jax.data.feature_converter import PackedDecoderFeatureConverter
from humpback_jax.data.tasks import register_tasks

DUMMY = pathlib.Path(__file__).parent / "tfds_dummy"


class BuilderCase(tfds.testing.DatasetBuilderTestCase):
    SKIP_CHECKSUMS = True
    BUILDER_CONFIG_NAMES_TO_TEST = ()


class TestSeeds(BuilderCase):
    DATASET_CLASS = tfds_builders.HumpbackSeeds
    EXAMPLE_DIR = str(DUMMY / "seeds")
    SPLITS = {"train": 2}  # noqa: RUF012


class TestSegments(BuilderCase):
    DATASET_CLASS = tfds_builders.HumpbackSegments
    EXAMPLE_DIR = str(DUMMY / "segments")
    SPLITS = {"train": 2}  # noqa: RUF012


class TestCurated(BuilderCase):
    DATASET_CLASS = tfds_builders.HumpbackCurated
    EXAMPLE_DIR = str(DUMMY / "curated")
    SPLITS = {"train": 3}  # noqa: RUF012


del BuilderCase


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """(data_dir, seed file, curated file) with both data sets built over several shards."""
    folder = tmp_path_factory.mktemp("tfds")
    seeds, curated = folder / "seed.jsonl", folder / "curated.jsonl"
    rows = [{"id": f"s{i}", "instruction": f"Say {i} e.", "output": "é " * (1 + i % 11)} for i in range(23)]
    seeds.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [
        {"id": f"w{i}", "instruction": f"What is {i}?", "output": f" page e{i} ", "source": "web", "score": 4.5}
        for i in range(10)
    ]
    curated.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = [
        tfds_builders.build("seeds", seeds, folder / "data", 4),
        tfds_builders.build("curated", curated, folder / "data", 2),
    ]
    assert [(one["name"], one["examples"]) for one in made] == [
        ("humpback_seeds:1.0.0", 23),
        ("humpback_curated:1.0.0", 10),
    ]
    return folder / "data", seeds, curated


def tasks(prefix, byte_tokenizer, *paths, **options):
    return register_tasks(prefix, byte_tokenizer, ChatFormat("chatml"), *paths, replace=True, **options)


def examples(name):
    dataset = seqio.TaskRegistry.get(name).get_dataset(None, split="train", shuffle=False)
    rows = [{key: np.asarray(value).tolist() for key, value in row.items()} for row in dataset.as_numpy_iterator()]
    return by_id(rows)


def by_id(rows):
    """TFDS keeps examples in an order of its own."""
    return sorted(rows, key=lambda row: row["id"])


def test_load_gives_the_rows_of_the_file(prepared):
    data_dir, _, curated = prepared
    loaded = tfds.load("humpback_curated", data_dir=data_dir, split="train")
    rows = [
        {k: v.decode() if isinstance(v, bytes) else float(v) for k, v in row.items()} for row in tfds.as_numpy(loaded)
    ]
    assert by_id(rows) == by_id(map(json.loads, curated.read_text().splitlines()))


@pytest.mark.parametrize("kind", ["seed", "backward", "augmented"])
def test_a_task_through_tfds_equals_the_task_of_the_file(prepared, byte_tokenizer, kind):
    data_dir, seeds, curated = prepared
    tasks("plain", byte_tokenizer, seeds, curated)
    tasks("tfds", byte_tokenizer, "tfds:humpback_seeds:1.0.0", "tfds:humpback_curated:1.0.0", tfds_data_dir=data_dir)
    plain = examples(f"plain_{kind}")
    assert len(plain) == {"seed": 23, "backward": 23, "augmented": 10}[kind]
    assert examples(f"tfds_{kind}") == plain


def test_the_mixture_has_the_same_rates_and_packs(prepared, byte_tokenizer):
    data_dir, _, curated = prepared
    names = tasks("mixed", byte_tokenizer, "tfds:humpback_seeds:1.0.0", curated, tfds_data_dir=data_dir)
    mixture = seqio.MixtureRegistry.get(names[-1])
    rates = [mixture.get_rate(seqio.TaskRegistry.get(f"mixed_{kind}")) for kind in ("seed", "augmented")]
    assert rates == [23, 10]
    dataset = seqio.get_dataset(
        names[-1], {"inputs": 256, "targets": 64}, PackedDecoderFeatureConverter(), shuffle=True, seed=1, batch_size=2
    )
    assert next(dataset.as_numpy_iterator())["decoder_input_tokens"].shape == (2, 320)


def test_oasst_trees_become_seeds(shared_data, tmp_path):
    from humpback_jax.data.pairs import read_pairs

    path = shared_data / "seed" / "oasst1_en_validation.trees.jsonl.gz"
    tfds_builders.build("seeds", path, tmp_path)
    loaded = tfds.as_numpy(tfds.load("humpback_seeds", data_dir=tmp_path, split="train"))
    rows = [{k: v.decode() for k, v in row.items()} for row in loaded]
    assert by_id(rows) == by_id(map(vars, read_pairs(path).pairs))


def test_a_missing_score_is_nan(tmp_path):
    (tmp_path / "curated.jsonl").write_text('{"id": "a", "instruction": "b", "output": "c", "source": "d"}\n')
    tfds_builders.build("curated", tmp_path / "curated.jsonl", tmp_path / "data")
    (row,) = tfds.as_numpy(tfds.load("humpback_curated", data_dir=tmp_path / "data", split="train"))
    assert math.isnan(row["score"])


def test_errors_say_what_to_do(prepared, byte_tokenizer, tmp_path):
    data_dir, seeds, _ = prepared
    with pytest.raises(FileExistsError, match="exists already"):
        tfds_builders.build("seeds", seeds, data_dir)
    with pytest.raises(FileNotFoundError, match="give the file"):
        tfds_builders.build("seeds", tmp_path / "none", data_dir)
    shutil.copytree(DUMMY / "seeds", tmp_path / "two")
    (tmp_path / "two" / "second.jsonl").write_text("")
    with pytest.raises(ValueError, match="holds 2 files"):
        tfds_builders._only_file(tfds_builders.epath.Path(tmp_path / "two"))
    with pytest.raises(ValueError, match="expected tfds:NAME:VERSION"):
        tasks("wrong", byte_tokenizer, "tfds:humpback_seeds", tfds_data_dir=data_dir)
    with pytest.raises(ValueError, match="of files"):
        tasks("wrong", byte_tokenizer, "tfds:humpback_seeds:1.0.0", seed_limit=3)
