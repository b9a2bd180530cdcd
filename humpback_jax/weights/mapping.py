"""The one strict table between our parameter tree and foreign tensor names, used in both directions.

Each row says how one of our leaves is called in Hugging Face and GGUF files and how its axes are laid out there.
Foreign linear weights are [out, in]; ours are [in, out] with the heads split off. GGUF files of architecture `llama`
keep the rows of the query and key projections interleaved within each head; ours (and Hugging Face's) are in halves.
Nothing in a foreign file is guessed: every error names the file and the field or the tensor.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Literal

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

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


_EMB, _MLP, _HEADS, _KV_HEADS = ("embed",), ("mlp",), ("heads", "head_dim"), ("kv_heads", "head_dim")


def _norm(path: str, huggingface: str, gguf: str) -> Rule:
    return Rule(f"{path}/scale", f"{huggingface}.weight", f"{gguf}.weight", _EMB, (_EMB,))


def _linear(
    path: str, huggingface: str, gguf: str, inputs: tuple[str, ...], outputs: tuple[str, ...], rotary: bool = False
) -> Rule:
    names = f"{path}/kernel", f"{huggingface}.weight", f"{gguf}.weight"
    return Rule(*names, axes=inputs + outputs, foreign_axes=(outputs, inputs), rotary=rotary)


_HF, _BLK = "model.layers.{layer}", "blk.{layer}"
EMBEDDING = Rule(
    "token_embedder/embedding", "model.embed_tokens.weight", "token_embd.weight", ("vocab", "embed"), (("vocab",), _EMB)
)
FINAL_NORM = _norm("final_norm", "model.norm", "output_norm")
LM_HEAD = _linear("lm_head", "lm_head", "output", _EMB, ("vocab",))
# Of a LLaMA; `rules_of` has those of its relatives.
RULES: tuple[Rule, ...] = (
    EMBEDDING,
    _norm("layers/attention_norm", f"{_HF}.input_layernorm", f"{_BLK}.attn_norm"),
    _linear("layers/attention/query", f"{_HF}.self_attn.q_proj", f"{_BLK}.attn_q", _EMB, _HEADS, rotary=True),
    _linear("layers/attention/key", f"{_HF}.self_attn.k_proj", f"{_BLK}.attn_k", _EMB, _KV_HEADS, rotary=True),
    _linear("layers/attention/value", f"{_HF}.self_attn.v_proj", f"{_BLK}.attn_v", _EMB, _KV_HEADS),
    _linear("layers/attention/out", f"{_HF}.self_attn.o_proj", f"{_BLK}.attn_output", _HEADS, _EMB),
    _norm("layers/mlp_norm", f"{_HF}.post_attention_layernorm", f"{_BLK}.ffn_norm"),
    _linear("layers/mlp/gate", f"{_HF}.mlp.gate_proj", f"{_BLK}.ffn_gate", _EMB, _MLP),
    _linear("layers/mlp/up", f"{_HF}.mlp.up_proj", f"{_BLK}.ffn_up", _EMB, _MLP),
    _linear("layers/mlp/down", f"{_HF}.mlp.down_proj", f"{_BLK}.ffn_down", _MLP, _EMB),
    FINAL_NORM,
    LM_HEAD,
)


def _bias(linear: Rule) -> Rule:
    """The bias that an output of a linear weight may have."""
    names = linear.huggingface.replace(".weight", ".bias"), linear.gguf.replace(".weight", ".bias")
    outputs = linear.foreign_axes[0]
    path = linear.path.replace("/kernel", "/bias")
    return Rule(path, *names, axes=outputs, foreign_axes=(outputs,), rotary=linear.rotary)


_MLP_KERNELS = ("gate", "up", "down")
_QUERY_NORM, _KEY_NORM = f"{_HF}.self_attn.q_norm.weight", f"{_HF}.self_attn.k_norm.weight"
# Which norms a layer has, by `LlamaConfig.norms`: what the foreign files call them depends on which there are.
_NORMS = {
    "pre": (
        _norm("layers/attention_norm", f"{_HF}.input_layernorm", f"{_BLK}.attn_norm"),
        _norm("layers/mlp_norm", f"{_HF}.post_attention_layernorm", f"{_BLK}.ffn_norm"),
    ),
    "post": (
        _norm("layers/attention_post_norm", f"{_HF}.post_attention_layernorm", f"{_BLK}.post_attention_norm"),
        _norm("layers/mlp_post_norm", f"{_HF}.post_feedforward_layernorm", f"{_BLK}.post_ffw_norm"),
    ),
    "sandwich": (
        _norm("layers/attention_norm", f"{_HF}.input_layernorm", f"{_BLK}.attn_norm"),
        _norm("layers/attention_post_norm", f"{_HF}.post_attention_layernorm", f"{_BLK}.post_attention_norm"),
        _norm("layers/mlp_norm", f"{_HF}.pre_feedforward_layernorm", f"{_BLK}.ffn_norm"),
        _norm("layers/mlp_post_norm", f"{_HF}.post_feedforward_layernorm", f"{_BLK}.post_ffw_norm"),
    ),
}


@dataclasses.dataclass(frozen=True)
class TensorSlot:
    """The place of one foreign tensor in our tree: a rule and, for stacked leaves, a layer."""

    rule: Rule
    layer: int | None


def rules_of(config: LlamaConfig) -> tuple[Rule, ...]:
    """The rows of the table that a model has; a tied one has no output projection of its own."""
    layer: list[Rule] = []
    for block, biased in (("attention", _biased_projections(config)), ("mlp", _MLP_KERNELS if config.mlp_bias else ())):
        kernels = [rule for rule in RULES if rule.path.startswith(f"layers/{block}/")]
        layer += [norm for norm in _NORMS[config.norms] if norm.path.startswith(f"layers/{block}_")]
        layer += kernels + [_bias(rule) for rule in kernels if rule.path.split("/")[2] in biased]
    if config.qk_norm != "none":
        whole = config.qk_norm == "whole"
        layer += [
            _head_norm("query", _QUERY_NORM, f"{_BLK}.attn_q_norm.weight", _HEADS if whole else ("head_dim",)),
            _head_norm("key", _KEY_NORM, f"{_BLK}.attn_k_norm.weight", _KV_HEADS if whole else ("head_dim",)),
        ]
    rules = (EMBEDDING, *layer, FINAL_NORM)
    return rules if config.tie_word_embeddings else (*rules, LM_HEAD)


def _biased_projections(config: LlamaConfig) -> tuple[str, ...]:
    return ("query", "key", "value") * config.qkv_bias + ("out",) * config.output_bias


def _head_norm(name: str, huggingface: str, gguf: str, axes: tuple[str, ...]) -> Rule:
    return Rule(f"layers/attention/{name}_norm/scale", huggingface, gguf, axes, (axes,))


def leaf_shape(rule: Rule, config: LlamaConfig) -> tuple[int, ...]:
    """Shape of our leaf, with the layer axis if it has one."""
    layers = (config.num_layers,) if rule.stacked else ()
    return layers + tuple(config.axis_sizes[axis] for axis in rule.axes)


def foreign_shape(rule: Rule, config: LlamaConfig) -> tuple[int, ...]:
    """Shape of one foreign tensor."""
    sizes = config.axis_sizes
    return tuple(math.prod(sizes[axis] for axis in group) for group in rule.foreign_axes)


def foreign_slots(config: LlamaConfig, form: Format) -> dict[str, TensorSlot]:
    """Every tensor a foreign file of this model must hold, in file order: embedding, layers, norm, output."""
    rules = rules_of(config)
    slots = {rules[0].foreign_name(form, None): TensorSlot(rules[0], None)}
    for layer in range(config.num_layers):
        slots |= {rule.foreign_name(form, layer): TensorSlot(rule, layer) for rule in rules if rule.stacked}
    slots |= {rule.foreign_name(form, None): TensorSlot(rule, None) for rule in rules[1:] if not rule.stacked}
    return slots


def check_tensors(
    shapes: Mapping[str, Sequence[int]],
    config: LlamaConfig,
    form: Format,
    where: str,
    files: Mapping[str, str] | None = None,
    expected: Mapping[str, tuple[int, ...]] | None = None,
) -> None:
    """`check_shapes` of a foreign model, which lies in the file `where` or, tensor by tensor, in `files`.

    `expected` are the shapes of its tensors where they are not one for each of ours.
    """
    slots = foreign_slots(config, form)
    expected = expected or {name: foreign_shape(slot.rule, config) for name, slot in slots.items()}
    advice = "Download the whole model again, or correct its configuration: it may describe another architecture"
    if (head := LM_HEAD.foreign_name(form, None)) in expected.keys() - shapes.keys():
        advice = f"Its configuration says that the embeddings are not tied, so {head} must be there. {advice}"
    owner = f"a {config.family} model of {config.num_layers} layers"
    check_shapes(shapes, expected, where, owner, "tensor", advice, files)


def row_blocks(rule: Rule, config: LlamaConfig, max_bytes: int) -> Iterator[tuple[int, int]]:
    """(start, stop) rows of the foreign tensor in blocks of at most `max_bytes` of float32, never splitting a head."""
    shape, unit = foreign_shape(rule, config), _rows_of_a_head(rule, config)
    step = max(1, max_bytes // (unit * 4 * math.prod(shape[1:]))) * unit
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
    rule = slot.rule
    view = _in_foreign_order(leaf[slot.layer] if rule.stacked else leaf, rule)
    unit = _rows_of_a_head(rule, config)
    block = rows.reshape(rows.shape[0] // unit, *view.shape[1:])
    if interleaved and rule.rotary:
        block = halves_from_pairs(block)
    view[start // unit : start // unit + block.shape[0]] = block.astype(leaf.dtype, copy=False)


def to_foreign(leaf: np.ndarray, rule: Rule, config: LlamaConfig) -> np.ndarray:
    """One layer of our leaf as a contiguous Hugging Face tensor."""
    return np.ascontiguousarray(_in_foreign_order(leaf, rule).reshape(foreign_shape(rule, config)))


def _in_foreign_order(leaf: np.ndarray, rule: Rule) -> np.ndarray:
    """A view of one layer of our leaf with its axes in the foreign order."""
    return leaf.transpose([rule.axes.index(axis) for group in rule.foreign_axes for axis in group])


def _rows_of_a_head(rule: Rule, config: LlamaConfig) -> int:
    """How many foreign rows belong together: head_dim for projections into heads, else 1."""
    return math.prod(config.axis_sizes[axis] for axis in rule.foreign_axes[0][1:])


def halves_from_pairs(block: np.ndarray) -> np.ndarray:
    """[heads, head_dim, …] rows from interleaved (0, d/2, 1, d/2 + 1, …) order into halves (0, 1, … d - 1)."""
    heads, head_dim = block.shape[:2]
    pairs = block.reshape(heads, head_dim // 2, 2, *block.shape[2:])
    return pairs.swapaxes(1, 2).reshape(block.shape)


def flatten(tree: Mapping) -> dict[str, Any]:
    """Nested dict to {`a/b/c`: leaf}, sorted by path."""
    return {"/".join(path): leaf for path, leaf in sorted(flatten_dict(dict(tree)).items(), key=itemgetter(0))}


def unflatten(leaves: Mapping[str, Any]) -> dict:
    """Inverse of `flatten`."""
    return unflatten_dict(dict(leaves), sep="/")


def check_params(params: Mapping, config: LlamaConfig, where: str) -> None:
    """Raises ValueError unless our tree has exactly the leaves and shapes of the model."""
    shapes = {path: leaf.shape for path, leaf in flatten(params).items()}
    expected = {rule.path: leaf_shape(rule, config) for rule in rules_of(config)}
    check_shapes(shapes, expected, where, f"model {config.name!r}", "parameter")


def check_shapes(
    shapes: Mapping[str, Sequence[int]],
    expected: Mapping[str, tuple[int, ...]],
    where: str,
    owner: str,
    kind: str = "tensor",
    advice: str = "",
    files: Mapping[str, str] | None = None,
) -> None:
    """Raises ValueError naming the first missing, unmapped or misshapen array, and how many more there are."""
    missing = [name for name in expected if name not in shapes]
    unmapped = [name for name in shapes if name not in expected]
    misshapen = [name for name, shape in expected.items() if name in shapes and tuple(shapes[name]) != shape]
    names = missing or unmapped or misshapen
    if not names:
        return
    if (name := names[0]) in missing:
        reason = f"{kind} {name} of shape {list(expected[name])} is missing"
    elif name in unmapped:
        reason = f"unmapped {kind} {name} has no place in {owner}: its shape is {list(shapes[name])}"
    else:
        reason = f"{kind} {name} has shape {list(shapes[name])}, expected {list(expected[name])} in {owner}"
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    raise ValueError(f"{(files or {}).get(name, where)}: {reason}{more}{advice and '. ' + advice}")


@dataclasses.dataclass(frozen=True)
class Fields:
    """The fields of a configuration, and what to call them in messages: `where`, then `prefix` before every name."""

    values: Mapping[str, Any]
    where: str
    prefix: str = ""

    def needed(self, key: str) -> Any:
        """The field's value, which is not None."""
        if self.values.get(key) is None:
            raise ValueError(f"{self.where}: {self.prefix}{key} is missing; without it the model cannot be rebuilt")
        return self.values[key]

    def whole(self, key: str) -> int:
        """The field's value, a whole number."""
        value = self.needed(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{self.where}: {self.prefix}{key} must be one whole number, found {value!r}")
        return value

    def refuse_unless(self, allowed: Mapping[str, tuple[Any, ...]], advice: str) -> None:
        """Raises ValueError for the first field that has another value than those allowed; a missing one is None."""
        for key, values in allowed.items():
            if self.values.get(key) not in values:
                raise ValueError(
                    f"{self.where}: {self.prefix}{key} is {self.values.get(key)!r}, expected {values[-1]!r}; {advice}"
                )

    def sizes(self, names: Mapping[str, str]) -> dict[str, Any]:
        """The sizes of a `LlamaConfig`, read under foreign `names`.

        A file may leave out the width of a head (then the heads share the width of the model) and the number of
        key/value heads (then every head has keys of its own).
        """
        width, heads = self.whole(names["emb_dim"]), self.whole(names["num_heads"])
        present = {key: value for key, value in self.values.items() if value is not None}
        if names["head_dim"] not in present and width % heads:
            raise ValueError(
                f"{self.where}: {names['emb_dim']} {width} is not a multiple of {names['num_heads']} {heads}"
            )
        defaults = {names["head_dim"]: width // heads, names["num_kv_heads"]: heads}
        complete = dataclasses.replace(self, values=defaults | present)
        return {ours: complete.whole(theirs) for ours, theirs in names.items()}
