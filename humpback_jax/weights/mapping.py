"""The one strict table between our parameter tree and foreign tensor names, used in both directions.

Each row says how one of our leaves is called in Hugging Face and GGUF files and how its axes are laid out there.
Foreign linear weights are [out, in]; ours are [in, out] with the heads split off. GGUF files of architecture `llama`
keep the rows of the query and key projections interleaved within each head; ours (and Hugging Face's) are in halves.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from humpback_jax.models.config import LlamaConfig

Format = Literal["huggingface", "gguf"]


@dataclasses.dataclass(frozen=True)
class Rule:
    """How one leaf of our tree is stored elsewhere.

    Attributes:
      path: our leaf, `/`-separated; leaves under `layers/` are stacked over the layers on axis 0.
      huggingface: tensor name in safetensors files, `{layer}` standing for the layer number.
      gguf: tensor name in GGUF files.
      axes: our axes, without the layer axis.
      foreign_axes: the foreign axes, each a product of ours in row-major order.
      rotary: the rows of a head are interleaved in GGUF files.
    """

    path: str
    huggingface: str
    gguf: str
    axes: tuple[str, ...]
    foreign_axes: tuple[tuple[str, ...], ...]
    rotary: bool = False

    @property
    def stacked(self) -> bool:
        """Whether the leaf has a leading layer axis."""
        return self.path.startswith("layers/")

    def foreign_name(self, form: Format, layer: int | None) -> str:
        """The tensor's name in a foreign file."""
        name = self.huggingface if form == "huggingface" else self.gguf
        return name.format(layer=layer)


_EMB, _MLP, _HEADS, _KV_HEADS = ("emb",), ("mlp",), ("heads", "head_dim"), ("kv_heads", "head_dim")
_HF, _BLK = "model.layers.{layer}.", "blk.{layer}."

RULES: tuple[Rule, ...] = (
    Rule(
        "token_embedder/embedding",
        "model.embed_tokens.weight",
        "token_embd.weight",
        ("vocab", "emb"),
        (("vocab",), _EMB),
    ),
    Rule(
        "layers/attention_norm/scale",
        _HF + "input_layernorm.weight",
        _BLK + "attn_norm.weight",
        _EMB,
        (_EMB,),
    ),
    Rule(
        "layers/attention/query/kernel",
        _HF + "self_attn.q_proj.weight",
        _BLK + "attn_q.weight",
        _EMB + _HEADS,
        (_HEADS, _EMB),
        rotary=True,
    ),
    Rule(
        "layers/attention/key/kernel",
        _HF + "self_attn.k_proj.weight",
        _BLK + "attn_k.weight",
        _EMB + _KV_HEADS,
        (_KV_HEADS, _EMB),
        rotary=True,
    ),
    Rule(
        "layers/attention/value/kernel",
        _HF + "self_attn.v_proj.weight",
        _BLK + "attn_v.weight",
        _EMB + _KV_HEADS,
        (_KV_HEADS, _EMB),
    ),
    Rule(
        "layers/attention/out/kernel",
        _HF + "self_attn.o_proj.weight",
        _BLK + "attn_output.weight",
        _HEADS + _EMB,
        (_EMB, _HEADS),
    ),
    Rule(
        "layers/mlp_norm/scale",
        _HF + "post_attention_layernorm.weight",
        _BLK + "ffn_norm.weight",
        _EMB,
        (_EMB,),
    ),
    Rule(
        "layers/mlp/gate/kernel",
        _HF + "mlp.gate_proj.weight",
        _BLK + "ffn_gate.weight",
        _EMB + _MLP,
        (_MLP, _EMB),
    ),
    Rule(
        "layers/mlp/up/kernel",
        _HF + "mlp.up_proj.weight",
        _BLK + "ffn_up.weight",
        _EMB + _MLP,
        (_MLP, _EMB),
    ),
    Rule(
        "layers/mlp/down/kernel",
        _HF + "mlp.down_proj.weight",
        _BLK + "ffn_down.weight",
        _MLP + _EMB,
        (_EMB, _MLP),
    ),
    Rule("final_norm/scale", "model.norm.weight", "output_norm.weight", _EMB, (_EMB,)),
    Rule("lm_head/kernel", "lm_head.weight", "output.weight", ("emb", "vocab"), (("vocab",), _EMB)),
)
EMBEDDING, LM_HEAD = RULES[0], RULES[-1]


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """What a foreign file says about one tensor."""

    shape: tuple[int, ...]
    file: str


@dataclasses.dataclass(frozen=True)
class TensorSlot:
    """The place of one foreign tensor in our tree: a rule and, for stacked leaves, a layer."""

    rule: Rule
    layer: int | None


def rules_of(config: LlamaConfig) -> tuple[Rule, ...]:
    """The rows of the table that a model has; a tied one has no output projection of its own."""
    return RULES[:-1] if config.tie_word_embeddings else RULES


def axis_sizes(config: LlamaConfig) -> dict[str, int]:
    """Length of every axis named in the table."""
    return {
        "vocab": config.vocab_size,
        "emb": config.emb_dim,
        "heads": config.num_heads,
        "kv_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "mlp": config.mlp_dim,
    }


def leaf_shape(rule: Rule, config: LlamaConfig) -> tuple[int, ...]:
    """Shape of our leaf, with the layer axis if it has one."""
    sizes = axis_sizes(config)
    layers = (config.num_layers,) if rule.stacked else ()
    return layers + tuple(sizes[axis] for axis in rule.axes)


def foreign_shape(rule: Rule, config: LlamaConfig) -> tuple[int, ...]:
    """Shape of one foreign tensor."""
    sizes = axis_sizes(config)
    return tuple(math.prod(sizes[axis] for axis in group) for group in rule.foreign_axes)


def foreign_slots(config: LlamaConfig, form: Format) -> dict[str, TensorSlot]:
    """Every tensor a foreign file of this model must hold, in file order: embedding, layers, norm, output."""
    rules = rules_of(config)
    slots = {rules[0].foreign_name(form, None): TensorSlot(rules[0], None)}
    for layer in range(config.num_layers):
        slots |= {rule.foreign_name(form, layer): TensorSlot(rule, layer) for rule in rules if rule.stacked}
    slots |= {rule.foreign_name(form, None): TensorSlot(rule, None) for rule in rules[1:] if not rule.stacked}
    return slots


def check_tensors(found: Mapping[str, TensorInfo], config: LlamaConfig, form: Format, where: str) -> None:
    """Raises ValueError naming the first missing, unmapped or misshapen tensor, and how many more there are."""
    slots = foreign_slots(config, form)
    missing = [name for name in slots if name not in found]
    if missing:
        shape = foreign_shape(slots[missing[0]].rule, config)
        hint = ""
        if missing[0] == LM_HEAD.foreign_name(form, None):
            hint = "; its configuration says that the embeddings are not tied"
        raise ValueError(
            f"{where}: tensor {missing[0]} of shape {list(shape)} is missing{_and_more(missing)}{hint}. "
            "Download the whole model again, or correct its configuration"
        )
    extra = [name for name in found if name not in slots]
    if extra:
        info = found[extra[0]]
        raise ValueError(
            f"{info.file}: unmapped tensor {extra[0]} of shape {list(info.shape)}{_and_more(extra)}: a LLaMA of "
            f"{config.num_layers} layers has no place for it, so this is another architecture or another configuration"
        )
    for name, slot in slots.items():
        expected, info = foreign_shape(slot.rule, config), found[name]
        if info.shape != expected:
            raise ValueError(
                f"{info.file}: tensor {name} has shape {list(info.shape)}, expected {list(expected)} "
                "from the model's configuration"
            )


def _and_more(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def row_blocks(rule: Rule, config: LlamaConfig, max_bytes: int) -> Iterator[tuple[int, int]]:
    """(start, stop) rows of the foreign tensor in blocks of at most `max_bytes` of float32, never splitting a head."""
    sizes = axis_sizes(config)
    shape = foreign_shape(rule, config)
    unit = math.prod(sizes[axis] for axis in rule.foreign_axes[0][1:])
    row_bytes = 4 * math.prod(shape[1:])
    step = max(1, max_bytes // (unit * row_bytes)) * unit
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


def put_rows(
    leaf: np.ndarray, slot: TensorSlot, config: LlamaConfig, start: int, rows: np.ndarray, interleaved: bool
) -> None:
    """Writes foreign rows `start`… into their place in our leaf, in the leaf's dtype.

    Args:
      leaf: our whole leaf, [layers, …] when stacked.
      slot: which tensor the rows come from.
      config: the model.
      start: first foreign row, a multiple of a head for projections into heads.
      rows: foreign rows, [n, …].
      interleaved: whether rotary rows come interleaved (GGUF).
    """
    rule, sizes = slot.rule, axis_sizes(config)
    ours = leaf[slot.layer] if rule.stacked else leaf
    flat_axes = [axis for group in rule.foreign_axes for axis in group]
    view = ours.transpose([rule.axes.index(axis) for axis in flat_axes])
    unit = math.prod(sizes[axis] for axis in rule.foreign_axes[0][1:])
    block = rows.reshape(rows.shape[0] // unit, *view.shape[1:])
    if interleaved and rule.rotary:
        block = halves_from_pairs(block)
    view[start // unit : start // unit + block.shape[0]] = block.astype(leaf.dtype, copy=False)


def to_foreign(leaf: np.ndarray, rule: Rule, config: LlamaConfig) -> np.ndarray:
    """One layer of our leaf as a contiguous Hugging Face tensor."""
    flat_axes = [axis for group in rule.foreign_axes for axis in group]
    view = leaf.transpose([rule.axes.index(axis) for axis in flat_axes])
    return np.ascontiguousarray(view.reshape(foreign_shape(rule, config)))


def halves_from_pairs(block: np.ndarray) -> np.ndarray:
    """[heads, head_dim, …] rows from interleaved (0, d/2, 1, d/2 + 1, …) order into halves (0, 1, … d - 1)."""
    heads, head_dim = block.shape[:2]
    pairs = block.reshape(heads, head_dim // 2, 2, *block.shape[2:])
    return pairs.swapaxes(1, 2).reshape(block.shape)


def flatten(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    """Nested dict to {`a/b/c`: leaf}, sorted by path."""
    leaves: dict[str, Any] = {}
    for key in sorted(tree):
        path = f"{prefix}{key}"
        value = tree[key]
        leaves |= flatten(value, path + "/") if isinstance(value, Mapping) else {path: value}
    return leaves


def unflatten(leaves: Mapping[str, Any]) -> dict:
    """Inverse of `flatten`."""
    tree: dict = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = leaf
    return tree


def check_params(params: Mapping, config: LlamaConfig, where: str) -> None:
    """Raises ValueError unless our tree has exactly the leaves and shapes of the model."""
    leaves = flatten(params)
    expected = {rule.path: leaf_shape(rule, config) for rule in rules_of(config)}
    for path in sorted(expected.keys() - leaves.keys()):
        raise ValueError(f"{where}: parameter {path} of shape {list(expected[path])} is missing")
    for path in sorted(leaves.keys() - expected.keys()):
        raise ValueError(f"{where}: parameter {path} has no place in model {config.name!r}")
    for path, shape in expected.items():
        found = tuple(leaves[path].shape)
        if found != shape:
            raise ValueError(f"{where}: parameter {path} has shape {list(found)}, expected {list(shape)}")
