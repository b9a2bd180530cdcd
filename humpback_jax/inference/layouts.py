"""How weights lie in the memory of a TPU while programs that make few tokens at a time read them."""

from typing import Any

import jax
from jax.experimental.layout import Format, Layout

HEADS_OUTERMOST, EMBED_INNERMOST = Layout(major_to_minor=(1, 0, 2)), Layout(major_to_minor=(1, 2, 0))
MANY_ROWS = 128  # from which on the products of several heads read their kernels transposed, as compiled programs show
_PROJECTIONS = ("query", "key", "value")


def lay_out_for_decode(params: dict[str, Any], rows: int) -> dict[str, Any]:
    """The parameters, split by layer, with the heads of every query, key and value kernel outermost in memory.

    So the products of single tokens read them; left as [embed, heads, head_dim], every program would begin by copying
    all of them. Shapes and values stay. Weight by weight: each array is released as soon as it is copied, if nothing
    but the argument itself holds `params`.

    Args:
      params: arrays, or `jax.ShapeDtypeStruct` with shardings.
      rows: decoded together on one device.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
    del params
    leaves.reverse()
    placed = []
    while leaves:
        path, leaf = leaves.pop()
        names = [getattr(key, "key", None) for key in path]
        if leaf.ndim == 3 and any(name in names for name in _PROJECTIONS):
            several = leaf.sharding.shard_shape(leaf.shape)[1] > 1
            leaf = _formatted(leaf, EMBED_INNERMOST if several and rows >= MANY_ROWS else HEADS_OUTERMOST)
        placed.append(leaf)
    return jax.tree.unflatten(treedef, placed)


def _formatted(leaf: Any, layout: Layout) -> Any:
    format_ = Format(layout, leaf.sharding)
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=format_)
    return jax.block_until_ready(jax.jit(lambda x: x, out_shardings=format_)(leaf))
