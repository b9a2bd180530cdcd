"""The report of a run with a curator and an arm: what the page and the terminal say of signals, weights and rounds."""

import json
import re
import shutil

import made_run
import pytest
from report_pages import unpacked

from humpback_jax.curation.curator import curator_of
from humpback_jax.curation.measures import spearman
from humpback_jax.curation.signals import SIGNALS
from humpback_jax.evaluation.contamination import training_files
from humpback_jax.report.heldout import comparisons
from humpback_jax.report.page import write_report
from humpback_jax.report.run_data import read_run
from humpback_jax.report.tables import print_report, run_figures
from humpback_jax.report.words import FEATURE_WORDS


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def selections(curated_run):
    """By round, the kept rows and the dropped ones."""
    folders = {t: curated_run / f"curated{t}" for t in (1, 2)}
    return {t: (rows_of(f / "curated.jsonl"), rows_of(f / "dropped.jsonl")) for t, f in folders.items()}


@pytest.fixture(scope="module")
def page(curated_run):
    """The page of the curated run."""
    return (curated_run / "report.html").read_text()


@pytest.fixture(scope="module")
def text(page):
    """What the page says, in one line."""
    return " ".join(re.sub(r"<[^>]+>", "", page.partition("<main")[2]).split())


def test_every_pair_has_its_signals_and_p_good(selections, page):
    index = unpacked(page, "pairs-index")
    assert [name for name, _ in index["signals"]] == list(SIGNALS)
    for place, t in enumerate((1, 2)):
        columns = unpacked(page, f"pairs-signals-{place}")
        assert list(columns) == list(SIGNALS)
        rows = {row["id"]: row for part in selections[t] for row in part}
        for i, name in enumerate(index["id"]):
            row = rows.get(name, {})
            assert index["p_good"][place][i] == row.get("p_good")
            shown = {signal: column[i] for signal, column in columns.items()}
            assert shown == row.get("signals", dict.fromkeys(SIGNALS))


def test_every_verdict_has_a_sentence_by_the_curator_s_largest_contribution(curated_run, selections, page):
    curator = curator_of(json.loads((curated_run / "curator2" / "curator.json").read_text()))
    kept, dropped = selections[2]
    cut = min(row["p_good"] for row in kept)
    why = dict(zip(unpacked(page, "pairs-index")["id"], unpacked(page, "pairs-texts-0"), strict=True))
    for row in kept:
        assert why[row["id"]][4][1][3].startswith(f"Kept: its p(good) of {row['p_good']:.3f} is at or above {cut:.3f}")
    for row in dropped:
        sentence = why[row["id"]][4][1][3]
        if row["reason"] == "below_best_fraction":
            assert sentence.startswith(
                f"Dropped: its p(good) of {row['p_good']:.3f} is below {cut:.3f}, the lowest kept"
            )
            contributions = curator.contributions(row["signals"])
            worst = min(contributions, key=contributions.get)
            assert f"Against it: {FEATURE_WORDS[worst].bad}" in sentence
        elif row["reason"] == "gate_fit":
            assert "every kept pair must have fit >= -0.4" in sentence
        else:
            assert sentence == "Dropped: its rating prompt did not fit the engine."
    assert {row["reason"] for row in dropped} == {"below_best_fraction", "gate_fit", "unscored"}


def test_both_sides_of_the_boundary_are_shown(selections, page):
    shown = page.partition('id="h-boundary"')[2].partition("</section>")[0]
    kept = sorted(selections[2][0], key=lambda row: row["p_good"])[:3]
    below = [row for row in selections[2][1] if row["reason"] == "below_best_fraction"]
    dropped = sorted(below, key=lambda row: -row["p_good"])[:3]
    assert re.findall(r"id=(\w{20})", shown) == [row["id"] for row in kept + dropped]


def test_rounds_are_compared_and_the_pairs_that_changed_sides_are_listed(selections, page, text):
    kept = {t: {row["id"] for row in selections[t][0]} for t in (1, 2)}
    values = [{row["id"]: row["p_good"] for part in selections[t] for row in part if row["p_good"]} for t in (1, 2)]
    rho = spearman([values[0][name] for name in values[0]], [values[1][name] for name in values[0]])
    assert f"of p(good): {rho:.2f}, over {len(values[0])} pairs" in text
    came, left = kept[2] - kept[1], kept[1] - kept[2]
    assert f"{len(came) + len(left)} pairs changed sides: {len(came)} now kept, {len(left)} no longer." in text
    listed = re.findall(r"outcome=changed&amp;id=(\w{20})", page)
    assert set(listed) == came | left
    assert len(listed) == len(came) + len(left) > 0


def test_weights_auc_alarms_and_definitions_are_shown(curated_run, page, text):
    assert (curated_run / "plots" / "curator2_weights.png").read_bytes().startswith(b"\x89PNG")
    assert 'aria-label="Fit +1.10, Incomplete +0.50, Rating +0.40, Prose +0.30, Copy +0.20."' in page
    assert "half of the answer0.940.94" in text
    assert "Round 1: Leak is the same for every pair, and tells nothing apart." in text
    assert "Round 2: Leak" not in text
    assert "Round 2: of the kept pairs the curator expects precision 0.39 [0.24, 0.57], recall" in text
    for name, signal in SIGNALS.items():
        assert f'<option value="{name}">' in page
        assert signal.definition.replace("'", "&#39;") in text, name


def test_the_gain_is_over_m_0_and_over_the_arm(curated_run, text, capsys):
    assert "From M_0 to M_2, the perplexity of held-out answers went from 11.02 to 9.68." in text
    sentences = (
        "m2: 2.270, m0: 2.400, difference -0.130 [-0.170, -0.090]",
        "m2: 2.270, random pairs: 2.310, difference -0.040 [-0.090, +0.010]",
    )
    assert f"Held-out nats per token, {sentences[0]}: better." in text
    assert f"Held-out nats per token, {sentences[1]}: no clear difference." in text
    print_report(curated_run, run_figures(curated_run))
    printed = " ".join(capsys.readouterr().out.split())
    for words in (*sentences, "change from m0", "the answer of another pair", "Copy", "Round 1: leak is the same"):
        assert words in printed, words
    assert "Kept in curated2 " in printed
    assert "p(good)" in printed


def test_stages_of_arms_and_curators_stand_in_the_order_of_the_algorithm(curated_run, page, text):
    stages = list(read_run(curated_run).stages)
    rounds = ["scores1", "curator1", "curated1", "m1", "scores2", "curator2", "curated2", "m2"]
    assert stages == ["seeds", "augmented", "m0", *rounds, "curated2_random", "m2_random", "evaluation"]
    for words in ("Round 2: learn what a good pair is", "Round 2, to compare: random pairs", "M_2, random pairs"):
        assert words in text, words
    assert "round=2_random" not in page
    arm = curated_run / "curated2_random" / "curated.jsonl"
    arm.write_text("")
    assert training_files(curated_run / "m2_random") == [str(curated_run / "seeds" / "seed.jsonl"), str(arm)]


def test_a_curator_of_another_run_is_read_from_the_selection(curated_run, tmp_path, page):
    """A run that selects from the ratings of another has no stage of a curator of its own."""
    run = tmp_path / "run"
    shutil.copytree(curated_run, run)
    for name in ("curator1", "curator2", "scores1", "scores2", "augmented"):
        shutil.rmtree(run / name)
    other = write_report(run).read_text()
    assert (run / "plots" / "curator2_weights.svg").exists()
    sentences = [
        {row[0]: row[4][1][3] for row in unpacked(each, "pairs-texts-0") if row[4][1]} for each in (page, other)
    ]
    assert sentences[0] == sentences[1]


def test_a_selection_by_scores_is_told_by_scores(curated_run, tmp_path):
    """Gates need signals; the ratings rank."""
    run = tmp_path / "run"
    shutil.copytree(curated_run, run)
    for t in (1, 2):
        for path in (run / f"curated{t}" / "curated.jsonl", run / f"curated{t}" / "dropped.jsonl"):
            made_run.write_jsonl(path, [{k: v for k, v in row.items() if k != "p_good"} for row in rows_of(path)])
    page = write_report(run).read_text()
    assert unpacked(page, "pairs-index")["p_good"] == []
    assert '<option value="p_good">' not in page
    assert '<option value="fit">' in page
    whys = [row[4][1][3] for row in unpacked(page, "pairs-texts-0") if row[4][1]]
    assert any(why.startswith("Kept: its score of ") for why in whys)
    assert not any("p(good)" in why for why in whys)


def test_the_page_of_a_run_without_signals_has_nothing_of_them(small_run):
    page = (small_run / "report.html").read_text()
    index = unpacked(page, "pairs-index")
    assert index["p_good"] == []
    for mark in ('pairs-signals-0"', 'id="f-signal"', 'id="h-curation"', 'id="signal-words"', "What the curator goes"):
        assert mark not in page, mark
    rows = unpacked(page, "pairs-texts-0")
    assert {grade[3] for row in rows for grade in row[4] if grade} == {""}


def test_gains_without_arms_and_without_m_0():
    def nll(**values):
        return {"nll_per_token": {name: {"nll": value} for name, value in values.items()}}

    (gain,) = comparisons(nll(base=2.6, m0=2.4, m1=2.3, m2=2.25))
    assert gain.sentence == "m2: 2.250, m0: 2.400, difference -0.150"
    (gain,) = comparisons(nll(base=2.6, m3=2.3))
    assert gain.sentence == "m3: 2.300, base: 2.600, difference -0.300"
    assert comparisons(nll(m2=2.3)) == []
    assert [gain.rival for gain in comparisons(nll(base=2.6, m0=2.4))] == []
    assert comparisons({}) == []


def test_the_interval_is_put_in_words():
    def verdict(low, high):
        models = {name: {"nll": 2.0} for name in ("m1", "m1_longest")}
        difference = {"model": "m1", "rival": "m1_longest", "difference": 0.0, "low": low, "high": high}
        (gain,) = comparisons({"nll_per_token": models, "nll_differences": [difference]})
        assert gain.sentence.startswith("m1: 2.000, longest pairs: 2.000, difference +0.000 [")
        return gain.verdict

    assert [verdict(-2, -1), verdict(-1, 1), verdict(1, 2)] == ["better", "no clear difference", "worse"]
