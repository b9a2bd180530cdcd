"""Which segments are drawn where not all are wanted: uniformly over domains, with a cap per domain.

Within a domain segments are ranked by a hash of the seed and their id. All of rank 0 are taken before any of rank 1,
and of the last rank that is needed as many as are wanted, by another hash. A segment's place depends on no other
domain, so that new files change what was drawn as little as they must.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping

from humpback_jax.corpus.pipeline.engine import GroupRows, Row
from humpback_jax.corpus.pipeline.rows import DROPPED, SEGMENT

DOMAINS, RANKED, OVER_CAP, NOT_SAMPLED = "domains", "ranked", "over_domain_cap", "not_sampled"


@dataclasses.dataclass(frozen=True)
class Cut:
    """All ranks below `rank` are taken, and the first `quota` of this rank."""

    rank: int
    quota: int


def by_domain(key: str, rows: GroupRows, seed: int) -> Iterator[Row]:
    """A segment that no earlier step has dropped, under its domain."""
    order, domain = next(rows)
    if order == SEGMENT and next(rows, None) is None:
        yield Row(DOMAINS, domain, _hash(seed, "within", key), key)


def rank(key: str, rows: GroupRows, seed: int, max_per_domain: int | None) -> Iterator[Row]:
    """The segments of a domain under their rank, those over the cap as dropped."""
    for place, (_, segment) in enumerate(rows):
        if max_per_domain is not None and place >= max_per_domain:
            yield Row(OVER_CAP, segment, DROPPED)
        else:
            yield Row(RANKED, f"{place:012d}", f"{_hash(seed, 'across', segment)}\t{segment}", "1")


def cut_for(segments_by_rank: Mapping[str, int], num_segments: int) -> Cut:
    """Where to cut so that `num_segments` are taken, or all if there are fewer."""
    left = num_segments
    for name in sorted(segments_by_rank):
        if left <= segments_by_rank[name]:
            return Cut(int(name), left)
        left -= segments_by_rank[name]
    return Cut(len(segments_by_rank), 0)


def drop_beyond(key: str, rows: GroupRows, cut: Cut) -> Iterator[Row]:
    """The segments of a rank that are not taken."""
    for place, (order, _) in enumerate(rows):
        if int(key) > cut.rank or (int(key) == cut.rank and place >= cut.quota):
            yield Row(NOT_SAMPLED, order.partition("\t")[2], DROPPED)


def _hash(seed: int, purpose: str, segment: str) -> str:
    return hashlib.sha256(f"{seed}\0{purpose}\0{segment}".encode()).hexdigest()[:24]
