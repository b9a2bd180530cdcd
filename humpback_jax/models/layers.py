"""The layers of the decoder in flax linen, readable top to bottom: norm, weight, attention, MLP, layer."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from humpback_jax.models.attention import Masks, Source, attention, reaches_back, scaled_rows
from humpback_jax.models.attention_kernels import choose_attention, prefill_attention
from humpback_jax.models.config import LlamaConfig
from humpback_jax.models.decode_kernel import ragged_attention
from humpback_jax.models.kv_cache import Context, KeyValues, write_token
from humpback_jax.models.products import einsum
from humpback_jax.models.rope import Rope, rotate
from humpback_jax.models.score_rule import ScoreRule
from humpback_jax.partitioning import constrain, num_shards


@jax.custom_vjp
def _scaled(x: jax.Array, scale: jax.Array) -> jax.Array:
    """x * scale, float32 [batch, length, emb_dim] and [emb_dim]."""
    return x * scale


def _scaled_backward(operands: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sum over all tokens as a matrix product, which CPUs compute several times faster than a reduction."""
    x, scale = operands
    ones = jnp.ones(x.shape[:2], x.dtype)
    scale_gradient = jnp.einsum("bt,bte->e", ones, cotangent * x, precision=jax.lax.Precision.HIGHEST)
    return cotangent * scale, scale_gradient


_scaled.defvjp(lambda x, scale: (x * scale, (x, scale)), _scaled_backward)


@dataclasses.dataclass(frozen=True)
class Compute:
    """In which dtypes the modules compute, and on which devices; the fields are those of `Llama`."""

    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    gradient_dtype: Any = None
    platform: str = "cpu"
    device_kind: str = ""


def whole_rows(x: jax.Array) -> jax.Array:
    """Activations [batch, length, emb_dim] with their width whole on every device."""
    return constrain(x, "activation_batch", "activation_length", "activation_embed")


class RMSNorm(nn.Module):
    """x / rms(x) * scale over the last axis, computed in float32; `plus_one`: times 1 + scale."""

    epsilon: float
    compute: Compute
    plus_one: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.with_logical_partitioning(_norm_init(self.plus_one), ("norm",))
        scale: Any = self.param("scale", init, (x.shape[-1],), self.compute.param_dtype)
        # Gathered like any weight; the scales of all layers together are megabytes.
        scale = constrain(scale, None)
        x32 = x.astype(jnp.float32)
        normed = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.epsilon)
        scale = scale.astype(jnp.float32) + 1.0 if self.plus_one else scale.astype(jnp.float32)
        return _scaled(normed, scale).astype(self.compute.dtype)


class HeadNorm(nn.Module):
    """The same over every head [batch, length, heads, head_dim], or with two names over all heads of a token."""

    names: tuple[str, ...]
    config: LlamaConfig
    compute: Compute

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.with_logical_partitioning(_norm_init(self.config.norm_plus_one), self.names)
        shape = tuple(self.config.axis_sizes[name] for name in self.names)
        scale: Any = self.param("scale", init, shape, self.compute.param_dtype)
        x32, scale = x.astype(jnp.float32), scale.astype(jnp.float32)
        axes = tuple(range(-len(shape), 0))
        normed = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=axes, keepdims=True) + self.config.rms_norm_eps)
        return (normed * (scale + 1.0 if self.config.norm_plus_one else scale)).astype(self.compute.dtype)


def _norm_init(plus_one: bool) -> Any:
    return nn.initializers.zeros_init() if plus_one else nn.initializers.ones_init()


class Kernel(nn.Module):
    """One weight; `equation` says how it meets its input, for example `"bte,ehn->bthn"`."""

    equation: str
    names: tuple[str, ...]
    config: LlamaConfig
    compute: Compute
    bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = tuple(self.config.axis_sizes[name] for name in self.names)
        # A kernel that writes to the residual stream is contracted over all its axes but the last.
        fan_in = math.prod(shape[:-1]) if self.names[-1] == "embed" else shape[0]
        init = nn.with_logical_partitioning(nn.initializers.normal(fan_in**-0.5), self.names)
        kernel: Any = self.param("kernel", init, shape, self.compute.param_dtype)
        product = einsum(self.equation, x, kernel, self.compute.dtype, self.compute.gradient_dtype)
        return product + self._bias() if self.bias else product

    def _bias(self) -> jax.Array:
        """Over the axes of the result that are not those of `x`."""
        terms, result = self.equation.split("->")
        of_weight = terms.split(",")[1]
        kept = {letter: name for letter, name in zip(of_weight, self.names, strict=True) if letter in result}
        names = tuple("norm" if name == "embed" else name for name in kept.values())  # of embed, small as a norm
        init = nn.with_logical_partitioning(nn.initializers.zeros_init(), names)
        shape = tuple(self.config.axis_sizes[name] for name in kept.values())
        bias: Any = self.param("bias", init, shape, self.compute.param_dtype)
        return constrain(bias, *(None if name == "norm" else name for name in names)).astype(self.compute.dtype)


class Attention(nn.Module):
    """Grouped-query self-attention with rotary embeddings."""

    config: LlamaConfig
    compute: Compute

    def setup(self) -> None:
        c = self.config
        kernel = functools.partial(Kernel, config=c, compute=self.compute)
        kv_names = ("embed", "kv_heads", "head_dim")
        # Axes are contracted in alphabetical order: a weight whose contracted letters are not in it is transposed.
        self.query = kernel("bte,ehn->bthn", ("embed", "heads", "head_dim"), bias=c.qkv_bias)
        self.key = kernel("bte,ekn->btkn", kv_names, bias=c.qkv_bias)
        self.value = kernel("bte,ekn->btkn", kv_names, bias=c.qkv_bias)
        self.out = kernel("bthn,hne->bte", ("heads", "head_dim", "embed"), bias=c.output_bias)
        if c.qk_norm != "none":
            whole = c.qk_norm == "whole"
            self.query_norm = HeadNorm(("heads", "head_dim")[1 - whole :], c, self.compute)
            self.key_norm = HeadNorm(("kv_heads", "head_dim")[1 - whole :], c, self.compute)

    def __call__(
        self,
        x: jax.Array,
        ropes: Sequence[Rope],
        masks: Sequence[Masks],
        context: Context,
        step: Any,
        kind: int | jax.Array,
    ) -> tuple[jax.Array, KeyValues]:
        names = ("activation_batch", "activation_length")
        query = constrain(self.query(x), *names, "activation_heads", "activation_head_dim")
        key = constrain(self.key(x), *names, "activation_kv_heads", "activation_head_dim")
        value = constrain(self.value(x), *names, "activation_kv_heads", "activation_head_dim")
        if self.config.qk_norm != "none":
            query, key = self.query_norm(query), self.key_norm(key)
        rope = _of_kind(ropes, kind)
        query, key = checkpoint_name(rotate(query, *rope), "query"), checkpoint_name(rotate(key, *rope), "key")
        value = checkpoint_name(value, "value")
        new = KeyValues(key.transpose(0, 2, 3, 1), value.swapaxes(1, 2))
        if context.recent is not None:
            new = write_token(context.recent, new, step)
        attended = self._attend(query, new, masks, context, kind)
        return self.out(constrain(attended, *names, "activation_heads", "activation_head_dim")), new

    def _attend(
        self, query: jax.Array, new: KeyValues, masks: Sequence[Masks], context: Context, kind: int | jax.Array
    ) -> jax.Array:
        """As the kind of the layer asks; layers of several windows share one scanned program, which holds them all."""
        kinds = self.config.distinct_kinds
        windows = tuple(dict.fromkeys(each.window for each in kinds))
        rules = [ScoreRule(self.config.query_scale, self.config.attention_soft_cap, window) for window in windows]
        of_window = [masks[[each.window for each in kinds].index(window)] for window in windows]
        places = [windows.index(each.window) for each in kinds]
        attend = [
            functools.partial(_attend_by, rule, self.compute, context, of_rule)
            for rule, of_rule in zip(rules, of_window, strict=True)
        ]
        if isinstance(kind, int) or len(windows) == 1:
            return attend[places[kind] if isinstance(kind, int) else 0](query, new)
        attended: jax.Array = jax.lax.switch(jnp.asarray(places)[kind], attend, query, new)
        return attended


def _of_kind(ropes: Sequence[Rope], kind: int | jax.Array) -> Rope:
    """What belongs to layers of a kind, which is known, or told to the program of a scan over layers."""
    if isinstance(kind, int):
        return ropes[kind]
    sines, cosines = (jnp.stack(tables)[kind] for tables in zip(*ropes, strict=True))
    return sines, cosines


def _attend_by(
    rule: ScoreRule, compute: Compute, context: Context, masks: Masks, query: jax.Array, new: KeyValues
) -> jax.Array:
    """By the kernel of the platform where there is one that knows the rule, all else by XLA."""
    cache, attended = context.cache, None
    if not reaches_back(rule.window, masks, context):
        rule = rule._replace(window=None)
    implementation = choose_attention(
        compute.platform,
        head_dim=query.shape[-1],
        query_length=query.shape[1],
        dtype=query.dtype,
        segmented=masks.segment_ids is not None,
        shared_prefix=context.prefix is not None,
        length_shards=num_shards("activation_length"),
        cache_length=0 if cache is None else cache.length,
        windowed=rule.window is not None,
        soft_capped=rule.soft_cap is not None,
    )
    if implementation not in ("xla", "ragged"):
        return prefill_attention(
            query, new, masks.segment_ids, context.prefix, implementation=implementation, rule=rule
        )
    sources = [Source(new, masks.new)]
    if cache is not None and implementation == "ragged" and masks.cache_lengths is not None:
        rows = scaled_rows(query, cache.keys.shape[1], rule)
        kind = compute.device_kind
        attended = ragged_attention(rows, cache, masks.cache_lengths, device_kind=kind, rule=rule)
    elif cache is not None:
        sources.insert(0, Source(cache, masks.cache))
    if context.prefix is not None:
        sources.insert(0, Source(context.prefix, masks.prefix))
    return checkpoint_name(attention(query, sources, attended, rule), "attention_out")


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "silu": nn.silu,
    "gelu_tanh": functools.partial(nn.gelu, approximate=True),
}


class GatedMLP(nn.Module):
    """down(activation(gate(x)) * up(x))."""

    config: LlamaConfig
    compute: Compute

    def setup(self) -> None:
        kernel = functools.partial(Kernel, config=self.config, compute=self.compute, bias=self.config.mlp_bias)
        self.gate, self.up = kernel("bte,ef->btf", ("embed", "mlp")), kernel("bte,ef->btf", ("embed", "mlp"))
        self.down = kernel("btf,fe->bte", ("mlp", "embed"))

    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = ACTIVATIONS[self.config.activation](self.gate(x)) * self.up(x)
        return self.down(constrain(hidden, "activation_batch", "activation_length", "activation_mlp"))


class DecoderLayer(nn.Module):
    """One layer; the body of the scan over layers."""

    config: LlamaConfig
    compute: Compute

    def setup(self) -> None:
        c = self.config
        norm = functools.partial(RMSNorm, c.rms_norm_eps, self.compute, c.norm_plus_one)
        if c.norms != "post":
            self.attention_norm = norm()
        self.attention = Attention(c, self.compute)
        if c.norms != "pre":
            self.attention_post_norm = norm()
        if c.norms != "post":
            self.mlp_norm = norm()
        self.mlp = GatedMLP(c, self.compute)
        if c.norms != "pre":
            self.mlp_post_norm = norm()

    def __call__(
        self,
        x: jax.Array,
        per_layer: tuple[jax.Array, int | jax.Array | None],
        ropes: Sequence[Rope],
        masks: Sequence[Masks],
        context: Context = Context(),  # noqa: B008 (immutable)
        step: jax.Array | None = None,
    ) -> tuple[jax.Array, KeyValues]:
        """The residual stream behind the layer, and what attention wrote.

        Args:
          x: [batch, length, emb_dim].
          per_layer: dropout rate, and the layer's number in `LlamaConfig.distinct_kinds`; None where there is one.
          ropes: of every kind.
          masks: of every kind.
          context: what the queries see besides.
          step: int32 scalar, where in `context.recent` the token is written.
        """
        dropout_rate, kind = per_layer[0], 0 if per_layer[1] is None else per_layer[1]
        normed = whole_rows(self.attention_norm(x) if self.config.norms != "post" else x)
        branch, written = self.attention(normed, ropes, masks, context, step, kind)
        if self.config.norms != "pre":
            branch = self.attention_post_norm(whole_rows(branch))
        x = self._residual(x, self._weighed(branch), dropout_rate)
        branch = self.mlp(whole_rows(self.mlp_norm(x) if self.config.norms != "post" else x))
        if self.config.norms != "pre":
            branch = self.mlp_post_norm(whole_rows(branch))
        return self._residual(x, self._weighed(branch), dropout_rate), written

    def _weighed(self, branch: jax.Array) -> jax.Array:
        multiplier = self.config.residual_multiplier
        return branch if multiplier == 1.0 else branch * jnp.asarray(multiplier, branch.dtype)

    def _residual(self, x: jax.Array, branch: jax.Array, dropout_rate: jax.Array) -> jax.Array:
        """x + branch, the branch dropped out (as LIMA does) when a `dropout` rng is given."""
        if self.has_rng("dropout"):
            # Sixteen random bits decide as well as a float does, at half the cost.
            drop_below = jnp.round(dropout_rate * 2**16).astype(jnp.uint32)
            keep = jax.random.bits(self.make_rng("dropout"), branch.shape, jnp.uint16) >= drop_below
            branch = jnp.where(keep, branch / (1.0 - dropout_rate).astype(branch.dtype), 0)
        # Devices that share a row share what lies between its products; a single token they all hold.
        length = "residual_length" if x.shape[1] % num_shards("residual_length") == 0 else "activation_length"
        return constrain(x + branch, "activation_batch", length, "activation_embed")
