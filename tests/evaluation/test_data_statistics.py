"""Data statistics and the published rows."""

import dataclasses
import json
import statistics

import pytest

from humpback_jax.evaluation.data_statistics import (
    file_statistics,
    length_figures,
    paper_statistics,
    spacy_parser,
    verb_noun_figures,
)
from humpback_jax.evaluation.judging.published import PUBLISHED, rows_beside
from humpback_jax.evaluation.judging.win_rate import annotation_figures


@dataclasses.dataclass
class Token:
    lemma_: str
    dep_: str
    pos_: str
    children: tuple = ()


def sentence(verb, noun, dep="dobj", pos="VERB"):
    return [Token("please", "intj", "INTJ"), Token(verb, "ROOT", pos, (Token(noun, dep, "NOUN"),))]


def test_lengths_are_mean_and_deviation_in_characters(shared_data):
    rows = [json.loads(line) for line in (shared_data / "seed" / "seed_pairs.jsonl").read_text().splitlines()]
    figures = file_statistics(shared_data / "seed" / "seed_pairs.jsonl")
    assert figures["pairs"] == 465
    for column in ("instruction", "output"):
        lengths = [len(row[column].strip()) for row in rows]
        assert figures[f"{column}_chars"]["mean"] == pytest.approx(statistics.mean(lengths), abs=0.06)
        assert figures[f"{column}_chars"]["sd"] == pytest.approx(statistics.stdev(lengths), abs=0.06)


def test_few_lengths_have_no_deviation():
    assert length_figures([7]) == {"mean": 7.0, "sd": None, "median": 7.0, "min": 7, "max": 7}
    assert length_figures([])["mean"] is None


def test_the_papers_rows_add_up():
    """A_4 is part of A: what is left must have a variance that is not negative."""
    rows = paper_statistics()
    whole, part = rows["A, all"], rows["A_4 (round 2)"]
    for column in ("instruction_chars", "output_chars"):
        squares = {
            name: row["pairs"] * (row[column]["sd"] ** 2 + row[column]["mean"] ** 2)
            for name, row in (("whole", whole), ("part", part))
        }
        sums = {name: row["pairs"] * row[column]["mean"] for name, row in (("whole", whole), ("part", part))}
        count = whole["pairs"] - part["pairs"]
        mean = (sums["whole"] - sums["part"]) / count
        assert (squares["whole"] - squares["part"]) / count - mean**2 > 0


def test_root_verbs_and_their_objects_are_counted():
    documents = [
        sentence("write", "Poem"),
        sentence("write", "poem"),
        sentence("write", "story"),
        sentence("give", "tip"),
    ]
    documents += [sentence("be", "thing", "attr", "AUX"), sentence("go", "home", "advmod"), []]
    figures = verb_noun_figures(documents, len(documents))
    assert (figures["parsed"], figures["distinct_pairs"]) == (4, 3)
    assert figures["top"] == {"write": {"poem": 2, "story": 1}, "give": {"tip": 1}}
    assert figures["parsed_share"] == pytest.approx(4 / 7, abs=1e-4)


def test_a_missing_parser_says_what_to_install():
    with pytest.raises(ValueError, match="pip install spacy"):
        spacy_parser("a_model_that_is_nowhere")


def test_the_rows_that_a_run_is_put_beside():
    models = {row.model for row in PUBLISHED}
    wanted = ["Humpback 33B", "Humpback 65B", "Humpback 70B", "LIMA 65B", "Guanaco 33B", "Guanaco 65B"]
    wanted += ["Falcon-Instruct 40B", "Vicuna 33B", "WizardLM 13B", "text-davinci-003"]
    wanted += ["ChatGPT", "Claude", "Claude 2", "GPT-4"]
    assert set(wanted) <= models
    assert all(row.source and row.comparability for row in PUBLISHED)
    for row in PUBLISHED:
        if row.ties is not None:
            assert row.win_rate + row.ties + row.losses == pytest.approx(100, abs=0.15)


def test_a_run_is_placed_and_what_differs_is_said(shared_data):
    same, other = (
        annotation_figures(shared_data / "alpaca_eval" / name)
        for name in ("llama-2-7b-chat-hf.alpaca_eval_gpt4.annotations.json", "guanaco-33b.claude.annotations.json")
    )
    rows = rows_beside([same, other])
    own = {row["model"]: row for row in rows if row["group"] == "this run"}
    assert "not comparable" not in own["llama-2-7b-chat-hf"]["comparability"]
    assert "judge claude, not alpaca_eval_gpt4: not comparable" in own["guanaco-33b"]["comparability"]
    automatic = [row["win_rate"] for row in rows if row["benchmark"] == "AlpacaEval 1"]
    assert automatic == sorted(automatic, reverse=True)
