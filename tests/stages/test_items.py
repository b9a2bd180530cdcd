"""Items of a job: ordered by length and id, made again in slices, joined with what was written for them."""

import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.files import JsonLines, write_jsonl
from humpback_jax.inference.engine import shared_prefix
from humpback_jax.stages import items as items_module
from humpback_jax.stages.items import InMemory, JobItems, Prompted

IDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=4)
PROMPTS = st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple)
ITEMS = st.dictionaries(IDS, PROMPTS, max_size=30)


def made(prompts):
    return [Prompted(name, ids, f"given {name}") for name, ids in prompts.items()]


def of_rows(rows):
    return [Prompted(row["id"], tuple(row["prompt"]), row["text"]) for row in rows]


@given(ITEMS, st.integers(0, 6), st.integers(1, 5))
def test_items_are_in_the_order_of_length_and_id(prompts, longest, size):
    items = JobItems(InMemory(made(prompts)), list, longest)
    fitting = [item for item in made(prompts) if len(item.prompt_ids) <= longest]
    expected = sorted(fitting, key=lambda item: (len(item.prompt_ids), item.id))
    assert [item for start in range(0, len(items), size) for item in items[start : start + size]] == expected
    assert items.lengths.tolist() == [len(item.prompt_ids) for item in expected]
    assert items.prefix_ids == shared_prefix([item.prompt_ids for item in fitting])
    rejected = len(prompts) - len(fitting)
    assert items.counts == {
        "in": len(prompts),
        "out": len(fitting),
        "rejected": {"prompt_too_long": rejected} if rejected else {},
    }


@given(ITEMS, st.integers(0, 6), st.integers(1, 5))
def test_results_in_files_come_back_to_the_rows_in_their_order(prompts, longest, size):
    rows = [{"id": name, "prompt": ids, "text": name * 2} for name, ids in prompts.items()]
    with tempfile.TemporaryDirectory() as folder:
        write_jsonl(f"{folder}/rows.jsonl", rows)
        items = JobItems(JsonLines([f"{folder}/rows.jsonl"]), of_rows, longest)
        starts = range(0, len(items), size)
        for start in starts:
            written = [{"id": item.id, "answer": item.given} for item in items[start : start + size]]
            write_jsonl(f"{folder}/{start}.jsonl", written)
        joined = list(items.joined(JsonLines([f"{folder}/{start}.jsonl" for start in starts])))
    assert [row["id"] for row, _ in joined] == list(prompts)
    for row, result in joined:
        fits = len(row["prompt"]) <= longest
        assert result == ({"id": row["id"], "answer": row["id"] * 2} if fits else None)


def test_two_items_of_one_id_are_refused():
    with pytest.raises(ValueError, match="two items have the id 'a'; ids decide the random draws"):
        JobItems(InMemory([Prompted("a", (1,)), Prompted("b", (1,)), Prompted("a", (1, 2))]), list, 5)


@pytest.mark.parametrize(
    ("names", "message"),
    [("ab", "2 rows for 3 items"), ("abcd", "4 rows for 3 items"), ("acb", "'c' stands where 'b' should")],
)
def test_results_of_other_items_are_refused(tmp_path, names, message):
    items = JobItems(InMemory([Prompted(name, (1,)) for name in "abc"]), list, 5)
    write_jsonl(tmp_path / "rows.jsonl", [{"id": name} for name in names])
    with pytest.raises(ValueError, match=rf"rows\.jsonl: {message}"):
        list(items.joined(JsonLines([tmp_path / "rows.jsonl"])))


def test_a_long_first_pass_is_reported(monkeypatch, capsys):
    monkeypatch.setattr(items_module, "REPORTED_ROWS", 3)
    for count, said in ((2, ""), (3, "prompts of pairs: 3/3 pairs")):
        JobItems(InMemory([Prompted(str(number), (1,)) for number in range(count)]), list, 5, "pairs")
        assert said in capsys.readouterr().err if said else not capsys.readouterr().err
