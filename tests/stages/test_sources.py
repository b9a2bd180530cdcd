"""What the algorithm starts from: the base model's architecture, seed pairs and segments, all of them counted."""

import dataclasses
import json

import pytest

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.forgotten import forget_entries, write_forgotten
from humpback_jax.corpus.segment_files import read_segments
from humpback_jax.data.pairs import read_curated
from humpback_jax.models.config import get_config
from humpback_jax.run_files import FORGOTTEN
from humpback_jax.stages.sources import SeedConfig, SegmentsConfig, base_model, cut_segments, read_seeds

SEEDS = [{"instruction": f"Say {i}.", "output": f"{i}, gladly."} for i in range(6)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def page(number):
    text = f"Bird number {number} of this list sings in the morning, rests at noon and flies home at night."
    return f"<html><body><h1>About bird {number}</h1><p>{text}</p></body></html>"


def test_the_declared_architecture_must_be_that_of_the_weights(tiny_model_dir):
    tiny = get_config("tiny")
    renamed = dataclasses.replace(tiny, name="my own label")
    assert base_model(str(tiny_model_dir), renamed, None).card.config == tiny
    other = dataclasses.replace(tiny, num_layers=3, rope_theta=5e5)
    with pytest.raises(
        ValueError, match=r"num_layers is 2, declared 3; rope_theta is 10000\.0, declared 500000\.0; inc"
    ):
        base_model(str(tiny_model_dir), other, None)


def test_the_chat_format_is_the_models_own_unless_given(tiny_model_dir):
    assert base_model(str(tiny_model_dir), None, None).chat_format.name == "chatml"
    assert base_model(str(tiny_model_dir), None, "plain").chat_format.name == "plain"


def test_an_unknown_base_model_says_how_to_get_one(tmp_path):
    with pytest.raises((ValueError, OSError), match="humpback weights"):
        base_model(str(tmp_path / "nothing"), None, None)


def test_seed_counts_add_up_over_both_files(tmp_path):
    empty = {"instruction": "Say nothing.", "output": " "}
    seeds = write(tmp_path / "seed_pairs.jsonl", [*SEEDS, empty])
    heldout = write(tmp_path / "heldout_pairs.jsonl", [*SEEDS[:2], empty])
    stage = read_seeds(tmp_path / "run" / "seeds", SeedConfig(seeds, heldout, limit=4))
    assert stage.counts["in"] == 10
    assert stage.counts["out"] == 6
    assert sum(stage.counts["rejected"].values()) == 4
    assert stage.counts["rejected"]["over_limit"] == 2
    assert stage.manifest["figures"]["seed"]["kept"] == 4
    kept = read_curated(stage.directory / "seed.jsonl")
    assert [pair.instruction for pair in kept] == [row["instruction"] for row in SEEDS[:4]]
    assert len(read_curated(stage.directory / "heldout.jsonl")) == 2


def test_changed_seed_files_are_read_again_and_their_place_does_not_matter(tmp_path, capsys):
    seeds = write(tmp_path / "seed_pairs.jsonl", SEEDS)
    config = SeedConfig(seeds)
    first = read_seeds(tmp_path / "run" / "seeds", config)
    moved = SeedConfig(write(tmp_path / "moved.jsonl", SEEDS))
    assert read_seeds(tmp_path / "run" / "seeds", moved).manifest == first.manifest
    write(tmp_path / "seed_pairs.jsonl", SEEDS[:-1])
    again = read_seeds(tmp_path / "run" / "seeds", config)
    assert again.counts["in"] == first.counts["in"] - 1
    assert "seeds: made again: inputs.seed has changed" in capsys.readouterr().err


def test_seeds_without_a_usable_pair_are_an_error(tmp_path):
    seeds = write(tmp_path / "seed_pairs.jsonl", [{"instruction": "Say nothing.", "output": ""}])
    with pytest.raises(ValueError, match=r"seed_pairs\.jsonl holds no usable pair: 1 of 1 .*:1: empty_output"):
        read_seeds(tmp_path / "run" / "seeds", SeedConfig(seeds))


def test_a_missing_seed_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.jsonl"):
        read_seeds(tmp_path / "run" / "seeds", SeedConfig(str(tmp_path / "absent.jsonl")))


def test_builtin_seeds_come_with_the_package(tmp_path):
    stage = read_seeds(tmp_path / "seeds", SeedConfig("builtin:seed_pairs.jsonl", "builtin:heldout_pairs.jsonl"))
    assert stage.manifest["figures"]["seed"]["kept"] >= 40
    assert stage.counts["out"] == sum(figures["kept"] for figures in stage.manifest["figures"].values())


@pytest.fixture
def pages(tmp_path):
    folder = tmp_path / "pages_of_test"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.html").write_text(page(number))
    return folder


def test_segments_are_cut_and_counted(tmp_path, pages):
    (pages / "again.html").write_text(page(3))
    config = SegmentsConfig((str(pages),), CorpusConfig(min_chars=40, max_chars=200))
    stage = cut_segments(tmp_path / "run" / "segments", config)
    rows = list(read_segments(stage.directory))
    assert len(rows) == stage.counts["out"] == 4
    assert stage.counts["in"] == 5
    assert sum(stage.counts["rejected"].values()) == 1
    assert stage.manifest["figures"]["records"] == 5


def test_changed_pages_are_cut_again_and_their_place_does_not_matter(tmp_path, pages):
    corpus = CorpusConfig(min_chars=40, max_chars=200)
    first = cut_segments(tmp_path / "run" / "segments", SegmentsConfig((str(pages),), corpus))
    moved = pages.rename(tmp_path / "elsewhere")
    config = SegmentsConfig((str(moved),), corpus)
    assert cut_segments(tmp_path / "run" / "segments", config).manifest == first.manifest
    (moved / "0.html").write_text(page(77))
    assert cut_segments(tmp_path / "run" / "segments", config).outputs != first.outputs


def test_forgotten_pages_are_counted_and_leave_nothing(tmp_path, pages):
    config = SegmentsConfig((str(pages),), CorpusConfig(min_chars=40, max_chars=200))
    first = cut_segments(tmp_path / "run" / "segments", config)
    write_forgotten(tmp_path / "run" / FORGOTTEN, forget_entries(["0.html"], ["1.html"]))
    without = cut_segments(tmp_path / "run" / "segments", config)
    assert without.manifest["figures"]["page_outcomes"] == {"forgotten": 2, "segments": 2}
    (pages / "0.html").unlink()
    (pages / "1.html").unlink()
    never = cut_segments(tmp_path / "other" / "segments", config)
    assert without.outputs == never.outputs != first.outputs
