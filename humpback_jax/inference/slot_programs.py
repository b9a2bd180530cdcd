"""The slot programs of an engine, fed with requests: host arrays in, device state kept, reports out."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from humpback_jax.inference.decode import (
    ChunkReport,
    RowSettings,
    SlotState,
    decode_chunk,
    grow_slots,
    init_slots,
    prefill_into_slots,
    probe_slots,
)
from humpback_jax.inference.requests import PROBE_ROOM, PROBE_ROWS, Completion, Probe, Request
from humpback_jax.inference.sampling import request_number
from humpback_jax.inference.slots import Finished
from humpback_jax.partitioning import use_mesh

if TYPE_CHECKING:
    from humpback_jax.inference.engine import Engine


class SlotPrograms:
    """The programs of one call of `Engine.generate`: holds the device state; `run_slots` decides what is dispatched."""

    def __init__(
        self,
        engine: "Engine",
        requests: Sequence[Request],
        buckets: Sequence[int],
        seed: int,
        stop_ids: Sequence[int],
        prefix_ids: Sequence[int],
    ) -> None:
        self.engine, self.requests, self.buckets = engine, requests, buckets
        self.prefix_ids, self.prefix = prefix_ids, engine.prefix(prefix_ids)
        self.stop_ids = engine.put(np.asarray(stop_ids, np.int32))
        self.seed = engine.put(np.asarray(seed, np.uint32))
        self.state: SlotState | None = None

    def group_size(self, bucket: int) -> int:
        """Rows of one prefill call."""
        return self.engine.config.group_size(bucket)

    def insert(self, bucket: int, members: Sequence[tuple[int, int]]) -> None:
        """Prefills (slot, request index) pairs of one bucket; the slots are made or grown first where needed."""
        engine, size = self.engine, self.group_size(bucket)
        tokens, lengths = np.zeros((size, bucket), np.int32), np.ones(size, np.int32)
        slots = np.full(size, engine.config.slots, np.int32)  # out of range: dropped
        for row, (slot, index) in enumerate(members):
            ids = self.requests[index].prompt_ids[len(self.prefix_ids) :]
            tokens[row, : len(ids)], lengths[row], slots[row] = ids, len(ids), slot
        arrays = (engine.put(tokens), engine.put(lengths), engine.put(slots))
        settings = self._settings([index for _, index in members], size)
        with use_mesh(engine.mesh, engine.rules):
            self.state = prefill_into_slots(
                engine.model, engine.params, self.prefix, self._state_for(bucket), *arrays, settings, self.stop_ids
            )

    def decode(self, exit_at: int) -> ChunkReport:
        """Dispatches one chunk of steps, and the copy of its report to the host."""
        engine = self.engine
        with use_mesh(engine.mesh, engine.rules):
            self.state, report = decode_chunk(
                engine.model,
                engine.params,
                self.prefix,
                self.state,
                self.stop_ids,
                engine.put(np.asarray(exit_at, np.int32)),
                engine.decode_steps,
            )
        for array in report:
            array.copy_to_host_async()
        return report

    def read(self, report: ChunkReport) -> Any:
        """The report's arrays on the host; waits for the chunk."""
        return jax.device_get(report)

    def completions(
        self, finished: Sequence[Finished], probe: Callable[[Completion], Probe | None] | None
    ) -> list[Completion]:
        """What was written, with the answers to probes; called before the slots are used again."""
        completions, asked = [], []
        for row, one in enumerate(finished):
            request = self.requests[one.index]
            if not one.finite:
                raise FloatingPointError(
                    f"request {request.id!r}: the model produced logits that are not numbers; check its weights with "
                    "`humpback weights verify`"
                )
            completions.append(Completion(request.id, one.token_ids, truncated=not one.stopped))
            question = probe(completions[-1]) if probe is not None else None
            if question is not None:
                asked.append((row, question))
        for start in range(0, len(asked), PROBE_ROWS):
            group = asked[start : start + PROBE_ROWS]
            for (row, _), log_probs in zip(group, self._probe(finished, group), strict=False):
                completions[row] = dataclasses.replace(completions[row], probe_log_probs=tuple(log_probs))
        return completions

    def _probe(self, finished: Sequence[Finished], group: Sequence[tuple[int, Probe]]) -> list[list[float]]:
        """Log-probabilities for (row of `finished`, question); the last written token is fed again first."""
        engine = self.engine
        assert self.state is not None
        width = len(group[0][1].candidate_ids)
        tokens, candidates = np.zeros((PROBE_ROWS, PROBE_ROOM), np.int32), np.zeros((PROBE_ROWS, width), np.int32)
        lengths, starts, slots = (np.full(PROBE_ROWS, value, np.int32) for value in (1, 0, 0))
        for i, (row, question) in enumerate(group):
            one = finished[row]
            request = self.requests[one.index]
            written = (*request.prompt_ids, *one.token_ids)
            ids = (written[-1], *question.forced_ids)
            if len(ids) > PROBE_ROOM:
                raise ValueError(
                    f"request {request.id!r}: a probe of {len(question.forced_ids)} tokens; {PROBE_ROOM - 1} fit"
                )
            tokens[i, : len(ids)], lengths[i], slots[i] = ids, len(ids), one.slot
            starts[i] = len(written) - 1 - len(self.prefix_ids)
            candidates[i] = question.candidate_ids
        arrays = (engine.put(x) for x in (slots, tokens, starts, lengths, candidates))
        with use_mesh(engine.mesh, engine.rules):
            values = probe_slots(engine.model, engine.params, self.prefix, self.state.caches, *arrays)
        return np.asarray(values).tolist()

    def _state_for(self, bucket: int) -> SlotState:
        """The slots, made or grown so that prompts of this bucket fit."""
        engine, config = self.engine, self.engine.config
        # A chunk is written as a block: room for it also where a row ends at once.
        length = bucket + config.max_new_tokens + engine.decode_steps
        if self.state is None:
            return init_slots(engine.model, config.slots, length, config.max_new_tokens, engine.cache_dtype)
        if self.state.caches[0].length < length:
            return grow_slots(self.state, length)
        return self.state

    def _settings(self, indices: Sequence[int], size: int) -> RowSettings:
        members = [self.requests[i] for i in indices]
        pad = [0] * (size - len(members))
        column = lambda values, dtype: self.engine.put(np.asarray([*values, *pad], dtype))  # noqa: E731
        return RowSettings(
            request_numbers=column((request_number(r.id) for r in members), np.uint32),
            seed=self.seed,
            temperature=column((r.sampling.temperature for r in members), np.float32),
            top_p=column((r.sampling.top_p for r in members), np.float32),
            max_new_tokens=column((r.max_new_tokens for r in members), np.int32),
        )
