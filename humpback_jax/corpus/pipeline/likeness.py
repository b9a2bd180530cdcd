"""Between two steps: a model that tells seed answers from segments, and what it makes of each segment."""

import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence

from humpback_jax.corpus.filters import answer_likeness
from humpback_jax.corpus.pipeline.engine import GroupRows, Row
from humpback_jax.corpus.pipeline.rows import BY_ID, SEGMENT, indexed, pack, row_of, rows_by_text, segments_of, unpack

LOW = "low_answer_likeness"
SCORE = "answer_likeness"
TRAINED_ON = 5_000  # segments, or all if there are fewer


def alive(key: str, rows: GroupRows) -> Iterator[Row]:
    """The segments of an id that the steps before have left, as if they had been cut like that."""
    yield from (Row(BY_ID, key, f"{SEGMENT}\t{place}", payload) for place, payload in segments_of(rows))


def train(payloads: Iterable[str], num_rows: int, answers: Sequence[str], seed: int) -> answer_likeness.AnswerModel:
    """Trains on about `TRAINED_ON` of the segments, drawn by a hash of their id: the order they come in is nothing."""
    chosen = {}
    for payload in payloads:
        row = row_of(payload)
        if _fraction(seed, row["id"]) * num_rows < TRAINED_ON:
            chosen[row["id"]] = row["text"]
    return answer_likeness.train(answers, [chosen[name] for name in sorted(chosen)], seed)


def score(key: str, rows: GroupRows, model: str, least: float, threshold: float | None) -> Iterator[Row]:
    """The segments of one id with their score, or why they are dropped."""
    value = None
    for order, payload in rows:
        row, source = unpack(payload)
        if value is None:
            value = _load(model).score(row["text"])
        if value < least:
            yield Row(LOW, key, order)
            continue
        place = order.partition("\t")[2]
        yield Row(BY_ID, key, order, pack(row | {"scores": row["scores"] | {SCORE: value}}, source))
        yield from rows_by_text([indexed(row, place)], SEGMENT, threshold)


@functools.cache
def _load(path: str) -> answer_likeness.AnswerModel:
    return answer_likeness.load(path)


def _fraction(seed: int, segment: str) -> float:
    """Between 0 and 1, uniform over segments."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0likeness\0{segment}".encode()).digest()[:8]) / 2**64
