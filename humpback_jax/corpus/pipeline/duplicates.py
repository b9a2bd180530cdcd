"""Segments that say the same: copies, and near copies whose word shingles were compared before one is dropped.

Candidates come from MinHash and locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of
Massive Datasets, 3.4): segments that share a band of their signatures. A band that very many share is compared with its
first `LEADERS` alone. Every candidate pair is then compared by the exact Jaccard similarity of its shingles.

Texts that fill one template (a function of a library each, a town each) are similar and say different things: they are
no duplicates, see `have_different_titles` and `have_different_subjects`.

Of a pair the one with the smaller id, a hash of its content, goes first. In this order a segment is dropped if it is
similar to an earlier one that is kept: nothing is dropped for the sake of a segment that is dropped itself.
"""

import bisect
import dataclasses
import difflib
import itertools
import json
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence

from humpback_jax.corpus.pipeline.engine import AnyRow, GroupRows, NumberedRows, Row
from humpback_jax.corpus.pipeline.rows import (
    COMPARED,
    DROPPED,
    ID_CHARS,
    SEGMENT,
    alive_by_text,
    file_number,
    read_known,
    row_of,
    split_group,
)
from humpback_jax.corpus.pipeline.signatures import SHINGLE_WORDS, words_of

COPIES, NOT_KEPT, LIGHT, BANDS = "copies", "not_kept", "light", "bands"
PAIRS, SIDES, EDGES, NEAR, DUPLICATES = "pairs", "sides", "edges", "near", "duplicates"

LEAST_OF_LONGER = 0.75  # of the shingles of the longer of two duplicates, how many the shorter has at least
LEADERS = 16

_INSIDE_NAME = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_LEAST_PART = 3  # letters


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
    """Whether the header of each says what it is about and the other is not.

    It does by a word that its text says and the other header does not have, or by a part that begins a word which only
    its text says: `ResizeBilinear` over "resizes by bilinear interpolation" and `ResizeBicubic`.
    """
    headers = set(words_of(first.header)), set(words_of(second.header))
    if (headers[0] - headers[1]) & set(first.words) and (headers[1] - headers[0]) & set(second.words):
        return True
    parts, texts = tuple(map(_name_parts, (first.header, second.header))), (set(first.words), set(second.words))
    begins = tuple(parts[0] - parts[1]), tuple(parts[1] - parts[0])
    alone = texts[0] - texts[1], texts[1] - texts[0]
    return all(any(word.startswith(begins[side]) for word in alone[side]) for side in (0, 1))


def _name_parts(header: str) -> set[str]:
    """The words that names in a header are made of, "scatter" and "add" of `ScatterAdd`; none of two letters."""
    return {word for word in words_of(_INSIDE_NAME.sub(" ", header)) if len(word) >= _LEAST_PART}


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


def drop_copies(key: str, rows: GroupRows, is_sampled: bool) -> Iterator[AnyRow]:
    """Of segments of one text the first is kept: by its bands and by its domain; the others are copies."""
    kept = None
    for place, payload in alive_by_text(rows):
        bands, url, header, domain = read_known(payload)
        name = place[:ID_CHARS]
        if kept is None:
            kept = name
            if bands.size:
                yield NumberedRows(BANDS, bands, kept)
            if is_sampled:
                yield Row(LIGHT, kept, SEGMENT, domain)
            continue
        if name != kept:
            yield Row(NOT_KEPT, name, DROPPED)
        yield Row(COPIES, kept, f"{COMPARED}\t{place}", _dropped(name, url, header, kept, 1.0))


def pair_up(key: str, rows: GroupRows) -> Iterator[Row]:
    """Pairs of a band under the id of the earlier: every segment with those of the first `LEADERS` before it."""
    leaders: list[str] = []
    for member, _ in rows:
        yield from (Row(PAIRS, leader, f"{COMPARED}\t{member}") for leader in leaders)
        if len(leaders) < LEADERS:
            leaders.append(member)


def send_texts(key: str, rows: GroupRows) -> Iterator[Row]:
    """The header and text of the earlier of a pair to the later one, once however many bands they share."""
    payload, others = split_group(rows)
    side = None
    for order, _ in itertools.groupby(others, _order):
        if side is None:
            row = row_of(payload)
            side = json.dumps([row["header"], row["text"]], ensure_ascii=False)
        yield Row(SIDES, order.partition("\t")[2], f"{COMPARED}\t{key}", side)


def compare(key: str, rows: GroupRows, threshold: float) -> Iterator[Row]:
    """The pairs of a segment with earlier ones whose similarity is `threshold` or more."""
    payload, others = split_group(rows)
    row, own = None, None
    for order, side in others:
        if row is None or own is None:
            row = row_of(payload)
            own = Text.of(row["header"], row["text"])
        if (similar := are_duplicates(Text.of(*json.loads(side)), own, threshold)) is not None:
            leader = order.partition("\t")[2]
            yield Row(EDGES, "", f"{key}\t{leader}", _dropped(key, row["url"], row["header"], leader, similar))


def drop_near(key: str, rows: GroupRows) -> Iterator[Row]:
    """Of all similar pairs, in the order of the later one's id: which segments are dropped, and for whose sake.

    Holds 8 bytes of the id, a hash, for each of those that are dropped.
    """
    dropped = array("Q")  # in ascending order, as ids come
    for member, pairs in itertools.groupby(rows, _member):
        found = [json.loads(payload) for _, payload in pairs]
        kept = [pair for pair in found if not _holds(dropped, _number(pair["kept"]))]
        if kept:
            dropped.append(_number(member))
            best = min(kept, key=lambda pair: (-pair["similarity"], pair["kept"]))
            yield Row(NEAR, member, DROPPED, json.dumps(best, ensure_ascii=False))


def _holds(numbers: Sequence[int], number: int) -> bool:
    place = bisect.bisect_left(numbers, number)
    return place < len(numbers) and numbers[place] == number


def _number(segment: str) -> int:
    return int(segment[:16], 16)


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


def _dropped(segment: str, url: str, header: str, kept: str, similar: float) -> str:
    pair = {"dropped": segment, "kept": kept, "similarity": round(similar, 4), "url": url, "header": header}
    return json.dumps(pair, ensure_ascii=False)


def _order(row: tuple[str, str]) -> str:
    return row[0]


def _member(row: tuple[str, str]) -> str:
    return row[0].partition("\t")[0]
