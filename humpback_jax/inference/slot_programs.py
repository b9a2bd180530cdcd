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
    grow_cache,
    init_slots,
    prefill_into_slots,
    probe_slots,
)
from humpback_jax.inference.requests import PROBE_ROOM, PROBE_ROWS, Completion, Probe, Request
from humpback_jax.inference.sampling import request_number
from humpback_jax.inference.slots import Finished

if TYPE_CHECKING:
    from humpback_jax.inference.engine import Engine

CACHE_MULTIPLE = 256  # slots per row of a cache on TPUs


class SlotPrograms:
    """The programs of one call of `Engine.generate`: holds the device state; `run_slots` decides what is dispatched.

    The list is short and known before the first request: a prefill per prompt bucket; and per room (the prompt tokens
    that the caches hold) an init, a chunk of decode steps, the growth of a layer to the next room, a probe where
    there are any.
    """

    def __init__(self, engine: "Engine", stop_ids: Sequence[int], prefix_ids: Sequence[int]) -> None:
        self.engine, self.config = engine, engine.config
        self.prefix_ids, self.prefix = tuple(prefix_ids), engine.prefix(prefix_ids)
        self.stop_ids = engine.put(np.asarray(stop_ids, np.int32))
        self.requests: Sequence[Request] = ()
        self.seed = engine.put(np.asarray(0, np.uint32))
        self.room = 0  # prompt tokens that the state has room for
        self._state: SlotState | None = None

    def begin(self, requests: Sequence[Request], seed: int) -> None:
        """Takes the requests that indices stand for from now on."""
        self.requests, self.seed = requests, self.engine.put(np.asarray(seed, np.uint32))

    def compile(self, buckets: Sequence[int], probe_width: int | None) -> None:
        """Compiles what prompts of these buckets need, and probes with so many candidates if a number is given."""
        compile_one, rooms = self.engine.programs.compile, self._rooms(buckets)
        for room in rooms:
            state = self.engine.programs.outputs(*self._init(room), {})
            for bucket in buckets:
                if self.config.room(bucket) == room:
                    compile_one(*self._prefill(bucket), self._prefill_arguments(state, bucket, ()))
            compile_one(*self._decode(room), self._decode_arguments(state, 0))
            if probe_width is not None:
                compile_one(*self._probe(room, probe_width), self._probe_arguments(state, (), (), probe_width))
            if room < rooms[-1]:
                compile_one(*self._grow(room), {"cache": state.caches[0]})

    def group_size(self, bucket: int) -> int:
        """Rows of one prefill call."""
        return self.engine.rows(self.config.group_size(bucket))

    def insert(self, bucket: int, members: Sequence[tuple[int, int]]) -> None:
        """Prefills (slot, request index) pairs of one bucket; the slots are made or grown first where needed."""
        room, run = self.config.room(bucket), self.engine.programs.run
        if not self.room:
            self.room, self._state = room, run(*self._init(room))
        while self.room < room:
            self._grow_caches()
        arguments = self._prefill_arguments(self.state, bucket, members)
        self._state = run(*self._prefill(bucket), **arguments)

    def _grow_caches(self) -> None:
        """To the next room, layer by layer: of one layer, not of all, there are two copies at a time."""
        (caches, sampling, rows), self._state = self.state, None
        remaining, grown = list(caches), []
        del caches
        while remaining:
            grown.append(self.engine.programs.run(*self._grow(self.room), cache=remaining.pop(0)))
        self._state = SlotState(tuple(grown), sampling, rows)
        self.room = self._next_room(self.room)

    @property
    def state(self) -> SlotState:
        """What the device holds between programs."""
        assert self._state is not None, "no request has been inserted"
        return self._state

    def decode(self, exit_at: int) -> ChunkReport:
        """Dispatches one chunk of steps, and the copy of its report to the host."""
        arguments = self._decode_arguments(self.state, exit_at)
        self._state, report = self.engine.programs.run(*self._decode(self.room), **arguments)
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
            for (row, _), log_probs in zip(group, self._answers(finished, group), strict=False):
                completions[row] = dataclasses.replace(completions[row], probe_log_probs=tuple(log_probs))
        return completions

    def _answers(self, finished: Sequence[Finished], group: Sequence[tuple[int, Probe]]) -> list[list[float]]:
        """Log-probabilities for (row of `finished`, question)."""
        width = len(group[0][1].candidate_ids)
        arguments = self._probe_arguments(self.state, finished, group, width)
        values = self.engine.programs.run(*self._probe(self.room, width), **arguments)
        return np.asarray(values).tolist()

    def _rooms(self, buckets: Sequence[int]) -> list[int]:
        """Rooms that caches of these buckets go through, ascending."""
        rooms = [self.config.room(bucket) for bucket in buckets]
        return [room for room in self.config.rooms if min(rooms) <= room <= max(rooms)] if rooms else []

    def _next_room(self, room: int) -> int:
        return self.config.rooms[self.config.rooms.index(room) + 1]

    # Each program: its name, the jitted function, the static arguments.

    def _program(self, name: tuple, function: Any, **static: Any) -> tuple[tuple, Any, dict[str, Any]]:
        return (*name, len(self.prefix_ids), self.stop_ids.size), function, static

    def _init(self, room: int) -> tuple[tuple, Any, dict[str, Any]]:
        return self._program(
            ("init", room),
            init_slots,
            model=self.engine.model,
            slots=self.config.slots,
            cache_length=self._cache_length(room),
            max_new_tokens=self.config.max_new_tokens,
            cache_dtype=self.engine.cache_dtype,
        )

    def _grow(self, room: int) -> tuple[tuple, Any, dict[str, Any]]:
        return self._program(("grow", room), grow_cache, cache_length=self._cache_length(self._next_room(room)))

    def _prefill(self, bucket: int) -> tuple[tuple, Any, dict[str, Any]]:
        return self._program(("prefill", bucket), prefill_into_slots, model=self.engine.model)

    def _decode(self, room: int) -> tuple[tuple, Any, dict[str, Any]]:
        steps = self.engine.decode_steps
        return self._program(("decode", room), decode_chunk, model=self.engine.model, max_steps=steps)

    def _probe(self, room: int, width: int) -> tuple[tuple, Any, dict[str, Any]]:
        return self._program(("probe", room, width), probe_slots, model=self.engine.model)

    def _cache_length(self, room: int) -> int:
        """A chunk is written as a block: room for it also where a row ends at once."""
        length = room + self.config.max_new_tokens + self.engine.decode_steps
        if self.engine.model.platform != "tpu":
            return length
        # The decode kernel reads whole blocks; lengths with few divisors would leave it short ones.
        return -(-length // CACHE_MULTIPLE) * CACHE_MULTIPLE

    def _prefill_arguments(self, state: SlotState, bucket: int, members: Sequence[tuple[int, int]]) -> dict[str, Any]:
        engine, size = self.engine, self.group_size(bucket)
        tokens, lengths = np.zeros((size, bucket), np.int32), np.ones(size, np.int32)
        slots = np.full(size, self.config.slots, np.int32)  # out of range: dropped
        for row, (slot, index) in enumerate(members):
            ids = self.requests[index].prompt_ids[len(self.prefix_ids) :]
            tokens[row, : len(ids)], lengths[row], slots[row] = ids, len(ids), slot
        return {
            "params": engine.params,
            "prefix": self.prefix,
            "state": state,
            "tokens": engine.put(tokens),
            "lengths": engine.put(lengths),
            "slots": engine.put(slots),
            "settings": self._settings([index for _, index in members], size),
            "stop_ids": self.stop_ids,
        }

    def _decode_arguments(self, state: SlotState, exit_at: int) -> dict[str, Any]:
        exit_at_ = self.engine.put(np.asarray(exit_at, np.int32))
        arguments = {"params": self.engine.params, "prefix": self.prefix, "state": state}
        return arguments | {"stop_ids": self.stop_ids, "exit_at": exit_at_}

    def _probe_arguments(
        self, state: SlotState, finished: Sequence[Finished], group: Sequence[tuple[int, Probe]], width: int
    ) -> dict[str, Any]:
        """For (row of `finished`, question); the last written token is fed again first."""
        count = self.engine.rows(PROBE_ROWS)
        tokens, candidates = np.zeros((count, PROBE_ROOM), np.int32), np.zeros((count, width), np.int32)
        lengths, starts, slots = (np.full(count, value, np.int32) for value in (1, 0, 0))
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
        rows = {"slots": slots, "tokens": tokens, "starts": starts, "lengths": lengths, "candidates": candidates}
        placed = {name: self.engine.put(array) for name, array in rows.items()}
        return {"params": self.engine.params, "prefix": self.prefix, "caches": state.caches} | placed

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
