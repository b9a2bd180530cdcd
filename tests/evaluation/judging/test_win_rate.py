"""Win rates against the leaderboard's rows, and the forms in which annotations come."""

import gzip
import json
import math
import statistics

import numpy as np
import pytest

from humpback_jax.evaluation.judging.win_rate import annotation_figures, preferences, win_rate
from humpback_jax.evaluation.records import read_records

ROWS = [
    {"instruction": f"i{n}", "output_1": "base", "output_2": "model" * n, "generator_1": "b", "preference": p}
    for n, p in enumerate([1, 2, 1.5, 0, None, 1.25, 2.0, 3, -1, "2"])
]


@pytest.fixture
def write(tmp_path):
    def write(name, data):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write


def test_the_leaderboard_is_reproduced(shared_data):
    expected = json.loads((shared_data / "alpaca_eval" / "expected_win_rates.json").read_text())["rows"]
    assert len(expected) == 4
    for row in expected:
        figures = annotation_figures(shared_data / "alpaca_eval" / row["file"])
        for key in ("win_rate", "standard_error"):
            assert figures[key] == pytest.approx(row["leaderboard"][key], abs=1e-9)
            assert figures[key] == pytest.approx(row["recomputed"][key], abs=1e-9)
        counts = ("n_wins", "n_wins_base", "n_draws", "n_total", "avg_length")
        assert {key: figures[key] for key in counts} == {key: int(row["leaderboard"][key]) for key in counts}
        if "discrete_win_rate" in row["leaderboard"]:
            assert figures["discrete_win_rate"] == pytest.approx(row["leaderboard"]["discrete_win_rate"], abs=1e-9)
        names = (figures["model"], figures["baseline"], figures["annotator"])
        assert names == (row["model"], row["baseline"], row["annotator"])


def test_draws_are_halves_and_what_is_no_preference_is_left_out():
    figures = win_rate(preferences(ROWS))
    counted = [0, 1, 0.5, 0.5, 0.25, 1, 1]
    assert (figures["n_total"], figures["n_dropped"], figures["n_draws"]) == (7, 3, 2)
    assert (figures["n_wins"], figures["n_wins_base"]) == (3, 2)
    assert figures["win_rate"] == pytest.approx(100 * statistics.mean(counted))
    assert figures["standard_error"] == pytest.approx(100 * statistics.stdev(counted) / math.sqrt(7))
    assert figures["discrete_win_rate"] == pytest.approx(100 * (3 + 2 / 2) / 7)


def test_alpaca_eval_counts_the_same():
    package = pytest.importorskip("alpaca_eval.metrics", reason="needs the alpaca_eval package")
    values = np.random.default_rng(0).choice([1, 2, 0, 1.5, math.nan, 1.3, 1.49, 1.5000001, 1.9, 2.2, 0.4], 500)
    theirs = package.get_winrate([{"preference": value} for value in values.tolist()])
    ours = win_rate(values)
    for key, value in theirs.items():
        assert ours[key] == pytest.approx(value, abs=1e-9), key


@pytest.mark.parametrize(
    "name, encode",
    [
        ("a.json", lambda rows: json.dumps(rows)),
        ("bom.json", lambda rows: "\ufeff" + json.dumps(rows)),
        ("a.json.gz", lambda rows: gzip.compress(json.dumps(rows).encode(), mtime=0)),
        ("unnamed_gzip.json", lambda rows: gzip.compress(json.dumps(rows).encode(), mtime=0)),
        ("a.jsonl", lambda rows: "\n".join(map(json.dumps, rows))),
        ("columns.json", lambda rows: json.dumps({k: {str(i): r[k] for i, r in enumerate(rows)} for k in rows[0]})),
        ("lists.json", lambda rows: json.dumps({k: [r[k] for r in rows] for k in rows[0]})),
    ],
    ids=["list", "byte order mark", "gzip", "gzip without a suffix", "lines", "columns", "column lists"],
)
def test_every_form_of_file_is_read(write, name, encode):
    assert read_records(write(name, encode(ROWS))) == ROWS


def test_a_single_line_is_one_annotation(write):
    figures = annotation_figures(write("one.jsonl", json.dumps(ROWS[1])))
    assert (figures["win_rate"], figures["n_total"], figures["standard_error"]) == (100.0, 1, None)


def test_not_a_number_in_json_is_null(write):
    assert annotation_figures(write("nan.json", '[{"preference": NaN}, {"preference": 1}]'))["n_dropped"] == 1


def test_a_length_controlled_figure_is_there_only_where_the_package_left_it(write):
    assert "length_controlled_winrate" not in annotation_figures(write("a.json", json.dumps(ROWS)))
    rows = [row | {"glm_preference": 0.25} for row in ROWS]
    assert annotation_figures(write("b.json", json.dumps(rows)))["length_controlled_winrate"] == 25.0


@pytest.mark.parametrize(
    "content, message",
    [
        ("[{]", "neither JSON nor JSON lines"),
        ("3", "holds int; expected a list"),
        ('{"a": 3}', "no annotation has a 'preference'"),
        ("[3]", "record 0 is int; expected an object"),
        ('[{"output": ""}]', "no annotation has a 'preference'"),
        ('[{"preference": 1}, {"preference": "draw"}]', "record 1 has the preference 'draw'; expected a number"),
        ('[{"preference": true}]', "record 0 has the preference True"),
        ('[{"preference": null}, {"preference": 7}]', "none of 2 annotations has a preference"),
        (b"\x1f\x8bbroken", "not gzipped or plain"),
    ],
)
def test_a_damaged_file_is_named(write, content, message):
    path = write("annotations.json", content)
    with pytest.raises(ValueError, match=message) as error:
        annotation_figures(path)
    assert "annotations" in str(error.value)
