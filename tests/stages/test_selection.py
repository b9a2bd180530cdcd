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
    st.none() | st.floats(0, 1, exclude_min=True),
    st.none() | st.integers(1, 10),
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


def test_of_the_candidates_of_a_segment_the_best_is_kept(make_product, tmp_path):
    rows = [pair(f"s{i}#{k}") | {"segment": f"s{i}"} for i in range(4) for k in range(3)]
    scores = {row["id"]: 1.0 + (7 * i % 12) / 3 for i, row in enumerate(rows)}
    _, curated, dropped = run(make_product, tmp_path, rows, scores, SelectionConfig(keep_fraction=1.0))
    assert [row["segment"] for row in curated] == ["s0", "s1", "s2", "s3"]
    for kept in curated:
        others = [row["score"] for row in dropped if row["segment"] == kept["segment"]]
        assert len(others) == 2
        assert kept["score"] > max(others)
    assert {row["reason"] for row in dropped} == {"not_best_candidate"}
    _, half, _ = run(make_product, tmp_path / "half", rows, scores, SelectionConfig(keep_fraction=0.5))
    assert len(half) == 2, "a share of the segments"


def test_no_domain_has_more_than_its_cap_and_others_come_in(make_product, tmp_path):
    rows = [pair(f"p{i}") | {"source": f"https://www.{'a' if i < 6 else 'b'}.org/{i}"} for i in range(10)]
    scores = {f"p{i}": 5.0 - 0.1 * i for i in range(10)}
    config = SelectionConfig(keep_fraction=0.5, max_per_domain=3)
    _, curated, dropped = run(make_product, tmp_path, rows, scores, config)
    assert [row["id"] for row in curated] == ["p0", "p1", "p2", "p6", "p7"]
    assert [row["id"] for row in dropped if row["reason"] == "domain_full"] == ["p3", "p4", "p5"]


def test_a_share_of_every_bin_of_lengths_is_kept(make_product, tmp_path):
    rows = [pair(f"p{i}", output=OUTPUT * (1 + i)) for i in range(12)]
    scores = {f"p{i}": 1.0 + i / 4 for i in range(12)}
    _, curated, _ = run(make_product, tmp_path, rows, scores, SelectionConfig(keep_fraction=0.5, length_bins=3))
    assert [row["id"] for row in curated] == ["p2", "p3", "p6", "p7", "p10", "p11"]


def test_gates_are_conditions_on_single_signals():
    row = pair("a") | {"score": 5.0, "signals": {"fit": 0.2, "copy": 0.4}}
    assert drop_reason(row, SelectionConfig(gates=("fit >= 0.1", "copy<=0.5"))) is None
    assert drop_reason(row, SelectionConfig(gates=("fit >= 0.3",))) == "gate_fit"
    assert drop_reason(row, SelectionConfig(gates=("fit >= 0.1", "copy <= 0.3"))) == "gate_copy"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep_fraction": 1.5}, "keep_fraction takes a number above 0 and of at most 1 or None, found 1.5"),
        ({"keep_fraction": 0.0}, "keep_fraction takes a number above 0"),
        ({"min_p_good": 2.0}, "min_p_good takes a number from 0 to 1 or None, found 2.0"),
        ({"by": "luck"}, "by takes a text among rating, curator, found 'luck'"),
        ({"gates": ("fit > 0",)}, "is no condition; write `SIGNAL >= NUMBER`"),
        ({"gates": ("style >= 0",)}, "with one of rating, fit"),
        ({"length_bins": 0}, "length_bins takes a whole number of at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SelectionConfig(**settings)


def test_a_selection_that_keeps_nothing_says_where_the_pairs_are(make_product, tmp_path):
    rows = [pair(f"p{i}") for i in range(10)]
    scores = {f"p{i}": 1.0 + 0.3 * i for i in range(10)}
    with pytest.raises(ValueError, match=r"no pair is kept; 10 below_min_score.*1\.00-1\.50: 2.*keep_fraction"):
        run(make_product, tmp_path, rows, scores, SelectionConfig())
    with pytest.raises(ValueError, match="no pair is kept"):
        run(make_product, tmp_path / "none", rows, scores, SelectionConfig(keep_fraction=0.01))
