"""Which rated pairs are kept, and why the others are not."""

import hashlib
import json
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.stages import selection
from humpback_jax.stages.selection import SelectionConfig, copied_share, drop_reason, drop_reasons, select

OUTPUT = "A heron stands still in shallow water until a fish comes close, and then it strikes."


def pair(name, instruction="How does a heron catch fish?", output=OUTPUT):
    return {"id": name, "instruction": instruction, "output": output, "source": "test", "header": "Herons"}


def run(make_product, tmp_path, rows, scores, config):
    pairs = make_product("augmented", "pairs", rows)
    rated = make_product("scores1", "scores", [{"id": name, "score": score} for name, score in scores.items()])
    stage = select(tmp_path / "curated1", pairs, rated, config)
    read = lambda name: [json.loads(line) for line in (tmp_path / "curated1" / name).read_text().splitlines()]  # noqa: E731
    return stage, read("curated.jsonl"), read("dropped.jsonl")


@pytest.mark.parametrize(
    ("row", "score", "reason"),
    [
        (pair("a"), 4.5, None),
        (pair("a"), 4.49, "below_min_score"),
        (pair("a"), None, "unscored"),
        (pair("a", "Why?"), 5.0, "instruction_too_short"),
        (pair("a", "Why? " * 200), 5.0, "instruction_too_long"),
        (pair("a", OUTPUT), 5.0, "instruction_copies_output"),
        (pair("a", "x" * 10), 5.0, None),
        (pair("a", "x" * 800), 5.0, None),
        (pair("a", "x" * 801), 5.0, "instruction_too_long"),
    ],
)
def test_every_reason(row, score, reason):
    assert drop_reason(row | {"score": score}, SelectionConfig()) == reason


def test_the_copy_test_can_be_switched_off():
    assert drop_reason(pair("a", OUTPUT) | {"score": 5.0}, SelectionConfig(max_copied=1.0)) is None


def test_dropped_pairs_are_counted_by_reason(make_product, tmp_path):
    rows = [pair("a"), pair("b"), pair("c", "Why?"), pair("d"), pair("e", OUTPUT)]
    scores = {"a": 5.0, "b": 2.0, "c": 5.0, "e": 5.0}
    stage, curated, dropped = run(make_product, tmp_path, rows, scores, SelectionConfig())
    assert curated == [rows[0] | {"score": 5.0}]
    assert {row["id"]: row["reason"] for row in dropped} == {
        "b": "below_min_score",
        "c": "instruction_too_short",
        "d": "unscored",
        "e": "instruction_copies_output",
    }
    assert stage.counts == {"in": 5, "out": 1, "rejected": dict.fromkeys(sorted(r["reason"] for r in dropped), 1)}
    assert next(row for row in dropped if row["id"] == "d")["score"] is None


@pytest.mark.parametrize(("fraction", "kept"), [(0.3, 3), (0.5, 5), (0.75, 8), (1.0, 10)])
def test_a_fraction_keeps_exactly_its_share_of_all_pairs(make_product, tmp_path, fraction, kept):
    rows = [pair(f"p{i}") for i in range(10)]
    scores = {f"p{i}": 1 + 0.1 * i for i in range(10)}
    stage, curated, _ = run(make_product, tmp_path, rows, scores, SelectionConfig(keep_fraction=fraction))
    assert [row["id"] for row in curated] == [f"p{i}" for i in range(10 - kept, 10)]
    assert stage.counts["rejected"] == ({"below_best_fraction": 10 - kept} if kept < 10 else {})


def test_flawed_pairs_take_no_place_in_the_fraction(make_product, tmp_path):
    rows = [pair("a", "Why?"), pair("b", OUTPUT), pair("c"), pair("d")]
    scores = {"a": 5.0, "b": 5.0, "c": 1.0, "d": 1.5}
    _, curated, dropped = run(make_product, tmp_path, rows, scores, SelectionConfig(keep_fraction=0.5))
    assert [row["id"] for row in curated] == ["c", "d"]
    assert [row["reason"] for row in dropped] == ["instruction_too_short", "instruction_copies_output"]


@pytest.mark.parametrize("order", ["cabd", "dbac"])
def test_ties_are_broken_by_id_whatever_the_order(make_product, tmp_path, order):
    rows = [pair(name) for name in order]
    _, curated, _ = run(make_product, tmp_path, rows, dict.fromkeys(order, 3.0), SelectionConfig(keep_fraction=0.5))
    assert sorted(row["id"] for row in curated) == ["a", "b"]
    assert [row["id"] for row in curated] == [name for name in order if name in "ab"]


RATED = st.tuples(st.sampled_from(["Why?", "How does it work?", OUTPUT]), st.none() | st.integers(1, 5))


@given(
    st.lists(RATED, max_size=30),
    st.none() | st.floats(0, 1),
    st.none() | st.integers(0, 10),
    st.integers(1, 9),
)
def test_the_best_are_those_of_a_plain_sort(pairs, fraction, sample, block):
    rows = [pair(f"é{7 * i % 31}", text) | {"score": score} for i, (text, score) in enumerate(pairs)]
    config = SelectionConfig(keep_fraction=fraction, sample=sample)
    kept = [row for row in rows if drop_reason(row, config) is None]
    if fraction is not None:
        kept = sorted(kept, key=lambda row: (-row["score"], row["id"]))[: round(fraction * len(rows))]
    if sample is not None:
        kept = sorted(kept, key=lambda row: hashlib.sha256(row["id"].encode()).hexdigest())[:sample]
    with mock.patch.object(selection, "BLOCK", block):
        reasons = drop_reasons(iter(rows), config)
    found = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
    assert found == [row for row in rows if row in kept]


@pytest.mark.parametrize("scored", ["ba", "abx", "aab"])
def test_scores_that_are_not_those_of_the_pairs_in_order_are_refused(make_product, tmp_path, scored):
    pairs = make_product("augmented", "pairs", [pair("a"), pair("b")])
    rated = make_product("scores1", "scores", [{"id": name, "score": 5.0} for name in scored])
    with pytest.raises(ValueError, match=r"scores\.jsonl: '\w' is no pair of .*pairs\.jsonl, or out of order"):
        select(tmp_path / "curated1", pairs, rated, SelectionConfig())


def test_shares_of_copied_runs():
    words = [f"w{i}" for i in range(20)]
    assert copied_share(" ".join(words), " ".join(["x", *words, "y"])) == 1.0
    assert copied_share(" ".join(words).upper(), " ".join(words)) == 1.0
    assert copied_share(" ".join(reversed(words)), " ".join(words)) == 0.0
    assert copied_share("only four words here", "only four words here") == 0.0
    # Eight words have four runs of five; the two of the first six words are in the output.
    assert copied_share("w0 w1 w2 w3 w4 w5 a b", " ".join(words)) == 0.5


@given(st.lists(st.sampled_from("abc"), max_size=30), st.lists(st.sampled_from("abc"), max_size=30))
def test_a_copied_share_is_a_share(instruction, output):
    share = copied_share(" ".join(instruction), " ".join(output))
    assert 0 <= share <= 1
    assert copied_share(" ".join(output), " ".join(output)) == float(len(output) >= 5)


def test_samples_are_nested_and_blind_to_scores(make_product, tmp_path):
    rows = [pair(f"p{i}") for i in range(12)]
    scores = {row["id"]: 4.5 + (i % 2) / 2 for i, row in enumerate(rows)} | {"p0": 1.0}
    kept = {}
    for sample in (2, 5, 100):
        stage, curated, dropped = run(
            make_product, tmp_path / str(sample), rows, scores, SelectionConfig(sample=sample)
        )
        kept[sample] = [row["id"] for row in curated]
        not_sampled = 11 - len(kept[sample])
        assert stage.counts["rejected"] == {"below_min_score": 1} | (
            {"not_sampled": not_sampled} if not_sampled else {}
        )
        assert len(dropped) == 12 - len(curated)
    assert [len(names) for names in kept.values()] == [2, 5, 11]
    assert set(kept[2]) < set(kept[5]) < set(kept[100])
    assert "p0" not in kept[100]
