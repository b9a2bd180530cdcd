"""Pairs as compressed text inside the page: one small index that filters read, and chunks of texts opened on demand."""

import base64
import dataclasses
import gzip
import json
from collections.abc import Sequence
from typing import Any

from humpback_jax.report.pairs import KEPT, PairRecord
from humpback_jax.report.words import clip, reason_label

CHUNK = 256
CLIP_INSTRUCTION, CLIP_HEADER = 220, 90


@dataclasses.dataclass(frozen=True)
class Payload:
    """What the page's script reads: gzip in base64, which holds no character that HTML could take for markup.

    Attributes:
      index: columns of every pair.
      chunks: per CHUNK pairs, the rows `[instruction, text, header, source, [[rationale, parsed, probabilities] per
        round]]`.
    """

    index: str
    chunks: list[str]


def make_payload(records: Sequence[PairRecord], rounds: Sequence[int]) -> Payload:
    chunks = [pack([_texts(r, rounds) for r in records[i : i + CHUNK]]) for i in range(0, len(records), CHUNK)]
    return Payload(pack(_index(records, rounds)), chunks)


def _index(records: Sequence[PairRecord], rounds: Sequence[int]) -> dict[str, Any]:
    domains = {name: place for place, name in enumerate(sorted({r.domain for r in records}))}
    reasons = [KEPT, *sorted({r.state(t) for r in records for t in rounds or [0]} - {KEPT})]
    codes = {reason: place for place, reason in enumerate(reasons)}
    return {
        "chunk": CHUNK,
        "rounds": list(rounds),
        "domains": list(domains),
        "reasons": [[reason, reason_label(reason) if reason else "Not selected yet"] for reason in reasons],
        "id": [r.id for r in records],
        "instruction": [clip(r.instruction, CLIP_INSTRUCTION) for r in records],
        "header": [clip(r.header, CLIP_HEADER) for r in records],
        "domain": [domains[r.domain] for r in records],
        "length": [len(r.output) for r in records],
        "flawed": [int(r.rejected is not None) for r in records],
        "state": [[codes[r.state(t)] for r in records] for t in rounds or [0]],
        "score": [[_rating(r, t) for r in records] for t in rounds],
    }


def _rating(record: PairRecord, t: int) -> float | None:
    rating = record.verdicts[t].rating if t in record.verdicts else None
    return None if rating is None else round(rating, 3)


def _texts(record: PairRecord, rounds: Sequence[int]) -> list[Any]:
    verdicts = [record.verdicts.get(t) for t in rounds]
    rated = [[v.rationale, v.parsed, [round(p, 3) for p in v.probabilities]] if v else None for v in verdicts]
    return [record.instruction, record.output, record.header, record.source, rated]


def pack(value: Any) -> str:
    """JSON as base64 of gzip; equal values give equal text. A lone surrogate becomes U+FFFD."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    data = text.encode("utf-8", errors="replace")
    return base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode()
