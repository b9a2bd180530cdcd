"""Which files are read, and what each is by its content: folders, patterns, links, names, kinds."""

import base64
import bz2
import dataclasses
import gzip
import io
import lzma
import os
import pathlib
import pickle

import brotli
import pytest
from make_archives import MAX_PAGE_BYTES, html, http, packed, read_all, reasons, warc_record, written

from humpback_jax.corpus.readers.file_kinds import sniff
from humpback_jax.corpus.readers.inputs import list_inputs
from humpback_jax.corpus.readers.pages import Page, read_pages
from humpback_jax.corpus.readers.records import DAMAGE, PROBLEMS, RejectedRecord

PAGE = html()
SCRIPT = b"// app\nvar row = '<div class=x><h2>Title</h2><p>Text</p></div>';\nfunction f() { return '<html><body>'; }\n"
FEED = b'<?xml version="1.0"?>\n<rss version="2.0"><channel><item><title><![CDATA[<h2>A</h2><p>B</p>]]></title></item>'
README = b'<p align="center"><img src="logo.png"></p>\n\n# Title\n\nText with <b>markup</b>.\n'


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("index.html", PAGE),
        ("UPPER.HTM", PAGE),
        ("page.xhtml", b'<?xml version="1.0"?>\n' + PAGE),
        ("noext", PAGE),
        ("page.php", PAGE),
        ("page.php", b"Warning: no file in line 3\n<br />\n" + PAGE),
        ("index.php?id=3&p=1", b"\r\n\r\n" + PAGE),
        ("news.aspx", b"<html><body><h1>A</h1></body></html>"),
        ("cut.html", b"just some words, and <b>bold</b> ones"),
        ("fragment", b"<div><h1>A</h1></div>"),
        ("commented.html", b"<!-- " + b"x" * 9000 + b" -->" + PAGE),
        ("commented", b"<!-- " + b"x" * 9000 + b" -->" + PAGE),
        ("saved.txt", PAGE),
        ("bom.html", b"\xef\xbb\xbf" + PAGE),
        ("wide", PAGE.decode().encode("utf-16")),
        ("page.html.gz", gzip.compress(PAGE, mtime=0)),
        ("page.html.bz2", bz2.compress(PAGE)),
        ("page.html.xz", lzma.compress(PAGE)),
        ("page.html.br", brotli.compress(PAGE)),
        ("page.br", brotli.compress(PAGE)),
        ("page", lzma.compress(gzip.compress(PAGE, mtime=0))),
        ("page.html", gzip.compress(PAGE, mtime=0) + b"trailing"),
    ],
)
def test_pages(tmp_path: pathlib.Path, name: str, data: bytes) -> None:
    pages, rejected = read_all(written(tmp_path / name, data))
    assert reasons(rejected) == []
    assert [(page.url, page.is_html, page.position, page.end) for page in pages] == [(name, True, 0, len(data))]
    assert "</h1>" in pages[0].text or name == "cut.html"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("app.js", SCRIPT),
        ("app", SCRIPT),
        ("feed.xml", FEED),
        ("feed", FEED),
        ("sitemap.xml.gz", gzip.compress(b"<urlset><url><loc>http://a.example/</loc></url></urlset>", mtime=0)),
        ("readme.md", README),
        ("notes.txt", b"<p>is a paragraph, <h1> a header\n"),
        ("icon.svg", b"<svg><title>A</title></svg>"),
        ("Widget.vue", b"<div><h1>{{ title }}</h1></div>"),
        ("index.php", b"<?php echo '<html><body><h1>A</h1></body></html>'; ?>"),
        ("page.pdf", b"%PDF-1.7\n<html>"),
        ("logo.png", b"\x89PNG\r\n\x1a\n<html>"),
        ("robots.txt", b"User-agent: *\n"),
        ("package.json", b'{"name": "x", "description": "<p>A</p>"}'),
        ("data.json", b'{\n  "html": "<p>A</p>"\n}\n'),
        ("mail.eml", b"From: a\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n<p>A</p>"),
        ("random", bytes(range(256)) * 20),
    ],
)
def test_what_holds_markup_is_no_page(tmp_path: pathlib.Path, name: str, data: bytes) -> None:
    pages, rejected = read_all(written(tmp_path / name, data))
    assert pages == []
    assert reasons(rejected)[0] in ("unknown_file", "unknown_columns")
    assert rejected[0].detail
    assert set(reasons(rejected)) <= DAMAGE


def test_empty_and_damaged_files(tmp_path: pathlib.Path) -> None:
    assert reasons(read_all(written(tmp_path / "a.html", b""))[1]) == ["empty_file"]
    assert reasons(read_all(written(tmp_path / "b.html", b" \n"))[1]) == ["empty_body"]
    assert reasons(read_all(written(tmp_path / "c.warc.gz", b"\x1f\x8b\x08"))[1]) == ["not_a_warc"]
    assert reasons(read_all(written(tmp_path / "d.html.gz", gzip.compress(PAGE, mtime=0)[:12]))[1]) != []
    pages, _ = read_all(written(tmp_path / "e.html.gz", gzip.compress(html(sentences=9000), mtime=0)[:9000]))
    assert pages[0].truncated
    assert pages[0].text.startswith("<!DOCTYPE html>")


QUOTED = b"""<!DOCTYPE html>
<html lang=3D"de"><body><h1 class=3D"t">Br=C3=BChe, ein Caf=C3=A9</h1><p>Das Wasser wi=
rd langsam hei=C3=9F.</p></body></html>"""


def mhtml(*parts: bytes, closed: bool = True, root: bytes = b"") -> bytes:
    body = b"".join(b"\r\n--xx\r\n" + part.replace(b"\n", b"\r\n") for part in parts)
    start = b'; start="' + root + b'"' if root else b""
    head = b"From: <Saved>\r\nSnapshot-Content-Location: http://snap.example/\r\nMIME-Version: 1.0\r\n"
    head += b'Content-Type: multipart/related;\r\n\ttype="text/html"; boundary="xx"' + start + b"\r\n"
    return head + b"\r\n" + body + (b"\r\n--xx--\r\n" if closed else b"")


def test_mhtml_is_undone_and_knows_its_address(tmp_path: pathlib.Path) -> None:
    html_head = b"Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: "
    quoted = html_head + b"quoted-printable\nContent-Location: http://a.example/x\n\n" + QUOTED
    picture = b"Content-Type: image/png\nContent-Transfer-Encoding: base64\n\niVBORw0KGgo="
    coded = "Grün & Blau".encode("cp1252")
    base64_part = b"Content-Type: text/html; charset=windows-1252\nContent-ID: <root>\n"
    base64_part += b"Content-Transfer-Encoding: base64\n\n" + base64.encodebytes(
        b"<html><h1>" + coded + b"</h1></html>"
    )
    pages, rejected = read_all(written(tmp_path / "a.mhtml", mhtml(quoted, picture)))
    assert rejected == []
    assert (pages[0].url, pages[0].truncated) == ("http://a.example/x", False)
    assert "Brühe, ein Café" in pages[0].text
    assert "Wasser wird langsam heiß." in pages[0].text
    pages, _ = read_all(written(tmp_path / "b.mht", mhtml(quoted, base64_part, root=b"<root>")))
    assert (pages[0].url, pages[0].text.strip()) == ("http://snap.example/", "<html><h1>Grün & Blau</h1></html>")
    pages, _ = read_all(written(tmp_path / "noname", mhtml(quoted)))
    assert "Café" in pages[0].text
    cut = mhtml(quoted, closed=False).replace(b"</p></body></html>", b"")
    pages, _ = read_all(written(tmp_path / "c.mhtml", cut))
    assert pages[0].truncated
    assert reasons(read_all(written(tmp_path / "d.mhtml", mhtml(picture)))[1]) == ["not_html"]


def test_names_that_are_not_utf8_are_escaped_and_read(tmp_path: pathlib.Path) -> None:
    folder = os.fsencode(tmp_path / "in") + b"/\xfcber"
    os.makedirs(folder)
    with open(folder + b"/caf\xe9.html", "wb") as stream:
        stream.write(PAGE)
    (file,) = list_inputs([tmp_path / "in"])
    assert file.name == "\\xfcber/caf\\xe9.html"
    (page,) = read_pages(pickle.loads(pickle.dumps(file)), MAX_PAGE_BYTES)
    assert isinstance(page, Page)
    assert page.url.encode().decode() == file.name
    with pytest.raises(FileNotFoundError, match=r"n\\xe9 does not exist"):
        list_inputs([os.fsdecode(os.fsencode(tmp_path) + b"/n\xe9")])


def test_links_that_lead_nowhere_or_round_are_named(tmp_path: pathlib.Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "outside"
    for place in (folder / "sub", outside / "deep"):
        place.mkdir(parents=True)
        (place / "page.html").write_bytes(PAGE)
    (folder / "broken.html").symlink_to("nothing.html")
    (folder / "self").symlink_to("self")
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "again").symlink_to(folder / "sub")
    (folder / "there").symlink_to(outside)
    (outside / "back").symlink_to(folder)
    (folder / "alias.html").symlink_to(folder / "sub" / "page.html")
    os.mkfifo(folder / "pipe")
    files = list_inputs([folder])
    assert [(file.name, file.problem) for file in files] == [
        ("again", "repeated_link"),
        ("alias.html", ""),
        ("broken.html", "broken_link"),
        ("pipe", "not_a_file"),
        ("self", "looping_link"),
        ("sub/page.html", ""),
        ("sub/up", "looping_link"),
        ("there/back", "repeated_link"),
        ("there/deep/page.html", ""),
    ]
    rejected = [item for file in files if file.problem for item in read_pages(file, MAX_PAGE_BYTES)]
    assert [item.reason for item in rejected] == [file.problem for file in files if file.problem]  # type: ignore[union-attr]
    assert all(item.detail == PROBLEMS[item.reason] for item in rejected)  # type: ignore[union-attr]


def test_patterns(tmp_path: pathlib.Path) -> None:
    for name in ("a/1.html", "a/2.htm", "b/1.html", "b/deep/3.html", "[odd].html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PAGE)
    root = os.fspath(tmp_path)
    expected = {
        "a/*.html": ["1.html"],
        "?/1.html": ["a/1.html", "b/1.html"],
        "*/*.htm*": ["a/1.html", "a/2.htm", "b/1.html"],
        "**/*.html": ["[odd].html", "a/1.html", "b/1.html", "b/deep/3.html"],
        "[ab]": ["a/1.html", "a/2.htm", "b/1.html", "b/deep/3.html"],
        "[odd].html": ["[odd].html"],
    }
    for pattern, names in expected.items():
        assert [file.name for file in list_inputs([f"{root}/{pattern}"])] == names
    with pytest.raises(FileNotFoundError, match=r"no file matches .*\*\.warc\.gz; pass archives"):
        list_inputs([f"{root}/*.warc.gz"])
    assert [file.name for file in list_inputs([f"{root}/*"], exclude_dir=f"{root}/b")] == [
        *("[odd].html", "a/1.html", "a/2.htm"),
    ]


def test_a_file_that_goes_away_is_a_rejected_record(tmp_path: pathlib.Path) -> None:
    file = written(tmp_path / "a.warc.gz", packed(warc_record(http(PAGE))))
    (tmp_path / "a.warc.gz").unlink()
    (rejected,) = read_pages(file, MAX_PAGE_BYTES)
    assert isinstance(rejected, RejectedRecord)
    assert (rejected.reason, "No such file" in rejected.detail) == ("read_error", True)  # type: ignore[union-attr]


class FailingPath:
    """A file on a disk that breaks after some bytes."""

    def __init__(self, data: bytes, good: int) -> None:
        self._data, self._good = data, good

    def open(self, mode: str):  # type: ignore[no-untyped-def]
        class Stream(io.BytesIO):
            good = self._good

            def read(self, size: int | None = -1) -> bytes:
                if self.tell() >= self.good:
                    raise OSError(5, "Input/output error")
                return super().read(size)

        return Stream(self._data)


def test_a_disk_that_fails_in_the_middle_keeps_what_came_before(tmp_path: pathlib.Path) -> None:
    noise = [os.urandom(40_000).hex().encode() for _ in range(6)]
    data = packed(*(warc_record(http(b"<html>" + part)) for part in noise))
    file = dataclasses.replace(written(tmp_path / "a.warc.gz", data), path=FailingPath(data, 190_000))  # type: ignore[arg-type]
    pages, rejected = read_all(file)
    assert 1 <= len(pages) < 6
    assert (rejected[-1].reason, "Input/output error" in rejected[-1].detail) == ("read_error", True)


def test_the_kind_is_found_without_the_name(tmp_path: pathlib.Path) -> None:
    record = warc_record(http(PAGE))
    for data, kind in (
        (record, ("warc", ())),
        (packed(record), ("warc", ())),
        (bz2.compress(record), ("warc", ("bzip2",))),
        (lzma.compress(packed(record)), ("warc", ("xz",))),
        (gzip.compress(PAGE, mtime=0), ("html", ("gzip",))),
        (gzip.compress(b'{"url": "u", "text": "t"}\n', mtime=0), ("jsonl", ("gzip",))),
    ):
        (tmp_path / "x").write_bytes(data)
        with (tmp_path / "x").open("rb") as stream:
            assert sniff(stream, "x") == kind
