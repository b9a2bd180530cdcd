"""The offline engine: requests in, completions out, through slots that are refilled as rows end.

A request's text depends on its own prompt, seed and id, and on the compiled shapes; never on its neighbours, on its
slot, or on the order of requests.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from humpback_jax.inference.compiled import Programs
from humpback_jax.inference.decode import Prefix, compute_prefix
from humpback_jax.inference.layouts import lay_out_for_decode
from humpback_jax.inference.likelihood import answer_log_likelihoods, candidate_log_probs
from humpback_jax.inference.requests import CPU_PREFILL_TOKENS, Completion, EngineConfig, Probe, Request
from humpback_jax.inference.slot_programs import SlotPrograms
from humpback_jax.inference.slots import Finished, SlotStats, run_slots
from humpback_jax.models.dtypes import CACHE, dtype_of
from humpback_jax.models.llama import Llama, abstract_params, logical_specs, unstack_layers
from humpback_jax.partitioning import (
    LogicalAxisRules,
    MeshShape,
    batch_sharding,
    make_mesh,
    put_global,
    shardings,
    use_mesh,
)

ReportProgress = Callable[[int], None]
LOGITS_CHUNK = 256  # answer tokens whose logits exist at once


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


class Engine:
    """Generation and scoring with one copy of a model on a group of devices."""

    def __init__(
        self,
        model: Llama,
        load_params: Callable[[dict], dict],
        config: EngineConfig,
        rules: LogicalAxisRules | None = None,
        devices: Sequence[jax.Device] | None = None,
        transform_params: Callable[[dict], dict] | None = None,
    ) -> None:
        """Loads the weights.

        Args:
          model: the decoder; its parameters on disk are stacked.
          load_params: called with the shardings of the stacked parameters, returns them placed accordingly.
          config: shapes of the programs.
          rules: logical axis rules.
          devices: that the engine has (default: the first `tensor_parallelism` of this host); where they are more than
            one copy of the weights needs, rows are dealt over the copies. With devices of several hosts, every host
            makes the same calls.
          transform_params: applied to the parameters after they are split by layer, for example to quantize them.
        """
        self.rules = rules or LogicalAxisRules()
        devices = jax.local_devices()[: config.tensor_parallelism] if devices is None else devices
        self.mesh = make_mesh(MeshShape(data=-1, fsdp=1, tensor=config.tensor_parallelism), devices)
        self.copies = self.mesh.shape["data"]
        if config.slots % self.copies:
            raise ValueError(
                f"EngineConfig.slots is {config.slots}, which {self.copies} copies of the weights cannot share "
                "equally; choose a multiple"
            )
        device = self.mesh.devices.flat[0]
        where = dict(platform=device.platform, device_kind=device.device_kind)
        self.model, on_cpu = dataclasses.replace(model, scan_layers=False, **where), device.platform == "cpu"
        if on_cpu and config.prefill_tokens is None:
            config = dataclasses.replace(config, prefill_tokens=CPU_PREFILL_TOKENS)
        self.config = config
        # CPU compilers widen a whole bfloat16 cache to float32 when tokens are written into it.
        default_dtype = jnp.float32 if on_cpu else model.dtype
        self.cache_dtype = dtype_of(config.kv_dtype, CACHE) if config.kv_dtype else default_dtype
        self.overlap = not on_cpu if config.overlap is None else config.overlap
        self.decode_steps = config.steps_per_chunk(self.overlap)
        self.stats = SlotStats(config.slots)
        stacked = dataclasses.replace(model, scan_layers=True)
        placed = shardings(self.mesh, self.rules, logical_specs(stacked), abstract_params(stacked))
        transform = transform_params or (lambda params: params)
        on_tpu, rows = device.platform == "tpu", config.slots // self.copies
        lay_out = functools.partial(lay_out_for_decode, rows=rows) if on_tpu else lambda params: params
        # No name here for what is loaded: each step releases an array as soon as it has made the next one of it.
        self.params = lay_out(transform(unstack_layers(load_params(placed), model.config.num_layers)))
        self.job_prefix_ids: tuple[int, ...] | None = None
        self.programs = Programs(self.mesh, self.rules)
        self._prefixes: dict[tuple[int, ...], Prefix] = {}

    def compile_generation(
        self,
        prompt_lengths: Sequence[int],
        stop_ids: Sequence[int],
        probe_width: int | None = None,
        prefix_ids: Sequence[int] | None = None,
    ) -> None:
        """Compiles all programs that `generate` will run for prompts of these lengths.

        Args:
          prompt_lengths: tokens of the job's prompts, the shared prefix counted.
          stop_ids: as for `generate`.
          probe_width: candidates of a probe, if completions are probed.
          prefix_ids: as for `generate`; default: `job_prefix_ids`, or none.
        """
        prefix_ids = self.job_prefix_ids or () if prefix_ids is None else prefix_ids
        SlotPrograms(self, stop_ids, prefix_ids).compile(self._buckets(prompt_lengths, len(prefix_ids)), probe_width)

    def compile_scoring(self, prompt_lengths: Sequence[int], width: int, prefix_ids: Sequence[int] = ()) -> None:
        """Compiles all programs that `candidate_log_probs` will run; `width` candidates per prompt, else as above."""
        prefix_ids = prefix_ids or self.job_prefix_ids or ()
        for bucket in self._buckets(prompt_lengths, len(prefix_ids)):
            size = self.rows(self.config.scored_rows(bucket))
            batch = _Batch(np.zeros((size, bucket), np.int32), np.ones(size, np.int32), [])
            self.programs.compile(*self._scoring(batch, np.zeros((size, width), np.int32), self.prefix(prefix_ids)))

    def generate(
        self,
        requests: Sequence[Request],
        seed: int,
        stop_ids: Sequence[int],
        progress: ReportProgress | None = None,
        probe: Callable[[Completion], Probe | None] | None = None,
        prefix_ids: Sequence[int] | None = None,
    ) -> list[Completion]:
        """Completes every request, in the order given.

        Args:
          requests: prompts; the order does not change what is written.
          seed: of the draws.
          stop_ids: tokens that end a completion.
          progress: called with the number of requests that were just finished.
          probe: looks at each completion; the answer to its question comes from the cache that wrote the completion,
            at the cost of one short step, and stands in `probe_log_probs`.
          prefix_ids: what all prompts begin with; a job that is cut into parts gives it, here or once for all calls as
            `job_prefix_ids`, so that all parts compute the same. Default: found here.

        Raises:
          ValueError: duplicate ids, an empty prompt, a prompt longer than the largest bucket, or a limit above the
            engine's (the id is named).
          FloatingPointError: the model produced a logit that is not a number (the id is named).
        """
        _check_unique([request.id for request in requests])
        for request in requests:
            if not 1 <= request.max_new_tokens <= self.config.max_new_tokens:
                raise ValueError(
                    f"request {request.id!r} asks for {request.max_new_tokens} new tokens; the engine has room for "
                    f"1 to {self.config.max_new_tokens} (EngineConfig.max_new_tokens)"
                )
        for request in requests:
            self._check_prompt(request.id, len(request.prompt_ids))
        prefix_ids = self._prefix_ids([request.prompt_ids for request in requests], prefix_ids)
        # One order for the same requests however they were given: what enters when decides shapes.
        bucket = lambda request: self._bucket(len(request.prompt_ids) - len(prefix_ids))  # noqa: E731
        ordered = sorted(requests, key=lambda request: (bucket(request), request.id))
        run = SlotPrograms(self, stop_ids, prefix_ids)
        run.begin(ordered, seed)
        completions: dict[str, Completion] = {}

        def on_finished(finished: Sequence[Finished]) -> None:
            for completion in run.completions(finished, probe):
                completions[completion.id] = completion
            if progress is not None:
                progress(len(finished))

        lengths = [len(request.prompt_ids) - len(prefix_ids) for request in ordered]
        buckets = [bucket(request) for request in ordered]
        run_slots(run, buckets, lengths, self.config.slots, self.overlap, on_finished, self.stats)
        return [completions[request.id] for request in requests]

    def candidate_log_probs(
        self,
        prompts: Sequence[tuple[str, Sequence[int]]],
        candidates: Sequence[Sequence[int]],
        progress: ReportProgress | None = None,
        prefix_ids: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Log-probabilities of candidate next tokens: (id, prompt ids) and ids [n, c] to float32 [n, c]."""
        width = len(candidates[0]) if candidates else 0
        result = np.zeros((len(prompts), width), np.float32)
        prefix_ids = self._prefix_ids([ids for _, ids in prompts], prefix_ids)
        prefix = self.prefix(prefix_ids)

        def score(batch: _Batch) -> jax.Array:
            rows = np.zeros((len(batch.lengths), width), np.int32)
            rows[: len(batch.indices)] = np.asarray([candidates[i] for i in batch.indices], np.int32)
            name, function, static, arguments = self._scoring(batch, rows, prefix)
            return self.programs.run(name, function, static, **arguments)

        for batch, values in self._scored(prompts, len(prefix_ids), score, progress):
            result[batch.indices] = values[: len(batch.indices)]
        return result

    def log_likelihoods(
        self, pairs: Sequence[tuple[str, Sequence[int], Sequence[int]]], progress: ReportProgress | None = None
    ) -> np.ndarray:
        """Sum of log-probabilities of each continuation: (id, prompt ids, continuation ids) to float64 [n]."""
        return self._log_likelihoods(pairs, progress, count_misses=False)

    def log_likelihoods_and_misses(
        self, pairs: Sequence[tuple[str, Sequence[int], Sequence[int]]], progress: ReportProgress | None = None
    ) -> np.ndarray:
        """As `log_likelihoods`, float64 [n, 2]: with the number of tokens that greedy decoding would not write."""
        return self._log_likelihoods(pairs, progress, count_misses=True)

    def _log_likelihoods(
        self,
        pairs: Sequence[tuple[str, Sequence[int], Sequence[int]]],
        progress: ReportProgress | None,
        count_misses: bool,
    ) -> np.ndarray:
        result = np.zeros((len(pairs), 2) if count_misses else len(pairs), np.float64)
        prefix_ids = self._prefix_ids([prompt for _, prompt, _ in pairs], None)
        prefix = self.prefix(prefix_ids)

        def score(batch: _Batch) -> jax.Array:
            starts, lengths = np.ones_like(batch.lengths), np.zeros_like(batch.lengths)
            for row, i in enumerate(batch.indices):
                starts[row], lengths[row] = len(pairs[i][1]) - len(prefix_ids), len(pairs[i][2])
            arrays = {"tokens": batch.tokens, "starts": starts, "lengths": lengths}
            arguments = {"params": self.params, "prefix": prefix} | {k: self.put(v) for k, v in arrays.items()}
            name = ("log likelihood", batch.tokens.shape[1], len(prefix_ids), count_misses)
            static = {"model": self.model, "chunk": LOGITS_CHUNK, "count_misses": count_misses}
            return self.programs.run(name, answer_log_likelihoods, static, **arguments)

        prompts = [(name, (*prompt, *answer)) for name, prompt, answer in pairs]
        for batch, values in self._scored(prompts, len(prefix_ids), score, progress):
            result[batch.indices] = values[: len(batch.indices)]
        return result

    def prefix(self, ids: Sequence[int]) -> Prefix:
        """Keys and values of a shared head, computed once per engine."""
        key = tuple(ids)
        if not key:
            return ()
        if key not in self._prefixes:
            dtype = self.model.dtype if self.cache_dtype == jnp.int8 else self.cache_dtype
            with use_mesh(self.mesh, self.rules):
                tokens = self.put(np.asarray(key, np.int32))
                self._prefixes[key] = compute_prefix(self.model, self.params, tokens, dtype)
        return self._prefixes[key]

    def _scored(
        self,
        prompts: Sequence[tuple[str, Sequence[int]]],
        prefix_length: int,
        score: Callable[["_Batch"], jax.Array],
        progress: ReportProgress | None,
    ) -> Iterator[tuple["_Batch", np.ndarray]]:
        """Batches and what `score` says of them; a batch is dispatched before the one before it is read."""
        last: tuple[_Batch, jax.Array] | None = None
        for batch in [*self._batches(prompts, prefix_length), None]:
            if batch is not None:
                current = batch, score(batch)
                self.stats.prompt_tokens += int(batch.lengths[: len(batch.indices)].sum())
                self.stats.prefill_tokens += batch.tokens.size
            if last is not None:
                yield last[0], np.asarray(last[1])
                if progress is not None:
                    progress(len(last[0].indices))
            last = current if batch is not None else None

    def _batches(self, prompts: Sequence[tuple[str, Sequence[int]]], prefix_length: int) -> Iterator["_Batch"]:
        """Batches of equal bucket; empty rows hold one padding token."""
        by_bucket: dict[int, list[int]] = {}
        for i, (name, ids) in enumerate(prompts):
            self._check_prompt(name, len(ids))
            by_bucket.setdefault(self._bucket(len(ids) - prefix_length), []).append(i)
        for bucket, members in sorted(by_bucket.items()):
            size = self.rows(self.config.scored_rows(bucket))
            for start in range(0, len(members), size):
                indices = members[start : start + size]
                tokens, lengths = np.zeros((size, bucket), np.int32), np.ones(size, np.int32)
                for row, i in enumerate(indices):
                    ids = prompts[i][1][prefix_length:]
                    tokens[row, : len(ids)], lengths[row] = ids, len(ids)
                yield _Batch(tokens, lengths, indices)

    def _prefix_ids(self, prompts: Sequence[Sequence[int]], given: Sequence[int] | None) -> tuple[int, ...]:
        if not self.config.share_prefix:
            return ()
        given = self.job_prefix_ids if given is None else given
        if given is None:
            return shared_prefix([tuple(ids) for ids in prompts])
        prefix = tuple(given)
        if any(tuple(ids[: len(prefix)]) != prefix or len(ids) == len(prefix) for ids in prompts):
            raise ValueError(f"a prompt does not begin with the {len(prefix)} shared tokens, or holds nothing else")
        return prefix

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

    def _scoring(self, batch: "_Batch", candidates: np.ndarray, prefix: Prefix) -> tuple[tuple, Any, dict, dict]:
        """The scoring program of a batch: name, function, static and other arguments."""
        arrays = {"tokens": batch.tokens, "lengths": batch.lengths, "candidates": candidates}
        arguments = {"params": self.params, "prefix": prefix} | {k: self.put(v) for k, v in arrays.items()}
        name = ("score", batch.tokens.shape[1], candidates.shape[1], prefix[0].length if prefix else 0)
        return name, candidate_log_probs, {"model": self.model}, arguments

    def _bucket(self, length: int) -> int:
        return next(bucket for bucket in self.config.prompt_buckets if length <= bucket)

    def rows(self, count: int) -> int:
        """Rows of a call for `count` prompts: every copy of the weights has the same number of them."""
        return -(-count // self.copies) * self.copies

    def put(self, array: np.ndarray) -> jax.Array:
        """A host array on the devices of this engine, replicated."""
        return put_global(array, batch_sharding(self.mesh, self.rules, (None,) * array.ndim))


@dataclasses.dataclass(frozen=True)
class _Batch:
    tokens: np.ndarray  # int32 [rows, bucket]
    lengths: np.ndarray  # int32 [rows]
    indices: list[int]  # of the prompts in the first rows


def _check_unique(ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise ValueError(f"two requests have the id {name!r}; ids decide the random draws and must be unique")
        seen.add(name)
