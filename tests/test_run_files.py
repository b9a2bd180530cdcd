"""The names in a run directory: one file of constants, one page that says the same, and no literal beside them."""

import ast
import pathlib
import re
import string

import pytest

from humpback_jax import run_files

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE, PAGE = ROOT / "humpback_jax", ROOT / "docs" / "run_directory.md"
SOURCE = pathlib.Path(run_files.__file__).read_text()
NAMES = {name: value for name, value in vars(run_files).items() if name.isupper()}
# Folders of a folder are joined with "/": elsewhere their names are ordinary words.
FOLDERS = {value for value in NAMES.values() if "." not in value and "{" not in value}
FILES = {value for value in NAMES.values() if "." in value}
ROUNDS = {skeleton for value in NAMES.values() if (skeleton := re.sub(r"\{.*?\}", "{}", value)) != value}


def sections():
    """{heading: {constant: (value, sentence)}} of run_files, from its comments."""
    found, comments = {}, []
    for line in SOURCE.splitlines():
        if line.startswith("# "):
            comments.append(line[2:])
        elif match := re.fullmatch(r'([A-Z_]+) = "(.*)"', line):
            found[list(found)[-1]][match[1]] = match[2], " ".join(comments)
            comments = []
        elif comments:
            found[" ".join(comments)] = {}
            comments = []
    return found


def page_tables():
    """The same of the page: {heading: [(value, sentence)]}."""
    found = {}
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            found[line[3:]] = []
        elif match := re.fullmatch(r"\| `(.+?)` \| (.*) \|", line):
            found[list(found)[-1]].append((match[1], match[2]))
    return found


def test_every_name_has_a_sentence():
    assert {name for section in sections().values() for name in section} == NAMES.keys()
    for section in sections().values():
        for value, sentence in section.values():
            assert value in NAMES.values() and sentence.endswith(".")


def test_the_page_says_what_the_file_says():
    assert page_tables() == {heading.rstrip("."): list(rows.values()) for heading, rows in sections().items()}


def skeleton_of(node):
    """A literal's text with {} for what is filled in; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def literals(tree):
    """(line, name) of every name of run_files that stands as a literal."""
    for node in ast.walk(tree):
        text = skeleton_of(node)
        if text is not None and (text in FILES or text in ROUNDS):
            yield node.lineno, text
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and skeleton_of(node.right) in FOLDERS:
            yield node.lineno, skeleton_of(node.right)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", None) in ("join", "joinpath"):
            yield from ((node.lineno, skeleton_of(part)) for part in node.args if skeleton_of(part) in FOLDERS)


def test_literals_are_found():
    code = 'a / "shards"; b = "manifest.json"; c = f"scores{t}"; d = {"shards": 1}; e = a.joinpath("shards")'
    code += '; f = os.path.join(a, "profile")'
    found = sorted(name for _, name in literals(ast.parse(code)))
    assert found == ["manifest.json", "profile", "scores{}", "shards", "shards"]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_name_stands_as_a_literal_elsewhere(path):
    if path.name != "run_files.py":
        assert not list(literals(ast.parse(path.read_text())))


def test_rounds_are_read_back():
    for template in (run_files.MODEL_STAGE, run_files.SCORES_STAGE, run_files.CURATED_STAGE):
        assert [name for _, name, *_ in string.Formatter().parse(template)] == ["t"]
        assert run_files.round_of(template.format(t=12), template) == 12
    for name in ("m_yx", "m", "m02", "mm1", "curated1", "seeds"):
        assert run_files.round_of(name, run_files.MODEL_STAGE) is None


def test_arms_are_read_back():
    for template in (run_files.ARM_MODEL_STAGE, run_files.ARM_PAIRS_STAGE):
        assert run_files.arm_of(template.format(t=12, arm="a_b"), template) == (12, "a_b")
    for name in ("m2", "m_yx", "m2_", "curated2_random", "m02_random", "m_random"):
        assert run_files.arm_of(name, run_files.ARM_MODEL_STAGE) is None, name


def test_run_files_imports_nothing():
    assert not [node for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.Import | ast.ImportFrom)]
