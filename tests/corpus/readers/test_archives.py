"""Archives of every make give their pages, each with the bytes that it can be read from again."""

import bz2
import functools
import gzip
import itertools
import lzma
import pathlib
import random
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_archives import MAX_PAGE_BYTES, arc_file, html, http, packed, read_all, reasons, wacz, warc_record, written

from humpback_jax.corpus.readers.inputs import InputFile
from humpback_jax.corpus.readers.pages import Page, read_page_at, read_pages

TITLES = ["Wells", "Pumps", "Valves", "Leather"]
MESSAGES = [http(html(title, 9 + i)) for i, title in enumerate(TITLES)]
RECORDS = [
    warc_record(b"software: test\r\n", "warcinfo", content_type="application/warc-fields"),
    *(warc_record(message, url=f"http://a.example/{i}") for i, message in enumerate(MESSAGES)),
]
PLAIN, PACKED = b"".join(RECORDS), packed(*RECORDS)


def zstd_frame(content: bytes) -> bytes:
    """A zstd frame of raw blocks."""
    blocks = [content[i : i + 100_000] for i in range(0, len(content), 100_000)]
    heads = [(len(block) << 3 | (i == len(blocks) - 1)).to_bytes(3, "little") for i, block in enumerate(blocks)]
    body = b"".join(head + block for head, block in zip(heads, blocks, strict=True))
    return b"\x28\xb5\x2f\xfd\xa0" + len(content).to_bytes(4, "little") + body


def titles(pages: list[Page]) -> list[str]:
    return [page.text.split("<title>")[1].split("</title>")[0] for page in pages]


def read_again(file: InputFile) -> None:
    """Every page is the same when it is read alone."""
    for item in read_pages(file, MAX_PAGE_BYTES):
        if isinstance(item, Page):
            assert read_page_at(file, item.position, item.end, item.record, MAX_PAGE_BYTES) == item


@pytest.mark.parametrize(
    ("name", "data", "own_bytes"),
    [
        ("a.warc", PLAIN, True),
        ("a.warc.gz", PACKED, True),
        ("a.warc.gz", PLAIN, True),
        ("a.warc.zst", b"".join(map(zstd_frame, RECORDS)), True),
        ("a.warc.gz", gzip.compress(PLAIN, mtime=0), False),
        ("a.warc.gz", gzip.compress(PACKED, mtime=0), False),
        ("a.warc.zst", zstd_frame(PLAIN), False),
        ("a.warc.bz2", bz2.compress(PLAIN), False),
        ("a.warc.xz", lzma.compress(PLAIN), False),
        ("a.warc.xz", lzma.compress(PLAIN[:400]) + lzma.compress(PLAIN[400:]), False),
        ("a.warc.gz.xz", lzma.compress(PACKED), False),
        ("no-name", PACKED, True),
        ("a.warc", b"".join(r.replace(b"WARC/1.0", b"WARC/1.1") for r in RECORDS), True),
        ("a.warc", b"".join(r.replace(b"WARC/1.0", b"WARC/0.18") for r in RECORDS), True),
        ("a.warc.gz", packed(*(r.replace(b"WARC/1.0", b"WARC/0.17") for r in RECORDS)), True),
        ("a.warc", PLAIN + bytes(2000), True),
        ("a.warc.gz", packed(RECORDS[0]) + bytes(512) + packed(*RECORDS[1:]) + bytes(3), True),
        ("a.warc", b"\r\n\r\n" + b"\r\n\r\n\r\n".join(RECORDS), True),
        ("a.wacz", wacz(PACKED), True),
        ("a.zip", wacz(PACKED), True),
        ("a.wacz", wacz(PACKED, zipfile.ZIP_DEFLATED), False),
        ("a.wacz", wacz(PLAIN, zipfile.ZIP_BZIP2), False),
    ],
)
def test_every_make_of_archive(tmp_path: pathlib.Path, name: str, data: bytes, own_bytes: bool) -> None:
    file = written(tmp_path / name, data)
    pages, rejected = read_all(file)
    assert titles(pages) == TITLES
    assert [page.url for page in pages] == [f"http://a.example/{i}" for i in range(4)]
    assert reasons(rejected) == ["not_a_page:warcinfo"]
    if own_bytes:
        spans = [(page.position, page.end) for page in pages]
        assert all(start < end <= following for (start, end), (following, _) in itertools.pairwise(spans))
    else:
        assert {(page.position, page.end) for page in pages} == {(0, len(data))}
    read_again(file)


def test_line_feeds_alone(tmp_path: pathlib.Path) -> None:
    content = http(html()).replace(b"\r\n", b"\n")
    record = warc_record(content).replace(b"\r\n", b"\n")
    pages, rejected = read_all(written(tmp_path / "a.warc", record * 3))
    assert (titles(pages), rejected) == (["Wells"] * 3, [])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("length", [None, 20, 90, 140])
@pytest.mark.parametrize("is_packed", [False, True])
def test_arc_files(tmp_path: pathlib.Path, version: int, length: int | None, is_packed: bool) -> None:
    pages = [(f"http://a.example/a page/{i}", message) for i, message in enumerate(MESSAGES)]
    records = arc_file(*pages, ("dns:a.example", b"20010101000000\na.example. 60 IN A 10.0.0.1\n"), version=version)
    if length is not None:
        # Many crawlers wrote a wrong length of the first record.
        lying = arc_file(version=version, length=length)
        if length < len(records[0]) - 90:
            lying = [lying[0]]
        records[0] = lying[0]
    data = packed(*records) if is_packed else b"".join(records)
    file = written(tmp_path / ("a.arc.gz" if is_packed else "a.arc"), data)
    found, rejected = read_all(file)
    assert titles(found) == TITLES
    assert [page.url for page in found] == [url for url, _ in pages]
    assert reasons(rejected) == ["not_a_page:filedesc", "not_a_page:dns"]
    read_again(file)


def test_arc_pages_without_http_head(tmp_path: pathlib.Path) -> None:
    pages, _ = read_all(written(tmp_path / "a.arc", b"".join(arc_file(("http://a.example/", html())))))
    assert titles(pages) == TITLES[:1]


def test_damage_in_an_arc_is_passed_over(tmp_path: pathlib.Path) -> None:
    records = arc_file(*((f"http://a.example/{i}", message) for i, message in enumerate(MESSAGES)))
    records[2] = records[2].replace(b" text/html ", b" text/html 9")
    pages, rejected = read_all(written(tmp_path / "a.arc", b"".join(records)))
    assert titles(pages) == ["Wells", "Valves", "Leather"]
    assert reasons(rejected) == ["not_a_page:filedesc", "damaged_arc"]
    pages, rejected = read_all(written(tmp_path / "b.arc", b"".join(records[:2])[:-40]))
    assert (pages, reasons(rejected)) == ([], ["not_a_page:filedesc", "truncated_arc"])


def test_damage_inside_one_member_is_passed_over(tmp_path: pathlib.Path) -> None:
    data = gzip.compress(RECORDS[0] + RECORDS[1] + b"junk between\r\n" + RECORDS[2] + RECORDS[3], mtime=0)
    pages, rejected = read_all(written(tmp_path / "a.warc.gz", data))
    assert titles(pages) == TITLES[:3]
    assert reasons(rejected) == ["not_a_page:warcinfo", "damaged_warc"]


@pytest.mark.parametrize("pack", [functools.partial(lzma.compress, preset=0), bz2.compress, gzip.compress])
def test_an_archive_that_is_cut_as_a_whole(tmp_path: pathlib.Path, pack) -> None:  # type: ignore[no-untyped-def]
    # Pages that do not compress, so that the content comes out bit by bit.
    noise = [random.Random(i).randbytes(60_000).hex().encode() for i in range(30)]
    data = pack(b"".join(warc_record(http(b"<html>" + part)) for part in noise))
    pages, rejected = read_all(written(tmp_path / "a.warc.cut", data[: len(data) * 2 // 3]))
    assert 5 <= len(pages) <= 20
    assert reasons(rejected) == ["truncated_warc"]
    assert rejected[0].detail


def test_lying_lengths_cost_the_record_alone(tmp_path: pathlib.Path) -> None:
    for length in (10**17, 10**6, 0):
        lying = warc_record(MESSAGES[1], url="http://lie.example/", length=length)
        for name, data in (
            ("a.warc", RECORDS[1] + lying + RECORDS[3] + RECORDS[4]),
            ("a.warc.gz", packed(RECORDS[1], lying, RECORDS[3], RECORDS[4])),
            ("a.warc.bz2", bz2.compress(RECORDS[1] + lying + RECORDS[3] + RECORDS[4])),
        ):
            pages, rejected = read_all(written(tmp_path / name, data))
            assert titles(pages) == ["Wells", "Valves", "Leather"]
            assert "damaged_warc" in reasons(rejected)


def test_pages_over_the_limit_are_named(tmp_path: pathlib.Path) -> None:
    page = html(sentences=20_000)
    big = warc_record(http(page))
    for name, data in (("a.warc", big + RECORDS[1]), ("a.warc.gz", packed(big, RECORDS[1])), ("b.html", page)):
        pages, rejected = read_all(written(tmp_path / name, data), 100_000)
        assert reasons(rejected) == ["page_too_large"]
        assert titles(pages) == (["Wells"] if name != "b.html" else [])
        assert rejected[0].end > rejected[0].position


def test_a_page_that_is_not_there_is_an_error(tmp_path: pathlib.Path) -> None:
    file = written(tmp_path / "a.warc.gz", PACKED)
    with pytest.raises(ValueError, match=r"a\.warc\.gz: no page at bytes 3 to 90: not_a_warc"):
        read_page_at(file, 3, 90)
    with pytest.raises(ValueError, match="not_a_page:warcinfo"):
        read_page_at(file, 0, len(PACKED), 0)
    assert titles([read_page_at(file, 0, len(PACKED))]) == ["Wells"]


def _moved_entry(data: bytes, by: int) -> bytes:
    """A zip file whose directory says that its archive begins elsewhere."""
    name = data.rindex(b"archive/data")
    offset = name - 4
    moved = int.from_bytes(data[offset:name], "little") + by
    return data[:offset] + moved.to_bytes(4, "little") + data[name:]


def test_a_zip_without_archives_and_damaged_ones(tmp_path: pathlib.Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as container:
        container.writestr("index.html", html())
    good = wacz(PACKED)
    spoilt = good.replace(b"archive/data", b"archive/dat\xff", 1)
    for name, data, reason in (
        ("a.zip", (tmp_path / "a.zip").read_bytes(), "unknown_file"),
        ("b.wacz", good[:300], "damaged_zip"),
        ("c.wacz", good[:40] + good[90:], "damaged_zip"),
        ("d.wacz", b"PK\x03\x04", "damaged_zip"),
        ("f.wacz", _moved_entry(good, 1 << 20), "damaged_zip"),
        ("e.wacz", spoilt.replace(b"PK\x03\x04", b"PK\x03\x05", 2), "unknown_file"),
    ):
        pages, rejected = read_all(written(tmp_path / name, data))
        assert reason in reasons(rejected)
        assert pages == [] or name == "c.wacz"


ZSTD, WACZ = b"".join(map(zstd_frame, RECORDS)), wacz(PACKED)


@given(whole=st.sampled_from([PLAIN, PACKED, WACZ, ZSTD]), share=st.floats(0, 1))
def test_cut_anywhere_pages_come_whole_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, share: float
) -> None:
    cut = max(1, int(share * len(whole)))
    pages, rejected = read_all(written(tmp_path_factory.mktemp("cut") / "a.warc", whole[:cut]))
    assert titles(pages) == TITLES[: len(pages)]
    assert [page.text.encode() for page in pages] == [html(t, 9 + i) for i, t in enumerate(TITLES)][: len(pages)]
    assert pages or rejected
