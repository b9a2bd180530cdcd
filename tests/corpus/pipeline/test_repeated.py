"""What stands at the edges of many of a site's segments is cut; copies of one page keep their paragraphs."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.pipeline import repeated
from humpback_jax.corpus.pipeline.engine import number_text
from humpback_jax.corpus.pipeline.rows import (
    BY_ID,
    BY_TEXT,
    SEGMENT,
    alive_by_text,
    indexed,
    pack,
    row_of,
    rows_by_text,
    segments_of,
    text_hash,
    unpack,
)
from humpback_jax.corpus.segment import Segment

CONFIG = CorpusConfig(min_chars=20, repeated_on_pages=3)
SHARE = "Share this page with your friends and your neighbours."
ABOUT = "The author lives by the sea and writes about boats."


def segment(page, *paragraphs, domain="a.example", header="About boats"):
    return Segment(f"http://{domain}/{page}", header, "\n\n".join(paragraphs), domain)


def body(page):
    return f"Boat {page} sails in the morning of day {page}, rests at noon and comes home in the evening of day {page}."


def trim(segments, config=CONFIG):
    """(texts in order, counts of drops) of the steps, as an engine would run them."""
    by_id, marks, places = {}, {}, {}
    for place, made in enumerate(segments):
        row, source = made.to_rows()
        by_id.setdefault(made.id, []).append((f"{SEGMENT}\t{place}", pack(row, source)))
        for paragraphs in repeated.edge_rows(row):
            for number in paragraphs.keys.tolist():
                places.setdefault(number_text(number), []).append((paragraphs.order, ""))
    for key, orders in places.items():
        for row in repeated.mark(key, iter(sorted(orders)), config.repeated_on_pages):
            marks.setdefault(row.key, []).append((row.order, row.payload))
    groups = {key: rows + marks.get(key, []) for key, rows in by_id.items()}
    made = [row for key, rows in groups.items() for row in repeated.trim(key, iter(rows), config, is_indexed=True)]
    for row in made:
        if row.dataset in (BY_ID, repeated.TAKEN_BACK):
            by_id.setdefault(row.key, []).append((row.order, row.payload))
    texts = []
    for key, rows in by_id.items():
        for _, payload in segments_of(iter(sorted(rows))):
            found, source = unpack(payload)
            assert key == found["id"] == source["id"] == Segment(found["url"], found["header"], found["text"]).id
            texts.append(found["text"])
    assert Counter(texts) == alive_texts(segments, made)
    return sorted(texts), Counter(row.dataset for row in made if row.dataset == repeated.ON_SITE)


def alive_texts(segments, made):
    """The texts by the small rows: those of the segments, without what was taken back, and those of the changed."""
    names = {text_hash(segment.text): segment.text for segment in segments}
    names |= {text_hash(text): text for text in (row_of(row.payload)["text"] for row in made if row.dataset == BY_ID)}
    whole = [indexed(segment.to_rows()[0], str(place)) for place, segment in enumerate(segments)]
    by_text = {}
    for row in [*rows_by_text(whole, SEGMENT, None), *(row for row in made if row.dataset == BY_TEXT)]:
        by_text.setdefault(row.key, []).append((row.order, row.payload))
    alive = {names[key]: len(list(alive_by_text(iter(sorted(rows))))) for key, rows in by_text.items()}
    return Counter({text: count for text, count in alive.items() if count})


@pytest.mark.parametrize("pages, is_cut", [(2, False), (3, True), (9, True)])
def test_both_edges_are_cut_where_enough_pages_say_it(pages, is_cut):
    texts, dropped = trim([segment(i, ABOUT, body(i), body(-i), SHARE.upper()) for i in range(1, pages + 1)])
    whole = [f"{ABOUT}\n\n{body(i)}\n\n{body(-i)}\n\n{SHARE.upper()}" for i in range(1, pages + 1)]
    assert texts == sorted(f"{body(i)}\n\n{body(-i)}" for i in range(1, pages + 1)) if is_cut else sorted(whole)
    assert not dropped


def test_copies_of_one_page_lose_nothing():
    copies = [segment(f"version{i}", ABOUT, body(1), SHARE) for i in range(5)]
    assert trim(copies) == ([f"{ABOUT}\n\n{body(1)}\n\n{SHARE}"] * 5, {})


def test_another_site_is_another_matter():
    made = [segment(i, body(i), SHARE, domain=f"{i}.example") for i in range(5)]
    assert trim(made)[0] == sorted(made_segment.text for made_segment in made)


def test_a_segment_of_such_paragraphs_is_dropped():
    made = [segment(i, body(i), SHARE) for i in range(4)] + [segment(9, "Buy it.", SHARE)]
    texts, dropped = trim(made)
    assert texts == sorted(body(i) for i in range(4)) and dropped == {"repeated_on_site": 1}


def test_the_middle_of_a_segment_and_its_header_stay():
    before, after = ([[f"{body(sign * i)} {j}" for j in range(4)] for i in range(4)] for sign in (1, -1))
    inner = [segment(i, *before[i], SHARE, *after[i]) for i in range(4)]
    assert all(SHARE in text for text in trim(inner)[0])
    headed = [segment(i, "About boats", body(i), body(-i)) for i in range(4)]
    assert all(text.startswith("About boats\n\n") for text in trim(headed)[0])


def test_a_paragraph_of_very_many_places_is_marked_at_each():
    """Those that came before it was known to be repeated are marked too, and no place is held as a text."""
    orders = [(f"{page:04d}\t{page // 40}\t{page:020x}", "") for page in range(200)]
    assert [row.key for row in repeated.mark("key", iter(orders), 5)] == [f"{page:020x}" for page in range(200)]
    assert not list(repeated.mark("key", iter(orders), 6))


@given(st.lists(st.text("ab ", min_size=1, max_size=4), min_size=1, max_size=9))
def test_the_company_is_the_longest_other_paragraph(paragraphs):
    row, _ = segment(1, *paragraphs, header="").to_rows()
    found = {order.split("\t")[1]: set(map(number_text, keys.tolist())) for _, keys, order in repeated.edge_rows(row)}
    expected = {}
    for paragraph in {*paragraphs[:3], *paragraphs[-3:]}:
        others = sorted({*paragraphs} - {paragraph}, key=lambda text: (-len(text), text))
        company = others[0] if others else ""
        expected.setdefault(text_hash(company), set()).add(repeated._name("a.example", paragraph))
    assert found == expected
