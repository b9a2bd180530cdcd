"""The import rules and the size limits of the package, read from its source."""

import ast
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "humpback_jax"
SOURCES = sorted(PACKAGE.rglob("*.py"))
CORE = ("models", "partitioning", "weights", "training", "inference")
ABOVE_CORE = (
    "align",
    "cli",
    "corpus",
    "data",
    "evaluation",
    "gin_utils",
    "interop",
    "prompts",
    "quickstart",
    "report",
    "stages",
)
MAX_FILE_LINES, MAX_FUNCTION_LINES = 500, 60
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(work|root|tmp|home|Users|mnt|opt)/\w")


def name_of(path):
    """Dotted name below the package: `training.loop` for training/loop.py, "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path):
    """Absolute dotted names of every module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


IMPORTS = {name_of(path): set(imports_of(path)) for path in SOURCES}


def importers(*modules):
    """Names of the package's modules that import one of `modules` or something inside it."""
    inside = lambda name: any(name == module or name.startswith(module + ".") for module in modules)  # noqa: E731
    return {name for name, imported in IMPORTS.items() if any(map(inside, imported))}


def of_room(name, *rooms):
    return name.split(".")[0] in rooms


def without_commands(names):
    """The modules that are not the command line of a room, `ROOM.command`: those belong to the edge, as `cli` does."""
    return {name for name in names if not name.endswith(".command")}


def test_the_rules_are_checked_against_real_imports():
    assert len(SOURCES) > 50
    assert "inference.loaded" in importers("humpback_jax.models")
    assert "stages.rating" in importers("humpback_jax.inference")
    assert len(importers("jax")) > len(importers("flax")) > 0


@pytest.mark.parametrize("room", CORE)
def test_the_core_knows_nothing_of_the_algorithm(room):
    outside = importers("tensorflow", "seqio", "t5", "gin", *(f"humpback_jax.{name}" for name in ABOVE_CORE))
    assert not [name for name in outside if of_room(name, room)]


def test_inference_and_training_do_not_know_each_other():
    assert not [name for name in importers("humpback_jax.training") if of_room(name, "inference")]
    assert not [name for name in importers("humpback_jax.inference") if of_room(name, "training")]


def test_models_know_neither_weights_nor_training_nor_inference():
    upper = importers("humpback_jax.weights", "humpback_jax.training", "humpback_jax.inference")
    assert not [name for name in upper if of_room(name, "models", "partitioning")]


def test_gin_stays_at_the_edge():
    assert importers("gin") == {"gin_utils"}
    assert without_commands(importers("humpback_jax.gin_utils")) == {"cli", "command_options"}


def test_tensorflow_stays_in_the_seqio_room():
    rooms = {"data.tasks", "data.seqio_reader", "data.feature_converter", "data.vocabulary", "data.tfds_builders"}
    assert importers("tensorflow", "tensorflow_datasets", "seqio") == rooms
    lazily = {"data.mixture", "data.command"}
    assert importers(*(f"humpback_jax.{room}" for room in rooms)) <= rooms | lazily | {"interop.t5x"}


def test_t5x_stays_in_its_adapter():
    assert importers("t5x") == {"interop.t5x"}
    assert importers("humpback_jax.interop.t5x") == set()
    assert importers("humpback_jax.interop") <= {"cli", "interop.t5x", "interop.command"}


def test_only_the_top_knows_the_stages():
    outside = {name for name in importers("humpback_jax.stages") if not of_room(name, "stages")}
    above = {n for n in outside if of_room(n, "evaluation", "report")}
    edge = {"align", "cli", "command_options", "gin_utils", "topology.work", "interop.t5x"}
    assert without_commands(outside) <= edge | above
    importers_of_align = without_commands(importers("humpback_jax.align"))
    assert importers_of_align == {
        "command_options",
        "gin_utils",
        "evaluation.scaling.sweep",
        "topology.plan",
        "topology.work",
    }
    assert importers("humpback_jax.cli") == {"__main__"}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    long = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert not {name: lines for name, lines in long.items() if lines > MAX_FUNCTION_LINES}


def test_no_file_names_a_path_of_one_machine():
    assert MACHINE_PATH.search("open('/home/me/x')")
    assert not MACHINE_PATH.search("https://example.org/home/me")
    found = {}
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in (".py", ".gin", ".txt", ".jsonl") and (match := MACHINE_PATH.search(path.read_text())):
            found[path.name] = match.group()
    assert not found
