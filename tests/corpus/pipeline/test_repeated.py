"""What stands at the edges of many of a site's segments is cut; copies of one page keep their paragraphs."""

import json
from collections import Counter

import pytest

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.pipeline import repeated
from humpback_jax.corpus.pipeline.rows import unpack
from humpback_jax.corpus.segment import Segment

CONFIG = CorpusConfig(min_chars=20, repeated_on_pages=3)
SHARE = "Share this page with your friends and your neighbours."
ABOUT = "The author lives by the sea and writes about boats."


def segment(page, *paragraphs, domain="a.example", header="About boats"):
    return Segment(f"http://{domain}/{page}", header, "\n\n".join(paragraphs), domain)


def body(page):
    return f"Boat {page} sails in the morning of day {page}, rests at noon and comes home in the evening of day {page}."


def trim(segments, config=CONFIG):
    """(texts in order, counts of drops) of the three steps, as an engine would run them."""
    groups = {}
    for made in segments:
        for row in repeated.rows_of(made):
            groups.setdefault((row.dataset, row.key), []).append((row.order, row.payload))
    for (dataset, key), rows in list(groups.items()):
        if dataset == repeated.PARAGRAPHS:
            for row in repeated.mark(key, iter(sorted(rows)), config.repeated_on_pages):
                groups[repeated.BY_ID, row.key].append((row.order, row.payload))
    texts, dropped = [], Counter()
    for (dataset, key), rows in groups.items():
        if dataset == repeated.BY_ID:
            for row in repeated.trim(key, iter(sorted(rows)), config):
                if row.dataset == repeated.ON_SITE:
                    dropped[row.dataset] += 1
                else:
                    found, source = unpack(row.payload)
                    assert found["id"] == source["id"] == Segment(found["url"], found["header"], found["text"]).id
                    texts.append(found["text"])
    return sorted(texts), dropped


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


def test_rows_are_plain_json():
    rows = list(repeated.rows_of(segment(1, body(1), SHARE)))
    assert json.loads(rows[0].payload)[0]["text"] == f"{body(1)}\n\n{SHARE}"
    assert {row.dataset for row in rows[1:]} == {repeated.PARAGRAPHS}
