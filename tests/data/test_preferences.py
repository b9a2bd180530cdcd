"""Pairs of answers out of files of every kind, each row counted once."""

import json

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.data.preferences import Preference, encode_preferences, hold_out, limited, read_preferences
from humpback_jax.prompts.prompts import load_prompts
from humpback_jax.tokenizers import load_tokenizer

GOOD = {"prompt": "Name a bird.", "chosen": "A wren.", "rejected": "Bird."}


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    "row",
    [
        GOOD,
        GOOD | {"prompt": [user("Name a bird.")], "chosen": [assistant("A wren.")], "rejected": [assistant("Bird.")]},
        {
            "chosen": [user("Name a bird."), assistant("A wren.")],
            "rejected": [user("Name a bird."), assistant("Bird.")],
        },
        GOOD | {"chosen": [user("Name a bird."), assistant("A wren.")]},
        {"Question": " Name a bird. ", "CHOSEN": "A wren.\n", "Rejected": "Bird."},
    ],
    ids=["texts", "messages", "conversations", "one_conversation", "other_names"],
)
def test_a_row_gives_a_pair_whatever_its_form(tmp_path, row):
    report = read_preferences(written(tmp_path / "pairs.jsonl", [row]))
    assert [(p.turns, p.chosen, p.rejected) for p in report.pairs] == [(("Name a bird.",), "A wren.", "Bird.")]
    assert report.counts == {"in": 1, "out": 1, "rejected": {}}


def test_earlier_turns_and_a_system_text_are_part_of_the_prompt(tmp_path):
    turns = [{"role": "system", "content": "Be brief."}, user("Hi."), assistant("Hello."), user("A bird?")]
    report = read_preferences(written(tmp_path / "pairs.jsonl", [GOOD | {"prompt": turns}]))
    assert report.pairs[0].turns == ("Be brief.\n\nHi.", "Hello.", "A bird?")


BAD = {
    "no_chosen": {"prompt": "Q", "rejected": "x"},
    "no_rejected": {"prompt": "Q", "chosen": "x"},
    "no_prompt": {"chosen": "x", "rejected": "y"},
    "equal_answers": GOOD | {"rejected": "A  wren."},
    "empty_chosen": GOOD | {"chosen": "  "},
    "no_question": GOOD | {"prompt": [user("Q"), assistant("A")]},
    "other_prompt": GOOD | {"chosen": [user("Another."), assistant("A wren.")]},
    "duplicate": GOOD,
    "other_way_round": GOOD | {"chosen": "Bird.", "rejected": "A wren."},
    "not_a_text": GOOD | {"chosen": {"a": 1}},
}


def test_every_bad_row_is_counted_by_its_reason(tmp_path):
    path = written(tmp_path / "pairs.jsonl", [GOOD, *BAD.values()])
    report = read_preferences(path)
    assert report.counts == {"in": 1 + len(BAD), "out": 1, "rejected": dict.fromkeys(sorted(BAD), 1)}
    assert len(report.problems) == len(BAD)
    assert all(problem.startswith(f"{path}:") for problem in report.problems)


@pytest.mark.parametrize("rows", [[], [BAD["no_chosen"]], [GOOD | {"rejected": "A wren."}]])
def test_a_file_without_a_pair_is_an_error_that_says_what_a_row_needs(tmp_path, rows):
    with pytest.raises(ValueError, match=r"holds no pair of answers|is empty"):
        read_preferences(written(tmp_path / "pairs.jsonl", rows))


def message(name, text, replies=(), rank=None, **fields):
    return {"message_id": name, "text": text, "lang": "en", "rank": rank, "replies": list(replies)} | fields


def tree(number, replies):
    return {"message_tree_id": f"t{number}", "prompt": message(f"p{number}", f"Question {number}?", replies)}


def deep_tree():
    second = [
        message("d", "Third best.", rank=2),
        message("e", "First.", rank=0),
        message("f", "Deleted.", rank=1, deleted=True),
    ]
    return tree(0, [
        message("a", "Good.", [message("q", "And now?", second)], rank=0),
        message("b", "Bad.", rank=1),
        message("c", "Worse.", rank=2),
    ])  # fmt: skip


def flat(row, parent=None, tree_id="t0"):
    yield {k: v for k, v in row.items() if k != "replies"} | {"parent_id": parent, "message_tree_id": tree_id}
    for reply in row["replies"]:
        yield from flat(reply, row["message_id"], tree_id)


def test_the_best_ranked_reply_of_every_turn_beats_each_worse_one(tmp_path):
    rows = [deep_tree(), tree(1, [message("x", "One.", rank=0), message("y", "Two.", rank=0)])]
    report = read_preferences(written(tmp_path / "trees.jsonl", rows))
    assert [(p.turns, p.chosen, p.rejected) for p in report.pairs] == [
        (("Question 0?",), "Good.", "Bad."),
        (("Question 0?",), "Good.", "Worse."),
        (("Question 0?", "Good.", "And now?"), "First.", "Third best."),
    ]
    assert {p.of for p in report.pairs} == {"t0"}
    assert report.counts == {"in": 4, "out": 3, "rejected": {"no_two_ranks": 1}}


def test_messages_in_any_order_give_the_pairs_of_their_trees(tmp_path):
    messages = list(flat(deep_tree()["prompt"]))
    shuffled = [messages[i] for i in np.random.default_rng(1).permutation(len(messages))]
    trees = read_preferences(written(tmp_path / "trees.jsonl", [deep_tree()]))
    assert read_preferences(written(tmp_path / "messages.jsonl", shuffled)).pairs == trees.pairs


def test_real_trees_and_messages_agree(shared_data):
    folder = shared_data / "seed"
    trees = read_preferences(folder / "oasst1_en_validation.trees.jsonl.gz")
    messages = read_preferences(folder / "oasst1_en_validation.messages.jsonl")
    assert len(trees.pairs) > 300 and len({len(p.turns) for p in trees.pairs}) > 1
    assert {p.id for p in trees.pairs} == {p.id for p in messages.pairs}


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
rows = st.fixed_dictionaries({}, optional={
    "prompt": texts | st.none() | st.lists(st.builds(user, texts) | st.builds(assistant, texts), max_size=4),
    "chosen": texts | st.integers() | st.lists(st.builds(assistant, texts), max_size=2),
    "rejected": texts | st.none() | st.dictionaries(texts, texts, max_size=1),
})  # fmt: skip


@given(st.lists(rows, min_size=1, max_size=8))
def test_whatever_the_rows_each_is_counted_once(tmp_path_factory, rows):
    path = written(tmp_path_factory.mktemp("fuzz") / "pairs.jsonl", [GOOD, *rows])
    counts = read_preferences(path).counts
    assert counts["in"] == len(rows) + 1 == counts["out"] + sum(counts["rejected"].values())


def some_pairs(number):
    return [
        Preference(f"p{i}", (f"Q{i // 3}",), "yes " * (i + 1), "no", f"tree {i // 3}", "test") for i in range(number)
    ]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_trees_are_held_out_whole_and_by_their_names_alone(share):
    pairs = some_pairs(30)
    training, held = hold_out(pairs, share)
    assert len(held) == round(share * 10) * 3
    assert not {p.of for p in training} & {p.of for p in held}
    assert {p.id for p in hold_out(pairs[::-1], share)[1]} == {p.id for p in held}
    with pytest.raises(ValueError, match="1 prompts or trees cannot be split"):
        hold_out(pairs[:3], 0.5)


def test_pairs_that_do_not_fit_are_counted(byte_tokenizer_dir):
    tokenizer, chat_format = load_tokenizer(byte_tokenizer_dir), ChatFormat("chatml")
    encode = lambda room, window: encode_preferences(  # noqa: E731
        some_pairs(12), tokenizer, chat_format, load_prompts(), ("seed",), room, window
    )
    whole = encode(10_000, 10_000)
    assert whole.counts == {"in": 12, "out": 12, "rejected": {}}
    sizes = sorted(pair.num_positions for pair in whole.pairs)
    longest = sorted(pair.chosen.num_positions for pair in whole.pairs)
    assert encode(sizes[7], 10_000).counts == {"in": 12, "out": 8, "rejected": {"too_long": 4}}
    assert encode(10_000, longest[4]).counts == {"in": 12, "out": 5, "rejected": {"past_window": 7}}


def test_a_limit_is_counted(tmp_path):
    report = read_preferences(written(tmp_path / "p.jsonl", [GOOD | {"prompt": f"Q{i}"} for i in range(9)]))
    few = limited(report, 4)
    assert few.counts == {"in": 9, "out": 4, "rejected": {"over_limit": 5}} and len(few.pairs) == 4
    assert {p.id for p in limited(report, 3).pairs} < {p.id for p in few.pairs}
