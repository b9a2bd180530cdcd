"""Lists of crawl archives and indexes into them, on disk and from a web server."""

import functools
import gzip
import http.server
import json
import pathlib
import threading
from collections.abc import Iterator

import pyarrow
import pyarrow.parquet
import pytest
from make_archives import MAX_PAGE_BYTES, html, packed, read_all, reasons, warc_record, written
from make_archives import http as answer

from humpback_jax.corpus.readers.inputs import COMMON_CRAWL, InputFile, list_inputs
from humpback_jax.corpus.readers.pages import Page, read_page_at, read_pages
from humpback_jax.corpus.readers.web_file import WebPath

NAMES = [f"crawl-data/CC-MAIN-2024-10/segments/1/warc/CC-MAIN-{i}.warc.gz" for i in range(2)]
MEMBERS = [
    [packed(warc_record(answer(html(f"Page {i}{j}")), url=f"http://a.example/{i}{j}")) for j in range(5)]
    for i in range(2)
]


@pytest.fixture
def crawl(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder laid out like a crawl's server."""
    for name, members in zip(NAMES, MEMBERS, strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"".join(members))
    return tmp_path


def urls(files: list[InputFile]) -> list[str]:
    return [item.url for file in files for item in read_pages(file, MAX_PAGE_BYTES) if isinstance(item, Page)]


def rows(*wanted: tuple[int, int]) -> list[tuple[str, int, int]]:
    """(archive, offset, length) of some records."""
    return [(NAMES[i], sum(map(len, MEMBERS[i][:j])), len(MEMBERS[i][j])) for i, j in wanted]


ALL = [f"http://a.example/{i}{j}" for i in range(2) for j in range(5)]
WANTED = rows((1, 3), (0, 4), (1, 0), (0, 4))
FOUND = ["http://a.example/10", "http://a.example/13", "http://a.example/04"]


@pytest.mark.parametrize("name", ["warc.paths.gz", "warc.paths", "list.txt"])
def test_a_list_of_archives(crawl: pathlib.Path, name: str) -> None:
    data = "".join(f"{line}\n" for line in NAMES).encode()
    (crawl / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    files = list_inputs([crawl / name])
    assert [(file.name, file.size, file.ranges) for file in files] == [
        (line, (crawl / line).stat().st_size, None) for line in NAMES
    ]
    assert urls(files) == ALL


def test_a_root_elsewhere_and_archives_that_are_not_there(
    crawl: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("lists") / "warc.paths"
    place.write_text(f"{NAMES[0]}\ncrawl-data/none.warc.gz\n\n{crawl / NAMES[1]}\ns3://bucket/x.warc.gz\n")
    files = list_inputs([place], crawl_root=crawl)
    assert [file.problem for file in files] == ["", "missing_file", "", ""]
    assert urls(files[:3]) == ALL
    assert reasons(read_all(files[1])[1]) == ["missing_file"]
    assert str(files[3].path) == "s3://bucket/x.warc.gz"
    remote = list_inputs([place])
    assert remote[0].path == WebPath(f"{COMMON_CRAWL}/{NAMES[0]}")
    remote = list_inputs([place], crawl_root="gs://mirror/cc")
    assert str(remote[0].path) == f"gs://mirror/cc/{NAMES[0]}"


def test_notes_are_no_list(tmp_path: pathlib.Path) -> None:
    (file,) = [written(tmp_path / "notes.txt", b"see a.warc.gz for more\n")]
    assert reasons(read_all(file)[1]) == ["unknown_file"]


def cdxj(found: list[tuple[str, int, int]]) -> bytes:
    fields = [{"url": "u", "filename": name, "offset": str(at), "length": str(size)} for name, at, size in found]
    return "".join(f"com,example)/ 20240101000000 {json.dumps(row)}\n" for row in fields).encode()


def index_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The same rows in every form that crawls publish."""
    plain = "".join(f"com,example)/ 20240101000000 u text/html 200 H - - {s} {o} {n}\n" for n, o, s in WANTED)
    as_json = [{"url": "u", "filename": n, "offset": o, "length": s} for n, o, s in WANTED]
    as_table = [
        {"url": "u", "warc_filename": n, "warc_record_offset": o, "warc_record_length": s} for n, o, s in WANTED
    ]
    contents = {
        "index.cdxj": cdxj(WANTED),
        "cdx-00000.gz": gzip.compress(cdxj(WANTED), mtime=0),
        "index.cdx": b" CDX N b a m s k r M S V g\n" + plain.encode(),
        "bare.cdx": plain.encode(),
        "rows.jsonl": "".join(json.dumps(row) + "\n" for row in as_json).encode(),
        "table.jsonl.gz": gzip.compress("".join(json.dumps(row) + "\n" for row in as_table).encode(), mtime=0),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(as_table), folder / "part-0.parquet")
    return [folder / name for name in (*contents, "part-0.parquet")]


def test_indexes_read_their_ranges_alone(crawl: pathlib.Path) -> None:
    for path in index_files(crawl):
        files = list_inputs([path])
        assert [file.name for file in files] == [NAMES[1], NAMES[0]], path
        assert urls(files) == FOUND, path
        assert sum(file.size for file in files) == sum(size for _, _, size in rows((1, 3), (0, 4), (1, 0)))
        for file in files:
            for item in read_pages(file, MAX_PAGE_BYTES):
                assert isinstance(item, Page)
                assert read_page_at(file, item.position, item.end, item.record) == item


def test_a_folder_of_index_tables(crawl: pathlib.Path) -> None:
    (crawl / "cc-index").mkdir()
    (index,) = [path for path in index_files(crawl) if path.suffix == ".parquet"]
    index.rename(crawl / "cc-index" / "part-0.parquet")
    files = list_inputs([crawl / "cc-index"], crawl_root=crawl)
    assert urls(files) == FOUND


def test_bad_rows_and_ranges_are_counted(crawl: pathlib.Path) -> None:
    (name, offset, length) = WANTED[0]
    bad = b"com,example)/ 20240101000000 {broken\n" + cdxj([(name, -1, 5), (name, 3, 0), ("a.txt", 0, 5)])
    (crawl / "index.cdxj").write_bytes(cdxj([WANTED[0]]) + bad + cdxj([(name, offset + 9, length)]))
    files = list_inputs([crawl / "index.cdxj"])
    assert [file.problem for file in files] == ["", *["bad_index_row"] * 4]
    pages, rejected = read_all(files[0])
    assert [page.url for page in pages] == ["http://a.example/13"]
    assert len(rejected) == 1


class RangeServer(http.server.SimpleHTTPRequestHandler):
    """Files by ranges, as Common Crawl's server gives them."""

    def do_GET(self) -> None:
        path = pathlib.Path(self.translate_path(self.path))
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        if not path.is_file() or "refused" in self.path:
            self.send_error(404)
            return
        data = path.read_bytes()
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:])

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(crawl: pathlib.Path) -> Iterator[str]:
    """The crawl's folder as a web server's."""
    handler = functools.partial(RangeServer, directory=str(crawl))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_archives_and_ranges_of_a_web_server(crawl: pathlib.Path, server: str) -> None:
    (crawl / "warc.paths").write_text("\n".join(NAMES))
    (crawl / "index.cdxj").write_bytes(cdxj(WANTED))
    assert urls(list_inputs([f"{server}/warc.paths"], crawl_root=server)) == ALL
    assert urls(list_inputs([f"{server}/index.cdxj"], crawl_root=server)) == FOUND
    (file,) = list_inputs([f"{server}/{NAMES[0]}"])
    assert (file.name, file.size) == ("CC-MAIN-0.warc.gz", (crawl / NAMES[0]).stat().st_size)
    assert urls([file]) == ALL[:5]


def test_a_server_that_refuses_is_a_read_error(crawl: pathlib.Path, server: str) -> None:
    (crawl / "warc.paths").write_text("refused/a.warc.gz\n" + NAMES[0])
    files = list_inputs([crawl / "warc.paths"], crawl_root=server)
    _, rejected = read_all(files[0])
    assert (reasons(rejected), "404" in rejected[0].detail) == (["read_error"], True)
    with pytest.raises(OSError, match="404"):
        list_inputs([f"{server}/refused.html"])


def test_seeks_on_a_web_server(crawl: pathlib.Path, server: str) -> None:
    data = b"".join(MEMBERS[0])
    with WebPath(f"{server}/{NAMES[0]}").open() as stream:
        assert stream.seek(0, 2) == len(data)
        assert stream.read(10) == b""
        for place in (100, 3, len(data) - 7, 250):
            stream.seek(place)
            assert stream.read(50) == data[place : place + 50]
