"""Versions of a stage: another one is set aside whole, one like before comes back, and rows are used again."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humpback_jax.files import write_json, write_jsonl
from humpback_jax.run_files import IDENTITY, MANIFEST, REPLACED, SHARDS
from humpback_jax.runtime import processes
from humpback_jax.stages.items import KEY, InMemory, JobItems, KeptRows, Prompted
from humpback_jax.stages.stage import StageResult, begin_stage
from humpback_jax.stages.versions import differences, earlier_versions

COUNTS = {"in": 1, "out": 1, "rejected": {}}


class Killed(Exception):
    pass


def make(run_dir, rate, rows=False, dies=False):
    """A stage `m1` whose product names its rate; returns (stage, whether it was made now)."""
    claim = begin_stage(run_dir / "m1", {"rate": rate}, {"base": "b"}, replaces=True)
    if claim.finished:
        return claim.stage, False
    if dies:
        raise Killed
    (claim.folder / "product").write_text(str(rate))
    if rows:
        (claim.folder / SHARDS).mkdir()
    return claim.finish(StageResult(COUNTS, {"product": str(rate)})), True


def product(run_dir):
    return (run_dir / "m1" / "product").read_text()


def test_the_old_version_is_kept_until_the_new_one_is_whole(tmp_path):
    make(tmp_path, 1)
    with pytest.raises(Killed):
        make(tmp_path, 2, dies=True)
    (kept,) = earlier_versions(tmp_path / "m1")
    assert (kept / MANIFEST).exists() and (kept / "product").read_text() == "1"
    assert not (tmp_path / "m1" / MANIFEST).exists()
    assert make(tmp_path, 2)[1]
    assert product(tmp_path) == "2"
    assert earlier_versions(tmp_path / "m1") == []


def test_who_goes_back_before_the_new_one_is_whole_loses_nothing(tmp_path):
    first, _ = make(tmp_path, 1)
    with pytest.raises(Killed):
        make(tmp_path, 2, dies=True)
    again, made = make(tmp_path, 1)
    assert not made and again.manifest == first.manifest and product(tmp_path) == "1"
    assert again.directory == tmp_path / "m1"


def test_of_whole_versions_with_rows_the_last_is_kept(tmp_path):
    for rate in (1, 2, 3):
        assert make(tmp_path, rate, rows=True)[1]
    (kept,) = earlier_versions(tmp_path / "m1")
    assert (kept / "product").read_text() == "2"
    assert not make(tmp_path, 2)[1]
    assert product(tmp_path) == "2"


@settings(max_examples=25)  # every change writes and moves folders
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_whatever_is_asked_for_is_what_is_there(tmp_path_factory, asked):
    """Any order of changes, some of them cut off: a whole stage is that of the last settings, and no other is lost."""
    run_dir, whole = tmp_path_factory.mktemp("run"), None
    for rate, rows, dies in asked:
        try:
            make(run_dir, rate, rows, dies)
        except Killed:
            kept = [json.loads((path / IDENTITY).read_text()) for path in earlier_versions(run_dir / "m1")]
            whole_ones = [path for path in earlier_versions(run_dir / "m1") if (path / MANIFEST).exists()]
            assert whole is None or whole in [(path / "product").read_text() for path in whole_ones], kept
            continue
        assert product(run_dir) == str(rate)
        whole = str(rate)


def test_a_version_like_another_in_other_words_is_the_same():
    begun = {"settings.prompts.rating_template": "long", "settings.prompts.seed_tag": "tag", "inputs.base": "b"}
    assert differences(begun, {"settings.prompts.seed_tag": "tag", "inputs.base": "b"}) == {}
    assert differences(begun, {"settings.prompts.seed_tag": "other", "inputs.base": "b"}) == {
        "settings.prompts.seed_tag": ("tag", "other")
    }
    assert differences({"inputs.web": "w"}, {}) == {"inputs.web": ("w", None)}


def test_a_follower_waits_until_the_leader_has_set_the_other_version_aside(tmp_path, monkeypatch):
    make(tmp_path, 1)
    monkeypatch.setenv(processes.INDEX_VARIABLE, "1")
    monkeypatch.setenv(processes.COUNT_VARIABLE, "2")
    looks = []

    def leader_comes(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            (tmp_path / "m1").rename(tmp_path / "away")
        if len(looks) == 5:
            write_json(tmp_path / "m1" / MANIFEST, {"outputs": {"product": "2"}})

    monkeypatch.setattr(processes.time, "sleep", leader_comes)
    stage, _ = make(tmp_path, 2)
    assert stage.outputs == {"product": "2"} and len(looks) == 5
    assert not (tmp_path / REPLACED).exists()


ITEMS = st.builds(
    Prompted,
    st.text("ab", max_size=2),
    st.lists(st.integers(0, 2), min_size=1, max_size=3).map(tuple),
    st.text("ab", max_size=2),
    st.tuples(st.text("ab", max_size=1), st.text("ab", max_size=1)),
)


@given(st.lists(ITEMS, max_size=20), st.lists(ITEMS, min_size=1, max_size=20), st.sampled_from(["job", "other"]))
def test_rows_are_found_by_all_that_decides_them(tmp_path_factory, made, asked, job):
    path = tmp_path_factory.mktemp("rows") / "shard.jsonl"
    write_jsonl(path, [{"n": n, KEY: item.key("job")} for n, item in enumerate(made)])
    found = KeptRows([path]).find([item.key(job) for item in asked])
    for item, row in zip(asked, found, strict=True):
        assert (row is not None) == (job == "job" and item in made)
        assert row is None or made[row["n"]] == item


def test_the_shared_prefix_is_that_of_the_frame_whatever_the_rows(tmp_path):
    frames = [(7, 8, 1), (7, 8, 2)]
    for last in ([5, 5], [5, 6]):
        prompted = [Prompted(str(n), (7, 8, number)) for n, number in enumerate(last)]
        items = JobItems(InMemory(prompted), list, 9, frames=frames)
        assert items.prefix_ids == (7, 8)
        np.testing.assert_array_equal(items.lengths, [3, 3])
