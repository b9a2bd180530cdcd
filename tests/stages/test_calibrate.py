"""Calibration on the tiny model: every figure is there, and in its bounds."""

import dataclasses
import json

import pytest
from click.testing import CliRunner

from humpback_jax.cli import cli
from humpback_jax.curation.curator import CuratorConfig
from humpback_jax.curation.labels import LabelledPair
from humpback_jax.curation.signals import SIGNALS
from humpback_jax.curation.twins import KINDS
from humpback_jax.data.open_assistant import Sibling
from humpback_jax.data.pairs import Pair
from humpback_jax.inference.requests import EngineConfig
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.stages.calibrate import BUCKETS, Calibration, Signaller, calibrate
from humpback_jax.stages.jobs import GenerationConfig
from humpback_jax.stages.rating import CurationConfig

PROMPTS = Prompts("Q: {output}", "{instruction}|{output}", "Tag s.", "Tag w.")
NOUNS = ["heron", "fish", "reed", "bank", "boat", "river", "cloud", "stone", "wind", "bird", "net", "tide"]


def pairs(first, number):
    chosen = [NOUNS[(first + i) % len(NOUNS)] for i in range(number)]
    text = "The {} stands in the water and waits there until the evening has come over it."
    return [Pair(f"{first}-{i}", f"What does the {n} do?", text.format(n), "t") for i, n in enumerate(chosen)]


@pytest.fixture(scope="module")
def figures(tiny_model):
    labelled = [LabelledPair(p.id, p.instruction, p.output, i % 3 == 0, i % 2 == 0) for i, p in enumerate(pairs(3, 15))]
    siblings = [Sibling(f"s{i}", f"t{i // 3}", i % 3, "What is it?", f"It is {n}.") for i, n in enumerate(NOUNS)]
    data = Calibration(pairs(0, 10), pairs(5, 6), labelled, siblings)
    engine = EngineConfig(slots=4, prompt_buckets=(64, 128, 256, 512), max_new_tokens=8)
    generation = GenerationConfig(engine=engine, shard_size=100, dtype="float32")
    signaller = Signaller(tiny_model, PROMPTS, CurationConfig("expected", generation, signals=True))
    return calibrate(signaller, data, CuratorConfig(originals=10))


def test_every_signal_and_the_curator_are_measured_on_labels(figures):
    assert set(figures["signals"]) == {*SIGNALS, "curator", "curator_with_labels"}
    for each in figures["signals"].values():
        assert {"auc_good", "auc_usable", "precision_at_20", "recall_at_20", "spearman"} <= set(each)
        for name in ("auc_good", "auc_usable", "precision_at_20"):
            assert 0 <= each[name]["low"] <= each[name]["value"] <= each[name]["high"] <= 1
    assert "calibration_error" in figures["signals"]["curator"]
    assert figures["labels"] == {"in": 15, "out": 15, "good": 5, "usable": 8}
    assert set(figures["kept"]) == {"expected", "labelled"}


def test_twins_are_measured_by_kind_and_siblings_by_pairs(figures):
    assert set(figures["twins"]) == set(KINDS)
    assert all(each["whole"] == 6 and each["broken"] == 6 for each in figures["twins"].values())
    assert figures["siblings"]["pairs"] == 4 * 3
    assert 0 <= figures["siblings"]["curator"]["value"] <= 1
    json.dumps(figures)


def test_the_command_prints_what_it_measures_by_a_checklist(tiny_model_dir, tmp_path):
    seeds, labels = tmp_path / "seeds.jsonl", tmp_path / "labels.jsonl"
    seeds.write_text("".join(json.dumps(dataclasses.asdict(pair)) + "\n" for pair in pairs(0, 8)))
    rows = [dataclasses.asdict(pair) | {"labels": {"score": [1 + 4 * (i % 2)]}} for i, pair in enumerate(pairs(4, 10))]
    labels.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "source"}) + "\n" for row in rows))
    arguments = ["curate", "calibrate", "--model", str(tiny_model_dir), "--seeds", str(seeds), "--json"]
    arguments += ["--heldout", str(seeds), "--labels", str(labels), "--originals", "8", "--rubric", "additive"]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout[result.stdout.index("{") :])
    assert printed["signals"]["curator"]["auc_good"].keys() == {"value", "low", "high"}
    assert printed["labels"]["out"] == printed["labels"]["in"] == 10
    assert "auc_usable" not in printed["signals"]["curator"], "nobody was asked"


def test_what_another_model_or_other_rows_gave_is_not_taken_for_this(tiny_model, tmp_path):
    engine = EngineConfig(slots=4, prompt_buckets=(64, 128, 256, 512), max_new_tokens=8)
    generation = GenerationConfig(engine=engine, shard_size=100, dtype="float32")
    curation = CurationConfig("expected", generation, signals=True)
    signaller = Signaller(tiny_model, PROMPTS, curation, str(tmp_path))
    rows = [dataclasses.asdict(pair) for pair in pairs(0, 3)]
    first = signaller.read("examples", rows)
    assert signaller.read("examples", rows) == first
    with pytest.raises(ValueError, match="was begun with another rows"):
        signaller.read("examples", [rows[0] | {"output": "Another text."}, *rows[1:]])
    with pytest.raises(ValueError, match="was begun with another prompts"):
        dataclasses.replace(signaller, prompts=dataclasses.replace(PROMPTS, seed_tag="Tag t.")).read("examples", rows)


def test_few_buckets_fit_the_rows_and_change_no_value(tiny_model):
    rows = [
        dataclasses.asdict(pair) | {"output": " ".join([pair.output] * (1 + i % 5))}
        for i, pair in enumerate(pairs(0, 10))
    ]
    generation = GenerationConfig(engine=EngineConfig(slots=4, max_new_tokens=8), shard_size=100, dtype="float32")
    signaller = Signaller(tiny_model, PROMPTS, CurationConfig("expected", generation, signals=True))
    buckets = signaller.fitted_buckets(rows)
    assert len(buckets) <= BUCKETS + 1
    assert buckets[-1] == generation.engine.max_prompt_length
    few, usual = signaller.read("few", rows, buckets), signaller.read("usual", rows)
    for a, b in zip(few, usual, strict=True):
        assert a["signals"] == pytest.approx(b["signals"], abs=2e-4)


def test_the_command_refuses_a_rubric_that_cannot_be_read(tiny_model_dir, tmp_path):
    (tmp_path / "mine.txt").write_text("Is {output} good for {instruction}?")
    arguments = ["curate", "calibrate", "--model", str(tiny_model_dir), "--rubric", str(tmp_path / "mine.txt")]
    with pytest.raises(ValueError, match=r"mine\.txt never says 'Score:'"):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
    refused = [*arguments, "--label", "Note", "--scale", "1-x"]
    with pytest.raises(ValueError, match="'1-x' is no scale"):
        CliRunner().invoke(cli, refused, catch_exceptions=False)
