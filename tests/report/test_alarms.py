"""Alarms: each is given by the run that deserves it, and by no other; they stand at the top."""

import random

import pytest

from humpback_jax.files import write_json, write_jsonl
from humpback_jax.report.alarms import alarms
from humpback_jax.report.tables import print_report, run_figures


def make_run(folder, rounds, nll=None, sets=None, mode="rationale", parsed=1, leaked=0, rater=None):
    """A run directory with the manifests and ratings that alarms read."""

    def stage(name, figures, settings=None, kept=5):
        counts = {"in": 5, "out": kept, "rejected": {"x": 5 - kept} if kept < 5 else {}}
        manifest = {"figures": figures, "settings": settings or {}, "counts": counts, "seconds": 1.0, "outputs": {}}
        (folder / name).mkdir(parents=True)
        write_json(folder / name / "manifest.json", manifest)

    stage("seeds", {"seed": {"kept": 9}, "heldout": {"kept": 4}, "heldout_in_seeds": leaked})
    stage("m0", {"sets": sets or {"seed": {"in": 9, "out": 9, "rejected": {}}}})
    for t, scores in rounds.items():
        figures = {
            "parsed": parsed, "forced": len(scores) - parsed, "unscored": 0, "mean_score": 3.0,
            "histogram": dict.fromkeys("12345", 1),
        }  # fmt: skip
        figures |= {"rater": rater, "note": "not self-alignment"} if rater else {}
        stage(f"scores{t}", figures, {"curation": {"mode": mode}})
        write_jsonl(folder / f"scores{t}" / "scores.jsonl", [{"id": f"p{i}", "score": s} for i, s in enumerate(scores)])
    if nll:
        rows = {name: {"nll": value, "perplexity": 2**value, "pairs": 4} for name, value in nll.items()}
        stage("evaluation", {"nll_per_token": rows, "backward_chrf": {}})
    return folder


RISING = [1 + i / 10 for i in range(30)]
SHUFFLED = random.Random(3).sample(RISING, len(RISING))
GOOD = {"base": 3.0, "m0": 2.5, "m1": 2.4, "m2": 2.3}


def test_a_good_run_gives_no_alarm(tmp_path):
    assert alarms(make_run(tmp_path, {1: RISING, 2: [s + 0.5 for s in RISING]}, GOOD)) == []


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"rounds": {1: RISING, 2: SHUFFLED}}, r"Rounds 1 and 2 do not agree on 30 pairs .*no better than chance"),
        ({"rounds": {1: [3.0] * 30}}, r"Round 1: all 30 pairs have the rating 3"),
        ({"rounds": {1: RISING}, "parsed": 0}, r"Round 1: none of 30 ratings was written.*max_new_tokens"),
        ({"rounds": {1: RISING}, "nll": GOOD | {"m2": 2.7}}, r"perplexity .* rose from 5.66 \(m0\) to 6.50 \(m2\)"),
        ({"rounds": {1: RISING}, "nll": {"base": 2.0, "m1": 2.1}}, r"rose from 4.00 \(base\) to 4.29 \(m1\)"),
        ({"rounds": {1: RISING}, "rater": "big/one"}, r"Round 1: big/one rated .* of M_0: not self-alignment"),
        ({"rounds": {1: RISING}, "leaked": 3}, r"3 of 4 held-out pairs are seed pairs too"),
        (
            {"rounds": {1: RISING}, "sets": {"web": {"in": 40, "out": 38, "rejected": {"too_long": 2}}}},
            r"m0 was trained without 2 of its 40 web pairs \(5 %: 2 too_long\)",
        ),
    ],
)
def test_an_alarm_is_given_and_stands_first(tmp_path, capsys, run, message):
    folder = make_run(tmp_path, **run)
    (text,) = alarms(folder)
    with pytest.raises(ValueError, match=message):
        raise ValueError(text)
    print_report(folder, run_figures(folder))
    assert capsys.readouterr().out.startswith("! ")


def test_forced_ratings_are_no_alarm_where_they_are_asked_for(tmp_path):
    assert alarms(make_run(tmp_path, {1: RISING}, mode="expected", parsed=0)) == []


def test_rounds_agree_by_chance_seldom_enough(tmp_path):
    """Of rounds that do agree somewhat (0.8 in truth), none is called random."""
    draw = random.Random(0)
    for number in range(20):
        old = [draw.gauss(0, 1) for _ in range(60)]
        new = [0.8 * value + 0.6 * draw.gauss(0, 1) for value in old]
        assert alarms(make_run(tmp_path / str(number), {1: old, 2: new})) == []
