"""The decoder in flax linen: token embedding, layers, output projection. What differs in relatives is in its config.

Parameters are a plain nested dict of arrays (`init_params` unboxes them). Training scans over layers stacked on axis 0;
inference (`scan_layers=False`) has one subtree per layer, so that no step copies a layer out of a stack.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from humpback_jax.models.attention import Masks, segment_mask, within
from humpback_jax.models.config import LlamaConfig
from humpback_jax.models.kv_cache import Context, KeyValues
from humpback_jax.models.layers import Compute, DecoderLayer, Kernel, RMSNorm, whole_rows
from humpback_jax.models.products import QuantizedKernel, einsum, embedding_rows
from humpback_jax.models.rope import Rope, rope_frequencies, sequence_lengths, sines_and_cosines, unrotated
from humpback_jax.partitioning import constrain

_policies = jax.checkpoint_policies
REMAT_POLICIES: dict[str, Callable | None] = {
    "none": None,  # keep every activation
    "full": _policies.nothing_saveable,  # keep the layer input only
    "dots": _policies.dots_with_no_batch_dims_saveable,  # keep the outputs of weight matmuls
    "attention_out": _policies.save_only_these_names("attention_out"),
    "qkv": _policies.save_only_these_names("query", "key", "value", "attention_out"),
}


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
        self.final_norm = RMSNorm(c.rms_norm_eps, compute, c.norm_plus_one)
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
            in_axes=((0, 0), nn.broadcast, nn.broadcast),
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
        x, ropes = self._embed(tokens), self._ropes(positions, segment_ids, None)
        of_kinds = self._masks(masks, positions, Context())
        rates = jnp.asarray(self.dropout_rates or (0.0,) * self.config.num_layers, jnp.float32)
        kinds = self.config.kind_numbers
        if self.scan_layers:
            x, _ = self.layers(x, (rates, kinds and jnp.asarray(kinds)), ropes, of_kinds)
        else:
            for i, layer in enumerate(self.layers):
                x, _ = layer(x, (rates[i], kinds and kinds[i]), ropes, of_kinds)
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
        positions, kinds = jnp.asarray(positions), self.config.kind_numbers
        x, ropes, written = self._embed(tokens), self._ropes(positions, None, masks.lengths), []
        of_kinds = self._masks(masks, positions, contexts[0])
        for i, (layer, context) in enumerate(zip(self.layers, contexts, strict=True)):
            x, new = layer(x, (jnp.float32(0), kinds and kinds[i]), ropes, of_kinds, context, step)
            written.append(new)
        return self.final_norm(x), written

    def _embed(self, tokens: jax.Array) -> jax.Array:
        embedded, multiplier = self.token_embedder(tokens), self.config.embedding_multiplier
        if multiplier != 1.0:
            embedded = embedded * jnp.asarray(multiplier, embedded.dtype)
        return whole_rows(embedded)

    def _ropes(self, positions: jax.Array, segment_ids: jax.Array | None, ends: jax.Array | None) -> list[Rope]:
        """Sines and cosines of every kind of layer; sequences end at `ends` int32 [batch], or with their positions."""
        c, ropes, lengths = self.config, [], None
        if c.rope_scaling is not None and c.rope_scaling.depends_on_length:
            lengths = sequence_lengths(positions, segment_ids) if ends is None else ends[:, None]
        for kind in c.distinct_kinds:
            theta, scaling = c.rope_theta, c.rope_scaling
            if kind.rope == "local":
                theta, scaling = c.local_rope_theta or theta, None
            if kind.rope == "none":
                ropes.append(unrotated(positions, c.rotary_dim))
                continue
            angles = positions[..., None].astype(jnp.float32) * rope_frequencies(c.rotary_dim, theta, scaling, lengths)
            ropes.append(sines_and_cosines(angles, scaling))
        return ropes

    def _masks(self, masks: Masks, positions: jax.Array, context: Context) -> list[Masks]:
        """The masks of every kind of layer."""
        return [within(kind.window, masks, positions, context) for kind in self.config.distinct_kinds]

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Logits, float32 [batch, length, vocab], of hidden states [batch, length, emb_dim]."""
        c = self.config
        scores = self.token_embedder.attend(hidden) if c.tie_word_embeddings else self.lm_head(hidden)
        if c.logit_divisor != 1.0:
            scores = scores / c.logit_divisor
        return scores if c.logit_soft_cap is None else c.logit_soft_cap * jnp.tanh(scores / c.logit_soft_cap)


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
