"""What a setting may be, declared at its field: a type, and beside it in `Annotated` a range, choices, or a path.

    batch_size: PositiveInt = 32
    dropout: Annotated[float, Range(0, below=1)] = 0.1
    batch_unit: Annotated[str, OneOf("examples", "tokens")] = "examples"

`check_fields(self)` in a dataclass's `__post_init__` holds its values to that.
"""

import dataclasses
import functools
import math
import numbers
import os
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any

_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", type(None): "None"}
_SEVERAL = {int: "whole numbers", float: "numbers", bool: "True or False each", str: "texts"}
_UNIONS = (typing.Union, types.UnionType)


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number: `least` and `most` are allowed themselves, `above` and `below` are not."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        if self.least is not None and self.most is not None:
            return f"from {self.least:g} to {self.most:g}"
        bounds = {"of at least": self.least, "above": self.above, "of at most": self.most, "below": self.below}
        return " and ".join(f"{words} {bound:g}" for words, bound in bounds.items() if bound is not None)


class OneOf:
    """The only values that a field takes."""

    def __init__(self, *choices: Any) -> None:
        self.choices = choices

    def __contains__(self, value: Any) -> bool:
        return value in self.choices

    def __str__(self) -> str:
        return f"among {', '.join(map(str, self.choices))}"


class NotBlank:
    """Any text but one without a visible character."""

    def __contains__(self, value: str) -> bool:
        return bool(value.strip())

    def __str__(self) -> str:
        return "(not empty)"


class LocalPath:
    """A text that names a file or folder, or something elsewhere; `~` and `$NAME` are replaced as a shell does."""

    def __contains__(self, value: str) -> bool:
        return bool(value.strip())

    def __str__(self) -> str:
        return "(a path)"


PositiveInt = Annotated[int, Range(1)]
NaturalInt = Annotated[int, Range(0)]
PositiveFloat = Annotated[float, Range(above=0)]
NaturalFloat = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Rate = Annotated[float, Range(0, below=1)]
Text = Annotated[str, NotBlank()]
PathText = Annotated[str, LocalPath()]


def check_fields(settings: Any) -> None:
    """Holds every field of a dataclass to its declaration; lists become tuples, and paths are expanded.

    Raises:
      ValueError: names every field that its declaration refuses, what it takes, and what was found.
    """
    faults = []
    cls: Any = type(settings)
    for name, kind in declared_fields(cls).items():
        value = getattr(settings, name)
        if (fitted := _fitted(kind, value)) is None:
            faults.append(f"{type(settings).__name__}.{name} {fault_of(kind, value)}")
        else:
            object.__setattr__(settings, name, fitted[0])
    if faults:
        raise ValueError("; ".join(faults))


@functools.cache
def declared_fields(cls: Any) -> dict[str, Any]:
    """Names of the fields that a dataclass is made with, and what was declared for each, ranges included."""
    kinds = typing.get_type_hints(cls, include_extras=True)
    return {field.name: kinds[field.name] for field in dataclasses.fields(cls) if field.init}


def fault_of(kind: Any, value: Any, shown: str | None = None) -> str | None:
    """`takes …, found …` where a value, which is `shown` as its repr unless said, is not what was declared."""
    if _fitted(kind, value) is not None:
        return None
    return f"takes {words_of(kind)}, found {shown or repr(value)}{_advice(kind, value)}"


def expand_path(path: str) -> str:
    """The path with `~` and `$NAME` replaced, where there is such a home or variable."""
    return os.path.expandvars(os.path.expanduser(path))


def _fitted(kind: Any, value: Any) -> tuple[Any] | None:
    """The value as declared, in a tuple of its own; None where it does not fit."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        fitted = _fitted(args[0], value)
        if fitted is None or any(fitted[0] not in mark for mark in args[1:]):
            return None
        return (expand_path(value),) if any(isinstance(mark, LocalPath) for mark in args[1:]) else fitted
    if origin in _UNIONS:
        return next((fitted for each in args if (fitted := _fitted(each, value)) is not None), None)
    if origin is typing.Literal:
        return (value,) if value in args and not isinstance(value, bool) else None
    if origin is tuple:
        return _fitted_tuple(args, value)
    return (value,) if _is_plain(kind, value) else None


def _fitted_tuple(kinds: tuple[Any, ...], value: Any) -> tuple[Any] | None:
    if not isinstance(value, list | tuple):
        return None
    kinds = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
    parts = [_fitted(kind, each) for kind, each in zip(kinds, value, strict=False)]
    if len(kinds) != len(value) or any(part is None for part in parts):
        return None
    return (tuple(part[0] for part in parts if part is not None),)


def _is_plain(kind: Any, value: Any) -> bool:
    if kind is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    return not isinstance(kind, type) or isinstance(value, kind)


def words_of(kind: Any, several: bool = False) -> str:
    """What a declaration takes, in words."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return " ".join([words_of(args[0], several), *map(str, args[1:])])
    if origin in _UNIONS:
        return " or ".join(words_of(each, several) for each in args)
    if origin is typing.Literal:
        return " or ".join(map(str, args))
    if origin is tuple:
        if args[-1] is Ellipsis:
            return f"{'lists of' if several else 'several'} {words_of(args[0], several=True)}"
        return f"{'rows' if several else 'a row'} of ({', '.join(map(words_of, args))})"
    words = (_SEVERAL if several else _WORDS).get(kind)
    return words or f"a {getattr(kind, '__name__', kind)}"


def plain_kinds(kind: Any) -> Iterator[Any]:
    """The types that a declaration is put together from, without its ranges; of a tuple, `tuple`."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        yield from plain_kinds(args[0])
    elif origin in _UNIONS:
        for each in args:
            yield from plain_kinds(each)
    else:
        yield origin or kind


def _advice(kind: Any, value: Any) -> str:
    """What to write instead, where it can be told."""
    if not isinstance(value, str):
        return ""
    kinds, word = set(plain_kinds(kind)), value.strip().lower()
    if tuple in kinds:
        return f"; write ({value!r},)"
    if type(None) in kinds and word in ("none", "null", ""):
        return "; write None"
    if bool in kinds and word in ("true", "false"):
        return f"; write {word.capitalize()}"
    if kinds & {int, float} and word.replace(".", "", 1).isdigit():
        return "; write it without quotes"
    return ""
