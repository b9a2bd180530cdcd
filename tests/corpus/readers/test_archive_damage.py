"""Damaged archives: what is readable is kept, every stretch of damage is counted once, nothing raises."""

import gzip
import io
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humpback_jax.corpus.readers.archives import read_archive
from humpback_jax.corpus.readers.records import RawRecord, RejectedRecord


def warc_record(number: int, body: bytes) -> bytes:
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
    head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://a.example/{number}\r\n"
    head += f"WARC-Record-ID: <urn:uuid:{number:032x}>\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
    head += f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    return head.encode() + http + b"\r\n\r\n"


RECORDS = [warc_record(i, f"<h1>Page {i}</h1>".encode() + bytes(range(32, 127)) * (i + 1)) for i in range(4)]
MEMBERS = [gzip.compress(record, mtime=0) for record in RECORDS]
PLAIN, PACKED = b"".join(RECORDS), b"".join(MEMBERS)


def read(data: bytes, max_record_bytes: int = 10**6) -> tuple[list[str], list[str]]:
    records = list(read_archive(io.BytesIO(data), "warc", max_record_bytes))
    urls = [record.url.rpartition("/")[2] for record in records if isinstance(record, RawRecord)]
    return urls, [record.reason for record in records if isinstance(record, RejectedRecord)]


@pytest.mark.parametrize(
    "data", [PLAIN, PACKED, gzip.compress(PLAIN, mtime=0)], ids=["plain", "per record", "whole file"]
)
def test_whole_archive(data: bytes) -> None:
    assert read(data) == (["0", "1", "2", "3"], [])


@pytest.mark.parametrize(("parts", "data"), [(RECORDS, PLAIN), (MEMBERS, PACKED)], ids=["plain", "per record"])
def test_cut_at_every_byte(parts: list[bytes], data: bytes) -> None:
    ends = [sum(map(len, parts[: i + 1])) for i in range(len(parts))]
    for cut in range(1, len(data)):
        urls, reasons = read(data[:cut])
        whole = sum(end <= cut for end in ends)
        # The body of a record may be all there though its last bytes are not.
        assert urls in (["0", "1", "2", "3"][:whole], ["0", "1", "2", "3"][: whole + 1])
        if cut in ends:
            assert reasons == []
        elif len(urls) == whole:
            assert reasons in (["truncated_warc"], ["not_a_warc"])
            assert reasons == ["truncated_warc"] or cut < ends[0]
        else:
            assert reasons in ([], ["truncated_warc"])


def test_damage_in_the_middle_is_passed_over() -> None:
    start = len(MEMBERS[0]) + 40
    damaged = PACKED[:start] + b"\xff" * 60 + PACKED[start + 60 :]
    assert read(damaged) == (["0", "2", "3"], ["damaged_warc"])
    start = PLAIN.index(b"WARC/1.0", 10)
    damaged = PLAIN[:start] + b"garbage!" + PLAIN[start + 8 :]
    assert read(damaged) == (["0", "2", "3"], ["damaged_warc"])


def test_two_stretches_of_damage_count_twice() -> None:
    first, second = len(MEMBERS[0]) + 40, len(PACKED) - len(MEMBERS[3]) + 40
    damaged = bytearray(PACKED)
    damaged[first : first + 60] = damaged[second : second + 60] = b"\xff" * 60
    assert read(bytes(damaged)) == (["0", "2"], ["damaged_warc", "truncated_warc"])


def test_wrong_content_length_does_not_swallow_the_next_records() -> None:
    length = PLAIN[PLAIN.index(b"Content-Length: ") + 16 :].split(b"\r\n")[0]
    damaged = PLAIN.replace(b"Content-Length: " + length, b"Content-Length: 99999999999", 1)
    assert read(damaged) == (["1", "2", "3"], ["damaged_warc"])


@pytest.mark.parametrize(
    "data",
    [b"plain text\n" * 50, gzip.compress(b"plain text" * 50, mtime=0), bytes(900), b"\x1f\x8b"],
    ids=["text", "packed text", "zeros", "gzip magic"],
)
def test_file_that_is_no_archive(data: bytes) -> None:
    assert read(data) == ([], ["not_a_warc"])


def test_page_over_the_limit_is_not_loaded() -> None:
    lengths = [int(record.split(b"Content-Length: ")[1].split(b"\r\n")[0]) for record in RECORDS]
    assert read(PACKED, max_record_bytes=lengths[1]) == (["0", "1"], ["page_too_large", "page_too_large"])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_flipped_bytes_are_survived(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from([PLAIN, PACKED])))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    urls, reasons = read(bytes(damaged))
    assert len(urls) + len(reasons) >= 1


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_are_survived(data: bytes) -> None:
    for body in (data, b"WARC/1.0\r\n" + data, zlib.compress(data, wbits=31)):
        urls, reasons = read(body)
        assert len(urls) + len(reasons) >= 1
