"""The corpus stage on pages written here: counts, duplicates, limits, damaged and hostile inputs, determinism."""

import gzip
import json
import pathlib
import zlib

import pytest

from humpback_jax.corpus.build import (
    CorpusReport,
    EmptyCorpusError,
    build_corpus,
)
from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.page_segments import PageTools, cut_page
from humpback_jax.corpus.readers.pages import Page
from humpback_jax.corpus.segment_files import read_segments


def prose(topic: str, sentences: int = 12) -> str:
    return " ".join(
        f"Fact {i} about {topic}: it has {topic}{i} and needs {i * 3} {topic}s per day." for i in range(sentences)
    )


HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"
CONFIG = CorpusConfig(min_chars=300, max_chars=3000)


def html_page(*sections: tuple[str, str]) -> bytes:
    return "".join(f"<h2>{header}</h2><p>{text}</p>" for header, text in sections).encode()


def warc(*records: tuple[str, bytes], content_type: str = "application/http; msgtype=response") -> bytes:
    parts = []
    for number, (kind, content) in enumerate(records):
        head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: <http://a.example/{number}>\r\n"
        head += f"Content-Type: {content_type}\r\nContent-Length: {len(content)}\r\n\r\n"
        parts.append(gzip.compress(head.encode() + content + b"\r\n\r\n", mtime=0))
    return b"".join(parts)


def build(path: pathlib.Path, config: CorpusConfig = CONFIG) -> tuple[CorpusReport, list[dict]]:
    out = path.parent / "out"
    report = build_corpus([path], out, config, show_progress=False)
    assert json.loads((out / "corpus_report.json").read_text()) == report.to_dict()
    return report, sorted(read_segments(out), key=lambda row: (row["url"], row["header"]))


def test_every_record_and_candidate_is_counted(tmp_path: pathlib.Path) -> None:
    page = html_page(
        ("Tea", prose("tea")),
        ("Coffee", prose("tea")),
        ("MILK", prose("milk")),
        ("Advertisement", prose("ad")),
        ("Short", "Too short."),
        ("Long", prose("long", 60)),
        ("Twice", prose("dog") + " " + prose("dog")),
    )
    chunked = b"Transfer-Encoding: chunked\r\n"
    records = [
        ("warcinfo", b"software: x\r\n"),
        ("request", b"GET / HTTP/1.1\r\n\r\n"),
        ("response", HTML + b"\r\n" + page),
        ("response", HTML + chunked + b"\r\n" + b"%x\r\n%s\r\n0\r\n\r\n" % (len(page), page)),
        ("response", HTML + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(html_page(("Rye", prose("rye"))))),
        ("response", HTML + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(html_page(("Oat", prose("oat"))))),
        ("response", HTML + b"Content-Encoding: gzip\r\n\r\n" + html_page(("Undone", prose("label")))),
        ("response", HTML + b"Content-Encoding: gzip\r\n\r\n" + b"neither gzip nor markup"),
        ("response", HTML + b"\r\n"),
        ("response", HTML.replace(b"200 OK", b"404 Not Found") + b"\r\n" + page),
        ("response", HTML.replace(b"text/html", b"image/png") + b"\r\n\x89PNG"),
        ("response", HTML.replace(b"Content-Type: text/html; charset=utf-8\r\n", b"") + b"\r\n" + page),
        ("response", b"no header at all"),
        ("response", HTML + b"\r\n" + "\N{REPLACEMENT CHARACTER}".encode() * 50),
        ("metadata", b"fetchTimeMs: 1\r\n"),
    ]
    (tmp_path / "in.warc.gz").write_bytes(warc(*records))
    report, rows = build(tmp_path / "in.warc.gz")
    assert report.to_dict() == {
        "records": 15,
        "pages": 6,
        "rejected_records": {
            "bad_encoding": 1,
            "bad_http": 1,
            "empty_body": 1,
            "http_status:404": 1,
            "not_a_page:metadata": 1,
            "not_a_page:request": 1,
            "not_a_page:warcinfo": 1,
            "not_html": 1,
            "wrong_charset": 1,
        },
        "page_outcomes": {"segments": 6},
        "furniture": report.furniture,
        "candidates": 24,
        "segments": 4,
        "rejected_segments": {
            "duplicate": 5,
            "navigation_header": 3,
            "repetitive": 3,
            "too_long": 3,  # each a single paragraph, which counts once
            "too_short": 3,
            "uppercase_header": 3,
        },
        "languages": report.languages,  # of prose that is hardly one
        "domains": {"a.example": 4},
        "notes": report.notes,
        "problems": [],
    }
    assert [(row["url"], row["header"]) for row in rows] == [
        ("http://a.example/2", "Coffee"),  # as Tea, and first by its id
        ("http://a.example/4", "Rye"),
        ("http://a.example/5", "Oat"),
        ("http://a.example/6", "Undone"),
    ]
    assert rows[0]["text"] == prose("tea")
    names = {"id", "url", "header", "text", "domain", "cut_by", "language", "scores", "kept_as"}
    assert all(set(row) == names for row in rows)
    assert len({row["id"] for row in rows}) == len(rows)


def test_same_input_same_bytes(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "pages"
    for name in ("b.html", "a.htm", "sub/c.html"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(html_page((name, prose(name))))
    outs = [tmp_path / "first", tmp_path / "second", folder / "inside"]
    for out in [*outs, outs[2]]:
        build_corpus([folder], out, CONFIG, show_progress=False)
    for name in ("segments-00000-of-00001.jsonl", "corpus_report.json"):
        assert len({(out / name).read_bytes() for out in outs}) == 1
    rows = list(read_segments(outs[0]))
    assert sorted(row["url"] for row in rows) == ["a.htm", "b.html", "sub/c.html"]
    assert not list(tmp_path.rglob("*.tmp"))


def test_num_segments_counts_the_rest(tmp_path: pathlib.Path) -> None:
    (tmp_path / "p.html").write_bytes(html_page(*((f"Topic {i}", prose(f"topic{i}")) for i in range(5))))
    everything, rows = build(tmp_path / "p.html")
    report, first = build(tmp_path / "p.html", CorpusConfig(min_chars=300, num_segments=2))
    assert everything.segments == 5
    assert len(first) == 2 and all(row in rows for row in first)
    assert report.rejected_segments == {"not_sampled": 3}


def test_header_is_kept_in_the_text_on_request() -> None:
    page = Page("u", "<h1>Tea</h1><p>" + prose("tea") + "</p>", is_html=True)
    tools = PageTools()
    without = cut_page(page, CONFIG, tools).segments
    kept = cut_page(page, CorpusConfig(min_chars=300, include_header=True), tools).segments
    assert [(s.header, s.text) for s in without] == [("Tea", prose("tea"))]
    assert [(s.header, s.text) for s in kept] == [("Tea", "Tea\n\n" + prose("tea"))]


def test_wet_and_resource_records(tmp_path: pathlib.Path) -> None:
    wet = warc(("conversion", ("Title\n" + prose("tea")).encode()), content_type="text/plain")
    (tmp_path / "a.warc.wet.gz").write_bytes(wet)
    _, rows = build(tmp_path / "a.warc.wet.gz")
    assert [(row["header"], row["text"]) for row in rows] == [("Title", prose("tea"))]
    (tmp_path / "b.warc").write_bytes(warc(("resource", html_page(("Tea", prose("tea")))), content_type="text/html"))
    _, rows = build(tmp_path / "b.warc")
    assert [(row["header"], row["text"]) for row in rows] == [("Tea", prose("tea"))]


def test_files_are_known_by_content(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "archive").write_bytes(warc(("response", HTML + b"\r\n" + html_page(("One", prose("one"))))))
    (folder / "page").write_bytes(b"<!DOCTYPE html>" + html_page(("Two", prose("two"))))
    (folder / "page.html.gz").write_bytes(gzip.compress(html_page(("Three", prose("three")))))
    (folder / "notes.txt").write_text("just notes")
    (folder / "empty.html").write_bytes(b"")
    (folder / "fake.warc.gz").write_bytes(b"no archive")
    report, rows = build(folder)
    assert [row["header"] for row in rows] == ["One", "Two", "Three"]
    assert report.rejected_records == {"empty_file": 1, "unknown_file": 1, "not_a_warc": 1}
    assert [problem.split(":")[0] for problem in report.problems] == ["empty.html", "fake.warc.gz", "notes.txt"]


def test_page_and_content_limits(tmp_path: pathlib.Path) -> None:
    bomb = HTML + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"<p>" + b"a" * 5_000_000, mtime=0)
    good = HTML + b"\r\n" + html_page(("Tea", prose("tea")))
    (tmp_path / "in.warc.gz").write_bytes(
        warc(("response", bomb), ("response", good), ("response", HTML + b"a" * 70_000))
    )
    (tmp_path / "big.html").write_bytes(b"<p>" + b"a" * 70_000)
    config = CorpusConfig(min_chars=300, max_page_bytes=60_000)
    report = build_corpus(
        [tmp_path / "in.warc.gz", tmp_path / "big.html"], tmp_path / "out", config, show_progress=False
    )
    assert (report.pages, report.rejected_records) == (1, {"page_too_large": 3})


def test_missing_and_empty_inputs_say_what_to_do(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.warc\.gz does not exist; pass archives"):
        build_corpus([tmp_path / "nowhere.warc.gz"], tmp_path / "out", CONFIG)
    with pytest.raises(ValueError, match="no input given; pass archives"):
        build_corpus([], tmp_path / "out", CONFIG)
    (tmp_path / "hollow").mkdir()
    with pytest.raises(ValueError, match="hollow has no files"):
        build_corpus([tmp_path / "hollow"], tmp_path / "out", CONFIG)


def test_empty_corpus_is_an_error_with_the_counts(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "segments-00000-of-00001.jsonl").write_text("left over from an earlier run\n")
    (tmp_path / "p.html").write_bytes(html_page(("Tea", "Too short."), ("Search", "x")))
    with pytest.raises(EmptyCorpusError, match=r"navigation_header 1, too_short 1.*loosen CorpusConfig") as error:
        build_corpus([tmp_path / "p.html"], out, CONFIG, show_progress=False)
    assert error.value.report.candidates == 2
    assert json.loads((out / "corpus_report.json").read_text())["segments"] == 0
    assert (out / "segments-00000-of-00001.jsonl").read_text() == ""
