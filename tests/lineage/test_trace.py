"""Pages followed through a made-up run of many pairs: every derived row, model and stage is named."""

import json
import time

import pytest

from humpback_jax.files import jsonl_line
from humpback_jax.lineage.forget import plan_take_down
from humpback_jax.lineage.scan import rows_of_ids, rows_of_values, rows_with
from humpback_jax.lineage.trace import find_segments, trace_segments

TEXT = 'An "answer" about birds \\ and \u00fcbersee, number {0}, that goes on for a while. ' * 2


def make_run(run_dir, number, candidates=1):
    """A run of one round with so many segments, of which every second pair is kept and trained on twice."""
    stages = ("segments", "augmented", "scores1", "curated1", "m_yx", "m0", "m1", "evaluation")
    for stage in stages:
        (run_dir / stage).mkdir(parents=True)
    files = {
        "segments/segments-00000-of-00001.jsonl": lambda i: [
            {"id": f"{i:020d}", "url": f"https://birds.example/{i}", "header": f"Bird {i}", "text": TEXT.format(i)}
        ],
        "segments/sources-00000-of-00001.jsonl": lambda i: [
            {"id": f"{i:020d}", "file": f"crawl-{i // 100}.warc", "record": i % 100, "start": 10 * i, "end": 10 * i + 9}
        ],
        "segments/duplicates-00000-of-00001.jsonl": lambda i: (
            [{"dropped": f"{i + 10**9:020d}", "kept": f"{i:020d}", "similarity": 1.0}] if i % 50 == 0 else []
        ),
        "augmented/pairs.jsonl": lambda i: [
            {"id": pair, "instruction": f"Ask {pair}.", "output": TEXT.format(i)} for pair in pairs_of(i, candidates)
        ],
        "scores1/scores.jsonl": lambda i: [
            {"id": pair, "score": 3.5, "parsed": True} for pair in pairs_of(i, candidates)
        ],
        "curated1/curated.jsonl": lambda i: [
            {"id": pair, "instruction": f"Ask {pair}.", "score": 3.5} for pair in pairs_of(i, candidates)[: i % 2]
        ],
        "curated1/dropped.jsonl": lambda i: [
            {"reason": "below_best_fraction", "id": pair, "score": 3.5} for pair in pairs_of(i, candidates)[i % 2 :]
        ],
        "m1/trained_on.jsonl": lambda i: [
            {"id": f"web/{pair}", "updates": [i, i + 7]} for pair in pairs_of(i, candidates)[: i % 2]
        ],
    }
    for name, rows in files.items():
        with (run_dir / name).open("w") as stream:
            stream.writelines(jsonl_line(row) for i in range(number) for row in rows(i))
    reads = {
        "segments": {"pages": "p"},
        "m_yx": {"base": "b", "seed": "s"},
        "augmented": {"model": "m_yx", "segments": "segments"},
        "m0": {"base": "b", "seed": "s"},
        "scores1": {"model": "m0", "pairs": "augmented"},
        "curated1": {"pairs": "augmented", "scores": "scores1"},
        "m1": {"base": "b", "seed": "s", "web": "curated1"},
        "evaluation": {"m0": "m0", "m1": "m1"},
    }
    for stage, inputs in reads.items():
        values = {"inputs": inputs, "outputs": {"model" if stage.startswith("m") else "product": stage}}
        (run_dir / stage / "manifest.json").write_text(json.dumps(values))
    names = [{"name": f"crawl-{i}.warc"} for i in range(-(-number // 100))]
    (run_dir / "segments" / "corpus_manifest.json").write_text(json.dumps({"inputs": names}))
    return run_dir


def pairs_of(i, candidates):
    return [f"{i:020d}"] if candidates == 1 else [f"{i:020d}#{k}" for k in range(candidates)]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("small") / "run", 500, candidates=2)


@pytest.mark.parametrize(
    "text",
    ["https://birds.example/7", f"{7:020d}", f"{7:020d}#1", "Bird 7", f"Ask {7:020d}#1.", "\u00fcbersee, number 7,"],
)
def test_a_page_a_segment_and_a_pair_are_found_by_what_is_known_of_them(small, text):
    assert f"{7:020d}" in [row["id"] for row in find_segments(small, text)]


def test_a_trace_has_every_row_and_the_updates(small):
    trace = trace_segments(small, find_segments(small, "https://birds.example/7"))
    (segment,) = trace.segments
    assert (segment["file"], segment["record"], segment["start"], segment["end"]) == ("crawl-0.warc", 7, 70, 79)
    assert trace.pairs == [f"{7:020d}#0", f"{7:020d}#1"]
    assert [row["id"] for row in trace.rows["scores1"]["scores.jsonl"]] == trace.pairs
    assert [row["id"] for row in trace.rows["curated1"]["curated.jsonl"]] == trace.pairs[:1]
    assert trace.rows["curated1"]["dropped.jsonl"][0]["reason"] == "below_best_fraction"
    assert trace.models == {"m1": {f"{7:020d}#0": [7, 14]}}
    assert set(trace.derived) == {"segments", "augmented", "scores1", "curated1", "m1", "evaluation"}


def test_what_was_dropped_reaches_no_model(small):
    trace = trace_segments(small, find_segments(small, "https://birds.example/50"))
    assert trace.models == {} and not {"m1", "evaluation"} & set(trace.derived)
    assert [row["dropped"] for row in trace.duplicates] == [f"{50 + 10**9:020d}"]


def test_what_nobody_knows_is_an_error(small):
    with pytest.raises(ValueError, match="has no segment of a page nothing like it"):
        find_segments(small, "nothing like it")
    with pytest.raises(ValueError, match="nothing is known of nowhere"):
        plan_take_down(small, ["nowhere"])


def test_a_take_down_is_named_by_page_input_id_or_a_list_of_them(small, tmp_path):
    by_url = plan_take_down(small, ["https://birds.example/7"])
    assert plan_take_down(small, [f"{7:020d}#1"]).values == by_url.values == plan_take_down(small, [f"{7:020d}"]).values
    of_file = plan_take_down(small, ["some/where/crawl-3.warc"])
    assert of_file.entries.files == {"crawl-3.warc"} and len(of_file.trace.segments) == 100
    listed = tmp_path / "list.txt"
    listed.write_text("https://birds.example/7\n# a remark\nhttps://birds.example/9\n")
    assert plan_take_down(small, [f"@{listed}"]).entries.urls == {"https://birds.example/7", "https://birds.example/9"}
    assert plan_take_down(small, ["https://birds.example/gone"]).entries.urls == {"https://birds.example/gone"}


def test_text_in_a_row_is_no_key_of_it(tmp_path):
    rows = [{"id": "a", "text": '"url": "x"'}, {"id": "b", "text": "t", "url": "x"}, {"text": "t", "id": "c"}]
    (tmp_path / "rows.jsonl").write_text("".join(map(jsonl_line, rows)))
    assert [row["id"] for row in rows_of_values(tmp_path / "rows.jsonl", "url", ["x"])] == ["b"]
    assert [row["id"] for row in rows_of_ids(tmp_path / "rows.jsonl", ["a", "c"])] == ["a", "c"]
    assert [row["id"] for row in rows_with(tmp_path / "rows.jsonl", '"url": "x"')] == ["a"]
    assert list(rows_with(tmp_path / "absent.jsonl", "x")) == []


@pytest.mark.slow
def test_a_thousand_pages_of_half_a_million_pairs_are_traced_in_seconds(tmp_path):
    run_dir = make_run(tmp_path / "run", 500_000)
    planted = range(3, 500_000, 500)
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"https://birds.example/{i}\n" for i in planted))
    started = time.monotonic()
    values = plan_take_down(run_dir, [f"@{listed}"]).values
    seconds = time.monotonic() - started
    print(f"{seconds:.1f} s")
    assert values["pairs"] == [f"{i:020d}" for i in planted]
    assert values["kept"] == {"curated1": [f"{i:020d}" for i in planted if i % 2]}
    assert values["models"] == {"m1": sum(i % 2 for i in planted)} and "evaluation" in values["derived"]
    assert seconds < 10
