"""Overlap of training and evaluation sets: found where it is, nowhere else, and cleaned away."""

import json

import pytest

from humpback_jax.data.pairs import Pair, read_pairs
from humpback_jax.evaluation.contamination import (
    contamination_figures,
    overlap,
    overlap_figures,
    read_evaluation_texts,
    report_overlaps,
    training_files,
    write_clean,
)

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def found(text, items, n=13):
    return overlap([Pair("p", "An instruction.", text, "s")], items, n).overlapping_items


@pytest.mark.parametrize(
    "text, overlaps",
    [
        (LONG, True),
        (f"Before that: {LONG.upper()}, and after.", True),
        (LONG.replace(" ", " - "), True),
        (LONG.removesuffix(" fourteen"), True),
        (LONG.replace("seven ", "7 "), False),
        ("one two three four five six seven eight nine ten eleven twelve", False),
    ],
    ids=["equal", "within, another case", "punctuation", "13 of 14 words", "one word differs", "12 words"],
)
def test_thirteen_words_in_a_row_overlap(text, overlaps):
    assert found(text, {"x": LONG}) == (("x",) if overlaps else ())


def test_a_short_item_overlaps_where_it_is_the_whole_text():
    items = {"x": "Who wrote Faust?", "empty": "?!"}
    assert found("who wrote faust", items) == ("x",)
    assert found("I forgot who wrote Faust.", items) == ()


def test_the_seeds_that_are_in_alpaca_eval_are_found(shared_data, tmp_path):
    seeds = shared_data / "seed" / "seed_pairs.jsonl"
    instructions = shared_data / "alpaca_eval" / "instructions.json"
    evaluation = {"alpaca_eval": read_evaluation_texts(instructions)}
    overlaps = report_overlaps([seeds], evaluation)[str(seeds)]
    leaked = {pair.id for pair in read_pairs(seeds).pairs if "oasst" in pair.source.lower()}
    assert len(leaked) == 139
    assert leaked <= set(overlaps["alpaca_eval"].overlapping_pairs)
    assert len(overlaps["alpaca_eval"].overlapping_items) == 139
    kept = write_clean(seeds, overlaps, tmp_path)
    assert kept == 465 - len(overlaps["alpaca_eval"].overlapping_pairs)
    clean = tmp_path / "seed_pairs.jsonl"
    assert overlap_figures(report_overlaps([clean], evaluation))[str(clean)]["alpaca_eval"]["overlapping_items"] == 0


def test_every_evaluation_set_is_read(shared_data):
    expected = {
        "vicuna_question.jsonl": 80,
        "mt_bench_question.jsonl": 80,
        "koala_test_set.jsonl": 180,
        "oasst_prompt_lottery_en_250.jsonl": 250,
    }
    for name, count in expected.items():
        assert len(read_evaluation_texts(shared_data / "eval_prompts" / name)) == count
    assert len(read_evaluation_texts(shared_data / "benchmarks" / "mmlu_test.jsonl")) == 570
    assert len(read_evaluation_texts(shared_data / "alpaca_eval" / "instructions.json")) == 805


def test_training_sets_of_a_run_are_found_by_themselves(tmp_path):
    for name in ("seeds/seed.jsonl", "curated2/curated.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(json.dumps({"id": "1", "instruction": "a", "output": LONG, "source": "s"}) + "\n")
    both = [str(tmp_path / "seeds" / "seed.jsonl"), str(tmp_path / "curated2" / "curated.jsonl")]
    assert training_files(tmp_path / "m2") == training_files(tmp_path / "m2" / "model") == both
    assert training_files(tmp_path / "m0") == both[:1]
    assert training_files(tmp_path / "elsewhere" / "weights") == []
    figures = contamination_figures(tmp_path / "m2", (), {"e": {"x": LONG}})["contamination"]
    assert [figures[path]["e"]["overlapping_items"] for path in both] == [1, 1]
    assert "not checked" in contamination_figures("elsewhere", (), {"e": {}})["contamination"]


def test_a_file_that_is_no_evaluation_set_is_named(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(ValueError, match=r"x\.jsonl: record 0 has none of instruction, question, prompt, turns"):
        read_evaluation_texts(tmp_path / "x.jsonl")
