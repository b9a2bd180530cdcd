"""Documentation that pip has brought: docstrings of the libraries this package depends on, as HTML pages.

They are openly licensed, on every machine, and thousands of sections: what the evidence needs and the language
reference does not have. Sources are parsed, never imported. Of a docstring the prose is taken, without the lists of
parameters.
"""

import ast
import html
import importlib.metadata
import importlib.util
import itertools
import os
import pathlib
import re
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any

from docutils.core import publish_parts
from docutils.writers.html5_polyglot import Writer
from etils import epath

from humpback_jax.files import PathLike, write_atomically
from humpback_jax.quickstart.pages import PAGE_SETTINGS, html_page

# Libraries with long docstrings, by their import names; all are dependencies, with licences of the BSD, Apache or
# matplotlib's kind.
LIBRARIES = ("numpy", "scipy", "sklearn", "matplotlib", "jax", "flax", "optax", "pyarrow", "huggingface_hub")
COMPLETE = "versions.txt"  # written last: the libraries and their versions
MIN_PROSE = 300  # characters of prose that make a docstring worth a section
# Sections of numpydoc and Google's style that are no prose.
_LISTS = (
    "Parameters|Other Parameters|Returns|Yields|Receives|Raises|Warns|See Also|References|Attributes|Methods|Examples"
    "|Args|Arguments|Keyword Args|Example|Usage"
)
_NUMPYDOC_SECTION = re.compile(r"^(\w[\w ]*)\n[-=~]{3,} *$", re.MULTILINE)
_LIST_TITLE = re.compile(rf"(?:{_LISTS})\Z")
_GOOGLE_LIST = re.compile(rf"^(?:{_LISTS}):[ \t]*\n(?:[ \t]+.*\n?|\n)*", re.MULTILINE)
_ROLE = re.compile(r":[\w:+.-]+:`~?([^`<]+?)(?:\s*<[^`>]*>)?`")
_DEFAULT_ROLE = re.compile(r"(?<![`\w:])`([^`\n]+)`(?![`_\w])")
_DIRECTIVE = re.compile(r"^( *)\.\. .*\n(?:\1 +.*\n?|\n)*", re.MULTILINE)
_CITATION = re.compile(r"\s*\[[\w, ]+\]_")


def write_library_docs(out_dir: PathLike) -> list[str]:
    """Writes one HTML page per module with documentation, once; returns their paths, sorted by module.

    A folder that is whole stays as it is, whatever has been installed since: a run goes on with the pages it has.
    """
    folder = epath.Path(out_dir)
    if not (folder / COMPLETE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        for module, sections in documented_modules():
            write_atomically(folder / f"{module}.html", library_page(module, sections))
        versions = "".join(f"{name} {_version(name)}\n" for name in LIBRARIES)
        write_atomically(folder / COMPLETE, versions)
    return sorted(os.fspath(path) for path in folder.glob("*.html"))


def _version(module: str) -> str:
    names = importlib.metadata.packages_distributions().get(module, [])
    return importlib.metadata.version(names[0]) if names else "is not installed"


def documented_modules() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """(module, [(name, docstring)]) of every module of `LIBRARIES` that has prose; libraries that lack are left out."""
    for library in LIBRARIES:
        spec = importlib.util.find_spec(library)
        if spec is None or not spec.submodule_search_locations:
            continue
        root = pathlib.Path(spec.submodule_search_locations[0])
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if {"tests", "test", "testing", "externals"} & set(parts):
                continue
            sections = list(_documented(path))
            if sections:
                yield ".".join([library, *(part for part in parts if part != "__init__")]), sections


def _documented(path: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Name and docstring of the public functions and classes of a file whose docstring has prose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escapes in other people's strings
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            return
    seen: set[str] = set()
    for node in itertools.chain([tree], tree.body, _members(tree)):
        docstring = ast.get_docstring(node) if isinstance(node, _DOCUMENTED) else None
        name = getattr(node, "name", path.stem)
        if docstring is None or name.startswith("_") or docstring in seen or len(prose_of(docstring)) < MIN_PROSE:
            continue
        seen.add(docstring)
        yield name, docstring


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _members(tree: ast.Module) -> Iterator[Any]:
    return itertools.chain.from_iterable(node.body for node in tree.body if isinstance(node, ast.ClassDef))


def prose_of(docstring: str) -> str:
    """The docstring as reStructuredText without what is no prose: lists of parameters, roles, directives, citations."""
    text = _GOOGLE_LIST.sub("", docstring.replace("\r\n", "\n"))
    starts = [match.start() for match in _NUMPYDOC_SECTION.finditer(text)]
    bounds = [0, *starts, len(text)]
    parts = [text[a:b] for a, b in itertools.pairwise(bounds)]
    text = "\n".join(part for part in parts if not _is_list(part))
    text = _CITATION.sub("", _DIRECTIVE.sub("", text))
    return _DEFAULT_ROLE.sub(r"``\1``", _ROLE.sub(r"``\1``", text)).strip()


def _is_list(part: str) -> bool:
    title = _NUMPYDOC_SECTION.match(part)
    return title is not None and _LIST_TITLE.match(title[1].strip()) is not None


def library_page(module: str, sections: list[tuple[str, str]]) -> str:
    """The prose of a module's docstrings under a heading each."""
    public = [part for part in module.split(".") if not part.startswith("_")]  # as people import it, mostly
    parts = [f"<h1>{html.escape('.'.join(public))}</h1>"]
    for name, docstring in sections:
        body = publish_parts(textwrap.dedent(prose_of(docstring)), writer=Writer(), settings_overrides=PAGE_SETTINGS)
        title = html.escape(".".join([*public, name]))
        parts.append(f"<section>\n<h2>{title}</h2>\n{body['body'].strip()}\n</section>")
    source = f"From the documentation of {module.partition('.')[0]}, {_licence(module)}."
    return html_page(module, "\n".join(parts), source)


def _licence(module: str) -> str:
    """What the library says of its licence."""
    names = importlib.metadata.packages_distributions().get(module.partition(".")[0], [])
    found: Any = importlib.metadata.metadata(names[0]) if names else {}
    words: str = found.get("License-Expression") or (found.get("License") or "").partition("\n")[0]
    return words or "see the licence of the library"
