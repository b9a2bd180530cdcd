"""Segments that say the same: copies, and near copies whose word shingles were compared before one is dropped.

Candidates come from MinHash and locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of
Massive Datasets, 3.4): segments that share a band of their signatures. A band that very many share is compared with its
first `LEADERS` alone. Every candidate pair is then compared by the exact Jaccard similarity of its shingles.

Texts that fill one template (a function of a library each, a town each) are similar and say different things: they are
no duplicates, see `have_different_titles` and `have_different_subjects`.

Of a pair the one with the smaller id, a hash of its content, goes first. In this order a segment is dropped if it is
similar to an earlier one that is kept: nothing is dropped for the sake of a segment that is dropped itself.
"""

import dataclasses
import difflib
import hashlib
import itertools
import json
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import rensa

from humpback_jax.corpus.pipeline.engine import GroupRows, Row
from humpback_jax.corpus.pipeline.rows import COMPARED, DROPPED, SEGMENT, file_number, unpack

UNIQUE, COPIES, LIGHT, BANDS = "unique", "copies", "light", "bands"
PAIRS, SIDES, EDGES, NEAR, DUPLICATES = "pairs", "sides", "edges", "near", "duplicates"

SHINGLE_WORDS = 2
LEAST_OF_LONGER = 0.75  # of the shingles of the longer of two duplicates, how many the shorter has at least
LEADERS = 16
MAX_BANDS = 25
FOUND_AT_THRESHOLD = 0.95  # probability that a pair just at the threshold becomes a candidate
SEED = 20_230_811  # of the hash functions; another one gives other candidates

# Scripts that put no spaces between words: each character is a word.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def words_of(text: str) -> list[str]:
    """The words of a text, without case and punctuation."""
    return _WORD.findall(text.casefold())


def shingles(words: Sequence[str]) -> set[str]:
    """The runs of `SHINGLE_WORDS` words; of a shorter text all its words as one."""
    if len(words) < SHINGLE_WORDS:
        return {" ".join(words)}
    return set(map(" ".join, zip(*(words[i:] for i in range(SHINGLE_WORDS)), strict=False)))


def similarity(first: set[str], second: set[str]) -> float:
    """Jaccard: what both have over what either has."""
    both = len(first & second)
    return both / (len(first) + len(second) - both)


@dataclasses.dataclass(frozen=True)
class Text:
    """A segment as it is compared: its header, the words of its text, and their shingles."""

    header: str
    words: list[str]
    shingles: set[str]

    @classmethod
    def of(cls, header: str, text: str) -> "Text":
        """Cuts a text into words."""
        words = words_of(text)
        return cls(header, words, shingles(words))


def are_duplicates(first: Text, second: Text, threshold: float) -> float | None:
    """The similarity of two segments if they say the same; else None.

    They do if their similarity is `threshold` or more, neither is longer by more than a third, and their subject is the
    same.
    """
    similar = similarity(first.shingles, second.shingles)
    sizes = sorted((len(first.shingles), len(second.shingles)))
    if similar < threshold or sizes[0] < LEAST_OF_LONGER * sizes[1]:
        return None
    if have_different_titles(first, second) or have_different_subjects(first.words, second.words):
        return None
    return similar


def have_different_titles(first: Text, second: Text) -> bool:
    """Whether each header has a word that its text says and the other header does not have."""
    headers = set(words_of(first.header)), set(words_of(second.header))
    return bool((headers[0] - headers[1]) & set(first.words) and (headers[1] - headers[0]) & set(second.words))


def have_different_subjects(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two similar texts fill one template with different facts.

    They do if each says a word three times that the other never says; if at two places, and at a third of all that
    differ, the same word of the one stands for the same word of the other, and neither text says both; or if two
    numbers are other numbers.
    """
    counts = Counter(first), Counter(second)
    alone, others = (
        {word: count for word, count in here.items() if word not in there} for here, there in (counts, counts[::-1])
    )
    if not alone or not others:
        return False
    if max(alone.values()) >= 3 and max(others.values()) >= 3:
        return True
    numbers = [sum(count for word, count in only.items() if word.isdecimal()) for only in (alone, others)]
    if min(numbers) < 2 and min(max(alone.values()), max(others.values())) < 2:
        return False
    replaced = list(_replaced(first, second))
    changes = Counter(pair for pair in replaced if pair[0] in alone and pair[1] in others)
    changed_numbers = sum(count for pair, count in changes.items() if all(word.isdecimal() for word in pair))
    most = max(changes.values(), default=0)
    return changed_numbers >= 2 or (most >= 2 and 3 * most >= len(replaced))


def _replaced(first: Sequence[str], second: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The words that stand at the same place of two aligned texts and are not the same."""
    for change, i, i_end, j, j_end in difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if change == "replace" and i_end - i == j_end - j:
            yield from zip(first[i:i_end], second[j:j_end], strict=True)


def bands_for(threshold: float) -> tuple[int, int]:
    """(bands, rows of a band): the most rows, which make the fewest false candidates, that still find what they must.

    A pair of similarity s is a candidate with probability 1 - (1 - s^rows)^bands.
    """
    for rows in range(16, 1, -1):
        missed = 1 - threshold**rows
        bands = math.ceil(math.log(1 - FOUND_AT_THRESHOLD) / math.log(missed)) if missed > 0 else 1
        if bands <= MAX_BANDS:
            return bands, rows
    return MAX_BANDS, 1


def band_keys(text: str, threshold: float) -> Iterator[str]:
    """The names of the text's bands: equal for texts whose signatures agree in a band."""
    bands, rows = bands_for(threshold)
    signature = rensa.RMinHash(num_perm=bands * rows, seed=SEED)
    signature.update(list(shingles(words_of(text))))
    digest = signature.digest()
    for band in range(bands):
        values = array("Q", digest[band * rows : (band + 1) * rows])
        yield f"{band:02d}{hashlib.blake2b(values.tobytes(), digest_size=8).hexdigest()}"


def drop_copies(key: str, rows: GroupRows, threshold: float | None, sampled: bool) -> Iterator[Row]:
    """Of segments of one text the first is kept: by its id, by its bands and by its domain; the others are copies."""
    _, payload = next(rows)
    kept, _ = unpack(payload)
    yield Row(UNIQUE, kept["id"], SEGMENT, payload)
    if threshold is not None:
        yield from (Row(BANDS, band, kept["id"]) for band in band_keys(kept["text"], threshold))
    if sampled:
        yield Row(LIGHT, kept["id"], SEGMENT, kept["domain"])
    for order, other in rows:
        row, _ = unpack(other)
        yield Row(COPIES, kept["id"], f"{COMPARED}\t{order}", _dropped(row, kept["id"], 1.0))


def pair_up(key: str, rows: GroupRows) -> Iterator[Row]:
    """Pairs of a band under the id of the earlier: every segment with those of the first `LEADERS` before it."""
    leaders: list[str] = []
    for member, _ in rows:
        yield from (Row(PAIRS, leader, f"{COMPARED}\t{member}") for leader in leaders)
        if len(leaders) < LEADERS:
            leaders.append(member)


def send_texts(key: str, rows: GroupRows) -> Iterator[Row]:
    """The header and text of the earlier of a pair to the later one, once however many bands they share."""
    _, payload = next(rows)
    side = None
    for order, _ in itertools.groupby(rows, _order):
        if side is None:
            row = unpack(payload)[0]
            side = json.dumps([row["header"], row["text"]], ensure_ascii=False)
        yield Row(SIDES, order.partition("\t")[2], f"{COMPARED}\t{key}", side)


def compare(key: str, rows: GroupRows, threshold: float) -> Iterator[Row]:
    """The pairs of a segment with earlier ones whose similarity is `threshold` or more."""
    _, payload = next(rows)
    row, own = None, None
    for order, side in rows:
        if row is None or own is None:
            row, _ = unpack(payload)
            own = Text.of(row["header"], row["text"])
        if (similar := are_duplicates(Text.of(*json.loads(side)), own, threshold)) is not None:
            leader = order.partition("\t")[2]
            yield Row(EDGES, "", f"{key}\t{leader}", _dropped(row, leader, similar))


def drop_near(key: str, rows: GroupRows) -> Iterator[Row]:
    """Of all similar pairs, in the order of the later one's id: which segments are dropped, and for whose sake.

    Holds the ids of those that are dropped, 20 characters each.
    """
    dropped: set[str] = set()
    for member, pairs in itertools.groupby(rows, _member):
        found = [json.loads(payload) for _, payload in pairs]
        kept = [pair for pair in found if pair["kept"] not in dropped]
        if kept:
            dropped.add(member)
            best = min(kept, key=lambda pair: (-pair["similarity"], pair["kept"]))
            yield Row(NEAR, member, DROPPED, json.dumps(best, ensure_ascii=False))


def name_kept(key: str, rows: GroupRows, files: int) -> Iterator[Row]:
    """All that was dropped, under the number of its file; a copy of what was dropped itself names what was kept."""
    near = None
    for order, payload in rows:
        pair = json.loads(payload)
        if order == DROPPED:
            near = pair
        elif near is not None:
            pair |= {"kept": near["kept"], "similarity": near["similarity"]}
        number = f"{file_number(pair['dropped'], files):05d}"
        yield Row(DUPLICATES, number, f"{pair['dropped']}\t{order}", json.dumps(pair, ensure_ascii=False))


def _dropped(row: dict[str, Any], kept: str, similar: float) -> str:
    pair = {"dropped": row["id"], "kept": kept, "similarity": round(similar, 4)}
    return json.dumps(pair | {"url": row["url"], "header": row["header"]}, ensure_ascii=False)


def _order(row: tuple[str, str]) -> str:
    return row[0]


def _member(row: tuple[str, str]) -> str:
    return row[0].partition("\t")[0]
