"""Seed readers: Open Assistant both ways, JSON lines, Alpaca, and what bad files get."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.data.pairs import Pair, read_curated, read_pairs, write_pairs

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
        "reply_not_english": ([{**good, "lang": "de"}], {}),
        "reply_empty": ([{**good, "text": " \n"}], {}),
        "prompt_deleted": ([good], {"deleted": True}),
        "prompt_failed_review": ([good], {"review_result": False}),
        "prompt_not_english": ([good], {"lang": "es"}),
        "prompt_empty": ([good], {"text": ""}),
        "kept, not reviewed": ([{**good, "review_result": None}], {}),
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
    assert nested == flat
    assert nested.counts["rejected"] == {name: 1 for name in sorted(trees) if not name.startswith("kept")}
    assert [(pair.id, pair.instruction, pair.output) for pair in nested.pairs] == [
        ("kept-r0", "Why?", "Best"),
        ("kept, not reviewed-r0", "Why?", "Best"),
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
    ("name", "content", "message"),
    [
        (
            "s.jsonl",
            '{"instruction": "a", "output": "b"}\n{"instruction": "a"}',
            r"s\.jsonl:2: no 'output'.*'instruction'",
        ),
        ("s.jsonl", '{"output": "b"}', r"s\.jsonl:1: no 'instruction'"),
        ("s.jsonl", '{"instruction": "a", "output": 3}', r"s\.jsonl:1: 'output' must be a text, found int"),
        (
            "s.jsonl",
            '{"instruction": "a", "prompt": "b", "output": "c"}',
            r"s\.jsonl:1: both 'instruction' and 'prompt'",
        ),
        ("s.jsonl", PAIR + "\n[1]", r"s\.jsonl:2: expected a JSON object, found list"),
        ("s.jsonl", '{"instruction": "a", "outp', r"s\.jsonl:1: not valid JSON"),
        ("s.jsonl", "instruction,output\na,b", r"s\.jsonl: neither JSON lines nor a JSON list"),
        ("s.jsonl", "", r"s\.jsonl: neither JSON lines nor a JSON list"),
        (
            "s.json",
            f'[{PAIR}, {{"instruction": "c"}}]',
            r"s\.json: record 2 of 2: no 'output'",
        ),
        ("s.json", '[{"instruction": "a", ]', r"s\.json:1: not valid JSON"),
        ("s.json", "[3]", r"s\.json: record 1 of 1: expected a JSON object"),
        ("t.jsonl", '{"message_tree_id": "x", "prompt": "y"}', r"t\.jsonl:1: no 'prompt' message"),
        ("m.jsonl", '{"message_tree_id": "x", "text": "y"}', r"m\.jsonl:1: a message without 'message_id'"),
    ],
)
def test_bad_records_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_pairs(tmp_path / name)


def test_a_cut_gzip_file_and_other_encodings_are_named(tmp_path):
    lines = b"".join(b'{"instruction": "a", "output": "%d"}\n' % i for i in range(5000))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(lines, mtime=0)[:-200])
    with pytest.raises(ValueError, match=r"cut\.jsonl\.gz: damaged gzip after line \d+"):
        read_pairs(tmp_path / "cut.jsonl.gz")
    (tmp_path / "no.jsonl.gz").write_bytes(lines)
    with pytest.raises(ValueError, match=r"no\.jsonl\.gz: not readable"):
        read_pairs(tmp_path / "no.jsonl.gz")
    (tmp_path / "latin.jsonl").write_bytes('{"instruction": "é", "output": "b"}'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.jsonl: not "):
        read_pairs(tmp_path / "latin.jsonl")


def test_bad_arguments(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.jsonl does not exist"):
        read_pairs(tmp_path / "gone.jsonl")
    with pytest.raises(ValueError, match="'csv'; choose auto or one of jsonl, alpaca"):
        read_pairs(tmp_path / "gone.jsonl", format="csv")
    with pytest.raises(ValueError, match="limit is 0"):
        read_pairs(tmp_path / "gone.jsonl", limit=0)


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
