"""Shard files: what is complete is kept, what is missing, cut or altered is made again, another job is refused."""

import json
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humpback_jax.inference import shards
from humpback_jax.inference.shards import claim_directory, run_sharded


class Killed(Exception):
    pass


def doubled(members):
    return [{"item": item, "double": 2 * item} for item in members]


def expected_rows(count):
    return [{"item": i, "double": 2 * i} for i in range(count)]


class Recorder:
    """Doubles items, remembers the shards it was given, and dies on the shard that holds `kill_on`."""

    def __init__(self, kill_on=None):
        self.seen, self.kill_on = [], kill_on

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
                list(run_sharded(directory, range(count), shard_size, recorder))
        recorder.kill_on = None
        assert list(run_sharded(directory, range(count), shard_size, recorder)) == expected_rows(count)
        assert [item for members in recorder.seen for item in members] == list(range(count))
        assert all(len(members) <= shard_size for members in recorder.seen)


def test_a_rerun_makes_only_the_missing_shards(tmp_path):
    with pytest.raises(Killed):
        list(run_sharded(tmp_path, range(10), 3, Recorder(kill_on=7)))
    skipped, recorder = [], Recorder()
    rows = list(run_sharded(tmp_path, range(10), 3, recorder, on_skip=skipped.append))
    assert rows == expected_rows(10)
    assert recorder.seen == [[6, 7, 8], [9]]
    assert skipped == [3, 3]


def test_a_complete_job_processes_nothing(tmp_path):
    list(run_sharded(tmp_path, range(10), 3, doubled))
    recorder = Recorder()
    assert list(run_sharded(tmp_path, range(10), 3, recorder)) == expected_rows(10)
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
    list(run_sharded(tmp_path, range(10), 3, doubled))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    damage(tmp_path / "shard-00001-of-00004.jsonl")
    recorder = Recorder()
    assert list(run_sharded(tmp_path, range(10), 3, recorder)) == expected_rows(10)
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
        list(run_sharded(tmp_path, range(10), 3, doubled))
    assert (tmp_path / "shard-00001-of-00004.jsonl").exists()
    monkeypatch.undo()
    recorder = Recorder()
    assert list(run_sharded(tmp_path, range(10), 3, recorder)) == expected_rows(10)
    assert recorder.seen == [[3, 4, 5], [6, 7, 8], [9]]


def test_a_temporary_file_of_a_killed_write_is_not_read(tmp_path):
    (tmp_path / "shard-00000-of-00002.jsonl.tmp").write_text('{"item": 99')
    assert list(run_sharded(tmp_path, range(4), 2, doubled)) == expected_rows(4)


def test_a_directory_belongs_to_one_job(tmp_path):
    identity = {"model": "abc", "settings.seed": 0, "settings.top_p": 0.9}
    claim_directory(tmp_path / "job", identity)
    claim_directory(tmp_path / "job", identity)
    assert json.loads((tmp_path / "job" / "identity.json").read_text()) == identity
    with pytest.raises(ValueError, match=r"begun with another settings\.seed; use another run directory"):
        claim_directory(tmp_path / "job", identity | {"settings.seed": 1})
    with pytest.raises(ValueError, match=r"another model, settings\.extra"):
        claim_directory(tmp_path / "job", identity | {"model": "def", "settings.extra": True})
