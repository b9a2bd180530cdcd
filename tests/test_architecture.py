"""The import rules and the size limits of the package, read from its source. CONTRIBUTING.md draws the room graph."""

import ast
import graphlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "humpback_jax"
SOURCES = sorted(PACKAGE.rglob("*.py"))
CORE = ("models", "partitioning", "weights", "training", "inference")
ABOVE_CORE = (
    "align",
    "asking",
    "cli",
    "command_options",
    "corpus",
    "curation",
    "data",
    "evaluation",
    "gin_utils",
    "interop",
    "prompts",
    "quickstart",
    "report",
    "stages",
)
# The command line: `cli`, and the verbs that a room brings itself.
COMMANDS = "commands"
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
    return {name for name, imported in IMPORTS.items() if any(is_inside(i, modules) for i in imported)}


def is_inside(name, modules):
    return any(name == module or name.startswith(module + ".") for module in modules)


def of_room(name, *rooms):
    return name.split(".")[0] in rooms


def without_commands(names):
    """The modules that are not the command line of a room, `ROOM.command`: those belong to the edge, as `cli` does."""
    return {name for name in names if room_of(name) != COMMANDS}


def room_of(name):
    return COMMANDS if name in ("cli", "__main__") or name.endswith(".command") else name.split(".")[0]


def module_graph():
    """Module to the modules of the package that it imports."""
    graph = {}
    for name, imported in IMPORTS.items():
        inside = {i.removeprefix("humpback_jax.") for i in imported if i.startswith("humpback_jax.")}
        graph[name] = {i for i in inside if i in IMPORTS and i != name}
    return graph


def room_graph():
    """Room to the rooms that it imports."""
    graph = {}
    for name, imported in module_graph().items():
        if name:
            graph.setdefault(room_of(name), set()).update(room_of(i) for i in imported if i)
    return {room: imported - {room} for room, imported in graph.items()}


def drawn_room_graph():
    """What CONTRIBUTING.md says: rows `| room | what it is | rooms that it imports |`."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| `([\w/.]+)` \|[^|]*\|([^|]*)\|$", text, flags=re.MULTILINE)
    return {room.removesuffix("/").removesuffix(".py"): set(re.findall(r"[\w]+", cell)) for room, cell in rows}


def test_the_rules_are_checked_against_real_imports():
    assert len(SOURCES) > 50
    assert "inference.loaded" in importers("humpback_jax.models")
    assert "stages.rating" in importers("humpback_jax.inference")
    assert len(importers("jax")) > len(importers("flax")) > 0


def test_every_module_that_is_imported_is_there():
    """Also inside functions, where nothing else would notice before they run."""
    nodes = (node for path in SOURCES for node in ast.walk(ast.parse(path.read_text())))
    modules = {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module.startswith("humpback_jax.")}
    assert not {name for name in modules if name.removeprefix("humpback_jax.") not in IMPORTS}


def test_the_room_graph_is_the_one_that_is_drawn():
    assert room_graph() == drawn_room_graph()


def test_no_room_imports_itself_by_way_of_another():
    list(graphlib.TopologicalSorter(room_graph()).static_order())


def test_no_module_imports_itself_by_way_of_another():
    """Imports inside functions count, and none is hidden from the interpreter."""
    list(graphlib.TopologicalSorter(module_graph()).static_order())
    assert not [name for name, imported in IMPORTS.items() if "typing.TYPE_CHECKING" in imported]


@pytest.mark.parametrize("room", CORE)
def test_the_core_knows_nothing_of_the_algorithm(room):
    outside = importers("tensorflow", "seqio", "t5", "gin", *(f"humpback_jax.{name}" for name in ABOVE_CORE))
    assert not [name for name in without_commands(outside) if of_room(name, room)]


def test_inference_and_training_do_not_know_each_other():
    assert not [name for name in importers("humpback_jax.training") if of_room(name, "inference")]
    assert not [name for name in importers("humpback_jax.inference") if of_room(name, "training")]


def test_models_know_neither_weights_nor_training_nor_inference():
    upper = importers("humpback_jax.weights", "humpback_jax.training", "humpback_jax.inference")
    assert not [name for name in upper if of_room(name, "models", "partitioning")]


def test_gin_stays_at_the_edge():
    assert importers("gin") == {"gin_utils"}
    assert without_commands(importers("humpback_jax.gin_utils")) == {"command_options"}
    assert not [name for name in importers("humpback_jax.evaluation") if name == "gin_utils"]


def test_tensorflow_stays_in_the_seqio_modules():
    modules = importers("tensorflow", "tensorflow_datasets", "seqio")
    assert all(of_room(name, "data", "interop") for name in modules)
    assert not [name for name in modules if name in ("data.mixture", "data.examples", "data.pairs", "data.batching")]


def test_t5x_stays_in_its_adapter():
    assert importers("t5x") == {"interop.t5x"}
    assert importers("humpback_jax.interop.t5x") == set()
    assert without_commands(importers("humpback_jax.interop")) <= {"interop.t5x"}


def test_only_the_top_knows_the_stages():
    outside = {name for name in importers("humpback_jax.stages") if not of_room(name, "stages")}
    rooms = ("asking", "evaluation", "lineage", "publish", "report")
    above = {name for name in without_commands(outside) if not of_room(name, *rooms)}
    assert above <= {"align", "command_options", "gin_utils", "preflight", "topology.work", "interop.t5x"}
    assert importers("humpback_jax.cli") == {"__main__"}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    long = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert not {name: lines for name, lines in long.items() if lines > MAX_FUNCTION_LINES}


def test_functions_have_names_of_their_own():
    """A lambda that is given a name is a function: it can be documented, and a traceback names it."""
    named = [
        f"{name_of(path)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Lambda)
    ]
    assert not named


def test_no_file_names_a_path_of_one_machine():
    assert MACHINE_PATH.search("open('/home/me/x')")
    assert not MACHINE_PATH.search("https://example.org/home/me")
    found = {}
    for path in sorted([*PACKAGE.rglob("*"), *(ROOT / "gin_configs").rglob("*"), *(ROOT / "launch").rglob("*")]):
        if path.suffix in (".py", ".gin", ".txt", ".jsonl") and (match := MACHINE_PATH.search(path.read_text())):
            found[path.name] = match.group()
    assert not found
