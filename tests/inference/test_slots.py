"""The slot loop with a fake model: exact streams, ragged lengths, late reports, stop tokens that repeat."""

import dataclasses
import hashlib
import random
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humpback_jax.inference.requests import EngineConfig
from humpback_jax.inference.shards import Shards
from humpback_jax.inference.slots import Prompt, Slots, SlotStats

STOP, LIMIT = 0, 256


@dataclasses.dataclass(frozen=True)
class FakeRequest:
    """`length` tokens that nobody else has, then stop tokens for ever."""

    name: str
    bucket: int
    length: int

    def token(self, place):
        if place >= self.length:
            return STOP
        return 1 + int.from_bytes(hashlib.sha256(f"{self.name}/{place}".encode()).digest()[:4], "big")


class FakePrograms:
    """What the device would do, with lists; a report is copied to the host only when it is read, as late as allowed."""

    def __init__(self, requests, slots, group, steps):
        self.requests, self.group, self.steps = requests, group, steps
        self.tenants, self.places = [None] * slots, [0] * slots
        self.output, self.counts = np.zeros((slots, LIMIT), np.int64), np.zeros(slots, np.int64)
        self.stopped, self.done = np.zeros(slots, bool), np.ones(slots, bool)
        self.unread = 0
        self.most_unread = 0

    def group_size(self, bucket):
        return self.group

    def insert(self, bucket, members):
        assert 0 < len(members) <= self.group
        for slot, index in members:
            assert self.done[slot]
            assert self.requests[index].bucket == bucket
            self.tenants[slot], self.places[slot] = self.requests[index], 0
            self.counts[slot], self.stopped[slot], self.done[slot] = 0, False, False
            self._draw(slot)

    def _draw(self, slot):
        """Draws always, as the device does; a row that is done records nothing, whatever is drawn after its stop."""
        token = self.tenants[slot].token(self.places[slot])
        self.places[slot] += 1
        if self.done[slot]:
            return
        if token == STOP:
            self.stopped[slot] = self.done[slot] = True
            return
        self.output[slot, self.counts[slot]] = token
        self.counts[slot] += 1
        self.done[slot] = self.counts[slot] == LIMIT

    def decode(self, exit_at):
        before, steps = self.counts.sum(), 0
        while steps < self.steps and not self.done.all() and self.done.sum() < exit_at:
            for slot, tenant in enumerate(self.tenants):
                if tenant is not None:
                    self._draw(slot)
            steps += 1
        self.unread += 1
        self.most_unread = max(self.most_unread, self.unread)
        return SimpleNamespace(
            output=self.output.copy(),
            counts=self.counts.copy(),
            stopped=self.stopped.copy(),
            done=self.done.copy(),
            finite=np.ones_like(self.done),
            steps=steps,
            kept=int(self.counts.sum() - before),
        )

    def read(self, report):
        self.unread -= 1
        return report


def make_requests(count, seed=0, mean=45):
    draw = np.random.default_rng(seed)
    sigma = 0.65
    lengths = np.minimum(draw.lognormal(np.log(mean) - sigma**2 / 2, sigma, count).astype(int), LIMIT)
    return [FakeRequest(f"q{i}", int(draw.choice([64, 128, 256])), int(n)) for i, n in enumerate(lengths)]


def run(requests, slots, overlap, group=2, steps=8):
    """What every request was given, by name, and the statistics."""
    ordered = sorted(requests, key=lambda request: (request.bucket, request.name))
    programs, stats, written = FakePrograms(ordered, slots, group, steps), SlotStats(slots), {}

    for finished in Slots(programs, [Prompt(r.bucket, 1) for r in ordered], stats, overlap).run():
        for one in finished:
            name = ordered[one.index].name
            assert name not in written
            written[name] = (one.token_ids, one.stopped)
    assert programs.most_unread == (2 if overlap else 1)
    assert stats.requests == len(requests)
    return written, stats


def expected(request):
    ids = tuple(request.token(place) for place in range(min(request.length, LIMIT)))
    return ids, request.length < LIMIT


@pytest.mark.parametrize("overlap", [False, True], ids=["one at a time", "one chunk behind"])
@pytest.mark.parametrize("slots", [2, 7, 64])
def test_a_thousand_requests_each_get_exactly_their_own_stream(slots, overlap):
    requests = make_requests(1000)
    assert {r.length == LIMIT for r in requests} == {True, False}
    written, _ = run(requests, slots, overlap)
    assert written == {request.name: expected(request) for request in requests}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 9), st.booleans(), st.integers(1, 9), st.randoms())
def test_any_order_slots_and_groups(lengths, slots, overlap, group, shuffler):
    requests = [FakeRequest(f"q{i}", 64 * (1 + i % 3), n) for i, n in enumerate(lengths)]
    shuffled = shuffler.sample(requests, len(requests))
    if not requests:
        return
    written, stats = run(shuffled, slots, overlap, min(group, slots))
    assert written == {request.name: expected(request) for request in requests}
    # The first token of a row comes from its prefill.
    assert stats.kept == sum(max(0, len(ids) - 1) for ids, _ in written.values())


def test_a_job_killed_between_shards_and_resumed_is_byte_identical(tmp_path):
    requests = make_requests(300)

    def process(members):
        written, _ = run(members, 5, overlap=True)
        return [{"id": request.name, "ids": list(written[request.name][0])} for request in members]

    def dying(members):
        if requests[170] in members:
            raise KeyboardInterrupt
        return process(members)

    Shards(tmp_path / "whole", requests, 32).make([process])
    with pytest.raises(KeyboardInterrupt):
        Shards(tmp_path / "cut", requests, 32).make([dying])
    Shards(tmp_path / "cut", requests, 32).make([process])
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "cut").iterdir())
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


@pytest.mark.parametrize(("overlap", "steps", "least"), [(False, 8, 0.85), (True, 4, 0.75)])
def test_row_steps_are_used(overlap, steps, least):
    requests = make_requests(4000, seed=1)
    random.Random(0).shuffle(requests)
    assert np.mean([r.length for r in requests]) == pytest.approx(45, abs=2)
    assert EngineConfig().steps_per_chunk(overlap) == steps
    _, stats = run(requests, 64, overlap, EngineConfig(slots=64).group_size(512), steps)
    print(f"row-step efficiency {stats.row_step_efficiency:.3f}, overlap {overlap}")
    assert stats.row_step_efficiency >= least


def test_padding_is_counted():
    stats = SlotStats(4, prompt_tokens=30, prefill_tokens=40)
    assert stats.padding_waste == pytest.approx(0.25)
    assert SlotStats(4).padding_waste == 0.0
