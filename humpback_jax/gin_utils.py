"""gin at the edge: builds the frozen dataclasses of a run once, and finds the mistakes that gin is silent about."""

import ast
import contextlib
import difflib
import importlib.resources
import logging
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import gin
from gin import config as gin_config

from humpback_jax.align import Recipe
from humpback_jax.corpus.build import CorpusConfig
from humpback_jax.evaluation.scaling.sweep import Sweep
from humpback_jax.inference.engine import EngineConfig
from humpback_jax.inference.sampling import SamplingConfig
from humpback_jax.models.config import LlamaConfig, RopeScaling
from humpback_jax.models.lora import LoraConfig
from humpback_jax.partitioning import LogicalAxisRules, MeshShape
from humpback_jax.stages.evaluate import EvaluationConfig
from humpback_jax.stages.finetune import FinetuneConfig
from humpback_jax.stages.generation import GenerationConfig
from humpback_jax.stages.rating import CurationConfig
from humpback_jax.stages.selection import SelectionConfig
from humpback_jax.stages.sources import SeedConfig, SegmentsConfig
from humpback_jax.training.optimizer import OptimizerConfig

GIN_CONFIGS = os.fspath(str(importlib.resources.files("humpback_jax.gin_configs")))
CONFIGURABLES = (
    Recipe,
    CorpusConfig,
    CurationConfig,
    EngineConfig,
    EvaluationConfig,
    FinetuneConfig,
    GenerationConfig,
    LlamaConfig,
    LogicalAxisRules,
    LoraConfig,
    MeshShape,
    OptimizerConfig,
    RopeScaling,
    SamplingConfig,
    SeedConfig,
    SegmentsConfig,
    SelectionConfig,
    Sweep,
)
_MACRO = "gin.macro"


def register() -> dict[str, Any]:
    """Makes the dataclasses known to gin, once per process; returns them by name."""
    if not _registered:
        _registered.update({cls.__name__: gin.external_configurable(cls) for cls in CONFIGURABLES})
        gin.add_config_file_search_path(GIN_CONFIGS)
    return _registered


_registered: dict[str, Any] = {}


def rewrite_gin_args(argv: Sequence[str]) -> list[str]:
    """Turns t5x-style `--gin.NAME=VALUE` arguments into `--gin_bindings=NAME = VALUE`."""
    rewritten = []
    for argument in argv:
        if argument.startswith("--gin."):
            name, separator, value = argument[len("--gin.") :].partition("=")
            if not separator:
                raise ValueError(f"{argument}: write --gin.NAME=VALUE")
            argument = f"--gin_bindings={name} = {_as_gin_value(value)}"
        rewritten.append(argument)
    return rewritten


def parse_recipe(gin_files: Sequence[str], bindings: Sequence[str]) -> Recipe:
    """The recipe that gin files and bindings describe.

    Raises:
      ValueError: a file is missing; a configurable, parameter, macro or scope is mistyped; a required value is not
        given. The message names it and, where one is close, the name that was meant.
    """
    return _build("Recipe", gin_files, bindings)


def parse_sweep(gin_files: Sequence[str], bindings: Sequence[str]) -> Sweep:
    """The sweep that gin files describe beside their recipe; raises as `parse_recipe` does."""
    return _build("Sweep", gin_files, bindings)


def _build(name: str, gin_files: Sequence[str], bindings: Sequence[str]) -> Any:
    configurables = register()
    gin.clear_config()
    try:
        with _quiet_search():
            gin.parse_config_files_and_bindings(list(gin_files), list(bindings), finalize_config=False)
    except OSError as error:
        raise ValueError(f"{error}; experiments of the package are {', '.join(_experiments())}") from error
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"gin: {_first_line(error)}{_suggestion(str(error))}") from error
    _check_macros()
    if not gin_files:
        raise ValueError(f"no recipe given: add --gin_file; experiments of the package are {', '.join(_experiments())}")
    try:
        gin.finalize()
        built = configurables[name]()
    except (TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"gin: {_first_line(error)}") from error
    if name == "Recipe":
        _check_all_used()
    return built


def config_texts() -> tuple[str, str]:
    """(the bindings as given, the operative configuration with every default) of the last `parse_recipe`."""
    return gin.config_str(), gin.operative_config_str()


def _as_gin_value(text: str) -> str:
    """Quotes what is neither a Python literal nor a gin reference, so that `--gin.A.b=word` needs no double quotes."""
    if text.startswith(("@", "%")):
        return text
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text if re.search(r"[@%\[({]", text) else repr(text)
    return text


def _references(value: Any) -> Iterator[Any]:
    if isinstance(value, gin_config.ConfigurableReference):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _references(key)
            yield from _references(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _references(item)


def _macro_references() -> Iterator[tuple[str, str]]:
    """(macro name, the binding that uses it)."""
    for (scope, selector), parameters in gin_config._CONFIG.items():
        for parameter, value in parameters.items():
            for reference in _references(value):
                if reference.configurable.wrapped is gin_config.macro:
                    where = selector.rpartition(".")[2]
                    yield reference.scoped_selector.rpartition("/")[0], f"{scope}/{where}.{parameter}".lstrip("/")


def _check_macros() -> None:
    """gin's own message for an undefined macro does not name it, and an unused one passes in silence."""
    defined = {scope for scope, selector in gin_config._CONFIG if selector == _MACRO}
    used = dict(_macro_references())
    for name, where in used.items():
        if name not in defined:
            raise ValueError(f"{where} uses the macro %{name}, which is not defined" + _close(name, defined))
    for name in sorted(defined - set(used)):
        message = f"gin binding {name!r} has no effect: nothing reads a macro of this name"
        raise ValueError(message + _close(name, set(used)))


def _check_all_used() -> None:
    """Every binding must have been read while the recipe was built; a mistyped scope would otherwise pass."""
    operative = list(gin_config._OPERATIVE_CONFIG)
    for scope, selector in gin_config._CONFIG:
        if selector == _MACRO or selector.rpartition(".")[2] == Sweep.__name__:
            continue  # the file of a sweep is the recipe of its runs too
        parts = scope.split("/") if scope else []
        if not any(s == selector and t.split("/")[: len(parts)] == parts for t, s in operative):
            name = selector.rpartition(".")[2]
            scopes = {t for t, s in operative if s == selector and t}
            raise ValueError(
                f"gin bindings of {f'{scope}/{name}'.lstrip('/')} have no effect: the recipe reads no such configurable"
                + _close(scope, scopes)
            )


def _suggestion(message: str) -> str:
    """The known name nearest to the one that gin complains of."""
    if match := re.search(r"'([\w./]+)' doesn't have a parameter named '(\w+)'", message):
        owner, parameter = match[1].rpartition(".")[2].rpartition("/")[2], match[2]
        fields = [cls.__dataclass_fields__ for cls in CONFIGURABLES if cls.__name__ == owner]  # type: ignore[attr-defined]
        return _close(parameter, fields[0]) if fields else ""
    if match := re.search(r"No configurable matching '([\w./]+)'", message):
        return _close(match[1].rpartition("/")[2].partition(".")[0], [cls.__name__ for cls in CONFIGURABLES])
    return ""


def _close(name: str, known: Any) -> str:
    """A hint: the nearest of the known names, or all of them."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    if matches:
        return f". Did you mean {matches[0]!r}?"
    return f"; known are {', '.join(sorted(known))}" if known else ""


@contextlib.contextmanager
def _quiet_search() -> Iterator[None]:
    """gin logs an error for every folder of the search path that lacks a file, also when the next one has it."""
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return " ".join(lines[:2]) if lines else type(error).__name__


def _experiments() -> list[str]:
    folder = os.path.join(GIN_CONFIGS, "experiments")
    return sorted(f"experiments/{name}" for name in os.listdir(folder) if name.endswith(".gin"))
