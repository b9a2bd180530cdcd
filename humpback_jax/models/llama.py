"""The LLaMA decoder in flax linen, readable top to bottom: norm, rotary embedding, attention, MLP, layer, model.

Parameters are a plain nested dict of arrays (`init_params` unboxes them). Training scans over layers stacked on axis 0;
inference (`scan_layers=False`) has one subtree per layer, so that no step copies a layer out of a stack.
Rotary embeddings follow Hugging Face's convention (the head is split in halves, not interleaved).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from humpback_jax.models.attention import Source, attention, scaled_rows, segment_mask
from humpback_jax.models.attention_kernels import choose_attention, prefill_attention
from humpback_jax.models.config import LlamaConfig, RopeScaling
from humpback_jax.models.decode_kernel import ragged_attention
from humpback_jax.models.kv_cache import Context, KeyValues, write_token
from humpback_jax.models.products import QuantizedKernel, einsum, embedding_rows
from humpback_jax.partitioning import constrain, num_shards

_policies = jax.checkpoint_policies
REMAT_POLICIES: dict[str, Callable | None] = {
    "none": None,  # keep every activation
    "full": _policies.nothing_saveable,  # keep the layer input only
    "dots": _policies.dots_with_no_batch_dims_saveable,  # keep the outputs of weight matmuls
    "attention_out": _policies.save_only_these_names("attention_out"),
    "qkv": _policies.save_only_these_names("query", "key", "value", "attention_out"),
}


def rope_frequencies(head_dim: int, theta: float, scaling: RopeScaling | None) -> jax.Array:
    """Rotary frequencies in radians per token, float32 [head_dim / 2], with LLaMA-3.1 scaling if given."""
    exponents = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
    frequencies = 1.0 / (theta**exponents)
    if scaling is None:
        return frequencies
    wavelengths = 2 * math.pi / frequencies
    turns = scaling.original_max_position_embeddings / wavelengths
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = jnp.clip(keep, 0.0, 1.0)
    return frequencies * keep + frequencies / scaling.factor * (1.0 - keep)


def rotate(x: jax.Array, sin: jax.Array, cos: jax.Array) -> jax.Array:
    """Applies rotary embeddings: x [batch, length, heads, head_dim]; sin, cos float32 [batch, length, head_dim / 2]."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    sin, cos = sin[:, :, None], cos[:, :, None]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


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


def _whole_rows(x: jax.Array) -> jax.Array:
    """Activations [batch, length, emb_dim] with their width whole on every device."""
    return constrain(x, "activation_batch", "activation_length", "activation_embed")


class RMSNorm(nn.Module):
    """x / rms(x) * scale over the last axis, computed in float32."""

    epsilon: float
    compute: Compute

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.with_logical_partitioning(nn.initializers.ones_init(), ("norm",))
        scale: Any = self.param("scale", init, (x.shape[-1],), self.compute.param_dtype)
        # Gathered like any weight; the scales of all layers together are megabytes.
        scale = constrain(scale, None)
        x32 = x.astype(jnp.float32)
        normed = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.epsilon)
        return _scaled(normed, scale.astype(jnp.float32)).astype(self.compute.dtype)


class Kernel(nn.Module):
    """One weight; `equation` says how it meets its input, for example `"bte,ehn->bthn"`."""

    equation: str
    names: tuple[str, ...]
    config: LlamaConfig
    compute: Compute

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = tuple(self.config.axis_sizes[name] for name in self.names)
        # A kernel that writes to the residual stream is contracted over all its axes but the last.
        fan_in = math.prod(shape[:-1]) if self.names[-1] == "embed" else shape[0]
        init = nn.with_logical_partitioning(nn.initializers.normal(fan_in**-0.5), self.names)
        kernel: Any = self.param("kernel", init, shape, self.compute.param_dtype)
        return einsum(self.equation, x, kernel, self.compute.dtype, self.compute.gradient_dtype)


class Attention(nn.Module):
    """Grouped-query self-attention with rotary embeddings."""

    config: LlamaConfig
    compute: Compute

    def setup(self) -> None:
        kernel = functools.partial(Kernel, config=self.config, compute=self.compute)
        kv_names = ("embed", "kv_heads", "head_dim")
        # Axes are contracted in alphabetical order: a weight whose contracted letters are not in it is transposed.
        self.query = kernel("bte,ehn->bthn", ("embed", "heads", "head_dim"))
        self.key = kernel("bte,ekn->btkn", kv_names)
        self.value = kernel("bte,ekn->btkn", kv_names)
        self.out = kernel("bthn,hne->bte", ("heads", "head_dim", "embed"))

    def __call__(
        self, x: jax.Array, rope: tuple[jax.Array, jax.Array], masks: "Masks", context: Context, step: Any
    ) -> tuple[jax.Array, KeyValues]:
        names = ("activation_batch", "activation_length")
        query = constrain(self.query(x), *names, "activation_heads", "activation_head_dim")
        key = constrain(self.key(x), *names, "activation_kv_heads", "activation_head_dim")
        value = constrain(self.value(x), *names, "activation_kv_heads", "activation_head_dim")
        query, key = checkpoint_name(rotate(query, *rope), "query"), checkpoint_name(rotate(key, *rope), "key")
        value = checkpoint_name(value, "value")
        new = KeyValues(key.transpose(0, 2, 3, 1), value.swapaxes(1, 2))
        if context.recent is not None:
            new = write_token(context.recent, new, step)
        attended = self._attend(query, new, masks, context)
        return self.out(constrain(attended, *names, "activation_heads", "activation_head_dim")), new

    def _attend(self, query: jax.Array, new: KeyValues, masks: "Masks", context: Context) -> jax.Array:
        """By the kernel of the platform where there is one, all else by XLA."""
        cache, attended = context.cache, None
        implementation = choose_attention(
            self.compute.platform,
            head_dim=query.shape[-1],
            query_length=query.shape[1],
            dtype=query.dtype,
            segmented=masks.segment_ids is not None,
            shared_prefix=context.prefix is not None,
            length_shards=num_shards("activation_length"),
            cache_length=0 if cache is None else cache.length,
        )
        if implementation not in ("xla", "ragged"):
            return prefill_attention(query, new, masks.segment_ids, context.prefix, implementation=implementation)
        sources = [Source(new, masks.new)]
        if cache is not None and implementation == "ragged" and masks.cache_lengths is not None:
            rows = scaled_rows(query, cache.keys.shape[1])
            attended = ragged_attention(rows, cache, masks.cache_lengths, device_kind=self.compute.device_kind)
        elif cache is not None:
            sources.insert(0, Source(cache, masks.cache))
        if context.prefix is not None:
            sources.insert(0, Source(context.prefix, None))
        return checkpoint_name(attention(query, sources, attended), "attention_out")


class Masks(NamedTuple):
    """Who sees whom, bool [batch or 1, query or 1, key], in the call's own tokens and in the cache.

    Without `segment_ids` (int32 [batch, query]) the call's own tokens are one causal sequence per row. `cache_lengths`
    (int32 [batch]) says of single queries what `cache` does: they see the first slots of their row.
    """

    new: jax.Array
    cache: jax.Array | None = None
    segment_ids: jax.Array | None = None
    cache_lengths: jax.Array | None = None


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    config: LlamaConfig
    compute: Compute

    def setup(self) -> None:
        kernel = functools.partial(Kernel, config=self.config, compute=self.compute)
        self.gate, self.up = kernel("bte,ef->btf", ("embed", "mlp")), kernel("bte,ef->btf", ("embed", "mlp"))
        self.down = kernel("btf,fe->bte", ("mlp", "embed"))

    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = nn.silu(self.gate(x)) * self.up(x)
        return self.down(constrain(hidden, "activation_batch", "activation_length", "activation_mlp"))


class DecoderLayer(nn.Module):
    """One pre-norm layer; the body of the scan over layers."""

    config: LlamaConfig
    compute: Compute

    def setup(self) -> None:
        self.attention_norm = RMSNorm(self.config.rms_norm_eps, self.compute)
        self.attention = Attention(self.config, self.compute)
        self.mlp_norm = RMSNorm(self.config.rms_norm_eps, self.compute)
        self.mlp = SwiGLU(self.config, self.compute)

    def __call__(
        self,
        x: jax.Array,
        dropout_rate: jax.Array,
        rope: tuple[jax.Array, jax.Array],
        masks: Masks,
        context: Context = Context(),  # noqa: B008 (immutable)
        step: jax.Array | None = None,
    ) -> tuple[jax.Array, KeyValues]:
        attended, written = self.attention(_whole_rows(self.attention_norm(x)), rope, masks, context, step)
        x = self._residual(x, attended, dropout_rate)
        return self._residual(x, self.mlp(_whole_rows(self.mlp_norm(x))), dropout_rate), written

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


class _ScannedLayer(DecoderLayer):
    """The layer as the body of a scan: nothing is collected along the layers."""

    def __call__(self, x: jax.Array, *arguments: Any) -> tuple[jax.Array, None]:  # type: ignore[override]
        return super().__call__(x, *arguments)[0], None


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _embedding_lookup(table: jax.Array, tokens: jax.Array, dtype: Any) -> jax.Array:
    """Rows of the table [vocab, emb_dim] in `dtype`; their gradients are summed in the dtype of the table."""
    # Gathered like any weight; else rows sharded along embed meet tokens sharded along batch on the same axis.
    return constrain(table.astype(dtype), "vocab", None)[tokens]


def _embedding_lookup_forward(table: jax.Array, tokens: jax.Array, dtype: Any) -> tuple[jax.Array, Any]:
    # Of the table the backward pass needs shape and dtype alone; an empty slice carries the dtype.
    return _embedding_lookup(table, tokens, dtype), (tokens, table[:, :0])


def _embedding_lookup_backward(dtype: Any, residuals: Any, cotangent: jax.Array) -> tuple[jax.Array, None]:
    tokens, empty = residuals
    zeros = jnp.zeros((empty.shape[0], cotangent.shape[-1]), empty.dtype)
    # Devices exchange rows for columns before they add them up: no device ever holds a gradient of the whole table.
    cotangent = constrain(cotangent, "embedding_batch", "activation_length", "embed")
    return constrain(zeros.at[tokens].add(cotangent.astype(empty.dtype)), "vocab", "embed"), None


_embedding_lookup.defvjp(_embedding_lookup_forward, _embedding_lookup_backward)


class TokenEmbedder(nn.Module):
    """Token embedding, also the output projection of tied models."""

    config: LlamaConfig
    compute: Compute

    def setup(self) -> None:
        init = nn.with_logical_partitioning(nn.initializers.normal(0.02), ("vocab", "embed"))
        shape = (self.config.vocab_size, self.config.emb_dim)
        self.embedding: Any = self.param("embedding", init, shape, self.compute.param_dtype)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        if isinstance(self.embedding, QuantizedKernel):
            return embedding_rows(self.embedding, tokens, self.compute.dtype)
        return _embedding_lookup(self.embedding, tokens, self.compute.dtype)

    def attend(self, x: jax.Array) -> jax.Array:
        """Logits, float32, of a tied model: x [batch, length, emb_dim]."""
        return einsum("bte,ve->btv", x, self.embedding, jnp.float32)


class Llama(nn.Module):
    """The decoder.

    Attributes:
      config: the architecture.
      dtype: dtype of activations and matrix products.
      param_dtype: dtype of the parameters at init.
      remat_policy: a name in `REMAT_POLICIES`: what the backward pass keeps instead of recomputing.
      dropout_rates: residual dropout rate per layer; applied only when `apply` gets `rngs={"dropout": key}`.
      scan_layers: stack the layers' parameters and scan over them (training); else `layers_0`, `layers_1`, … as
        `unstack_layers` gives them, which is what `hidden_states_in_context` needs.
      platform: of the devices that will run it, `cpu`, `gpu` or `tpu`: which attention kernels it may use.
      device_kind: of these devices, as JAX names it (`"TPU v5 lite"`): which blocks suit the decode kernel.
      gradient_dtype: in which gradients of weights leave their products and are summed over devices, before they are
        cast to the dtype of the weights; None: float32.
    """

    config: LlamaConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    remat_policy: str = "none"
    dropout_rates: tuple[float, ...] | None = None
    scan_layers: bool = True
    platform: str = "cpu"
    device_kind: str = ""
    gradient_dtype: Any = None

    def setup(self) -> None:
        if self.remat_policy not in REMAT_POLICIES:
            raise ValueError(f"unknown remat_policy {self.remat_policy!r}; choose from {', '.join(REMAT_POLICIES)}")
        c = self.config
        compute = Compute(self.dtype, self.param_dtype, self.gradient_dtype, self.platform, self.device_kind)
        self.token_embedder = TokenEmbedder(c, compute)
        if self.scan_layers:
            self.layers = self._scanned_layer()(c, compute)
        else:
            self.layers = [DecoderLayer(c, compute) for _ in range(c.num_layers)]
        self.final_norm = RMSNorm(c.rms_norm_eps, compute)
        if not c.tie_word_embeddings:
            in_float32 = dataclasses.replace(compute, dtype=jnp.float32)
            self.lm_head = Kernel("bte,ev->btv", ("embed", "vocab"), c, in_float32)

    def _scanned_layer(self) -> Any:
        layer: Any = _ScannedLayer
        if self.remat_policy != "none":
            layer = nn.remat(layer, policy=REMAT_POLICIES[self.remat_policy], prevent_cse=False)
        return nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(0, nn.broadcast, nn.broadcast),
            length=self.config.num_layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )

    def __call__(
        self, tokens: jax.Array, positions: jax.Array | None = None, segment_ids: jax.Array | None = None
    ) -> jax.Array:
        """Logits, float32 [batch, length, vocab], of whole sequences.

        Args:
          tokens: int32 [batch, length].
          positions: int32 [batch, length]; default 0, 1, 2, ….
          segment_ids: int32 [batch, length] of packed rows, 0 for padding; default one segment per row.
        """
        return self.logits(self.hidden_states(tokens, positions, segment_ids))

    def hidden_states(
        self, tokens: jax.Array, positions: jax.Array | None = None, segment_ids: jax.Array | None = None
    ) -> jax.Array:
        """Final hidden states [batch, length, emb_dim] of whole sequences; arguments as for the logits."""
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
        mask = segment_mask(positions, jnp.ones_like(tokens) if segment_ids is None else segment_ids)
        masks = Masks(constrain(mask, "activation_batch", "activation_length", None), segment_ids=segment_ids)
        x, rope = self._embed(tokens), self._rope(positions)
        rates = jnp.asarray(self.dropout_rates or (0.0,) * self.config.num_layers, jnp.float32)
        if self.scan_layers:
            x, _ = self.layers(x, rates, rope, masks)
        else:
            for layer, rate in zip(self.layers, rates, strict=True):
                x, _ = layer(x, rate, rope, masks)
        return self.final_norm(x)

    def hidden_states_in_context(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        masks: Masks,
        contexts: Sequence[Context],
        step: jax.Array | None = None,
    ) -> tuple[jax.Array, list[KeyValues]]:
        """Final hidden states of tokens that follow what each layer's context holds; needs `scan_layers=False`.

        Args:
          tokens: int32 [batch, length].
          positions: int32 [batch, length], in the whole sequence, the shared prefix included.
          masks: for the call's own tokens (or the recent ones, where the context has them) and for the cache.
          contexts: one per layer.
          step: int32 scalar, where in `recent` the token is written.

        Returns:
          Hidden states [batch, length, emb_dim], and per layer the keys and values of the tokens (or `recent` with
          the new token in it).
        """
        x, rope, written = self._embed(tokens), self._rope(positions), []
        for layer, context in zip(self.layers, contexts, strict=True):
            x, new = layer(x, jnp.float32(0), rope, masks, context, step)
            written.append(new)
        return self.final_norm(x), written

    def _embed(self, tokens: jax.Array) -> jax.Array:
        return _whole_rows(self.token_embedder(tokens))

    def _rope(self, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
        c = self.config
        angles = positions[..., None].astype(jnp.float32) * rope_frequencies(c.head_dim, c.rope_theta, c.rope_scaling)
        return jnp.sin(angles), jnp.cos(angles)

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Logits, float32 [batch, length, vocab], of hidden states [batch, length, emb_dim]."""
        return self.token_embedder.attend(hidden) if self.config.tie_word_embeddings else self.lm_head(hidden)


def hidden_states(model: Llama, params: dict, *arguments: Any, dropout_key: jax.Array | None = None) -> jax.Array:
    """`Llama.hidden_states` with these parameters; dropout is on when a key is given."""
    rngs = None if dropout_key is None else {"dropout": dropout_key}
    result: Any = model.apply({"params": params}, *arguments, rngs=rngs, method="hidden_states")
    return result


def hidden_states_in_context(model: Llama, params: dict, *arguments: Any) -> tuple[jax.Array, list[KeyValues]]:
    """`Llama.hidden_states_in_context` with these parameters."""
    result: Any = model.apply({"params": params}, *arguments, method="hidden_states_in_context")
    return result


def unstack_layers(params: dict, num_layers: int) -> dict:
    """Parameters for `scan_layers=False`.

    Each stacked array is released as soon as it is split, if nothing but the argument itself holds `params`.
    """
    leaves, treedef = jax.tree.flatten(params["layers"])
    rest = {name: tree for name, tree in params.items() if name != "layers"}
    del params
    split = jax.jit(lambda x: [x[i] for i in range(num_layers)])
    columns = []
    while leaves:
        columns.append(split(leaves.pop(0)))
    layers = {f"layers_{i}": jax.tree.unflatten(treedef, [column[i] for column in columns]) for i in range(num_layers)}
    return rest | layers


def logits(model: Llama, params: dict, hidden: jax.Array) -> jax.Array:
    """Logits, float32 [..., vocab], of hidden states [batch, emb_dim] or [batch, length, emb_dim]."""
    rows = hidden if hidden.ndim == 3 else hidden[:, None]
    result: Any = model.apply({"params": params}, rows, method="logits")
    return result.reshape(*hidden.shape[:-1], -1)


def _init(model: Llama, key: jax.Array) -> dict:
    return model.init(key, jnp.zeros((1, 1), jnp.int32))["params"]


def init_params(model: Llama, key: jax.Array) -> dict:
    """Random parameters as a plain nested dict."""
    return jax.jit(lambda: nn.unbox(_init(model, key)))()


def abstract_params(model: Llama) -> dict:
    """The parameter tree as `jax.ShapeDtypeStruct` leaves; allocates nothing."""
    return jax.eval_shape(lambda: nn.unbox(_init(model, jax.random.key(0))))


def logical_specs(model: Llama) -> dict:
    """The parameter tree with a PartitionSpec over logical axis names at every leaf."""
    return nn.get_partition_spec(jax.eval_shape(lambda: _init(model, jax.random.key(0))))
