"""Compiled programs by name: made before the first request needs them, shared by engines of the same shapes."""

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from humpback_jax.partitioning import LogicalAxisRules, compiler_options, use_mesh

_COMPILED: dict[Hashable, jax.stages.Compiled] = {}


class Program(NamedTuple):
    """A jitted function with its static arguments; the name stands for them and for one set of shapes."""

    name: tuple[Any, ...]
    function: Any
    static: Mapping[str, Any]


Call = tuple[Program, dict[str, Any]]  # with all other arguments by name


class Programs:
    """The programs of one engine. Arguments are arrays, or `jax.ShapeDtypeStruct` with shardings."""

    def __init__(self, mesh: Mesh, rules: LogicalAxisRules) -> None:
        self._mesh, self._rules = mesh, rules
        self._by_name: dict[Hashable, jax.stages.Compiled] = {}

    def compile(self, program: Program, arguments: Mapping[str, Any]) -> jax.stages.Compiled:
        """Compiles a program unless some engine has had it compiled."""
        name, function, static = program
        if name not in self._by_name:
            leaves, treedef = jax.tree.flatten(dict(arguments))
            shapes = tuple((x.shape, x.dtype, x.sharding) for x in leaves)
            key = (function, self._mesh, self._rules, tuple(sorted(static.items())), treedef, shapes)
            if key not in _COMPILED:
                with use_mesh(self._mesh, self._rules):
                    lowered = function.lower(**static, **arguments)
                    _COMPILED[key] = lowered.compile(compiler_options=compiler_options(self._mesh))
            self._by_name[name] = _COMPILED[key]
        return self._by_name[name]

    def run(self, program: Program, arguments: Mapping[str, Any]) -> Any:
        """Calls a program; one that nobody has asked for before is compiled now."""
        return self.compile(program, arguments)(**arguments)

    def outputs(self, program: Program, arguments: Mapping[str, Any]) -> Any:
        """What a program returns, as `jax.ShapeDtypeStruct` leaves with shardings."""
        compiled = self.compile(program, arguments)
        with use_mesh(self._mesh, self._rules):
            shapes = jax.eval_shape(lambda: program.function(**program.static, **arguments))
        return jax.tree.map(_placed_struct, shapes, compiled.output_shardings)


def _placed_struct(x: jax.ShapeDtypeStruct, sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
