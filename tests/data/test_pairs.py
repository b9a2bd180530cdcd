"""Pairs of files: Open Assistant both ways, JSON lines, Alpaca, and what bad rows get."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.data.pairs import Pair, PairsFormat, read_curated, read_pairs, read_prompts, write_pairs

TREES, MESSAGES = "oasst1_en_validation.trees.jsonl.gz", "oasst1_en_validation.messages.jsonl"
PAIR = '{"instruction": "a", "output": "b"}'


def _is_whole(counts):
    return counts["read"] == counts["kept"] + sum(counts["rejected"].values())


def test_oasst_trees_and_messages_give_the_same_pairs(shared_data):
    trees, messages = (read_pairs(shared_data / "seed" / name) for name in (TREES, MESSAGES))
    assert trees.pairs == messages.pairs
    assert _is_whole(trees.counts) and _is_whole(messages.counts)
    assert trees.counts["read"] == 141


def test_oasst_count_equals_an_independent_count(shared_data):
    rows = [json.loads(line) for line in (shared_data / "seed" / MESSAGES).open()]
    good = [row for row in rows if row["lang"] == "en" and not row["deleted"] and row["review_result"] is not False]
    prompts = {row["message_id"]: row["text"] for row in good if row["parent_id"] is None}
    best = {row["message_id"]: row for row in good if row["rank"] == 0 and row["parent_id"] in prompts}
    pairs = read_pairs(shared_data / "seed" / TREES).pairs
    assert len(pairs) == len(best) == 139
    assert {pair.instruction for pair in pairs} == {prompts[row["parent_id"]].strip() for row in best.values()}
    assert all(pair.output == best[pair.id]["text"].strip() and pair.source == "oasst1" for pair in pairs)


def test_oasst_limit_keeps_the_best_quality_in_file_order(shared_data):
    limited = [read_pairs(shared_data / "seed" / name, limit=50) for name in (TREES, MESSAGES)]
    assert limited[0].pairs == limited[1].pairs
    assert limited[0].counts["rejected"]["over_limit"] == 89
    labels = {}
    for line in (shared_data / "seed" / MESSAGES).open():
        row = json.loads(line)
        named = dict(zip(row["labels"]["name"], row["labels"]["value"], strict=True)) if row["labels"] else {}
        labels[row["message_id"]] = named.get("quality", 0.0)
    everyone = [pair.id for pair in read_pairs(shared_data / "seed" / TREES).pairs]
    kept = [pair.id for pair in limited[0].pairs]
    assert kept == [name for name in everyone if name in set(kept)]
    assert min(labels[name] for name in kept) >= max(labels[name] for name in set(everyone) - set(kept))


def _message(name, text, role="assistant", replies=(), **fields):
    message = {"message_id": name, "text": text, "role": role, "lang": "en", "deleted": False, "review_result": True}
    return {**message, "replies": list(replies), **fields}


def _flat(tree):
    def walk(message, parent):
        row = {key: value for key, value in message.items() if key != "replies"}
        yield {**row, "parent_id": parent, "message_tree_id": tree["message_tree_id"]}
        for reply in message["replies"]:
            yield from walk(reply, message["message_id"])

    return list(walk(tree["prompt"], None))


def _trees():
    good = _message("r0", "Best", rank=0, replies=[_message("p2", "More?", "prompter")])
    worse = _message("r1", "Worse", rank=1)
    cases = {
        "kept": ([worse, good], {}),
        "no_rank_0_reply": ([worse], {}),
        "reply_deleted": ([{**good, "deleted": True}], {}),
        "reply_failed_review": ([{**good, "review_result": False}], {}),
        "reply_other_language": ([{**good, "lang": "de"}], {}),
        "reply_empty": ([{**good, "text": " \n"}], {}),
        "prompt_deleted": ([good], {"deleted": True}),
        "prompt_failed_review": ([good], {"review_result": False}),
        "prompt_other_language": ([good], {"lang": "es"}),
        "prompt_empty": ([good], {"text": ""}),
        "kept, not reviewed": ([{**good, "text": "Best too", "review_result": None}], {}),
    }
    for name, (replies, fields) in cases.items():
        unique = [{**reply, "message_id": f"{name}-{reply['message_id']}"} for reply in replies]
        prompt = {**_message(f"{name}-p", " Why? ", "prompter", unique), **fields}
        yield name, {"message_tree_id": name, "tree_state": "ready_for_export", "prompt": prompt}


def test_every_oasst_reason_is_counted_alike_in_both_formats(tmp_path):
    trees = dict(_trees())
    (tmp_path / "trees.jsonl").write_text("".join(json.dumps(tree) + "\n" for tree in trees.values()))
    rows = [row for tree in trees.values() for row in _flat(tree)]
    with gzip.open(tmp_path / "messages.jsonl.gz", "wt") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    nested, flat = read_pairs(tmp_path / "trees.jsonl"), read_pairs(tmp_path / "messages.jsonl.gz")
    assert (nested.pairs, nested.counts) == (flat.pairs, flat.counts)
    assert nested.counts["rejected"] == {name: 1 for name in sorted(trees) if not name.startswith("kept")}
    assert [(pair.id, pair.instruction, pair.output) for pair in nested.pairs] == [
        ("kept-r0", "Why?", "Best"),
        ("kept, not reviewed-r0", "Why?", "Best too"),
    ]


def test_flat_messages_in_any_order(tmp_path):
    rows = [row for _, tree in _trees() for row in _flat(tree)]
    (tmp_path / "forward.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "backward.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    forward, backward = read_pairs(tmp_path / "forward.jsonl"), read_pairs(tmp_path / "backward.jsonl")
    assert sorted(forward.pairs, key=lambda pair: pair.id) == sorted(backward.pairs, key=lambda pair: pair.id)
    assert forward.counts == backward.counts


def test_jsonl_of_the_real_seed_set(shared_data):
    report = read_pairs(shared_data / "seed" / "seed_pairs.jsonl")
    rows = [json.loads(line) for line in (shared_data / "seed" / "seed_pairs.jsonl").open()]
    assert report.counts == {"read": 465, "kept": 465, "rejected": {}}
    assert [pair.source for pair in report.pairs] == [row["source"] for row in rows]
    assert [pair.instruction for pair in report.pairs] == [row["instruction"].strip() for row in rows]
    assert len({pair.id for pair in report.pairs}) == 465
    assert read_pairs(shared_data / "seed" / "seed_pairs.jsonl", limit=3).pairs == report.pairs[:3]


def test_alpaca_json_and_jsonl_give_the_same_texts(tmp_path):
    rows = [
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        {"instruction": "Greet.", "input": "", "output": "Hi"},
        {"instruction": "Nothing.", "input": "", "output": "  "},
        {"instruction": "", "output": "x"},
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    reports = [read_pairs(tmp_path / name) for name in ("a.json", "a.jsonl")]
    for report in reports:
        assert [(pair.instruction, pair.output) for pair in report.pairs] == [("Add.\n\n1 2", "3"), ("Greet.", "Hi")]
        assert report.counts == {"read": 4, "kept": 2, "rejected": {"empty_instruction": 1, "empty_output": 1}}


def test_dolly_and_prompt_response_rows(tmp_path):
    rows = [
        {"instruction": "Who?", "context": "Ann sang.", "response": "Ann", "category": "closed_qa"},
        {"prompt": "Hello", "response": "Hi", "id": 7, "source": "chat"},
    ]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read_pairs(tmp_path / "d.jsonl").pairs == (
        Pair("d.jsonl:1", "Who?\n\nAnn sang.", "Ann", "d.jsonl"),
        Pair("7", "Hello", "Hi", "chat"),
    )


def test_repeated_ids_are_numbered_without_meeting_another(tmp_path):
    ids = ["a", "a", "a#2", "b", "a"]
    rows = [{"id": name, "instruction": str(i), "output": "o"} for i, name in enumerate(ids)]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [pair.id for pair in read_pairs(tmp_path / "s.jsonl").pairs] == ["a", "a#3", "a#2", "b", "a#4"]


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ('{"instruction": "a"}', "no_output", "the keys are 'instruction'"),
        ('{"output": "b"}', "no_instruction", "the keys are 'output'"),
        ('{"instruction": "a", "output": null}', "empty_output", ""),
        ('{"instruction": "a", "output": NaN}', "empty_output", ""),
        ('{"instruction": "a", "output": ["b"]}', "not_a_text", "'output' must be a text, found list"),
        ('{"instruction": "a", "output": true}', "not_a_text", "found bool"),
        ('{"instruction": "a", "prompt": "b", "output": "c"}', "two_instructions", "both 'instruction' and 'prompt'"),
        ('{"instruction": "a", "output": "b", "answer": "c"}', "two_outputs", "both 'output' and 'answer'"),
        ('{"instruction": "a \\udfff", "output": "b"}', "lone_surrogate", "'instruction'"),
        ('{"instruction": "a", "output": "b\\u0000c"}', "nul_character", "'output'"),
        ('{"instruction": "a", "output": "b", "history": [["c", "d"]]}', "needs_history", ""),
        ('{"messages": []}', "empty_conversation", ""),
        ("[1]", "not_an_object", "found list"),
        ("{# a remark", "not_json", ""),
        ('{"instruction": "a", "outp', "not_json", ""),
        ('{"instruction": ' + "9" * 5000 + "}", "not_json", ""),
        (PAIR, "duplicate", "the pair of"),
    ],
)
def test_a_bad_row_is_named_and_counted_and_the_file_goes_on(tmp_path, row, reason, detail):
    path = tmp_path / "s.jsonl"
    path.write_text(f'{PAIR}\n\n{row}\n{{"instruction": "last", "output": 3}}\n')
    report = read_pairs(path)
    assert [(pair.instruction, pair.output) for pair in report.pairs] == [("a", "b"), ("last", "3")]
    assert report.counts == {"read": 3, "kept": 2, "rejected": {reason: 1}}
    assert report.problems[0].startswith(f"{path}:3: {reason}") and detail in report.problems[0]
    path.write_text(row if reason != "duplicate" else "")
    with pytest.raises(ValueError, match=rf"s\.jsonl:1: {reason}" if reason != "duplicate" else "is empty"):
        read_pairs(path)


def test_the_first_bad_rows_are_told_and_the_others_counted(tmp_path):
    (tmp_path / "s.jsonl").write_text(f"{PAIR}\n" + "{}\n" * 9)
    summary = read_pairs(tmp_path / "s.jsonl").summary()
    assert summary.startswith("9 of 10 rows are no pairs: ") and summary.endswith("; and 6 more")


@pytest.mark.parametrize(
    ("row", "reason"), [('{"message_tree_id": "x", "prompt": {}}', "trees"), ('{"message_id": 3}', "messages")]
)
def test_a_bad_open_assistant_row_is_counted_too(tmp_path, row, reason):
    tree = dict(_trees())["kept"]
    rows = [tree] if reason == "trees" else _flat(tree)
    (tmp_path / "o.jsonl").write_text("\n".join(map(json.dumps, rows)) + f"\n{row}\n")
    report = read_pairs(tmp_path / "o.jsonl")
    assert report.counts == {"read": 2, "kept": 1, "rejected": {"not_open_assistant": 1}}
    assert report.problems[0].startswith(f"{tmp_path / 'o.jsonl'}:{len(rows) + 1}: not_open_assistant")


@pytest.mark.parametrize("wanted", [("de",), ("fr", "de"), ()])
def test_open_assistant_in_other_languages_with_ranks_of_tables(tmp_path, wanted):
    reply = _message("r", "Gut.", rank="0.0", lang="de-AT")
    prompt = _message("p", "Warum?", "prompter", [reply], lang="de")
    tree = {"message_tree_id": "t", "prompt": prompt}
    (tmp_path / "t.json").write_text(json.dumps([tree]))
    flat = [row | {"parent_id": float("nan") if row["parent_id"] is None else row["parent_id"]} for row in _flat(tree)]
    (tmp_path / "m.json").write_text(json.dumps({"features": [], "rows": [{"row_idx": 0, "row": r} for r in flat]}))
    for name in ("t.json", "m.json"):
        pairs = read_pairs(tmp_path / name, PairsFormat(languages=wanted)).pairs
        assert [(pair.id, pair.instruction, pair.output) for pair in pairs] == [("r", "Warum?", "Gut.")]
        with pytest.raises(ValueError, match=r"prompt_other_language.*SeedConfig\.languages"):
            read_pairs(tmp_path / name)


def test_prompts_are_read_without_outputs(tmp_path):
    rows = [
        {"instruction": "Count.", "input": "1 2"},
        {"instruction": "Count.", "input": "1 2", "output": None},
        {"messages": [{"role": "user", "content": "Hi"}]},
        {"output": "x"},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = read_prompts(tmp_path / "p.jsonl")
    assert [pair.instruction for pair in report.pairs] == ["Count.\n\n1 2", "Count.\n\n1 2", "Hi"]
    assert report.counts["rejected"] == {"no_instruction": 1}


def test_bad_arguments(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.jsonl does not exist"):
        read_pairs(tmp_path / "gone.jsonl")
    with pytest.raises(ValueError, match="'csv'; choose from auto, pairs, oasst_trees"):
        PairsFormat("csv")
    with pytest.raises(ValueError, match="limit is 0"):
        read_pairs(tmp_path / "gone.jsonl", limit=0)
    with pytest.raises(ValueError, match="columns names 'question'"):
        read_pairs(tmp_path / "gone.jsonl", PairsFormat(columns={"question": "q"}))


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=5))
def test_written_pairs_come_back_exactly(tmp_path_factory, texts):
    pairs = tuple(Pair(str(index), *row) for index, row in enumerate(texts))
    path = tmp_path_factory.mktemp("pairs") / "curated.jsonl"
    write_pairs(path, pairs)
    assert read_curated(path) == pairs


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "a", "instruction": "i", "output": "o"}], r"c\.jsonl:1: no text under 'source'|:1: expected a text"),
        ([{"id": "a", "instruction": "i", "output": "o", "source": "s"}] * 2, r"c\.jsonl:2: id 'a' occurs twice"),
    ],
)
def test_curated_files_are_strict(tmp_path, rows, message):
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=message):
        read_curated(tmp_path / "c.jsonl")
