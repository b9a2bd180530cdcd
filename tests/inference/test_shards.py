"""Shard files: what is complete is kept, what is missing, cut or altered is made again, another job is refused."""

import contextlib
import json
import pathlib
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import PATIENCE, FakeTime, wait_until

from humpback_jax.files import read_jsonl
from humpback_jax.inference import shards
from humpback_jax.inference.shards import Shards, claim_directory
from humpback_jax.runtime import processes


class Killed(Exception):
    pass


def doubled(members):
    return [{"item": item, "double": 2 * item} for item in members]


def run_sharded(directory, items, size, worker, workers=1, stop=None, poll_seconds=2.0, stall_seconds=None, **share):
    """The rows of a whole job."""
    job = Shards(directory, items, size, **share)
    job.make([worker] * workers, stop)
    job.wait(poll_seconds, stall_seconds)
    return [row for path in job.paths for _, row in read_jsonl(path)]


def expected_rows(count):
    return [{"item": i, "double": 2 * i} for i in range(count)]


class Recorder:
    """Doubles items, remembers the shards it was given, and dies on the shard that holds `kill_on`."""

    def __init__(self, kill_on=None):
        self.seen, self.kill_on = [], kill_on

    def dies(self, processes, process, shard_size):
        """Whether its item is in one of the shards of this process."""
        return self.kill_on is not None and self.kill_on // shard_size % processes == process

    def __call__(self, members):
        if self.kill_on in members:
            raise Killed
        self.seen.append(list(members))
        return doubled(members)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 40), st.integers(1, 50), st.integers(0, 40))
def test_every_item_comes_once_and_in_order_also_after_a_crash(count, shard_size, kill_on):
    with tempfile.TemporaryDirectory() as directory:
        recorder = Recorder(kill_on if kill_on < count else None)
        if kill_on < count:
            with pytest.raises(Killed):
                run_sharded(directory, range(count), shard_size, recorder)
        recorder.kill_on = None
        assert run_sharded(directory, range(count), shard_size, recorder) == expected_rows(count)
        assert [item for members in recorder.seen for item in members] == list(range(count))
        assert all(len(members) <= shard_size for members in recorder.seen)


def test_a_rerun_makes_only_the_missing_shards(tmp_path):
    with pytest.raises(Killed):
        run_sharded(tmp_path, range(10), 3, Recorder(kill_on=7))
    recorder, job = Recorder(), Shards(tmp_path, range(10), 3)
    assert (job.num_items, job.num_complete, job.missing) == (10, 6, [2, 3])
    assert run_sharded(tmp_path, range(10), 3, recorder) == expected_rows(10)
    assert recorder.seen == [[6, 7, 8], [9]]


def test_a_complete_job_processes_nothing(tmp_path):
    run_sharded(tmp_path, range(10), 3, doubled)
    recorder = Recorder()
    assert run_sharded(tmp_path, range(10), 3, recorder) == expected_rows(10)
    assert recorder.seen == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-4]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"4", b"5")),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: path.with_suffix(".completed").unlink(),
        lambda path: path.with_suffix(".completed").write_bytes(b""),
    ],
    ids=["truncated", "altered", "emptied", "deleted", "marker deleted", "marker emptied"],
)
def test_a_damaged_shard_is_made_again(tmp_path, damage):
    run_sharded(tmp_path, range(10), 3, doubled)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    damage(tmp_path / "shard-00001-of-00004.jsonl")
    recorder = Recorder()
    assert run_sharded(tmp_path, range(10), 3, recorder) == expected_rows(10)
    assert recorder.seen == [[3, 4, 5]]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_kill_between_a_shard_and_its_marker_costs_that_shard(tmp_path, monkeypatch):
    write = shards.write_atomically

    def killed_before_second_marker(path, data):
        if str(path).endswith("shard-00001-of-00004.completed"):
            raise Killed
        write(path, data)

    monkeypatch.setattr(shards, "write_atomically", killed_before_second_marker)
    with pytest.raises(Killed):
        run_sharded(tmp_path, range(10), 3, doubled)
    assert (tmp_path / "shard-00001-of-00004.jsonl").exists()
    monkeypatch.undo()
    recorder = Recorder()
    assert run_sharded(tmp_path, range(10), 3, recorder) == expected_rows(10)
    assert recorder.seen == [[3, 4, 5], [6, 7, 8], [9]]


def test_a_temporary_file_of_a_killed_write_is_not_read(tmp_path):
    (tmp_path / "shard-00000-of-00002.jsonl.tmp").write_text('{"item": 99')
    assert run_sharded(tmp_path, range(4), 2, doubled) == expected_rows(4)


def test_a_directory_belongs_to_one_job(tmp_path):
    identity = {"model": "abc", "settings.seed": 0, "settings.top_p": 0.9}
    claim_directory(tmp_path / "job", identity)
    claim_directory(tmp_path / "job", identity)
    assert json.loads((tmp_path / "job" / "identity.json").read_text()) == identity
    with pytest.raises(ValueError, match=r"begun with another settings\.seed; use another run directory"):
        claim_directory(tmp_path / "job", identity | {"settings.seed": 1})
    with pytest.raises(ValueError, match=r"another model, settings\.extra"):
        claim_directory(tmp_path / "job", identity | {"model": "def", "settings.extra": True})


def bytes_of(directory):
    return {path.name: path.read_bytes() for path in pathlib.Path(directory).glob("shard-*")}


def run_processes(directory, count, shard_size, recorders, stall_seconds):
    """One `run_sharded` per recorder, at the same time; the rows of each, or what it raised."""

    def run(index):
        try:
            return run_sharded(
                directory,
                range(count),
                shard_size,
                recorders[index],
                process_index=index,
                process_count=len(recorders),
                poll_seconds=0.001,
                stall_seconds=stall_seconds,
            )
        except (Killed, TimeoutError) as error:
            return error

    with ThreadPoolExecutor(len(recorders)) as executor:
        return list(executor.map(run, range(len(recorders))))


@contextlib.contextmanager
def killed_before_markers(indices):
    """Within, a process dies between writing one of these shards and its marker."""
    write = shards.write_atomically

    def dies(path, data):
        if path.suffix == ".completed" and int(path.name.split("-")[1]) in indices:
            raise Killed
        write(path, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "write_atomically", dies)
        yield


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(1, 30), st.integers(1, 6), st.integers(1, 4), st.integers(1, 4))
def test_any_number_of_processes_any_kill_and_a_resume_by_any_other(data, count, shard_size, first, second):
    items = st.none() | st.integers(0, count - 1)
    killed = [Recorder(data.draw(items, label=f"process {p} dies on item")) for p in range(first)]
    unmarked = data.draw(st.sets(st.integers(0, (count - 1) // shard_size), max_size=2), label="dies before marker")
    with tempfile.TemporaryDirectory() as alone, tempfile.TemporaryDirectory() as directory:
        assert run_sharded(alone, range(count), shard_size, doubled) == expected_rows(count)

        with killed_before_markers(unmarked):
            # Where nobody dies, nobody may give up, however busy the machine is.
            some_die = unmarked or any(recorder.dies(first, p, shard_size) for p, recorder in enumerate(killed))
            results = run_processes(directory, count, shard_size, killed, stall_seconds=0.05 if some_die else PATIENCE)
        dead = sum(isinstance(result, Killed) for result in results)
        for result in results:
            assert isinstance(result, Killed | TimeoutError) if dead else result == expected_rows(count)
        complete = len(list(pathlib.Path(directory).glob("*.completed")))

        resumed = [Recorder() for _ in range(second)]
        for result in run_processes(directory, count, shard_size, resumed, stall_seconds=PATIENCE):
            assert result == expected_rows(count)
        assert bytes_of(directory) == bytes_of(alone)
        before, after = (sorted(m for r in recorders for m in r.seen) for recorders in (killed, resumed))
        assert len(after) == -(-count // shard_size) - complete
        assert 0 <= len(before) - complete <= dead  # what is made again: at most one shard per process that died
        assert {item for members in before + after for item in members} == set(range(count))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 5))
def test_the_processes_share_all_items(count, shard_size, processes):
    recorders = [Recorder() for _ in range(processes)]
    with tempfile.TemporaryDirectory() as directory:
        run_processes(directory, count, shard_size, recorders, stall_seconds=PATIENCE)
        made = [sum(map(len, recorder.seen)) for recorder in recorders]
        assert made == [Shards(directory, range(count), shard_size, p, processes).num_items for p in range(processes)]
    assert sum(made) == count


def test_a_process_whose_peer_is_gone_names_the_missing_shards_and_what_to_do(tmp_path):
    other = dict(process_index=0, process_count=2, poll_seconds=0.001, stall_seconds=0.02)
    with pytest.raises(TimeoutError) as raised:
        run_sharded(tmp_path, range(10), 3, doubled, **other)
    message = str(raised.value)
    assert "shard-00001-of-00004.jsonl" in message and "shard-00003-of-00004.jsonl" in message
    assert "shard-00000" not in message and "shard-00002" not in message
    assert "run the same command again" in message
    recorder = Recorder()
    assert run_sharded(tmp_path, range(10), 3, recorder) == expected_rows(10)
    assert recorder.seen == [[3, 4, 5], [9]]


def test_a_slow_peer_that_comes_on_is_waited_for(tmp_path, monkeypatch):
    """The peer needs ten times as long as the limit, but each of its shards comes in time."""
    turns = threading.Semaphore(0)

    def slowly(members):
        assert turns.acquire(timeout=PATIENCE)
        return doubled(members)

    def the_peer_makes_a_shard(looks):
        turns.release()
        wait_until(lambda: len(list(tmp_path.glob("*.completed"))) == 16 + looks or later.done(), "a shard")

    both = dict(process_count=2, poll_seconds=1.0, stall_seconds=1.5)
    with ThreadPoolExecutor(1) as peer:
        later = peer.submit(lambda: run_sharded(tmp_path, range(32), 1, slowly, process_index=1, **both))
        clock = FakeTime(the_peer_makes_a_shard)
        monkeypatch.setattr(processes, "time", clock)
        assert run_sharded(tmp_path, range(32), 1, doubled, process_index=0, **both) == expected_rows(32)
        assert later.result() == expected_rows(32)
    assert clock.sleeps == 16


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 30), st.integers(1, 6), st.integers(1, 5))
def test_shards_in_threads_give_the_same_bytes(count, shard_size, concurrency):
    with tempfile.TemporaryDirectory() as alone, tempfile.TemporaryDirectory() as directory:
        run_sharded(alone, range(count), shard_size, doubled)
        assert len(Shards(directory, range(count), shard_size).missing) == -(-count // shard_size)
        assert run_sharded(directory, range(count), shard_size, doubled, workers=concurrency) == expected_rows(count)
        assert bytes_of(directory) == bytes_of(alone)
        assert Shards(directory, range(count), shard_size).missing == []


def test_so_many_shards_are_in_work_at_a_time(tmp_path):
    together = threading.Barrier(3)

    def meets_two_others(members):
        together.wait(timeout=PATIENCE)
        return doubled(members)

    assert run_sharded(tmp_path, range(12), 2, meets_two_others, workers=3) == expected_rows(12)


def test_a_shard_that_fails_stops_the_others_and_its_error_is_raised(tmp_path):
    stop, begun = threading.Event(), []

    def fails_on_two(members):
        begun.append(members[0])
        if members[0] == 2:
            raise Killed
        assert stop.wait(timeout=PATIENCE)
        raise RuntimeError("stopped")

    with pytest.raises(Killed):
        run_sharded(tmp_path, range(40), 2, fails_on_two, workers=2, stop=stop)
    assert sorted(begun)[:2] == [0, 2]
    assert len(begun) <= 3
    assert run_sharded(tmp_path, range(40), 2, doubled) == expected_rows(40)


def test_processes_that_start_at_once_claim_one_directory(tmp_path):
    identity = {"settings.seed": 0, "text": "x" * 100_000}
    for attempt in range(20):
        together = threading.Barrier(4)

        def claim(index, folder=tmp_path / str(attempt), together=together):
            together.wait(timeout=PATIENCE)
            claim_directory(folder, identity, index)

        with ThreadPoolExecutor(4) as executor:
            list(executor.map(claim, range(4)))
        assert json.loads((tmp_path / str(attempt) / "identity.json").read_text()) == identity
