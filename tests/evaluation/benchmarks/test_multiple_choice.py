"""Benchmarks and continuations on the tiny model: wording, seams, truncation, accuracies, damaged files."""

import json

import numpy as np
import pytest

from humpback_jax.evaluation.benchmarks.continuations import (
    ContinuationScorer,
    Encoded,
    ScoringConfig,
    adds_bos,
    buckets_up_to,
)
from humpback_jax.evaluation.benchmarks.multiple_choice import (
    accuracy_figures,
    read_questions,
    read_task,
    run_benchmarks,
)
from humpback_jax.stages.model import open_named_model

QUESTIONS = [
    {"id": "q0", "question": "Sky?", "choices": ["blue", "red and green"], "answer": 0},
    {"question": "Grass? ", "choices": ["pink", "green", "x"], "answer": 1},
]


@pytest.fixture(scope="module")
def scorer(tiny_model_dir):
    return ContinuationScorer(open_named_model(tiny_model_dir), ScoringConfig(max_length=63))


@pytest.fixture
def folder(tmp_path):
    lines = lambda rows: "".join(json.dumps(row) + "\n" for row in rows)  # noqa: E731
    (tmp_path / "piqa.jsonl").write_text(lines(QUESTIONS))
    (tmp_path / "mmlu_test.jsonl").write_text(lines(row | {"subject": "high_sky"} for row in QUESTIONS))
    (tmp_path / "mmlu_dev.jsonl").write_text(lines(row | {"subject": "high_sky"} for row in QUESTIONS))
    return tmp_path


def test_items_are_worded_as_the_harness_words_them(folder):
    first, second = read_task("piqa", folder)
    assert first.context == "Question: Sky?\nAnswer:"
    assert first.continuations == (" blue", " red and green")
    assert (first.id, second.id, first.lengths) == ("q0", "piqa-2", (4, 13))
    item = read_task("mmlu", folder, shots=1)[1]
    assert item.context == (
        "The following are multiple choice questions (with answers) about high sky.\n\n"
        "Sky?\nA. blue\nB. red and green\nAnswer: A\n\nGrass?\nA. pink\nB. green\nC. x\nAnswer:"
    )
    assert item.continuations == (" A", " B", " C")
    assert read_questions("piqa", folder, 1) == {"q0": "Sky?"}


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"question": "a", "choices": ["b", "c"]}', "expected a question, a list of choices, and answer"),
        ('{"question": "a", "choices": ["b", "c"], "answer": 2}', "answer 2 is no index of 2 choices"),
        ('{"question": "a", "choices": ["b"], "answer": 0}', "answer 0 is no index of 1 choices"),
        ("", "holds no question"),
    ],
    ids=["no answer", "index", "one choice", "empty"],
)
def test_a_damaged_file_is_named(tmp_path, line, message):
    (tmp_path / "piqa.jsonl").write_text(line)
    with pytest.raises(ValueError, match=message):
        read_task("piqa", tmp_path)


def test_what_is_not_there_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match=r"unknown benchmark 'hellaswag'; choose from arc_easy"):
        read_task("hellaswag", folder)
    with pytest.raises(FileNotFoundError, match=r"arc_easy\.jsonl is missing; give the folder"):
        read_task("arc_easy", folder)
    with pytest.raises(ValueError, match="no file of solved examples"):
        read_task("piqa", folder, shots=2)
    with pytest.raises(ValueError, match="2 solved examples of its subject, 3 are wanted"):
        read_task("mmlu", folder, shots=3)


def test_accuracies_are_means_over_items_and_subjects():
    rows = [(True, False, "a"), (True, False, "a"), (False, True, "b")]
    figures = accuracy_figures([dict(zip(("correct", "correct_norm", "subject"), row, strict=True)) for row in rows])
    assert (figures["acc"], figures["acc_norm"]) == pytest.approx((200 / 3, 100 / 3))
    assert figures["acc_mean_of_subjects"] == pytest.approx(50.0)
    assert figures["acc_stderr"] == pytest.approx(100 * np.std([1, 1, 0], ddof=1) / 3**0.5)


def test_spaces_before_the_seam_belong_to_the_continuation(scorer):
    encode = scorer.model.tokenizer.encode
    assert scorer.encode("ab ", "cd") == Encoded(tuple(encode("ab")), tuple(encode(" cd")))
    assert scorer.encode("", "cd") == Encoded((scorer.prefix_id,), tuple(encode("cd")))
    assert not adds_bos(scorer.model.tokenizer)
    with pytest.raises(ValueError, match="no token of its own"):
        scorer.encode("ab", "")


def test_chat_questions_are_turns(tiny_model_dir):
    model = open_named_model(tiny_model_dir)
    chat = ContinuationScorer(model, ScoringConfig(chat=True, tags=("seed",)))
    encoded = chat.encode("Sky?", " blue")
    assert encoded.context == model.prompt_ids(chat.prompts.tagged("Sky?", ("seed",)))
    assert model.tokenizer.decode(encoded.continuation) == "blue"


def test_a_long_context_loses_its_beginning_and_greedy_continuations_are_known(scorer):
    continuation = scorer.encode("x", " blue").continuation
    context = tuple(scorer.model.tokenizer.encode("The sky is of the colour that " * 4))
    cut = context[-(64 - len(continuation)) :]
    values, _ = scorer.score([Encoded(context, continuation), Encoded(cut, continuation)])
    assert values[0] == pytest.approx(values[1], abs=1e-5)
    first = scorer.engine(64).candidate_log_probs([("p", cut)], [list(range(320))])[0]
    best = int(np.argmax(first))
    values, greedy = scorer.score([Encoded(cut, (best,)), Encoded(cut, ((best + 1) % 320,))])
    assert greedy.tolist() == [True, False]
    assert values[0] == pytest.approx(float(first[best]), abs=1e-4)
    with pytest.raises(ValueError, match="does not fit max_length 63"):
        scorer.score([Encoded((1,), (1,) * 64)])


def test_a_benchmark_runs(scorer, folder):
    figures, results = run_benchmarks(scorer, ["piqa"], folder)
    assert figures["piqa"]["items"] == len(results["piqa"]) == 2
    assert figures["piqa"]["choices_per_second"] > 0
    assert [len(result["log_likelihoods"]) for result in results["piqa"]] == [2, 3]


@pytest.mark.parametrize(
    "length, buckets",
    [
        (40, (64,)),
        (64, (64,)),
        (513, (64, 128, 256, 512, 544)),
        (8193, (64, 128, 256, 512, 1024, 2048, 4096, 8192, 8224)),
    ],
)
def test_the_last_bucket_holds_the_longest(length, buckets):
    assert buckets_up_to(length) == buckets
