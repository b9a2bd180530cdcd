"""Mutated archives: no crash, no hang, and everything that goes in comes out as a page or as a reason.

`HUMPBACK_FUZZ_RECORDS=20000` reads so many mutated records; without it a few hundred.
"""

import gzip
import io
import os
import pathlib
import random
import time
from collections.abc import Iterator

import pyarrow
import pyarrow.parquet
import pytest
from make_archives import arc_file, html, http, packed, wacz, warc_record

from humpback_jax.corpus.readers.inputs import list_inputs
from humpback_jax.corpus.readers.pages import Page, read_page_at, read_pages

RECORDS = int(os.environ.get("HUMPBACK_FUZZ_RECORDS", "400"))
MAX_SECONDS = 5
MAX_PAGE_BYTES = 2_000_000
TOKENS = [
    *(b"\r\n", b"\r\n\r\n", b"WARC/1.0\r\n", b"Content-Length: 99999999999\r\n", b"\x1f\x8b\x08\0", b"\0" * 9, b"-1"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n", b"\xff\xfe", b"\x1b$B", b"~{", b"PK\x03\x04"),
    *(b"\x28\xb5\x2f\xfd", b"Content-Type: text/html; charset=iso-2022-kr\r\n", b"<meta charset=utf-16>", b"{"),
]


def made_here() -> list[tuple[str, bytes]]:
    """Small files of every kind that has structure."""
    message = http(html())
    fields = b"Content-Type: text/html\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"
    coded = http(gzip.compress(html(), mtime=0), fields)
    record = warc_record(message) + warc_record(coded)
    rows = b'{"url": "u", "html": "<p>a</p>"}\n{"url": "v", "text": "b"}\n' * 3
    mail = b"MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=x\r\n\r\n"
    mail += b"--x\r\nContent-Type: text/html\r\n\r\n"
    table = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"url": ["u"] * 30, "text": ["word " * 50] * 30}), table)
    return [
        ("a.parquet", table.getvalue()),
        ("a.warc", record),
        ("a.warc.gz", packed(record, record)),
        ("a.arc", b"".join(arc_file(("http://a.example/", message), version=1))),
        ("a.arc.gz", packed(*arc_file(("http://a.example/", message), version=2))),
        ("a.wacz", wacz(packed(record))),
        ("a.jsonl", rows),
        ("a.jsonl.gz", gzip.compress(rows, mtime=0)),
        ("a.mhtml", mail + html() + b"\r\n--x--\r\n"),
        ("a.html", html()),
        ("noname", html()),
    ]


def real_files(shared: pathlib.Path) -> list[tuple[str, bytes]]:
    """Real archives and hostile inputs beside the checkout, cut to a size that is soon read."""
    cases = shared.parent / "cases" / "corpus"
    places = [shared / "web" / "real_crawl", cases / "warc", cases / "charset", cases / "files"]
    paths = [path for place in places if place.is_dir() for path in sorted(place.iterdir()) if path.is_file()]
    return [(path.name, path.read_bytes()[:200_000]) for path in [*paths, shared / "web" / "pages.warc.gz"]]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The data with a few bytes flipped, cut out, doubled or put in, or as such inside its compression."""
    if data.startswith(b"\x1f\x8b") and chance.random() < 0.4:
        try:
            return gzip.compress(mutated(gzip.decompress(data), chance), 1, mtime=0)
        except (OSError, EOFError):
            pass
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 30))):
        place = chance.randrange(len(changed) + 1)
        match chance.randrange(5):
            case 0 if place < len(changed):
                changed[place] ^= 1 << chance.randrange(8)
            case 1:
                del changed[place : place + chance.randrange(200)]
            case 2:
                changed[place:place] = changed[place : place + chance.randrange(300)]
            case 3:
                changed[place : place + chance.choice((0, 4))] = chance.choice(TOKENS)
            case _:
                changed[place:place] = chance.randbytes(chance.randrange(20))
    return bytes(changed)


def check_file(path: pathlib.Path) -> int:
    """Reads a file to its end; how many items it gave."""
    (file,) = list_inputs([path])
    count, last = 0, time.monotonic()
    for number, item in enumerate(read_pages(file, MAX_PAGE_BYTES)):
        assert time.monotonic() - last < MAX_SECONDS, f"record {number} of {path.name} took too long"
        assert item.record == number
        assert 0 <= item.position <= item.end <= file.size
        if isinstance(item, Page):
            item.text.encode()
            item.url.encode()
            assert len(item.text) <= MAX_PAGE_BYTES
            if number % 7 == 0:
                assert read_page_at(file, item.position, item.end, number, MAX_PAGE_BYTES) == item
        else:
            assert item.reason
        count, last = number + 1, time.monotonic()
    assert time.monotonic() - last < MAX_SECONDS, f"the end of {path.name} took too long"
    assert count > 0, f"{path.name} gave nothing, not even a reason"
    return count


def sources(request: pytest.FixtureRequest, kind: str) -> list[tuple[str, bytes]]:
    return made_here() if kind == "made here" else real_files(request.getfixturevalue("shared_data"))


def endless(files: list[tuple[str, bytes]], chance: random.Random) -> Iterator[tuple[str, bytes]]:
    while True:
        name, data = chance.choice(files)
        yield name, mutated(data, chance)


@pytest.mark.parametrize("kind", ["made here", "real"])
def test_mutated_files(request: pytest.FixtureRequest, tmp_path: pathlib.Path, kind: str) -> None:
    chance = random.Random(kind)
    files, read = sources(request, kind), 0
    for name, data in files:
        (tmp_path / name).write_bytes(data)
        check_file(tmp_path / name)
    for name, data in endless(files, chance):
        place = tmp_path / name
        place.write_bytes(data)
        try:
            read += check_file(place)
        except BaseException:
            (tmp_path / f"failed-{name}").write_bytes(data)
            raise
        if read >= RECORDS // 2:
            break
    assert read >= RECORDS // 2
