"""From a stage to the compiled program: few files, and no long function inside another on the way."""

import ast
import pathlib
import sys

import pytest

import humpback_jax
from humpback_jax.inference.compiled import Programs
from humpback_jax.stages.augment import augment
from humpback_jax.stages.rating import CurationConfig, curate

PACKAGE = pathlib.Path(humpback_jax.__file__).parent
ROOMS = ("stages", "inference", "training")
MAX_INNER_LINES, MAX_FILES = 5, 7
# Functions inside functions that jax.jit or a lax loop takes: they close over what the program is made of.
TAKEN_BY_JAX = {
    "inference/decode.py": {"step"},
    "inference/likelihood.py": {"answer"},
    "inference/sampling.py": {"halve"},
    "training/loss.py": {"add"},
    "training/step.py": {"train_step"},
}
SOURCES = [path for room in ROOMS for path in sorted((PACKAGE / room).rglob("*.py"))]


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def inner_functions(tree):
    for outer in ast.walk(tree):
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = (node for child in outer.body for node in ast.walk(child))
            yield from (node for node in inside if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def taken_by_jax(tree):
    """Names that stand as arguments of jax.jit, jax.lax.*_loop or jax.lax.scan."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("jax.jit", "jax.lax.")):
            yield from (argument.id for argument in node.args if isinstance(argument, ast.Name))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_long_function_stands_inside_another(path):
    tree = ast.parse(path.read_text())
    exempt = TAKEN_BY_JAX.get(name_of(path), set())
    assert exempt <= set(taken_by_jax(tree))
    long = {node.name for node in inner_functions(tree) if node.end_lineno - node.lineno + 1 > MAX_INNER_LINES}
    assert long == exempt


@pytest.fixture
def files_on_the_way(monkeypatch):
    """For every run of a compiled program the files of the package on the stack, from the stage on."""
    ways, run = [], Programs.run

    def recorded(self, program, arguments):
        frame, way = sys._getframe(), []
        while frame is not None:
            if pathlib.Path(frame.f_code.co_filename).is_relative_to(PACKAGE):
                way.append(name_of(pathlib.Path(frame.f_code.co_filename)))
            frame = frame.f_back
        ways.append((program.name[0], {*way, "inference/compiled.py"}))
        return run(self, program, arguments)

    monkeypatch.setattr(Programs, "run", recorded)
    return ways


def test_a_prompt_passes_few_files(
    files_on_the_way, tiny_model, make_product, short_prompts, small_generation, tmp_path
):
    rows = [{"id": "s", "url": "u", "header": "h", "text": "word", "instruction": "Say it.", "output": "word"}]
    segments, pairs = make_product("segments", "segments", rows), make_product("augmented", "pairs", rows)
    with pytest.raises(ValueError, match="none of 1 segments"):  # a random model does not stop: the way counts here
        augment(tmp_path / "written", tiny_model, segments, short_prompts, small_generation)
    for mode in ("rationale", "expected"):
        curate(tmp_path / mode, tiny_model, pairs, short_prompts, CurationConfig(mode, small_generation))
    assert {"init", "prefill", "decode", "probe", "score"} <= {name for name, _ in files_on_the_way}
    for name, way in files_on_the_way:
        assert {"stages/jobs.py", "inference/engine.py", "inference/compiled.py"} < way
        assert len(way) <= MAX_FILES, (name, way)
