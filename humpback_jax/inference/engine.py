"""The offline engine: requests in, completions out, through slots that are refilled as rows end.

A request's text depends on its own prompt, seed and id, and on the compiled shapes; never on its neighbours, on its
slot, or on the order of requests.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from humpback_jax.inference.compiled import Call, Program
from humpback_jax.inference.likelihood import (
    answer_log_likelihoods,
    branch_log_probs,
    candidate_log_probs,
    span_log_likelihoods,
)
from humpback_jax.inference.loaded import LoadedModel
from humpback_jax.inference.requests import Branch, Completion, Probe, Reading, Request
from humpback_jax.inference.slot_programs import SlotPrograms
from humpback_jax.inference.slots import Finished, Prompt, Slots

PromptIds = Sequence[tuple[str, Sequence[int]]]  # id and token ids
ReportProgress = Callable[[int], None]
LOGITS_CHUNK = 256  # answer tokens whose logits exist at once
SPAN_CHUNK = 64  # the same of short readings, of whose batches fewer tokens are asked about
# Lengths that short readings are padded to, finer than those of prompts, which longer ones take. On an accelerator
# padding costs less than a program.
CPU_SPAN_BUCKETS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256)
SPAN_BUCKETS = (32, 64, 96, 128, 192, 256)
CPU_SPAN_TOKENS = 256  # of one call, most of which would be padding where few readings have a length


def shared_prefix(prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """What all prompts begin with; at least one token of every prompt is left."""
    if not prompts:
        return ()
    first, last = min(prompts), max(prompts)
    length = 0
    for a, b in zip(first, last, strict=False):
        if a != b:
            break
        length += 1
    return first[: min(length, min(map(len, prompts)) - 1)]


class Engine(LoadedModel):
    """Generation and scoring with a loaded model.

    Attributes:
      job_prefix_ids: what all prompts begin with, set by a job that is cut into parts, so that all parts compute the
        same; None: every call looks for itself.
    """

    job_prefix_ids: tuple[int, ...] | None = None

    def compile_generation(
        self, prompt_lengths: Sequence[int], stop_ids: Sequence[int], probe_width: int | None = None
    ) -> None:
        """Compiles all programs that `generate` will run for prompts of these lengths.

        Args:
          prompt_lengths: tokens of the job's prompts, the shared prefix counted.
          stop_ids: as for `generate`.
          probe_width: candidates of a probe, if completions are probed.
        """
        prefix_ids = self._prefix_ids(()) if self.job_prefix_ids else ()
        SlotPrograms(self, stop_ids, prefix_ids).compile(self._buckets(prompt_lengths, len(prefix_ids)), probe_width)

    def compile_scoring(self, prompt_lengths: Sequence[int], width: int) -> None:
        """Compiles all programs that `candidate_log_probs` will run; `width` candidates per prompt, else as above."""
        self._compile_prompts(prompt_lengths, _Candidates(np.zeros((0, width), np.int32)))

    def compile_branches(self, prompt_lengths: Sequence[int], branches: Sequence[Branch]) -> None:
        """Compiles all programs that `branch_log_probs` will run for prompts of these lengths."""
        self._compile_prompts(prompt_lengths, _Branches(branches))

    def _compile_prompts(self, prompt_lengths: Sequence[int], wanted: "_Candidates | _Branches") -> None:
        prefix_ids = self._prefix_ids(()) if self.job_prefix_ids else ()
        for bucket in self._buckets(prompt_lengths, len(prefix_ids)):
            size = self.rows(self.config.scored_rows(bucket))
            batch = _Batch(np.zeros((size, bucket), np.int32), np.ones(size, np.int32), [])
            self.programs.compile(*self._scoring(wanted, batch, prefix_ids))

    def generate(
        self,
        requests: Sequence[Request],
        seed: int,
        stop_ids: Sequence[int],
        progress: ReportProgress | None = None,
        probe: Callable[[Completion], Probe | None] | None = None,
    ) -> list[Completion]:
        """Completes every request, in the order given.

        Args:
          requests: prompts; the order does not change what is written.
          seed: of the draws.
          stop_ids: tokens that end a completion.
          progress: called with the number of requests that were just finished.
          probe: looks at each completion; the answer to its question comes from the cache that wrote the completion,
            at the cost of one short step, and stands in `probe_log_probs`.

        Raises:
          ValueError: duplicate ids, an empty prompt, a prompt longer than the largest bucket, or a limit above the
            engine's (the id is named).
          FloatingPointError: the model produced a logit that is not a number (the id is named).
        """
        self._check_requests(requests)
        prefix_ids = self._prefix_ids([request.prompt_ids for request in requests])
        lengths = {request.id: len(request.prompt_ids) - len(prefix_ids) for request in requests}
        prompts = {name: Prompt(self._bucket(length), length) for name, length in lengths.items()}
        # One order for the same requests however they were given: what enters when decides shapes.
        ordered = sorted(requests, key=lambda request: (prompts[request.id].bucket, request.id))
        programs = SlotPrograms(self, stop_ids, prefix_ids, ordered, seed)
        slots = Slots(programs, [prompts[request.id] for request in ordered], self.stats, self.overlap)
        completions: dict[str, Completion] = {}
        for finished in slots.run():
            completions |= {completion.id: completion for completion in programs.completions(finished, probe)}
            if progress is not None:
                progress(len(finished))
        return [completions[request.id] for request in requests]

    def stream(self, request: Request, seed: int, stop_ids: Sequence[int]) -> Iterator[Completion]:
        """Completes one request, in a slot as `generate` does, and yields what it holds after every chunk of steps.

        Every completion but the last is `truncated`: that is what it is where nobody asks for the next one. Arguments
        and errors are those of `generate`.
        """
        self._check_requests([request])
        programs = SlotPrograms(self, stop_ids, (), [request], seed)
        programs.insert(self._bucket(len(request.prompt_ids)), [(0, 0)])
        done = False
        while not done:
            report = programs.read(programs.decode(self.config.slots))
            ids, done = tuple(report.output[0, : report.counts[0]].tolist()), bool(report.done[0])
            finished = Finished(0, 0, ids, bool(report.stopped[0]), bool(report.finite[0]))
            yield from programs.completions([finished], None)

    def candidate_log_probs(
        self, prompts: PromptIds, candidates: Sequence[Sequence[int]], progress: ReportProgress | None = None
    ) -> np.ndarray:
        """Log-probabilities of candidate next tokens: (id, prompt ids) and ids [n, c] to float32 [n, c]."""
        width = len(candidates[0]) if candidates else 0
        wanted = _Candidates(np.asarray(candidates, np.int32).reshape(len(prompts), width))
        prefix_ids = self._prefix_ids([ids for _, ids in prompts])
        return self._score(wanted, prompts, prefix_ids, progress)

    def branch_log_probs(
        self, prompts: PromptIds, branches: Sequence[Branch], progress: ReportProgress | None = None
    ) -> np.ndarray:
        """Several questions about every prompt, which is read once: float32 [n, branches, c].

        Args:
          prompts: (id, prompt ids).
          branches: what follows a prompt in each, at least a token, and what may come then, as much in all.
          progress: called with the number of prompts that were just finished.
        """
        prefix_ids = self._prefix_ids([ids for _, ids in prompts])
        return self._score(_Branches(branches), prompts, prefix_ids, progress)

    def log_likelihoods(
        self,
        pairs: Sequence[tuple[str, Sequence[int], Sequence[int]]],
        progress: ReportProgress | None = None,
        count_misses: bool = False,
    ) -> np.ndarray:
        """Sum of log-probabilities of each continuation: (id, prompt ids, continuation ids) to float64 [n].

        With `count_misses` float64 [n, 2]: beside the sum the number of tokens that greedy decoding would not write.
        """
        prefix_ids = self._prefix_ids([prompt for _, prompt, _ in pairs])
        starts = np.asarray([len(prompt) - len(prefix_ids) for _, prompt, _ in pairs], np.int32)
        wanted = _Answers(starts, np.asarray([len(answer) for *_, answer in pairs], np.int32), count_misses)
        prompts = [(name, (*prompt, *answer)) for name, prompt, answer in pairs]
        return self._score(wanted, prompts, prefix_ids, progress).astype(np.float64)

    def read_spans(
        self,
        readings: Sequence[Reading],
        prefix_ids: Sequence[int] = (),
        progress: ReportProgress | None = None,
        mean_hidden: bool = False,
    ) -> np.ndarray:
        """What each reading asks: float32 [n, s + c], the log-likelihoods of its spans, then of its candidates.

        With `mean_hidden` float32 [n, s + c + emb_dim]: then the mean of the final hidden states after the prefix.

        Args:
          readings: all with the same number of spans and of candidates.
          prefix_ids: what all of them begin with, computed once; no span begins in it or right after it.
          progress: called with the number of readings that were just finished.

        Raises:
          ValueError: a reading does not begin with the prefix, or a span begins too early.
        """
        shared = tuple(prefix_ids) if self.config.share_prefix else ()
        for reading in readings:
            early = any(start <= len(shared) for start, _ in reading.spans)
            if reading.token_ids[: len(shared)] != shared or early:
                raise ValueError(
                    f"reading {reading.id!r} does not begin with the {len(shared)} shared tokens, or asks "
                    "for the likelihood of what stands in them"
                )
        wanted = _Spans(readings, len(shared), self.model.config.emb_dim if mean_hidden else 0)
        return self._score(wanted, [(reading.id, reading.token_ids) for reading in readings], shared, progress)

    def _score(
        self,
        wanted: "_Wanted",
        prompts: PromptIds,
        prefix_ids: tuple[int, ...],
        progress: ReportProgress | None,
    ) -> np.ndarray:
        """float32, a row per prompt; a batch is dispatched before the one before it is read."""
        result = np.zeros((len(prompts), *wanted.row_shape), np.float32)
        under_way: collections.deque[tuple[_Batch, jax.Array]] = collections.deque()
        for batch in [*self._batches(prompts, len(prefix_ids), wanted.short), None]:
            if batch is not None:
                under_way.append((batch, self.programs.run(*self._scoring(wanted, batch, prefix_ids))))
                self.stats.prompt_tokens += int(batch.lengths[: len(batch.indices)].sum())
                self.stats.prefill_tokens += batch.tokens.size
            if len(under_way) > 1 or (batch is None and under_way):
                done, values = under_way.popleft()
                result[done.indices] = np.asarray(values)[: len(done.indices)]
                if progress is not None:
                    progress(len(done.indices))
        return result

    def _batches(self, prompts: PromptIds, prefix_length: int, short: bool) -> Iterator["_Batch"]:
        """Batches of equal bucket; empty rows hold one padding token."""
        by_bucket: dict[int, list[int]] = {}
        for i, (name, ids) in enumerate(prompts):
            self._check_prompt(name, len(ids))
            by_bucket.setdefault(self._bucket(len(ids) - prefix_length, short), []).append(i)
        for bucket, members in sorted(by_bucket.items()):
            size = self.config.scored_rows(bucket)
            if short and self.on_cpu:
                size = max(1, min(size, CPU_SPAN_TOKENS // bucket))
            size = self.rows(size)
            for start in range(0, len(members), size):
                indices = members[start : start + size]
                tokens, lengths = np.zeros((size, bucket), np.int32), np.ones(size, np.int32)
                for row, i in enumerate(indices):
                    ids = prompts[i][1][prefix_length:]
                    tokens[row, : len(ids)], lengths[row] = ids, len(ids)
                yield _Batch(tokens, lengths, indices)

    def _prefix_ids(self, prompts: Sequence[Sequence[int]]) -> tuple[int, ...]:
        if not self.config.share_prefix:
            return ()
        scaling = self.model.config.rope_scaling
        if scaling is not None and scaling.depends_on_length:
            return ()  # a head turns otherwise in a longer prompt
        prefix = self.job_prefix_ids
        if prefix is None:
            return shared_prefix([tuple(ids) for ids in prompts])
        if any(tuple(ids[: len(prefix)]) != prefix or len(ids) == len(prefix) for ids in prompts):
            raise ValueError(f"a prompt does not begin with the {len(prefix)} shared tokens, or holds nothing else")
        return prefix

    def _check_requests(self, requests: Sequence[Request]) -> None:
        names: set[str] = set()
        for request in requests:
            if request.id in names:
                raise ValueError(
                    f"two requests have the id {request.id!r}; ids decide the random draws and must be unique"
                )
            names.add(request.id)
            if not 1 <= request.max_new_tokens <= self.config.max_new_tokens:
                raise ValueError(
                    f"request {request.id!r} asks for {request.max_new_tokens} new tokens; the engine has room for "
                    f"1 to {self.config.max_new_tokens} (EngineConfig.max_new_tokens)"
                )
            self._check_prompt(request.id, len(request.prompt_ids))

    def _check_prompt(self, name: str, length: int) -> None:
        if length == 0:
            raise ValueError(f"request {name!r} has an empty prompt; every prompt needs at least one token")
        if length > self.config.max_prompt_length:
            raise ValueError(
                f"request {name!r} has a prompt of {length} tokens, but the longest bucket holds "
                f"{self.config.max_prompt_length}; raise EngineConfig.prompt_buckets or drop the request"
            )

    def _buckets(self, prompt_lengths: Sequence[int], prefix_length: int) -> list[int]:
        """Buckets that these prompts use, ascending; too long ones are left for `generate` to refuse."""
        rest = {length - prefix_length for length in prompt_lengths if length <= self.config.max_prompt_length}
        return sorted({self._bucket(length) for length in rest})

    def _scoring(self, wanted: "_Wanted", batch: "_Batch", prefix_ids: tuple[int, ...]) -> Call:
        """The call that answers a batch."""
        kind, *shapes = wanted.name
        name = (kind, batch.tokens.shape[1], len(prefix_ids), *shapes)
        program = Program(name, wanted.function, {"model": self.model} | wanted.static)
        arrays = {"tokens": batch.tokens} | wanted.arrays(batch)
        placed = {key: self.put(array) for key, array in arrays.items()}
        return program, {"params": self.params, "prefix": self.prefix(prefix_ids)} | placed

    def _bucket(self, length: int, short: bool = False) -> int:
        """What so many tokens are padded to, as a prompt or as a short reading."""
        finer = () if not short else CPU_SPAN_BUCKETS if self.on_cpu else SPAN_BUCKETS
        return min(
            next(bucket for bucket in buckets if length <= bucket)
            for buckets in (self.config.prompt_buckets, finer)
            if buckets and length <= buckets[-1]
        )


@dataclasses.dataclass(frozen=True)
class _Batch:
    tokens: np.ndarray  # int32 [rows, bucket]
    lengths: np.ndarray  # int32 [rows]
    indices: list[int]  # of the prompts in the first rows


@dataclasses.dataclass(frozen=True)
class _Candidates:
    """What may come next, int32 [prompts, n]."""

    ids: np.ndarray
    short: ClassVar[bool] = False
    function: ClassVar[Any] = candidate_log_probs
    static: ClassVar[dict[str, Any]] = {}

    @property
    def name(self) -> tuple:
        return ("score", self.ids.shape[1])

    @property
    def row_shape(self) -> tuple[int, ...]:
        return self.ids.shape[1:]

    def arrays(self, batch: _Batch) -> dict[str, np.ndarray]:
        candidates = np.zeros((len(batch.lengths), self.ids.shape[1]), np.int32)
        candidates[: len(batch.indices)] = self.ids[batch.indices]
        return {"lengths": batch.lengths, "candidates": candidates}


@dataclasses.dataclass(frozen=True)
class _Answers:
    """Where the answer of every prompt begins and how long it is, int32 [prompts] each."""

    starts: np.ndarray
    lengths: np.ndarray
    count_misses: bool
    short: ClassVar[bool] = False
    function: ClassVar[Any] = answer_log_likelihoods

    @property
    def static(self) -> dict[str, Any]:
        return {"chunk": LOGITS_CHUNK, "count_misses": self.count_misses}

    @property
    def name(self) -> tuple:
        return ("log likelihood", self.count_misses)

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (2,) if self.count_misses else ()

    def arrays(self, batch: _Batch) -> dict[str, np.ndarray]:
        starts, lengths = np.ones_like(batch.lengths), np.zeros_like(batch.lengths)
        filled = len(batch.indices)
        starts[:filled], lengths[:filled] = self.starts[batch.indices], self.lengths[batch.indices]
        return {"starts": starts, "lengths": lengths}


class _Branches:
    """What is asked after every prompt alike."""

    short: ClassVar[bool] = False
    function: ClassVar[Any] = branch_log_probs
    static: ClassVar[dict[str, Any]] = {}

    def __init__(self, branches: Sequence[Branch]) -> None:
        longest = max(len(branch.forced_ids) for branch in branches)
        self._forced = np.zeros((len(branches), longest), np.int32)
        for row, branch in zip(self._forced, branches, strict=True):
            row[: len(branch.forced_ids)] = branch.forced_ids
        self._lengths = np.asarray([len(branch.forced_ids) for branch in branches], np.int32)
        self._candidates = np.asarray([branch.candidate_ids for branch in branches], np.int32)

    @property
    def name(self) -> tuple:
        return ("branches", *self._forced.shape, self._candidates.shape[1])

    @property
    def row_shape(self) -> tuple[int, ...]:
        return self._candidates.shape

    def arrays(self, batch: _Batch) -> dict[str, np.ndarray]:
        questions = {"forced": self._forced, "forced_lengths": self._lengths, "candidates": self._candidates}
        return {"lengths": batch.lengths} | questions


class _Spans:
    """The spans and candidates of readings that share a prefix of some length."""

    short: ClassVar[bool] = True
    function: ClassVar[Any] = span_log_likelihoods

    def __init__(self, readings: Sequence[Reading], prefix_length: int, width: int) -> None:
        """`width`: of the hidden states whose mean is wanted, or 0."""
        self._width = width
        spans = np.asarray([reading.spans for reading in readings], np.int32).reshape(len(readings), -1, 2)
        self.starts, self.lengths = spans[..., 0] - prefix_length, spans[..., 1]
        self.candidates = np.asarray([reading.candidate_ids for reading in readings], np.int32)

    @property
    def name(self) -> tuple:
        return ("spans", self.starts.shape[1], self.candidates.shape[1], self._width)

    @property
    def static(self) -> dict[str, Any]:
        return {"chunk": SPAN_CHUNK, "mean_hidden": self._width > 0}

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (self.starts.shape[1] + self.candidates.shape[1] + self._width,)

    def arrays(self, batch: _Batch) -> dict[str, np.ndarray]:
        rows, filled = len(batch.lengths), len(batch.indices)
        starts = np.ones((rows, self.starts.shape[1]), np.int32)
        lengths, candidates = np.zeros_like(starts), np.zeros((rows, self.candidates.shape[1]), np.int32)
        starts[:filled], lengths[:filled] = self.starts[batch.indices], self.lengths[batch.indices]
        candidates[:filled] = self.candidates[batch.indices]
        return {"starts": starts, "lengths": lengths, "ends": batch.lengths, "candidates": candidates}


_Wanted = _Candidates | _Answers | _Branches | _Spans
