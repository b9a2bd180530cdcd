"""Content without end: refused by name, in bounded memory and time."""

import bz2
import functools
import gzip
import json
import lzma
import pathlib
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator

import brotli
import pytest
from make_archives import HTML_TYPE, html, http, packed, read_all, reasons, wacz, warc_record, written

from humpback_jax.corpus.readers import compression

LIMIT = 200_000
MEGABYTE = bytes(1 << 20)
GOOD = warc_record(http(html()))


def zeros(megabytes: int, codec: str) -> bytes:
    """So many megabytes of NUL bytes behind the start of a page, in a codec."""
    blocks = [b"<html><p>", *[MEGABYTE] * megabytes]
    if codec == "br":
        compressor = brotli.Compressor(quality=3)
        return b"".join(compressor.process(block) for block in blocks) + compressor.finish()
    makers = {"gzip": lambda: zlib.compressobj(wbits=31), "deflate": zlib.compressobj, "bzip2": bz2.BZ2Compressor}
    packer = makers[codec]()
    return b"".join(packer.compress(block) for block in blocks) + packer.flush()


def zstd_zeros(megabytes: int) -> bytes:
    """A zstd frame of blocks that repeat one byte: 4 bytes for each 128 KiB."""
    count = megabytes * 8
    block = (1 << 17) << 3 | 1 << 1
    blocks = b"".join((block | (i == count - 1)).to_bytes(3, "little") + b"\0" for i in range(count))
    return b"\x28\xb5\x2f\xfd\x00\x58" + blocks


@pytest.mark.parametrize("codec", ["gzip", "deflate", "br", "bzip2", "zstd"])
def test_bodies(tmp_path: pathlib.Path, codec: str) -> None:
    body = zstd_zeros(16) if codec == "zstd" else zeros(16, codec)
    message = http(body, HTML_TYPE + b"Content-Encoding: " + codec.encode() + b"\r\n")
    began = time.monotonic()
    pages, rejected = read_all(written(tmp_path / "a.warc.gz", packed(warc_record(message), GOOD)), LIMIT)
    assert (len(pages), reasons(rejected)) == (1, ["page_too_large"])
    assert time.monotonic() - began < 5


def huge_member(megabytes: int, length: int) -> Iterator[bytes]:
    yield b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: %d\r\n\r\n" % length
    yield from [MEGABYTE] * megabytes


def gzip_of(blocks: Iterator[bytes]) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return b"".join(packer.compress(block) for block in blocks) + packer.flush()


@pytest.fixture
def small_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may expand without limit is 2 MiB here, so that a bomb of a few megabytes is one."""
    monkeypatch.setattr(compression, "FREE_BYTES", 2 << 20)


@pytest.mark.usefixtures("small_allowance")
@pytest.mark.parametrize("length", [100, LIMIT, 10**15])
def test_members_that_do_not_end(tmp_path: pathlib.Path, length: int) -> None:
    data = packed(GOOD) + gzip_of(huge_member(8, length)) + packed(GOOD)
    pages, rejected = read_all(written(tmp_path / "a.warc.gz", data), LIMIT)
    assert "expands_too_far" in reasons(rejected) or "damaged_warc" in reasons(rejected)
    assert len([page for page in pages if page.text.startswith("<!DOCTYPE")]) == 2


@pytest.mark.parametrize("line", [b"A: " + b"x" * (8 << 20), b"A: xxxx\r\n" * (1 << 20)])
def test_heads_that_do_not_end(tmp_path: pathlib.Path, line: bytes) -> None:
    endless = b"WARC/1.0\r\nWARC-Type: response\r\n" + line
    for name, data in (("a.warc", endless + b"\r\n\r\n" + GOOD), ("a.warc.gz", packed(endless, GOOD))):
        pages, rejected = read_all(written(tmp_path / name, data), LIMIT)
        assert (len(pages), reasons(rejected)) == (1, ["damaged_warc"])
        assert "goes on for more than" in rejected[0].detail
    message = b"HTTP/1.1 200 OK\r\n" + line[: LIMIT - 1000]
    assert reasons(read_all(written(tmp_path / "b.warc.gz", packed(warc_record(message))), LIMIT)[1]) == ["bad_http"]


@pytest.mark.parametrize(
    "make",
    [gzip.compress, bz2.compress, functools.partial(lzma.compress, preset=0), brotli.compress],
    ids=["gz", "bz2", "xz", "br"],
)
def test_files(tmp_path: pathlib.Path, make) -> None:  # type: ignore[no-untyped-def]
    page = make(b"<html><p>" + bytes(8 << 20))
    pages, rejected = read_all(written(tmp_path / "page.html.br", page), LIMIT)
    assert (pages, reasons(rejected)) == ([], ["page_too_large"])
    row = make(json.dumps({"text": "a" * (8 << 20)}).encode())
    pages, rejected = read_all(written(tmp_path / "rows.jsonl.br", row), LIMIT)
    assert (pages, len(rejected)) == ([], 1)
    assert rejected[0].reason in ("page_too_large", "expands_too_far")


@pytest.mark.usefixtures("small_allowance")
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_zip_files(tmp_path: pathlib.Path, method: int) -> None:
    data = wacz(b"".join(huge_member(8, 10**10)), method)
    pages, rejected = read_all(written(tmp_path / "a.wacz", data), LIMIT)
    assert (pages, reasons(rejected)) == ([], ["expands_too_far"])


def test_entries_that_lie_over_each_other(tmp_path: pathlib.Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.wacz", "w") as container:
        container.writestr("archive/0.warc", GOOD)
        for number in range(1, 50):
            info = zipfile.ZipInfo(f"archive/{number}.warc")
            first = container.infolist()[0]
            info.header_offset, info.CRC = first.header_offset, first.CRC
            info.compress_size = info.file_size = first.file_size
            container.filelist.append(info)
    pages, rejected = read_all(written(tmp_path / "a.wacz", (tmp_path / "a.wacz").read_bytes()), LIMIT)
    assert (pages, reasons(rejected)) == ([], ["damaged_zip"])
    assert "over each other" in rejected[0].detail


def test_many_small_members_and_false_starts_stay_linear(tmp_path: pathlib.Path) -> None:
    began = time.monotonic()
    empty = gzip.compress(b"", mtime=0)
    assert reasons(read_all(written(tmp_path / "a.warc.gz", empty * 20_000))[1]) == ["not_a_warc"]
    body = http(empty * 10_000, HTML_TYPE + b"Content-Encoding: gzip\r\n")
    assert read_all(written(tmp_path / "b.warc.gz", packed(warc_record(body))))[0] == []
    for start in (b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"WARC/1.0\r\nA", b"\x1f\x8b\x08\0\0\0\0\0\0\xff"):
        pages, _ = read_all(written(tmp_path / "c.warc", GOOD + b"junk" + start * 100_000))
        assert len(pages) == 1
    lying = warc_record(b"", length=10**12) * 3000
    assert set(reasons(read_all(written(tmp_path / "d.warc", lying))[1])) == {"damaged_warc", "truncated_warc"}
    assert time.monotonic() - began < 30


READ = """
import resource, sys
from humpback_jax.corpus.readers.inputs import list_inputs
from humpback_jax.corpus.readers.pages import read_pages
(file,) = list_inputs([sys.argv[1]])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in read_pages(file, 8_000_000))
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def memory_of_reading(path: pathlib.Path) -> tuple[int, int]:
    """(records, MiB of memory that reading took on top of the imports), in a process of its own."""
    result = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    records, megabytes = result.stdout.split()
    return int(records), int(megabytes)


def test_memory_is_bounded(tmp_path: pathlib.Path) -> None:
    bomb = warc_record(http(zeros(60, "gzip"), HTML_TYPE + b"Content-Encoding: gzip\r\n"))
    (tmp_path / "a.warc.gz").write_bytes(packed(*[bomb] * 3, *[warc_record(http(html(sentences=9000)))] * 100))
    records, megabytes = memory_of_reading(tmp_path / "a.warc.gz")
    assert records == 103
    assert megabytes < 100
