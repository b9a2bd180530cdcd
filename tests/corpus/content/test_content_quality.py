"""How good content and sections are on real pages with gold text, and on segments that were read one by one."""

import importlib.util
import json
import pathlib
import types
from collections import Counter

import pytest

from humpback_jax.corpus.content.html import read_html
from humpback_jax.corpus.content.main_content import furniture_reasons
from humpback_jax.corpus.content.sections import choose_nested, cut_sections
from humpback_jax.corpus.filters import paper
from humpback_jax.corpus.readers.inputs import list_inputs
from humpback_jax.corpus.readers.pages import Page, read_pages

MIN_CHARS, MAX_CHARS = 600, 3000
UNUSABLE, CLEAN = [0, 0], [2, 2]


@pytest.fixture(scope="module")
def segment_quality(shared_data: pathlib.Path) -> types.ModuleType:
    path = shared_data.parent / "tools" / "segment_quality.py"
    spec = importlib.util.spec_from_file_location("segment_quality", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def segments_of(markup: str) -> list[str]:
    """Texts of the sections that pass the paper's filters, with the defaults of the corpus stage."""
    page = read_html(markup)
    fit = [
        section
        for section in cut_sections(page, furniture_reasons(page), MIN_CHARS, MAX_CHARS)
        if not paper.header_reason(section.header)
        and not paper.length_reason(text := page.text(section.blocks), MIN_CHARS, MAX_CHARS)
        and not paper.is_repetitive(text, 3, 0.8, 6)
    ]
    kept = choose_nested(fit)
    return [page.text(section.blocks) for section, is_kept in zip(fit, kept, strict=True) if is_kept]


def pages_in(archive: pathlib.Path, scratch: pathlib.Path) -> dict[str, str]:
    (file,) = list_inputs([archive], scratch)
    return {page.url: page.text for page in read_pages(file, 8_000_000) if isinstance(page, Page)}


def test_segments_of_pages_with_gold_text(
    shared_data: pathlib.Path, segment_quality: types.ModuleType, tmp_path: pathlib.Path
) -> None:
    web = shared_data / "web"
    pages = pages_in(web / "readability_pages.warc.gz", tmp_path)
    rows = [{"url": url, "text": text} for url, markup in pages.items() for text in segments_of(markup)]
    segments = tmp_path / "segments.jsonl"
    segments.write_text("".join(json.dumps(row) + "\n" for row in rows))
    figures = segment_quality.main(str(segments), str(web / "readability_gold.jsonl.gz"), as_json=True)
    assert figures["noise"] <= 0.05
    assert figures["furniture"] <= 0.02
    assert figures["found"] >= 0.40
    assert figures["pages_empty"] <= 0.35


def test_unusable_segments_are_dropped_and_clean_ones_kept(
    shared_data: pathlib.Path, segment_quality: types.ModuleType, tmp_path: pathlib.Path
) -> None:
    rows = [json.loads(line) for line in (shared_data / "labels" / "pairs_dev.jsonl").read_text().splitlines()]
    pages = pages_in(shared_data / "web" / "pages.warc.gz", tmp_path)
    kept: dict[str, Counter] = {}
    dropped: dict[str, list[bool]] = {"unusable": [], "clean": []}
    for row in rows:
        label = {tuple(UNUSABLE): "unusable", tuple(CLEAN): "clean"}.get(tuple(row["labels"]["text"]))
        if label is None:
            continue
        if row["url"] not in kept:
            texts = segments_of(pages[row["url"]])
            kept[row["url"]] = sum(map(segment_quality.shingles, texts), Counter())
        wanted = segment_quality.shingles(row["output"])
        dropped[label].append((kept[row["url"]] & wanted).total() < 0.5 * wanted.total())
    assert len(dropped["unusable"]) > 30
    assert len(dropped["clean"]) > 30
    assert sum(dropped["unusable"]) >= 0.9 * len(dropped["unusable"])
    assert sum(dropped["clean"]) <= 0.05 * len(dropped["clean"])
