"""gin at the edge: builds the frozen dataclasses of a run once, and finds the mistakes that gin is silent about."""

import ast
import contextlib
import dataclasses
import difflib
import importlib.resources
import logging
import os
import re
import typing
from collections.abc import Iterator, Sequence
from typing import Any

import gin
from gin import config as gin_config
from gin import resource_reader

from humpback_jax.align import Recipe
from humpback_jax.ranges import declared_fields, expand_path, fault_of

T = typing.TypeVar("T")

GIN_CONFIGS = str(importlib.resources.files("humpback_jax.gin_configs"))
# What a gin file may bind beside the recipe: classes of rooms that this module does not know.
BESIDE_THE_RECIPE = ("Sweep", "Evidence")
_ROOMS = "rooms"  # gin takes two names for one where they have one module
# Bindings of earlier versions, and what they are called now.
_MOVED = {
    "BatchConfig": "batch_size batch_unit row_length rows_per_microbatch packing seed",
    "LoopConfig": "num_steps step_table epochs step_limit_minutes",
    "CheckpointConfig": "init_from resume cast_on_resume save_limit_minutes",
    "ComputeConfig": "dtype param_dtype gradient_dtype remat_policy logits_chunk dropout dropout_schedule z_loss",
}
RENAMED = {f"FinetuneConfig.{name}": f"{cls}.{name}" for cls, names in _MOVED.items() for name in names.split()} | {
    "FinetuneConfig.checkpoint_minutes": "CheckpointConfig.minutes",
    "FinetuneConfig.checkpoint_period": "CheckpointConfig.period",
    "CorpusConfig.max_segments": "CorpusConfig.num_segments",
}
_MACRO = "gin.macro"
_REFERENCE = re.compile(r"@[\w./]*\w(\(\))?|%[\w.]+")


def configurables_of(cls: Any) -> Iterator[type]:
    """A dataclass and those that its fields hold, all the way down."""
    if dataclasses.is_dataclass(cls):
        yield typing.cast(type, cls)
    inner = typing.get_type_hints(cls).values() if dataclasses.is_dataclass(cls) else typing.get_args(cls)
    for each in inner:
        yield from configurables_of(each)


CONFIGURABLES = tuple(dict.fromkeys(configurables_of(Recipe)))


def _register(cls: type) -> None:
    """Makes the classes of a recipe known to gin, once per process, and `cls`.

    Where the class of a name beside the recipe is not at hand, whatever is bound to its parameters is accepted.
    """
    if not _registered:
        gin.add_config_file_search_path(GIN_CONFIGS)
        gin_config._FILE_READERS[:] = [(_OpenFile, _is_file), (_open_packaged, _is_packaged)]
        _registered.update({each: gin.external_configurable(each) for each in CONFIGURABLES})
        for name in BESIDE_THE_RECIPE:
            gin.external_configurable(_anything, name, module=_ROOMS)
    if cls not in _registered:
        with gin_config.interactive_mode():  # it may replace what stood for it
            _registered[cls] = gin.external_configurable(cls, module=_ROOMS)


_registered: dict[type, Any] = {}


def _anything(**bindings: Any) -> None:
    raise TypeError("a class that is not at hand cannot be built")


class _OpenFile:
    """A gin file while it is parsed; what it includes is looked for beside it too. A byte order mark is no text.

    Raises:
      ValueError: the file is being parsed already: it includes itself, perhaps by way of others.
    """

    paths: typing.ClassVar[list[str]] = []  # of the files that are open now, each included by the one before

    def __init__(self, name: str) -> None:
        path = _found(name)
        assert path is not None, name
        if path in self.paths:
            raise ValueError(f"the file includes itself: {' -> '.join([*self.paths, path])}; drop one of the includes")
        self._path = path

    def __enter__(self) -> Any:
        self.paths.append(self._path)
        self._stream = open(self._path, encoding="utf-8-sig")
        try:
            self._stream.read()
        except UnicodeDecodeError as error:
            raise ValueError(f"{self._path} is not UTF-8 ({error.reason}); save it as UTF-8") from error
        self._stream.seek(0)
        return self._stream

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self.paths.remove(self._path)


def _found(name: str) -> str | None:
    """Where the file of a name lies: here, or beside the file that includes it."""
    name = expand_path(name)
    if os.path.isfile(name):
        return os.path.abspath(name)
    for opened in _OpenFile.paths[-1:]:
        path = os.path.abspath(os.path.join(os.path.dirname(opened), name))
        # A file that is named as one of the package, and includes it, means that one.
        if os.path.isfile(path) and not (path == opened and os.path.isfile(_packaged(name))):
            return path
    return None


def _is_file(name: str) -> bool:
    return _found(name) is not None


def _packaged(name: str) -> str:
    return os.path.join(GIN_CONFIGS, name.removeprefix("humpback_jax/").removeprefix("gin_configs/"))


def _is_packaged(name: str) -> bool:
    """Whether a file of the package is meant, as one names it in a checkout, or a file inside another package."""
    if os.path.isfile(_packaged(name)):
        return True
    with contextlib.suppress(TypeError):  # gin's own reader fails on folders that are no package
        return resource_reader.system_path_file_exists(name)
    return False


def _open_packaged(name: str) -> Any:
    path = _packaged(name)
    return _OpenFile(path) if os.path.isfile(path) else resource_reader.system_path_reader(name)


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


class RecipeFaults(ValueError):
    """Bindings that cannot be meant, all of them.

    Attributes:
      faults: a sentence for each.
      rest: what the other bindings describe; None where that is nothing.
    """

    def __init__(self, faults: Sequence[str], rest: Any) -> None:
        self.faults, self.rest = tuple(faults), rest
        one = len(self.faults) == 1
        lines = "".join(f"\n  {fault}" for fault in self.faults)
        super().__init__(f"gin: {self.faults[0]}" if one else f"gin: {len(self.faults)} settings cannot be:{lines}")


def parse_recipe(gin_files: Sequence[str], bindings: Sequence[str]) -> Recipe:
    """The recipe that gin files and bindings describe.

    Raises:
      ValueError: a file is missing; a configurable, parameter, macro or scope is mistyped; a required value is not
        given. The message names it and, where one is close, the name that was meant.
      RecipeFaults: values are not what their fields take.
    """
    recipe = parse(Recipe, gin_files, bindings)
    _check_all_used()
    return recipe


def parse(cls: type[T], gin_files: Sequence[str], bindings: Sequence[str]) -> T:
    """The dataclass that gin files describe, perhaps beside their recipe; raises as `parse_recipe` does."""
    gin.clear_config()
    _register(cls)
    _OpenFile.paths.clear()
    logging.disable(logging.ERROR)  # gin logs an error for every folder that lacks a file, also when the next has it
    try:
        gin.parse_config_files_and_bindings(list(gin_files), list(bindings), finalize_config=False)
    except OSError as error:
        raise ValueError(f"{error}; experiments of the package are {', '.join(_experiments())}") from error
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"gin: {_syntax_words(error) or _first_line(error)}{_suggestion(str(error), cls)}") from error
    finally:
        logging.disable(logging.NOTSET)
    _check_macros()
    if not gin_files:
        raise ValueError(f"no recipe given: add --gin_file; experiments of the package are {', '.join(_experiments())}")
    faults = list(_take_out_faults(cls))
    try:
        gin.finalize()
        made = _registered[cls]()
    except (TypeError, RuntimeError, ValueError) as error:
        if not faults:
            raise ValueError(f"gin: {_first_line(error)}") from error
        # What was taken out may be what is missed now.
        raise RecipeFaults(faults if isinstance(error, TypeError) else [*faults, _first_line(error)], None) from error
    if faults:
        raise RecipeFaults(faults, made)
    return made


def _take_out_faults(cls: type) -> Iterator[str]:
    """Removes every binding whose value its field does not take, and says of each what the field takes."""
    classes = {each.__name__: each for each in (*CONFIGURABLES, cls)}
    for (scope, selector), values in gin_config._CONFIG.items():
        owner = classes.get(selector.rpartition(".")[2])
        kinds = declared_fields(owner) if dataclasses.is_dataclass(owner) else {}
        for name in [name for name in values if name in kinds]:
            if fault := fault_of(kinds[name], _stand_in(values[name]), shown=repr(values[name])):
                del values[name]
                yield f"{_binding_name(scope, selector)}.{name} {fault}"


def _stand_in(value: Any) -> Any:
    """A value as it will be once gin's references are followed; an object in the place of what is yet to be made."""
    if isinstance(value, list | tuple):
        return type(value)(_stand_in(each) for each in value)
    if not isinstance(value, gin_config.ConfigurableReference):
        return value
    if value.configurable.selector == _MACRO:
        return _stand_in(gin_config._CONFIG[value.config_key].get("value"))
    made = value.configurable.wrapped
    return object.__new__(made) if isinstance(made, type) and value.evaluate else made


def config_texts() -> tuple[str, str]:
    """(the bindings as given, the operative configuration with every default) of the last `parse_recipe`."""
    return gin.config_str(), gin.operative_config_str()


def _as_gin_value(text: str) -> str:
    """Quotes what is neither a Python literal nor a gin reference, so that `--gin.A.b=word` needs no double quotes.

    A path may hold any of gin's own marks: what gin cannot read as a value is a text.
    """
    if _REFERENCE.fullmatch(text):
        return text
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text if text.startswith(("(", "[", "{")) and _is_gin_value(text) else repr(text)
    return text


def _is_gin_value(text: str) -> bool:
    """Whether gin's grammar takes the whole text as a value; the names in it may be unknown yet."""
    try:
        return bool(list(gin_config.config_parser.ConfigParser(f"A.b = {text}", _AnyNames())))
    except (SyntaxError, ValueError):
        return False


class _AnyNames(gin_config.config_parser.ParserDelegate):
    """Lets gin's parser meet references to what is not registered."""

    def configurable_reference(self, scoped_name: str, evaluate: bool) -> Any:
        return None

    def macro(self, name: str) -> Any:
        return None


def _check_macros() -> None:
    """gin's own message for an undefined macro does not name it, and an unused one passes in silence."""
    macro, config = gin.get_configurable(gin_config.macro), gin_config._CONFIG
    defined, used = {scope for scope, selector in config if selector == _MACRO}, set()
    bindings = [(key, parameter, value) for key, values in config.items() for parameter, value in values.items()]
    for key, parameter, value in bindings:
        for reference in gin_config.iterate_references({key: {parameter: value}}, to=macro):
            name = reference.scoped_selector.rpartition("/")[0]
            used.add(name)
            if name not in defined:
                where = f"{_binding_name(*key)}.{parameter}"
                raise ValueError(f"{where} uses the macro %{name}, which is not defined" + _close(name, defined))
    for name in sorted(defined - used):
        raise ValueError(f"gin binding {name!r} has no effect: nothing reads a macro of this name" + _close(name, used))


def _binding_name(scope: str, selector: str) -> str:
    return f"{scope}/{selector.rpartition('.')[2]}".lstrip("/")


def _check_all_used() -> None:
    """Every binding must have been read while the recipe was built; a mistyped scope would otherwise pass."""
    operative = list(gin_config._OPERATIVE_CONFIG)
    for scope, selector in gin_config._CONFIG:
        if selector == _MACRO or selector.rpartition(".")[2] in BESIDE_THE_RECIPE:
            continue  # the file of a sweep is the recipe of its runs too
        parts = scope.split("/") if scope else []
        if selector.rpartition(".")[2] in _switched_off():
            continue
        if not any(s == selector and t.split("/")[: len(parts)] == parts for t, s in operative):
            scopes = {t for t, s in operative if s == selector and t}
            name = _binding_name(scope, selector)
            message = f"gin bindings of {name} have no effect: the recipe reads no such configurable"
            raise ValueError(message + _close(scope, scopes))


def _switched_off() -> set[str]:
    """Names of the classes whose place in the recipe is bound to None: an included file may have set them up."""
    names: set[str] = set()
    for (_, selector), bound in gin_config._CONFIG.items():
        cls = next((each for each in CONFIGURABLES if each.__name__ == selector.rpartition(".")[2]), None)
        kinds = typing.get_type_hints(cls) if cls else {}
        for name in (name for name, value in bound.items() if value is None and name in kinds):
            names.update(each.__name__ for each in configurables_of(kinds[name]))
    return names


def _suggestion(message: str, cls: type) -> str:
    """The known name nearest to the one that gin complains of."""
    known = {each.__name__: each for each in (*CONFIGURABLES, cls)}
    if match := re.search(r"'([\w./]+)' doesn't have a parameter named '(\w+)'", message):
        owner = match[1].rpartition(".")[2].rpartition("/")[2]
        if renamed := RENAMED.get(f"{owner}.{match[2]}"):
            return f". {owner}.{match[2]} is called {renamed} now; a scope before it stays"
        return _close(match[2], [field.name for field in dataclasses.fields(known[owner])]) if owner in known else ""
    if match := re.search(r"No configurable matching '([\w./]+)'", message):
        return _close(match[1].rpartition("/")[2].partition(".")[0], [*known, *BESIDE_THE_RECIPE])
    return ""


def _close(name: str, known: Any) -> str:
    """A hint: the nearest of the known names, or all of them."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    if matches:
        return f". Did you mean {matches[0]!r}?"
    return f"; known are {', '.join(sorted(known))}" if known else ""


def _syntax_words(error: Exception) -> str:
    """Where gin's grammar does not know a bare word, the place and what to write."""
    match = re.search(r"Failed to parse token '([^']+)'", str(error))
    if match is None or not isinstance(error, SyntaxError):
        return ""
    word = {"true": "True", "false": "False", "none": "None", "null": "None"}.get(match[1].lower(), repr(match[1]))
    return f"{error.filename or 'a binding'}, line {error.lineno}: {match[1]} is no value; write {word}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return " ".join(lines[:2]) if lines else type(error).__name__


def _experiments() -> list[str]:
    folder = os.path.join(GIN_CONFIGS, "experiments")
    return sorted(f"experiments/{name}" for name in os.listdir(folder) if name.endswith(".gin"))
