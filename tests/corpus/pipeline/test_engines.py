"""The same bytes from any number of workers, any order of inputs, after any kill, and from Beam."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from humpback_jax.corpus.build import Execution, build_corpus
from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.page_segments import PageResult, PageTools, cut_page
from humpback_jax.corpus.pipeline import cutting, local
from humpback_jax.corpus.pipeline.engine import Unwatched
from humpback_jax.corpus.readers.pages import Page
from humpback_jax.corpus.segment_files import read_segments, read_shards
from humpback_jax.run_files import DUPLICATES, SOURCES

CONFIG = CorpusConfig(num_segments=30, max_per_domain=11, languages=())
OF_THE_PAGES = ("segments-*", "duplicates-*", "corpus_report.json")


def build(paths, out, config=CONFIG, **options):
    execution = Execution(**{"workers": 2} | options)
    return build_corpus(paths, out, config, execution=execution, show_progress=False, rows_per_file=25)


def content(folder, patterns=OF_THE_PAGES):
    return {path.name: path.read_bytes() for pattern in patterns for path in sorted(folder.glob(pattern))}


@pytest.fixture
def reference(archives, pages, tmp_path):
    report = build(archives("one", pages, 1), tmp_path / "reference", workers=1)
    return report, content(tmp_path / "reference")


@pytest.mark.parametrize("workers", [2, 7])
def test_workers_files_and_order_change_no_byte(archives, pages, tmp_path, reference, workers, monkeypatch):
    shuffled = random.Random(workers).sample(pages, len(pages))
    monkeypatch.setattr(cutting, "_BYTES_PER_SHARD", 15_000)  # several shards, and partitions of the group-by
    monkeypatch.setattr("humpback_jax.corpus.build._BYTES_PER_PARTITION", 20_000)
    report = build(archives("many", shuffled, 7)[::-1], tmp_path / "many", workers=workers)
    assert content(tmp_path / "many") == reference[1]
    assert report == reference[0]
    assert len(list((tmp_path / "many").glob("segments-*"))) > 1


def test_everything_is_counted_and_every_kind_of_drop_happens(reference, pages, tmp_path):
    report, _ = reference
    folder = tmp_path / "reference"
    assert report.records == report.pages == len(pages) == report.page_outcomes.total()
    assert report.candidates == report.segments + report.rejected_segments.total()
    expected = {"duplicate", "near_duplicate", "over_domain_cap", "not_sampled"}
    assert expected <= report.rejected_segments.keys()
    rows, sources = list(read_segments(folder)), list(read_shards(folder, SOURCES))
    assert len(rows) == report.segments == sum(report.domains.values()) == 30
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows) == [source["id"] for source in sources]
    dropped = list(read_shards(folder, DUPLICATES))
    assert len(dropped) == report.rejected_segments["duplicate"] + report.rejected_segments["near_duplicate"]
    assert {row["id"] for row in rows}.isdisjoint(row["dropped"] for row in dropped if row["dropped"] != row["kept"])
    manifest = json.loads((folder / "corpus_manifest.json").read_text())
    assert {name: file["rows"] for name, file in manifest["files"].items() if name.startswith("segments")} == {
        path.name: len(path.read_text().splitlines()) for path in folder.glob("segments-*")
    }
    assert not (folder / "work").exists() and not list(folder.rglob("*.tmp"))


def test_what_a_site_repeats_is_cut_off(reference, tmp_path):
    texts = [row["text"] for row in read_segments(tmp_path / "reference")]
    assert texts and not [text for text in texts if "friends of this small site" in text]


def test_duckdb_sorts_as_python_does(archives, pages, tmp_path, reference, monkeypatch):
    """The tasks run here, where they see the patched limit."""
    monkeypatch.setattr("humpback_jax.corpus.pipeline.shuffle.SORTED_IN_PYTHON", 0)
    monkeypatch.setattr("humpback_jax.corpus.build.Pool", InThisProcess)
    build(archives("here", pages, 2), tmp_path / "here")
    assert content(tmp_path / "here") == reference[1]


class InThisProcess:
    """A pool without processes."""

    def __init__(self, *_):
        self.workers = 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return

    def run(self, tasks):
        for task in tasks:
            yield task.name, task.function(task.argument, Unwatched())


def test_the_same_inputs_are_not_built_again(archives, pages, tmp_path, monkeypatch):
    paths = archives("some", pages[:10], 2)
    first = build(paths, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(local.LocalEngine, "map_shards", None)
        assert build(paths, tmp_path / "out") == first
    paths[0].write_bytes(paths[1].read_bytes())
    assert build(paths, tmp_path / "out").segments < first.segments
    everything = build(paths, tmp_path / "out", CorpusConfig(languages=(), near_duplicates=None))
    assert everything.rejected_segments.keys() <= {"duplicate"}


def test_parquet_holds_the_same_rows(archives, pages, tmp_path):
    paths = archives("some", pages[:20], 1)
    for kind in ("jsonl", "parquet"):
        build_corpus(paths, tmp_path / kind, CONFIG, file_format=kind, show_progress=False)
    assert list(read_segments(tmp_path / "jsonl")) == list(read_segments(tmp_path / "parquet"))
    assert list(read_shards(tmp_path / "jsonl", SOURCES)) == list(read_shards(tmp_path / "parquet", SOURCES))


def test_beam_writes_the_same_bytes(archives, pages, tmp_path, reference):
    pytest.importorskip("apache_beam")
    options = ("--direct_num_workers=2", "--direct_running_mode=multi_threading")
    report = build(archives("beam", pages[::-1], 5), tmp_path / "beam", runner="DirectRunner", beam_options=options)
    assert content(tmp_path / "beam") == reference[1]
    assert report == reference[0]
    assert not (tmp_path / "beam" / "work").exists()


def slow_page(page: Page, config: CorpusConfig, tools: PageTools, file: str) -> PageResult:
    time.sleep(0.01)
    return cut_page(page, config, tools, file)


SLOW_BUILD = """
import sys
from tests.corpus.pipeline.test_engines import CONFIG, slow_page
from humpback_jax.corpus.build import Execution, build_corpus
if __name__ == "__main__":
    out, *paths = sys.argv[1:]
    build_corpus(paths, out, CONFIG, execution=Execution(workers=2), rows_per_file=25, cut=slow_page)
"""


def start(script, arguments):
    root = pathlib.Path(__file__).resolve().parents[3]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def survives(kills, archives, pages, tmp_path, reference):
    script, out, rng = tmp_path / "slow_build.py", tmp_path / "killed", random.Random(kills)
    script.write_text(SLOW_BUILD)
    paths = archives("many", pages, 60)
    killed = 0
    for _ in range(kills):
        process = start(script, [out, *paths])
        # What it has done grows with every attempt, so that later kills fall into later steps.
        deadline = time.monotonic() + 60
        before = len(list(out.rglob("*.completed")))
        while process.poll() is None and time.monotonic() < deadline and len(list(out.rglob("*.completed"))) == before:
            time.sleep(0.02)
        time.sleep(rng.random() * 0.5)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
    assert killed
    process = start(script, [out, *paths])
    assert process.wait(timeout=120) == 0
    assert content(out) == reference[1]


def test_kills_change_no_byte(archives, pages, tmp_path, reference, monkeypatch):
    survives(3, archives, pages, tmp_path, reference)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_kills_change_no_byte(archives, pages, tmp_path, reference):
    survives(20, archives, pages, tmp_path, reference)
