"""The slot programs of a model, fed with requests: host arrays in, device state kept, reports out."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from humpback_jax.inference.compiled import Call, Program
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
from humpback_jax.inference.loaded import LoadedModel
from humpback_jax.inference.requests import PROBE_ROOM, PROBE_ROWS, Branch, Completion, Probe, Request
from humpback_jax.inference.sampling import request_number
from humpback_jax.inference.slots import Finished
from humpback_jax.models.kv_cache import KeyValues

CACHE_MULTIPLE = 256  # slots per row of a cache on TPUs


class SlotPrograms:
    """The programs of one call of `Engine.generate`: holds the device state; `Slots` decides what is dispatched.

    The list is short and known before the first request: a prefill per prompt bucket; and per room (the prompt tokens
    that the caches hold) an init, a chunk of decode steps, the growth of a layer to the next room, a probe where
    there are any.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        stop_ids: Sequence[int],
        prefix_ids: Sequence[int],
        requests: Sequence[Request] = (),
        seed: int = 0,
    ) -> None:
        """Nothing is dispatched yet; indices of requests stand for places in `requests`."""
        self.loaded, self.config, self.requests = loaded, loaded.config, requests
        self.prefix_ids, self.prefix = tuple(prefix_ids), loaded.prefix(prefix_ids)
        self.stop_ids = loaded.put(np.asarray(stop_ids, np.int32))
        self.seed = loaded.put(np.asarray(seed, np.uint32))
        self.room = 0  # prompt tokens that the state has room for
        self._state: SlotState | None = None

    def compile(self, buckets: Sequence[int], probe_width: int | None) -> None:
        """Compiles what prompts of these buckets need, and probes with so many candidates if a number is given."""
        programs, rooms = self.loaded.programs, self._rooms(buckets)
        for room in rooms:
            state = programs.outputs(*self._init(room))
            for bucket in buckets:
                if self.config.room(bucket) == room:
                    programs.compile(*self._prefill(state, bucket, ()))
            programs.compile(*self._decode(state, room, 0))
            if probe_width is not None:
                programs.compile(*self._probe(state, room, (), probe_width))
            if room < rooms[-1]:
                programs.compile(*self._grow(room, state.caches[0]))

    def group_size(self, bucket: int) -> int:
        """Rows of one prefill call."""
        return self.loaded.rows(self.config.group_size(bucket))

    def insert(self, bucket: int, members: Sequence[tuple[int, int]]) -> None:
        """Prefills (slot, request index) pairs of one bucket; the slots are made or grown first where needed."""
        room, run = self.config.room(bucket), self.loaded.programs.run
        if not self.room:
            self.room, self._state = room, run(*self._init(room))
        while self.room < room:
            self._grow_caches()
        self._state = run(*self._prefill(self.state, bucket, members))

    def _grow_caches(self) -> None:
        """To the next room, layer by layer: of one layer, not of all, there are two copies at a time."""
        (caches, sampling, rows), self._state = self.state, None
        remaining, grown = list(caches), []
        del caches
        while remaining:
            grown.append(self.loaded.programs.run(*self._grow(self.room, remaining.pop(0))))
        self._state = SlotState(tuple(grown), sampling, rows)
        self.room = self._next_room(self.room)

    @property
    def state(self) -> SlotState:
        """What the device holds between programs."""
        assert self._state is not None, "no request has been inserted"
        return self._state

    def decode(self, exit_at: int) -> ChunkReport:
        """Dispatches one chunk of steps, and the copy of its report to the host."""
        self._state, report = self.loaded.programs.run(*self._decode(self.state, self.room, exit_at))
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
        completions: list[Completion] = []
        asked: list[tuple[int, Branch]] = []
        for place, done in enumerate(finished):
            request = self.requests[done.index]
            if not done.finite:
                raise FloatingPointError(
                    f"request {request.id!r}: the model produced logits that are not numbers; check its weights with "
                    "`humpback weights verify`"
                )
            completions.append(Completion(request.id, done.token_ids, truncated=not done.stopped))
            question = probe(completions[-1]) if probe is not None else None
            if question is not None:
                asked += [(place, each) for each in (question, *question.others)]
        for start in range(0, len(asked), PROBE_ROWS):
            group = asked[start : start + PROBE_ROWS]
            questions = [(finished[place], question) for place, question in group]
            width = len(questions[0][1].candidate_ids)
            answers = np.asarray(self.loaded.programs.run(*self._probe(self.state, self.room, questions, width)))
            for (place, _), log_probs in zip(group, answers.tolist(), strict=False):
                so_far = completions[place].probe_log_probs or ()
                completions[place] = dataclasses.replace(completions[place], probe_log_probs=(*so_far, *log_probs))
        return completions

    def _rooms(self, buckets: Sequence[int]) -> list[int]:
        """Rooms that caches of these buckets go through, ascending."""
        rooms = [self.config.room(bucket) for bucket in buckets]
        return [room for room in self.config.rooms if min(rooms) <= room <= max(rooms)] if rooms else []

    def _next_room(self, room: int) -> int:
        return self.config.rooms[self.config.rooms.index(room) + 1]

    def _cache_length(self, room: int) -> int:
        """A chunk is written as a block: room for it also where a row ends at once."""
        length = room + self.config.max_new_tokens + self.loaded.decode_steps
        if self.loaded.model.platform != "tpu":
            return length
        # The decode kernel reads whole blocks; lengths with few divisors would leave it short ones.
        return -(-length // CACHE_MULTIPLE) * CACHE_MULTIPLE

    def _program(self, name: tuple, function: Any, **static: Any) -> Program:
        return Program((*name, len(self.prefix_ids), self.stop_ids.size), function, static)

    def _init(self, room: int) -> Call:
        static = {"slots": self.config.slots, "max_new_tokens": self.config.max_new_tokens}
        shapes = {"cache_length": self._cache_length(room), "cache_dtype": self.loaded.cache_dtype}
        return self._program(("init", room), init_slots, model=self.loaded.model, **static, **shapes), {}

    def _grow(self, room: int, cache: KeyValues) -> Call:
        length = self._cache_length(self._next_room(room))
        return self._program(("grow", room), grow_cache, cache_length=length), {"cache": cache}

    def _prefill(self, state: SlotState, bucket: int, members: Sequence[tuple[int, int]]) -> Call:
        size, put = self.group_size(bucket), self.loaded.put
        tokens, lengths = np.zeros((size, bucket), np.int32), np.ones(size, np.int32)
        slots = np.full(size, self.config.slots, np.int32)  # out of range: dropped
        numbers, limits = np.zeros(size, np.uint32), np.zeros(size, np.int32)
        temperature, top_p = np.zeros(size, np.float32), np.zeros(size, np.float32)
        for row, (slot, index) in enumerate(members):
            request = self.requests[index]
            ids = request.prompt_ids[len(self.prefix_ids) :]
            tokens[row, : len(ids)], lengths[row], slots[row] = ids, len(ids), slot
            numbers[row], limits[row] = request_number(request.id), request.max_new_tokens
            temperature[row], top_p[row] = request.sampling.temperature, request.sampling.top_p
        settings = RowSettings(put(numbers), self.seed, put(temperature), put(top_p), put(limits))
        rows = {"tokens": put(tokens), "lengths": put(lengths), "slots": put(slots), "settings": settings}
        program = self._program(("prefill", bucket), prefill_into_slots, model=self.loaded.model)
        return program, self._weights | {"state": state, "stop_ids": self.stop_ids} | rows

    def _decode(self, state: SlotState, room: int, exit_at: int) -> Call:
        static = {"model": self.loaded.model, "max_steps": self.loaded.decode_steps}
        chunk = {"state": state, "stop_ids": self.stop_ids, "exit_at": self.loaded.put(np.asarray(exit_at, np.int32))}
        return self._program(("decode", room), decode_chunk, **static), self._weights | chunk

    def _probe(self, state: SlotState, room: int, questions: Sequence[tuple[Finished, Branch]], width: int) -> Call:
        """Asks slots about what they hold; the last written token is fed again first."""
        count = self.loaded.rows(PROBE_ROWS)
        tokens, candidates = np.zeros((count, PROBE_ROOM), np.int32), np.zeros((count, width), np.int32)
        lengths, starts, slots = (np.full(count, value, np.int32) for value in (1, 0, 0))
        for row, (done, question) in enumerate(questions):
            request = self.requests[done.index]
            written = (*request.prompt_ids, *done.token_ids)
            ids = (written[-1], *question.forced_ids)
            if len(ids) > PROBE_ROOM:
                raise ValueError(
                    f"request {request.id!r}: a probe of {len(question.forced_ids)} tokens; {PROBE_ROOM - 1} fit"
                )
            tokens[row, : len(ids)], lengths[row], slots[row] = ids, len(ids), done.slot
            starts[row] = len(written) - 1 - len(self.prefix_ids)
            candidates[row] = question.candidate_ids
        rows = {"slots": slots, "tokens": tokens, "starts": starts, "lengths": lengths, "candidates": candidates}
        placed = {name: self.loaded.put(array) for name, array in rows.items()}
        program = self._program(("probe", room, width), probe_slots, model=self.loaded.model)
        return program, self._weights | {"caches": state.caches} | placed

    @property
    def _weights(self) -> dict[str, Any]:
        return {"params": self.loaded.params, "prefix": self.prefix}
