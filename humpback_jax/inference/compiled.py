"""Compiled programs by name: made before the first request needs them, shared by engines of the same shapes."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from humpback_jax.partitioning import LogicalAxisRules, compiler_options, use_mesh

_COMPILED: dict[Hashable, jax.stages.Compiled] = {}


class Programs:
    """The programs of one engine. A name stands for one function with one set of shapes."""

    def __init__(self, mesh: Mesh, rules: LogicalAxisRules) -> None:
        self._mesh, self._rules = mesh, rules
        self._by_name: dict[Hashable, jax.stages.Compiled] = {}

    def compile(
        self, name: Hashable, function: Any, static: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> jax.stages.Compiled:
        """The program called `name`, compiled unless some engine has had it compiled.

        Args:
          name: hashable.
          function: a jitted function.
          static: its static arguments.
          arguments: all others: arrays, or `jax.ShapeDtypeStruct` with shardings.
        """
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

    def run(self, name: Hashable, function: Callable, static: Mapping[str, Any], **arguments: Any) -> Any:
        """Calls the program; one that nobody has asked for before is compiled now."""
        return self.compile(name, function, static, arguments)(**arguments)

    def outputs(
        self, name: Hashable, function: Callable, static: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> Any:
        """What the program returns, as `jax.ShapeDtypeStruct` leaves with shardings."""
        program = self.compile(name, function, static, arguments)
        with use_mesh(self._mesh, self._rules):
            shapes = jax.eval_shape(lambda: function(**static, **arguments))
        struct = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)  # noqa: E731
        return jax.tree.map(struct, shapes, program.output_shardings)
