"""Host memory and seconds of augment, curate and select over very many segments, with an engine that only pretends.

    python benchmarks/streaming.py TOKENIZER [--segments 500000] [--folder FOLDER] [--json]

TOKENIZER is a folder with `tokenizer.json` or `tokenizer.model`: prompts are made and tokenized as in a run, and all
files are written; only the model is missing, whose texts are drawn from a few. Segments are slices of Python's
documentation, of 600 to 3,000 characters. The memory is the peak of the process in each stage, what Python, JAX and the
tokenizer take with nothing to do included.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import pathlib
import pydoc_data.topics
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.corpus.segment_files import segments_sha256
from humpback_jax.files import write_jsonl
from humpback_jax.inference.engine import PromptIds, ReportProgress
from humpback_jax.inference.requests import Completion, Probe, Request
from humpback_jax.inference.slots import SlotStats
from humpback_jax.models.config import get_config
from humpback_jax.prompts.prompts import load_prompts
from humpback_jax.run_files import SEGMENTS
from humpback_jax.runtime.startup import prepare_process
from humpback_jax.stages.augment import augment
from humpback_jax.stages.jobs import GenerationConfig
from humpback_jax.stages.model import ModelHandle
from humpback_jax.stages.rating import CurationConfig, curate
from humpback_jax.stages.selection import SelectionConfig, select
from humpback_jax.stages.stage import Stage
from humpback_jax.tokenizers import load_tokenizer
from humpback_jax.weights.model_folder import ModelCard

LONGEST, SHORTEST = 3000, 600  # characters of a segment
TEXTS = 997  # that the model knows
ROWS_PER_FILE = 50_000  # of segments
UNRATED = 5  # one rationale in so many ends without a number
GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class StageFigures:
    """What one stage took."""

    stage: str
    rows_in: int
    rows_out: int
    seconds: float
    cpu_seconds: float
    peak_gib: float


class CannedEngine:
    """Answers every request with one of a few texts, by its id."""

    def __init__(self, token_ids: Sequence[tuple[int, ...]]) -> None:
        self.token_ids, self.stats, self.job_prefix_ids = token_ids, SlotStats(slots=64), None

    def compile_generation(self, prompt_lengths: Sequence[int], stop_ids: Sequence[int], probe_width: int = 0) -> None:
        """Nothing is compiled."""

    def generate(
        self,
        requests: Sequence[Request],
        seed: int,
        stop_ids: Sequence[int],
        progress: ReportProgress,
        probe: Callable[[Completion], Probe | None] | None = None,
    ) -> list[Completion]:
        """A completion per request."""
        completions = [self._completion(request, probe) for request in requests]
        progress(len(requests))
        return completions

    def _completion(self, request: Request, probe: Callable[[Completion], Probe | None] | None) -> Completion:
        completion = Completion(request.id, self.token_ids[int(request.id, 16) % len(self.token_ids)], truncated=False)
        if probe is None or probe(completion) is None:
            return completion
        return dataclasses.replace(completion, probe_log_probs=(-3.0, -2.5, -2.0, -1.0, -0.9))

    def candidate_log_probs(
        self, prompts: PromptIds, candidates: Sequence[Sequence[int]], progress: ReportProgress
    ) -> np.ndarray:
        """The same log-probabilities for all."""
        raise NotImplementedError("this benchmark rates by rationales")


@dataclasses.dataclass(frozen=True)
class CannedModel(ModelHandle):
    """A tokenizer and engines that know some texts."""

    texts: tuple[str, ...] = ()

    def engines(self, *_: object, **__: object) -> list:
        """One engine."""
        return [CannedEngine([tuple(self.tokenizer.encode(text)) for text in self.texts])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer")
    parser.add_argument("--segments", type=int, default=500_000)
    parser.add_argument("--folder", help="for what is written, about 10 KB a segment; default: a temporary one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    prepare_process()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = [show(row, options.json) for row in measure(pathlib.Path(folder), options.tokenizer, options.segments)]
    if options.json:
        print(json.dumps(rows, indent=2))


def show(row: StageFigures, quietly: bool) -> dict:
    """Prints a row as soon as it is there, unless it is wanted as JSON; the row as plain values."""
    if not quietly:
        counts = f"{row.rows_in:>9} in {row.rows_out:>9} out"
        took = f"{row.seconds:>8.1f} s {row.cpu_seconds:>8.1f} s of processors"
        print(f"{row.stage:<10}{counts} {took} {row.peak_gib:>7.2f} GiB", flush=True)
    return dataclasses.asdict(row)


def measure(folder: pathlib.Path, tokenizer: str, number: int) -> Iterator[StageFigures]:
    """Writes segments, and runs the stages in a folder; a row for each."""
    draw, prompts, text = random.Random(0), load_prompts(), documentation()
    instructions = tuple(f"Explain {section(draw, text, 20, 160)}?" for _ in range(TEXTS))
    rationales = tuple(
        section(draw, text, 100, 600) + ("" if n % UNRATED == 0 else f"\nScore: {1 + n % 5}") for n in range(TEXTS)
    )
    model, generation = canned_model(tokenizer), GenerationConfig()
    cut = functools.partial(segments_stage, folder / "segments", number, draw, text)
    given, figures = timed(cut)
    yield figures
    writer = dataclasses.replace(model, texts=instructions)
    pairs, figures = timed(functools.partial(augment, folder / "augmented", writer, given, prompts, generation))
    yield figures
    scorer, config = dataclasses.replace(model, texts=rationales), CurationConfig(generation=generation)
    scores, figures = timed(functools.partial(curate, folder / "scores1", scorer, pairs, prompts, config))
    yield figures
    selection = SelectionConfig(keep_fraction=0.5, sample=number // 5)
    _, figures = timed(functools.partial(select, folder / "curated1", pairs, scores, selection))
    yield figures


def timed(run: Callable[[], Stage]) -> tuple[Stage, StageFigures]:
    """A stage, and what it took."""
    reset_peak()
    started, cpu_started = time.perf_counter(), time.process_time()
    stage = run()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    counts, name = stage.counts, stage.directory.name
    return stage, StageFigures(name, counts["in"], counts["out"], round(seconds, 1), round(cpu_seconds, 1), peak_gib())


def canned_model(tokenizer: str) -> CannedModel:
    """A model of no weights, with ChatML where the tokenizer knows it."""
    loaded = load_tokenizer(tokenizer)
    chat_format = ChatFormat("plain" if loaded.special_id("<|im_end|>") is None else "chatml")
    card = ModelCard(get_config("tiny"), "float32", "none", chat_format.name, params_sha256="0" * 64)
    return CannedModel(pathlib.Path(tokenizer), card, loaded, chat_format)


def documentation() -> str:
    """Python's language reference, without its indentation."""
    lines = "\n\n".join(pydoc_data.topics.topics.values()).splitlines()
    return "\n".join(" ".join(line.split()) for line in lines)


def section(draw: random.Random, text: str, shortest: int, longest: int) -> str:
    """What stands at a random place, of so many characters."""
    start, length = draw.randrange(len(text) - longest), draw.randint(shortest, longest)
    return text[start : start + length]


def segments_stage(folder: pathlib.Path, number: int, draw: random.Random, text: str) -> Stage:
    """Segments as they lie in a run directory."""
    rows, files = segments(number, draw, text), -(-number // ROWS_PER_FILE)
    for i in range(files):
        write_jsonl(folder / SEGMENTS.format(i=i, n=files, suffix="jsonl"), itertools.islice(rows, ROWS_PER_FILE))
    outputs = {"segments": segments_sha256(folder)}
    return Stage(folder, {"counts": {"in": number, "out": number}, "outputs": outputs})


def segments(number: int, draw: random.Random, text: str) -> Iterator[dict]:
    """Rows of segments in the order of their ids, which are drawn."""
    for name in np.sort(np.random.default_rng(0).choice(1 << 40, number, replace=False)).tolist():
        url = f"https://www.site{name % 9973}.org/page/{name}"
        body = section(draw, text, SHORTEST, LONGEST)
        yield {"id": f"{name:020x}", "url": url, "header": section(draw, text, 10, 60), "text": body}


def reset_peak() -> None:
    """Begins a new peak of this process's memory, where the kernel allows it (Linux)."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        print(f"peaks are those since the start: {error}", file=sys.stderr)


def peak_gib() -> float:
    """Largest resident memory since the last `reset_peak`."""
    status = pathlib.Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) * 1024 / GIB, 3)


if __name__ == "__main__":
    main()
