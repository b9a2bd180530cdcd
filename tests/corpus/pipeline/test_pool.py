"""A page that hangs, ends its process or raises is counted and named, and the rest of its shard is cut."""

import os
import time

import pytest

from humpback_jax.corpus.build import Execution, build_corpus
from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.page_segments import PageResult, PageTools, ToolsRecipe, cut_page
from humpback_jax.corpus.pipeline.cutting import COUNTS, Counts, Shard, cut_shard
from humpback_jax.corpus.pipeline.engine import Unwatched
from humpback_jax.corpus.pipeline.pool import WORKERS_VARIABLE, Pool, Task, default_workers
from humpback_jax.corpus.readers.inputs import list_inputs
from humpback_jax.corpus.readers.pages import Page
from humpback_jax.corpus.segment_files import read_segments

CONFIG = CorpusConfig(languages=(), near_duplicates=None, repeated_on_pages=0)


def awkward_page(page: Page, config: CorpusConfig, tools: PageTools, file: str) -> PageResult:
    if page.url.endswith("/3"):
        time.sleep(3600)
    if page.url.endswith("/5"):
        os._exit(11)
    if page.url.endswith("/6"):
        raise RecursionError("too deep")
    return cut_page(page, config, tools, file)


def test_a_shard_goes_on_after_bad_pages(archives, pages, tmp_path):
    count = 9
    made = [(f"http://a.example/{i}", markup) for i, (_, markup) in enumerate(pages[:count])]
    paths = archives("in", made, 1)
    execution = Execution(workers=2, seconds_per_record=0.5)
    report = build_corpus(paths, tmp_path / "bad", CONFIG, execution=execution, show_progress=False, cut=awkward_page)
    assert report.rejected_records == {"timeout": 1, "crashed": 1, "cutting_failed": 1}
    assert (report.records, report.pages) == (count, count - 3)
    assert [problem.rpartition(": http")[2].split(": ")[0] for problem in sorted(report.problems)] == [
        "://a.example/5",
        "://a.example/6",
        "://a.example/3",
    ]
    good = [made[i] for i in (0, 1, 2, 4, 7, 8)]
    build_corpus(archives("good", good, 1), tmp_path / "good", CONFIG, show_progress=False)
    assert list(read_segments(tmp_path / "bad")) == list(read_segments(tmp_path / "good"))


class StopsAt(Unwatched):
    def __init__(self, record):
        self.record = record

    def reading(self, record):
        return "timeout" if record == self.record else None


def test_a_record_that_hangs_the_reader_ends_its_file_only(archives, pages):
    files = list_inputs(archives("in", pages[:9], 3))
    rows = list(cut_shard(Shard(tuple(files)), StopsAt(5), ToolsRecipe(CONFIG), cut_page))
    counts = Counts.from_json(next(row.payload for row in rows if row.dataset == COUNTS))
    # Records 0 to 2 and 3 to the end of the file are of the first file; 5 is the second of the next.
    assert (counts.pages, counts.records) == (7, {"timeout": 1})
    assert "the rest of the file is left out" in counts.problems[0]


def end_process(argument: int, heartbeat: object) -> int:
    if argument == 2:
        os._exit(1)
    return argument


def fail(argument: int, heartbeat: object) -> None:
    raise ValueError(f"no {argument}")


def own_process(argument: int, heartbeat: object) -> int:
    return os.getpid()


def test_a_failing_task_ends_the_build_with_its_reason():
    with Pool(2, 60) as pool, pytest.raises(RuntimeError, match=r"(?s)one failed in a worker.*ValueError: no 1"):
        list(pool.run([Task("one", fail, 1)]))
    with Pool(2, 60) as pool, pytest.raises(RuntimeError, match=r"ended twice from outside.*use fewer workers"):
        list(pool.run([Task(str(i), end_process, i) for i in range(4)]))


def test_workers_are_replaced_after_some_tasks():
    with Pool(1, 60, tasks_per_worker=2) as pool:
        found = [process for _, process in pool.run([Task(str(i), own_process, i) for i in range(6)])]
    assert [found.count(process) for process in dict.fromkeys(found)] == [2, 2, 2]
    assert os.getpid() not in found


def test_the_number_of_workers_may_come_from_outside(monkeypatch):
    monkeypatch.setenv(WORKERS_VARIABLE, "5")
    assert default_workers() == 5
    for value in ("0", "many"):
        monkeypatch.setenv(WORKERS_VARIABLE, value)
        with pytest.raises(ValueError, match=f"must be a whole number of at least 1, found '{value}'"):
            default_workers()
    monkeypatch.delenv(WORKERS_VARIABLE)
    assert 1 <= default_workers() <= os.cpu_count()
