"""The model tells answers from segments, says how well, and is the same wherever it is trained and read."""

import json
import random

import pytest

from humpback_jax.corpus.filters import answer_likeness
from humpback_jax.files import sha256_of_bytes

OPENINGS = ("You can", "To do this, first", "The main reason is that", "Here is how to", "In short, it means that you")
TOPICS = ("bake bread", "mend a bicycle", "read a map", "grow beans", "paint a wall", "learn chords", "sharpen a knife")
NEWS = (
    "Officials said on Monday",
    "Shares fell by",
    "Posted in category",
    "The committee announced",
    "Copyright holder",
)


def texts(openings: tuple[str, ...], number: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [
        " ".join(f"{rng.choice(openings)} {rng.choice(TOPICS)} {rng.random():.3f}." for _ in range(9))
        for _ in range(number)
    ]


ANSWERS, SEGMENTS = texts(OPENINGS, 60, 1), texts(NEWS, 200, 2)


def test_it_learns_and_says_how_well() -> None:
    model = answer_likeness.train(ANSWERS, SEGMENTS, seed=0)
    assert model.auc > 0.95 and (model.answers, model.segments) == (60, 200)
    assert min(map(model.score, texts(OPENINGS, 20, 3))) > 0.5 > max(map(model.score, texts(NEWS, 20, 4)))
    assert 0 <= model.score("") <= 1


def test_where_there_is_nothing_to_learn_it_says_so() -> None:
    same = texts(NEWS, 300, 5)
    assert 0.3 < answer_likeness.train(same[:100], same[100:], seed=0).auc < 0.7


def test_the_same_everywhere(tmp_path) -> None:
    model, again = (answer_likeness.train(ANSWERS, SEGMENTS, seed=3) for _ in range(2))
    assert model.to_bytes() == again.to_bytes()
    assert model.save(tmp_path / "model.npz") == sha256_of_bytes((tmp_path / "model.npz").read_bytes())
    read = answer_likeness.load(tmp_path / "model.npz")
    assert [read.score(text) for text in SEGMENTS[:20]] == [model.score(text) for text in SEGMENTS[:20]]
    assert read.auc == model.auc


def test_too_little_to_learn_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs 20 seed answers or more to learn from, found 3"):
        answer_likeness.train(ANSWERS[:3], SEGMENTS, seed=0)
    with pytest.raises(ValueError, match="needs 20 segments or more to learn from, found 0"):
        answer_likeness.train(ANSWERS, [], seed=0)


def test_a_file_that_is_no_model_is_named(tmp_path) -> None:
    (tmp_path / "m.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"m\.npz is no answer-likeness model"):
        answer_likeness.load(tmp_path / "m.npz")


def test_seed_answers_against_what_people_answered_elsewhere(shared_data) -> None:
    """Held-out AUC on real text: seed answers against paragraphs of real pages."""
    lines = (shared_data / "seed" / "seed_pairs.jsonl").read_text().splitlines()
    rows = (shared_data / "labels" / "pairs_dev.jsonl").read_text().splitlines()
    answers = [json.loads(line)["output"] for line in lines]
    segments = [json.loads(row)["output"] for row in rows]
    assert answer_likeness.train(answers, segments, seed=0).auc > 0.8
