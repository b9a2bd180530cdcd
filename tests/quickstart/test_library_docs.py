"""The documentation of installed libraries as pages: prose under headings, written once."""

import pytest

from humpback_jax.corpus.content.html import read_html
from humpback_jax.quickstart import library_docs
from humpback_jax.quickstart.library_docs import COMPLETE, library_page, prose_of, write_library_docs

NUMPYDOC = """Draw samples from a made-up distribution.

The samples are described by :func:`~made.up.function` and by `size`, see [1]_.

Parameters
----------
size : int
    How many.

Notes
-----
This part is prose and stays.

.. versionadded:: 1.0

See Also
--------
other : another function
"""
GOOGLE = """Applies a function.

It does so slowly.

Args:
  x: an array,
    over two lines.
  y: another.

Returns:
  An array.

The end is prose again.
"""


def test_prose_of_numpydoc():
    text = prose_of(NUMPYDOC)
    assert "``made.up.function``" in text and "``size``, see." in text
    assert "This part is prose and stays." in text
    assert not any(word in text for word in ("How many", "another function", "versionadded"))


def test_prose_of_google_style():
    text = prose_of(GOOGLE)
    assert "It does so slowly." in text and "The end is prose again." in text
    assert "an array" not in text and "Args" not in text


def test_a_page_has_a_heading_for_every_docstring_by_its_public_name():
    page = read_html(library_page("made._private.module", [("first", NUMPYDOC), ("second", GOOGLE)]))
    assert [block.text for block in page.blocks if block.level == 2] == ["made.module.first", "made.module.second"]


@pytest.fixture
def one_library(monkeypatch, tmp_path):
    """A library of two modules, as if it were installed."""
    root = tmp_path / "madelib"
    (root / "tests").mkdir(parents=True)
    long = "This sentence says something about the function. " * 10
    (root / "__init__.py").write_text(f'def public():\n    """{long}"""\n\n\ndef _hidden():\n    """{long}"""\n')
    (root / "short.py").write_text('def little():\n    """Too short."""\n')
    (root / "broken.py").write_text("def broken(:\n")
    (root / "tests" / "test_it.py").write_text(f'"""{long}"""\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(library_docs, "LIBRARIES", ("madelib", "no_such_library"))
    return root


def test_only_modules_with_prose_are_pages_and_they_are_written_once(one_library, tmp_path):
    paths = write_library_docs(tmp_path / "pages")
    assert [path.rpartition("/")[2] for path in paths] == ["madelib.html"]
    assert (tmp_path / "pages" / COMPLETE).read_text() == "madelib is not installed\nno_such_library is not installed\n"
    (one_library / "later.py").write_text((one_library / "__init__.py").read_text())
    assert write_library_docs(tmp_path / "pages") == paths
