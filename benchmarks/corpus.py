"""`humpback corpus build` beside trafilatura, datatrove and Resiliparse: same pages, in turns, within one run.

    python benchmarks/corpus.py pages.warc.gz [--gold gold.jsonl.gz] [--datatrove_python PYTHON] [--json]

Ours is the whole command with one worker: reading, content, sections, filters, near-duplicates, writing. trafilatura
(its defaults, and its precision mode) and Resiliparse (a parser in C++ and few rules: about the least that a page can
take) get pages that are read and decoded for them, and only return a text per page. datatrove's WARC reader and
Trafilatura extractor need an environment of their own, `pip install "datatrove[io,processing]" lxml_html_clean`, whose
python is given by --datatrove_python; without one they are left out, and the output says so. The extra `peers` has the
others.

Rates are pages and megabytes of HTML per second of processor time, all processes of a side together, so that they are
per core, and fair where other work shares the machine; start-up is left out on every side (ours: a build of two small
pages).
--gold has rows `url` and `text`, the main content of pages: beside the rates stand then the noise in what every side
gives, and how much of the content it found. --copies N makes every page N pages with words of their own: how memory
grows. The last table is a profile of ours: where the processor time of pages goes.
"""

import argparse
import collections
import contextlib
import ctypes
import dataclasses
import gzip
import json
import os
import pathlib
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from types import FrameType
from typing import Any

import fastwarc.warc
import numpy as np
import psutil
from corpus_peers import EXTRACTORS, FIRST_PAGE

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.page_segments import ToolsRecipe, cut_page
from humpback_jax.corpus.readers.inputs import list_inputs
from humpback_jax.corpus.readers.pages import Page, read_pages
from humpback_jax.corpus.segment_files import read_segments
from humpback_jax.files import json_lines, read_jsonl, write_jsonl

OURS, DATATROVE = "humpback", "datatrove"
SHINGLE_WORDS = 4
QUALITIES = ("noise", "furniture", "found", "empty")
SAMPLE_SECONDS, PROFILE_SECONDS = 0.05, 0.002
PR_SET_CHILD_SUBREAPER = 36  # of Linux's prctl
HTTP_HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"
# The fast look at a language does not tell this one for sure: ours loads the slow one for it, once per worker.
SECOND_PAGE = "<html><body><h1>潮汐</h1><p>" + "月亮引起海洋的潮汐。" * 80 + "</p></body></html>"
FIRST_PAGES = {"first.html": FIRST_PAGE, "second.html": SECOND_PAGE}
_TEXT_RUN = re.compile(rb"(?<=>)[^<>]+(?=<)")
_WORD = re.compile(rb"(?<![&#\w])[A-Za-z]{3,}(?![;\w])")


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a command printed, and what it took: seconds, processor seconds and most megabytes of all its processes."""

    output: str
    wall_seconds: float
    cpu_seconds: float
    peak_mb: float


def run_watched(command: Sequence[str]) -> Usage:
    """Runs a command to the end of all its processes and looks at their memory meanwhile; RuntimeError if it fails."""
    peak_mb, before = 0.0, children_seconds()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err)
        while process.poll() is None:
            peak_mb = max(peak_mb, megabytes_of(process.pid))
            time.sleep(SAMPLE_SECONDS)
        wall = time.perf_counter() - started
        reap_orphans()
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise RuntimeError(f"{shlex.join(command)} failed:\n{err.read().decode(errors='replace')[-2000:]}")
        return Usage(out.read().decode(), wall, children_seconds() - before, peak_mb)


def children_seconds() -> float:
    """Processor seconds of every process below this one that has ended and been waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def adopt_orphans() -> None:
    """A process whose parent ends becomes a child of this one (Linux): its time would be lost to the system else."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def reap_orphans() -> None:
    """Waits for every process that is left."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def megabytes_of(pid: int) -> float:
    """What a process and all below it hold; memory that they share counts once."""
    megabytes = 0.0
    with contextlib.suppress(psutil.Error):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            megabytes += process.memory_full_info().pss / 1e6
    return megabytes


@dataclasses.dataclass(frozen=True)
class Figures:
    """One turn of one side."""

    pages: int
    megabytes: float
    cpu_seconds: float
    wall_seconds: float
    peak_mb: float

    @property
    def pages_per_second(self) -> float:
        return self.pages / self.cpu_seconds


class Bench:
    """The pages, in the forms that the sides read, and a folder for what they write."""

    def __init__(self, inputs: Sequence[str], folder: pathlib.Path, build_options: Sequence[str]) -> None:
        self.inputs, self.folder, self.build_options = list(inputs), folder, list(build_options)
        pages = [page for page in all_pages(inputs) if page.is_html]
        rows = ({"url": page.url, "html": page.text} for page in pages)
        write_jsonl(folder / "pages.jsonl", rows)
        for name, page in FIRST_PAGES.items():
            (folder / name).write_text(page)
        self.pages, self.megabytes = len(pages), sum(len(page.text.encode()) for page in pages) / 1e6
        self.start_up = self.run_build([str(folder / name) for name in FIRST_PAGES], folder / "first")

    def run_build(self, inputs: Sequence[str], out: pathlib.Path) -> Usage:
        shutil.rmtree(out, ignore_errors=True)  # a finished corpus would not be built again
        command = [sys.executable, "-m", "humpback_jax", "corpus", "build", *inputs, "--out", str(out)]
        return run_watched([*command, "--workers", "1", "--json", *self.build_options])

    def ours(self) -> Figures:
        """The whole command, less a build of the first pages."""
        used = self.run_build(self.inputs, self.folder / OURS)
        pages = json.loads(used.output)["pages"]
        cpu = used.cpu_seconds - self.start_up.cpu_seconds
        return Figures(pages, self.megabytes, cpu, used.wall_seconds - self.start_up.wall_seconds, used.peak_mb)

    def peer(self, side: str, python: str) -> Figures:
        """A side of corpus_peers.py, which times itself."""
        source = self.folder / "pages.jsonl"
        if side == DATATROVE:
            source = self.folder / "archives"
            source.mkdir(exist_ok=True)
            for number, path in enumerate(self.inputs):
                link = source / f"{number}-{pathlib.Path(path).name}"
                if not link.exists():
                    link.symlink_to(pathlib.Path(path).resolve())
        script = str(pathlib.Path(__file__).with_name("corpus_peers.py"))
        used = run_watched([python, script, side, str(source), str(self.folder / f"{side}.jsonl")])
        told = json.loads(used.output.splitlines()[-1])
        return Figures(told["pages"], self.megabytes, told["cpu_seconds"], told["wall_seconds"], used.peak_mb)

    def texts(self, side: str) -> dict[str, list[str]]:
        """What a side made of every page, by URL: a whole text, or ours, the segments."""
        rows: Iterable[Any] = (row for _, row in read_jsonl(self.folder / f"{side}.jsonl")) if side != OURS else ()
        texts: dict[str, list[str]] = {}
        for row in rows if side != OURS else read_segments(self.folder / OURS):
            texts.setdefault(row["url"], []).append(row["text"])
        return texts


def all_pages(inputs: Sequence[str]) -> Iterable[Page]:
    """Every page of the inputs, as our readers give it."""
    for file in list_inputs(inputs):
        for page in read_pages(file, CorpusConfig().max_page_bytes):
            if isinstance(page, Page):
                yield page


def shingles(text: str) -> collections.Counter[tuple[str, ...]]:
    """Runs of four words with their counts; a shorter text is one run."""
    words = re.findall(r"\w+", text.casefold())
    starts = range(max(len(words) - SHINGLE_WORDS + 1, 1 if words else 0))
    return collections.Counter(tuple(words[i : i + SHINGLE_WORDS]) for i in starts)


def quality(texts: Mapping[str, Sequence[str]], gold: Mapping[str, str]) -> dict[str, float]:
    """Of pages with gold text: `noise`, the share of what was extracted that is not in it; `found`, the share of it
    that was extracted; `furniture`, the share of texts of which nine tenths are noise; `empty`, pages without a text.
    """
    size = common_size = furniture = count = found = total = empty = 0
    for url, text in gold.items():
        want, union = shingles(text), collections.Counter[tuple[str, ...]]()
        given = [have for have in map(shingles, texts.get(url, ())) if have]
        for have in given:
            common = (have & want).total()
            size, common_size, count = size + have.total(), common_size + common, count + 1
            furniture += common <= 0.1 * have.total()
            union |= have
        empty += not given
        found, total = found + (union & want).total(), total + want.total()
    return {
        "noise": 1 - common_size / max(size, 1),
        "furniture": furniture / max(count, 1),
        "found": found / max(total, 1),
        "empty": empty / max(len(gold), 1),
    }


def gold_texts(path: str) -> dict[str, str]:
    """The main content of pages by URL, of JSON lines, gzip or not; pages without any are left out."""
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as stream:
        return {row["url"]: row["text"] for _, row in json_lines(stream, path) if row["text"].strip()}


def profile(inputs: Sequence[str]) -> dict[str, float]:
    """Share of the processor time of pages, by the module of ours that is innermost on the stack, sampled.

    Time inside libraries counts for the module that called them. The group-by and the writing are not among pages.
    """
    counts: collections.Counter[str] = collections.Counter()

    def count_module(_: int, frame: FrameType | None) -> None:
        while frame is not None and "humpback_jax/corpus/" not in frame.f_code.co_filename:
            frame = frame.f_back
        counts[frame.f_code.co_filename.rpartition("humpback_jax/corpus/")[2] if frame else "(start)"] += 1

    config = CorpusConfig()
    tools = ToolsRecipe(config).load()
    signal.signal(signal.SIGPROF, count_module)
    signal.setitimer(signal.ITIMER_PROF, PROFILE_SECONDS, PROFILE_SECONDS)
    for page in all_pages(inputs):
        with contextlib.suppress(Exception):  # what the build counts as cutting_failed
            cut_page(page, config, tools)
    signal.setitimer(signal.ITIMER_PROF, 0)
    del counts["(start)"]
    return {module: number / counts.total() for module, number in counts.most_common()}


def write_copies(inputs: Sequence[str], copies: int, path: pathlib.Path) -> None:
    """An archive of every HTML page `copies` times, every copy with words and an address of its own."""
    with path.open("wb") as stream:
        for copy in range(copies):
            letters = bytes([97 + copy % 26, 97 + copy // 26 % 26]) if copy else b""
            for page in all_pages(inputs):
                body = _TEXT_RUN.sub(lambda run, end=letters: _WORD.sub(rb"\g<0>" + end, run[0]), page.text.encode())
                head = f"{HTTP_HEAD}Content-Length: {len(body)}\r\n\r\n"
                record = fastwarc.warc.WarcRecord()
                record.init_headers(record_type=fastwarc.warc.WarcRecordType.response)
                record.headers["WARC-Target-URI"] = f"{page.url}#{copy}"
                record.is_http = True
                record.set_bytes_content(head.encode() + body)
                record.write(stream)


def summarise(turns: Mapping[str, Sequence[Figures]], gold: Mapping[str, str], bench: Bench) -> dict[str, Any]:
    """By side: medians over the turns, ours over each peer turn by turn with its spread, and the quality."""
    rows: dict[str, Any] = {}
    for side, figures in turns.items():
        pairs = zip(turns[OURS], figures, strict=True)
        ratios = [ours.pages_per_second / other.pages_per_second for ours, other in pairs]
        rows[side] = {
            "pages": figures[0].pages,
            "pages_per_core_second": float(np.median([figure.pages_per_second for figure in figures])),
            "megabytes_per_core_second": float(np.median([f.megabytes / f.cpu_seconds for f in figures])),
            "wall_seconds": float(np.median([figure.wall_seconds for figure in figures])),
            "peak_mb": max(figure.peak_mb for figure in figures),
            "ours_over_it": [float(np.median(ratios)), min(ratios), max(ratios)],
        }
        if gold:
            rows[side] |= quality(bench.texts(side), gold)
    return rows


def print_rows(rows: Mapping[str, Any]) -> None:
    for side, row in rows.items():
        middle, low, high = row["ours_over_it"]
        rates = f"{row['pages_per_core_second']:7.1f} pages/s {row['megabytes_per_core_second']:6.1f} MB/s per core"
        ratio = f"ours is {middle:5.2f} times as fast ({low:.2f} to {high:.2f})"
        print(f"{side:22} {rates}   {row['peak_mb']:6.0f} MB   {ratio}")
    for side, row in rows.items():
        shares = [f"{name} {100 * row[name]:5.1f} %" for name in QUALITIES if name in row]
        if shares:
            print(f"{side:22} " + "   ".join(shares))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", help="WARC files")
    parser.add_argument("--gold", help="JSON lines with url and text: the main content of pages")
    parser.add_argument("--datatrove_python", help="the python of an environment with datatrove")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--build_options", default="", help="passed to corpus build, as one text")
    parser.add_argument("--sides", nargs="*", choices=sorted(EXTRACTORS), default=sorted(EXTRACTORS))
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    adopt_orphans()
    with tempfile.TemporaryDirectory() as temporary:
        folder, inputs = pathlib.Path(temporary), arguments.inputs
        if arguments.copies > 1:
            inputs = [str(folder / "copies.warc")]
            write_copies(arguments.inputs, arguments.copies, pathlib.Path(inputs[0]))
        bench = Bench(inputs, folder, shlex.split(arguments.build_options))
        pythons = dict.fromkeys(arguments.sides, sys.executable)
        if arguments.datatrove_python:
            pythons[DATATROVE] = arguments.datatrove_python
        else:
            say("datatrove is left out: give --datatrove_python")
        turns: dict[str, list[Figures]] = {OURS: []} | {side: [] for side in pythons}
        for turn in range(arguments.rounds):
            say(f"round {turn + 1} of {arguments.rounds}")
            turns[OURS].append(bench.ours())
            for side, python in pythons.items():
                turns[side].append(bench.peer(side, python))
        rows = summarise(turns, gold_texts(arguments.gold) if arguments.gold else {}, bench)
        shares = profile(inputs)
    start_up = bench.start_up.cpu_seconds
    if arguments.json:
        print(json.dumps({"sides": rows, "profile": shares, "start_up_cpu_seconds": start_up}, indent=2))
        return
    print(f"{bench.pages} pages of HTML, {bench.megabytes:.1f} MB; start-up of ours, left out: {start_up:.1f} s")
    print_rows(rows)
    print("Where the time of pages goes: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items()))


if __name__ == "__main__":
    main()
