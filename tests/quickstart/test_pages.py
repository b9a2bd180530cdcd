"""Python's language reference as HTML pages, read back through the corpus stage."""

import pathlib
import re
from pydoc_data.topics import topics

from humpback_jax.corpus.build import build_corpus
from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.content.blocks import PageBlocks
from humpback_jax.corpus.content.html import read_html
from humpback_jax.corpus.segment_files import read_segments
from humpback_jax.quickstart.pages import reference_page, write_python_reference_pages


def sections(text: str) -> dict[tuple[int, str], str]:
    """The text under each header of the page, up to the next one as high or the end of the <article> it stands in."""
    page = read_html(reference_page("topic", text))
    found = {}
    for index, header in enumerate(page.blocks):
        if header.level:
            end = index + 1
            while end < len(page.blocks) and not 0 < page.blocks[end].level <= header.level:
                if not articles(page, header.box) <= articles(page, page.blocks[end].box):
                    break
                end += 1
            found[header.level, header.text] = page.text(range(index + 1, end))
    return found


def articles(page: PageBlocks, box: int) -> set[int]:
    """The <article> and <main> elements around a box."""
    around = set()
    while box:
        if page.boxes[box].tag in ("article", "main"):
            around.add(box)
        box = page.boxes[box].parent
    return around


def test_headings_code_and_lists() -> None:
    text = """The "spam" statement
********************

A *spam* statement, see **PEP 1**, has special read-
only parts [1] like "a\\b", "__x__" and "10**2":

   spam ::= "spam" expression

It is equivalent to

   if __debug__:
       raise Spam

* one item that
  goes on, for example:

     >>> spam
     1

* another

Note:

  Spam is old.

-[ Examples ]-

Last words.

Detail
======

More.

-[ Footnotes ]-

[1] A footnote.
"""
    found = sections(text)
    assert list(found) == [(1, 'The "spam" statement'), (2, "Detail")]
    assert found[2, "Detail"] == "More."
    assert found[1, 'The "spam" statement'] == (
        'A spam statement, see PEP 1, has special read-only parts like "a\\b", "__x__" and "10**2":\n\n'
        'spam ::= "spam" expression\n\n'
        "It is equivalent to\n\n"
        "if __debug__:\n    raise Spam\n\n"
        "- one item that goes on, for example:\n  >>> spam\n  1\n- another\n\n"
        "Note:\n\nSpam is old.\n\nExamples\n\nLast words.\n\nDetail\n\nMore."
    )


def test_entries_have_headers_of_their_own_and_end_where_their_text_ends() -> None:
    text = """Methods
*******

str.one(x)
str.uno(x)

   Return the first.

   str.inner()

      Nested.

str.two()

   Return the second.

Both are methods.
"""
    assert sections(text) == {
        (1, "Methods"): "str.one(x)\n\nstr.uno(x)\n\nReturn the first.\n\nstr.inner()\n\nNested.\n\n"
        "str.two()\n\nReturn the second.\n\nBoth are methods.",
        (2, "str.one(x)"): "str.uno(x)\n\nReturn the first.\n\nstr.inner()\n\nNested.",
        (3, "str.inner()"): "Nested.",
        (2, "str.two()"): "Return the second.",
    }


def test_table() -> None:
    text = """Table
*****

+--------+-------+
| Name   | Notes |
|========|=======|
| "a|b"  | (1)   |
+--------+-------+
"""
    assert sections(text) == {(1, "Table"): 'Name | Notes\n"a|b" | (1)'}


def test_reference_gives_enough_clean_segments(tmp_path: pathlib.Path) -> None:
    paths = write_python_reference_pages(tmp_path / "pages")
    assert [pathlib.Path(path).stem for path in paths] == sorted(topics)
    config = CorpusConfig(min_chars=600, max_chars=1500)
    report = build_corpus([tmp_path / "pages"], tmp_path / "out", config, show_progress=False)
    assert report.pages == len(topics)
    assert report.rejected_records == {}
    assert report.segments >= 60
    rows = list(read_segments(tmp_path / "out"))
    assert len({row["text"] for row in rows}) == len(rows)
    for row in rows:
        assert not re.search(r"^[=*~^-]{4,}$|\|==|^::$|System Message|-\[ | \[\d\]\.", row["text"], re.MULTILINE), row
        # No gap in a line of prose; a table of keywords has several in each.
        lines = [line for line in row["text"].splitlines() if re.match(r"[A-Z][^=:>|#]*\w  +\w", line)]
        assert all(len(re.findall(r"\w  +\w", line)) > 1 for line in lines), row


def test_pages_are_the_same_every_time(tmp_path: pathlib.Path) -> None:
    first, second = (write_python_reference_pages(tmp_path / name) for name in ("a", "b"))
    assert [pathlib.Path(path).read_bytes() for path in first] == [pathlib.Path(path).read_bytes() for path in second]
