"""Our LLaMA and our seqio tasks under unmodified `t5x.train`, `t5x.eval` and `t5x.infer`; see docs/t5x.md.

t5x calls a model through `BaseTransformerModel`; everything below that is ours: batches come from our feature
converter, whose prompts and padding are told by loss weights and segment ids and never by a token id, and loss, scores
and generation are the functions that our own trainer and engine use. Only gin files of t5x import this module.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import AxisType, Mesh, NamedSharding

from humpback_jax.data.feature_converter import PackedDecoderFeatureConverter
from humpback_jax.data.tasks import mean_log_likelihood, register_tasks
from humpback_jax.data.vocabulary import TokenizerVocabulary
from humpback_jax.files import PathLike
from humpback_jax.inference.decode import RowSettings, decode_chunk, init_slots, prefill_into_slots
from humpback_jax.inference.sampling import SamplingConfig
from humpback_jax.models.llama import hidden_states, init_params, logical_specs, unstack_layers
from humpback_jax.partitioning import LogicalAxisRules, axes_size
from humpback_jax.stages.model import open_model
from humpback_jax.training.config import ComputeConfig
from humpback_jax.training.loss import summed_loss, token_losses
from humpback_jax.training.optimizer import OptimizerConfig, apply_updates, make_optimizer
from humpback_jax.weights.model_folder import load_model_folder

try:
    import clu.metrics
    from flax.linen.partitioning import AxisMetadata
    from t5x import metrics, models, optimizers, partitioning, train_state, utils
except ImportError as error:
    raise ImportError(f"running under t5x needs t5x ({error}); docs/t5x.md has the lines that install it") from error

# The names of our axes that t5x's standard rules know; and rules for ours where they know none, which are added behind
# t5x's own: the first rule of a name counts, so a gin file can set others.
AXIS_NAMES = {"head_dim": "kv", "norm": "embed"}
PARAMETER_RULES = (("kv_heads", "model"),)
# Activations lie as under our own rules: `tensor` is t5x's `model`, and batches are split over all other axes.
_MESH_AXES = {"data": ("replica", "data"), "fsdp": (), "sequence": (), "tensor": ("model",)}
ACTIVATION_RULES: tuple[tuple[str, tuple[str, ...]], ...] = tuple(
    (name, tuple(mapped for axis in axes for mapped in _MESH_AXES[axis]))
    for name, axes in LogicalAxisRules().as_pairs()
)
NO_TOKEN = -1  # after the end of a prediction: no id of any vocabulary
Batch = Mapping[str, jax.Array]


class LlamaPartitioner(partitioning.PjitPartitioner):
    """t5x's partitioner with rules for our axes, and with the constraints of our activations in effect.

    t5x enters its mesh in a way that flax's constraints do not see; here they do. On CPU, where t5x has one fixed mesh,
    `num_partitions` counts as well.
    """

    def __init__(self, num_partitions: int = 1, logical_axis_rules: Any = None, **kwargs: Any) -> None:
        """`logical_axis_rules`: t5x's own, to which ours are added; the rest as t5x takes it."""
        rules = partitioning.standard_logical_axis_rules() if logical_axis_rules is None else logical_axis_rules
        super().__init__(num_partitions, logical_axis_rules=(*rules, *PARAMETER_RULES), **kwargs)

    @functools.cached_property
    def mesh(self) -> Mesh:
        """(data, model) mesh of all devices."""
        if jax.devices()[0].platform != "cpu" or self._ici_mesh_shape:
            return super().mesh
        count, partitions = jax.device_count(), self._num_partitions
        if count % partitions:
            raise ValueError(f"num_partitions is {partitions}, which does not divide {count} devices")
        return jax.make_mesh((count // partitions, partitions), ("data", "model"), axis_types=(AxisType.Auto,) * 2)

    def partition(self, fn: Callable, *args: Any, **kwargs: Any) -> Any:
        """As t5x's, of `fn` under the rules of our activations."""

        @functools.wraps(fn)
        def constrained(*fn_args: Any) -> Any:
            with self._activation_rules():
                return fn(*fn_args)

        return super().partition(constrained, *args, **kwargs)

    def get_mesh_axes(self, train_state: Any) -> Any:
        """As t5x's; ValueError names a parameter that does not divide, which t5x would find out much later."""
        axes = super().get_mesh_axes(train_state)
        for (path, leaf), spec in zip(
            jax.tree.leaves_with_path(train_state.params), jax.tree.leaves(axes.params), strict=True
        ):
            for length, name in zip(leaf.shape, spec, strict=False):
                parts = axes_size(self.mesh, (name,) if isinstance(name, str) else tuple(name or ()))
                if length % parts:
                    where = jax.tree_util.keystr(path, simple=True, separator="/")
                    raise ValueError(
                        f"{where} of shape {leaf.shape} does not divide by {name} = {parts}: lower NUM_PARTITIONS"
                    )
        return axes

    @contextlib.contextmanager
    def _activation_rules(self) -> Iterator[None]:
        names = set(self.mesh.axis_names)
        rules = [(name, tuple(axis for axis in axes if axis in names)) for name, axes in ACTIVATION_RULES]
        with jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh), nn.logical_axis_rules(rules):
            yield


class AdamW(optimizers.OptaxWrapper):
    """The optimizer of our trainer; the learning rate is the one of t5x's `Trainer.learning_rate_fn`."""

    def __init__(
        self,
        b1: float = OptimizerConfig.b1,
        b2: float = OptimizerConfig.b2,
        eps: float = OptimizerConfig.eps,
        weight_decay: float = OptimizerConfig.weight_decay,
        max_grad_norm: float | None = OptimizerConfig.max_grad_norm,
    ) -> None:
        """The fields of `OptimizerConfig` but the schedule."""
        config = OptimizerConfig(b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, max_grad_norm=max_grad_norm)
        super().__init__(make_optimizer(config))

    def apply_gradient(self, hyper_params: Any, params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        """One update, as our trainer makes it."""
        updates, moments = self.optax_optimizer.update(grads, state.param_states, params)
        key = jax.random.fold_in(jax.random.key(0), state.step)
        new_params = apply_updates(params, updates, hyper_params.learning_rate, key)
        return new_params, optimizers.OptimizerState(step=state.step + 1, param_states=moments)


def learning_rate_schedule(
    num_steps: int,
    learning_rate: float = OptimizerConfig.learning_rate,
    final_learning_rate: float = OptimizerConfig.final_learning_rate,
    warmup_steps: int = OptimizerConfig.warmup_steps,
) -> Callable[[jax.Array], jax.Array]:
    """`OptimizerConfig.learning_rate_at` as a function of a traced step (scalar, 0 before the first update)."""
    config = OptimizerConfig(
        learning_rate=learning_rate, final_learning_rate=final_learning_rate, warmup_steps=warmup_steps
    )
    rates = np.array([config.learning_rate_at(step, num_steps) for step in range(num_steps)], np.float32)

    def schedule(step: jax.Array) -> jax.Array:
        return jnp.asarray(rates)[jnp.clip(step, 0, num_steps - 1).astype(jnp.int32)]

    return schedule


class ModelFolderInitializer(utils.TrainStateInitializer):
    """Begins a run of t5x.train with the weights of the model folder instead of random ones.

    A checkpoint would do for the weights, but not here: with the state of the data in its checkpoints, which an exact
    resume needs, t5x refuses to begin from one that has none.
    """

    def __init__(self, optimizer_def: Any, init_fn: Callable, *args: Any, **kwargs: Any) -> None:
        """As t5x calls it; `init_fn` is a method of our `LlamaModel`."""
        super().__init__(optimizer_def, init_fn, *args, **kwargs)
        self._model: LlamaModel = init_fn.__self__  # type: ignore[attr-defined]

    def from_scratch(self, init_rng: jax.Array) -> Any:
        """The state before the first update; `init_rng` does not matter."""
        axes, mesh = self.train_state_axes, self._partitioner.mesh
        shardings = jax.tree.map(functools.partial(NamedSharding, mesh), flax.core.unfreeze(axes.params))
        params = self._model.load_params(shardings)
        begin = self._partitioner.partition(self._initial_state, (axes.params,), axes, donate_argnums=0)
        return begin(flax.core.freeze(params))

    def _initial_state(self, params: Any) -> Any:
        variables = flax.core.freeze({"params": params, "params_axes": self._model.parameter_axes()})
        return train_state.FlaxOptimTrainState.create(self._model.optimizer_def, variables)


class LlamaModel(models.BaseTransformerModel):
    """A native model folder as t5x sees a model.

    Its weights come from the folder where t5x trains (`ModelFolderInitializer`), and from a checkpoint, which may be
    one of `humpback t5x export`, where it evaluates and infers.
    """

    FEATURE_CONVERTER_CLS = PackedDecoderFeatureConverter

    def __init__(
        self,
        model_dir: PathLike,
        optimizer_def: Any = None,
        dtype: str = "bfloat16",
        param_dtype: str = "float32",
        remat_policy: str = "full",
        dropout: float = 0.0,
        dropout_schedule: str = "constant",
        logits_chunk: int = 256,
        z_loss: float = 0.0,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        top_p: float = 1.0,
        chat_format: str | None = None,
    ) -> None:
        """Reads the card and the tokenizer of `model_dir`, no weights.

        Args:
          model_dir: native model folder, for architecture, tokenizer and chat format.
          optimizer_def: `AdamW()` or another optimizer of t5x; None for evaluation and inference.
          dtype, param_dtype, remat_policy, dropout, dropout_schedule, logits_chunk, z_loss: as in `ComputeConfig`.
          max_new_tokens: limit of a prediction, in tokens.
          temperature, top_p: of predictions; 0 is greedy.
          chat_format: in place of the card's; it decides which tokens end a prediction.
        """
        self._model_dir, handle = model_dir, open_model(model_dir, chat_format)
        vocabulary = TokenizerVocabulary(handle.tokenizer)
        super().__init__(None, vocabulary, vocabulary, optimizer_def, z_loss=z_loss)
        compute = ComputeConfig(
            dtype, param_dtype, remat_policy=remat_policy, dropout=dropout, dropout_schedule=dropout_schedule
        )
        self.llama = compute.model(handle.card.config, "cpu")  # attention by XLA: the kernels know our mesh only
        self._stop_ids = jnp.asarray(handle.stop_ids, jnp.int32)
        self._sampling = SamplingConfig(temperature, top_p)
        self._max_new_tokens, self._logits_chunk = max_new_tokens, logits_chunk

    def get_initial_variables(self, rng: jax.Array, input_shapes: Any, input_types: Any = None) -> Any:
        """Random parameters and, beside each, the names of its axes; `input_shapes` do not matter."""
        return flax.core.freeze({"params": init_params(self.llama, rng), "params_axes": self.parameter_axes()})

    def parameter_axes(self) -> dict:
        """Beside each parameter NAME, NAME_axes with t5x's names of its axes."""
        names = {
            (*path, f"{leaf}_axes"): AxisMetadata(tuple(AXIS_NAMES.get(name, name) for name in spec))
            for (*path, leaf), spec in flatten_dict(logical_specs(self.llama)).items()
        }
        return unflatten_dict(names)

    def load_params(self, shardings: dict) -> dict:
        """The weights of the model folder, in `param_dtype`."""
        return load_model_folder(self._model_dir, shardings, self.llama.param_dtype).params

    def loss_fn(self, params: Any, batch: Batch, dropout_rng: jax.Array | None) -> tuple[jax.Array, dict]:
        """(mean loss of the supervised tokens of the batch, t5x metrics); the mean is ours, not t5x's sum.

        With t5x's `num_microbatches` every microbatch would have a mean of its own; leave it at None.
        """
        use_dropout = dropout_rng is not None and any(self.llama.dropout_rates or ())
        key = dropout_rng if use_dropout else None
        parameters = flax.core.unfreeze(params)
        total, count = summed_loss(self.llama, parameters, dict(batch), key, self._logits_chunk, self._z_loss)
        loss = total / jnp.maximum(count, 1.0)
        return loss, _metrics(batch, loss, total, count)

    def score_batch(self, params: Any, batch: Batch, return_intermediates: bool = False) -> Any:
        """Sum of the log-probabilities of each row's answer tokens, float32 [rows]."""
        scores = -self._token_losses(params, batch) * batch["decoder_loss_weights"]
        if not return_intermediates:
            return jnp.sum(scores, axis=-1)
        tokens, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
        kept = {"token_scores": (scores,), "target_tokens": (tokens,), "loss_weights": (weights,)}
        return jnp.sum(scores, axis=-1), {"decoder": kept}

    def predict_batch_with_aux(
        self, params: Any, batch: Batch, rng: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Answers to the prompts of unpacked rows.

        Where a prompt ends is told by the first supervised position, so token id 0 is a token like any other.

        Args:
          params: of the model.
          batch: our features, one example in a row; its answers are not looked at.
          rng: draws; not needed for greedy predictions.

        Returns:
          int32 [rows, max_new_tokens], `NO_TOKEN` after the end, without the token that ended it; and
          {"num_tokens": int32 [rows], "finished": bool [rows], false at the limit}.
        """
        inputs, limit = batch["decoder_input_tokens"], self._max_new_tokens
        rows, length = inputs.shape
        last = jnp.argmax(batch["decoder_loss_weights"] > 0, axis=-1)
        prompts = jnp.where(jnp.arange(length) <= last[:, None], inputs, 0)
        model = self.llama.clone(scan_layers=False, dropout_rates=None, remat_policy="none")
        layers = unstack_layers(flax.core.unfreeze(params), model.config.num_layers)
        seed = jnp.uint32(0) if rng is None else jax.random.bits(rng, (), jnp.uint32)
        settings = RowSettings(
            jnp.arange(rows, dtype=jnp.uint32),
            seed,
            jnp.full(rows, self._sampling.temperature, jnp.float32),
            jnp.full(rows, self._sampling.top_p, jnp.float32),
            jnp.full(rows, limit, jnp.int32),
        )
        state = init_slots(model, rows, length + limit, limit, model.dtype)
        slots = jnp.arange(rows)
        state = prefill_into_slots(model, layers, (), state, prompts, last + 1, slots, settings, self._stop_ids)
        _, report = decode_chunk(model, layers, (), state, self._stop_ids, jnp.int32(rows), max(limit - 1, 1))
        predictions = jnp.where(jnp.arange(limit) < report.counts[:, None], report.output, NO_TOKEN)
        return predictions, {"num_tokens": report.counts, "finished": report.stopped}

    def _token_losses(self, params: Any, batch: Batch) -> jax.Array:
        """Cross-entropy of every target, float32 [rows, length], without ever holding all logits."""
        params = flax.core.unfreeze(params)
        tokens, positions = batch["decoder_input_tokens"], batch["decoder_positions"]
        hidden = hidden_states(self.llama, params, tokens, positions, batch["decoder_segment_ids"])
        return token_losses(self.llama, params, hidden, batch["decoder_target_tokens"], self._logits_chunk)

    def _compute_logits(self, params: Any, batch: Batch, dropout_rng: jax.Array | None = None) -> jax.Array:
        """Abstract in t5x, which asks for it in its own loss only."""
        raise NotImplementedError("all logits of a batch are never held; use loss_fn or score_batch")


def _metrics(batch: Batch, loss: jax.Array, total: jax.Array, count: jax.Array) -> dict[str, Any]:
    """What t5x writes to TensorBoard, under the names its own models use."""
    targets, segments = batch["decoder_target_tokens"], batch["decoder_segment_ids"]
    rows, size = jnp.asarray(targets.shape[0]), jnp.asarray(targets.size)
    return {
        "loss": metrics.AveragePerStep(total=loss),
        "loss_per_nonpadding_target_token": clu.metrics.Average(total=total, count=count),
        "supervised_tokens": metrics.AveragePerStep(total=count),
        "non_padding_fraction/decoder": clu.metrics.Average(total=jnp.sum(segments > 0), count=size),
        "timing/seconds": metrics.Time(),
        "timing/seqs": metrics.Sum(rows),
        "timing/seqs_per_second": metrics.TimeRate.from_model_output(numerator=rows),
        "timing/steps_per_second": metrics.StepsPerTime.from_model_output(),
        "timing/target_tokens_per_second": metrics.TimeRate.from_model_output(numerator=size),
    }


@functools.lru_cache
def task_name(
    model_dir: PathLike,
    seed_path: PathLike,
    augmented_path: PathLike | None = None,
    kind: str = "seed",
    tfds_data_dir: PathLike | None = None,
    chat_format: str | None = None,
    name_prefix: str = "humpback",
) -> str:
    """Registers our seqio tasks for the tokenizer and chat format of a model folder, and names one of them.

    Args:
      model_dir: native model folder.
      seed_path, augmented_path, tfds_data_dir: as `register_tasks` takes them.
      kind: "seed", "backward", "augmented" or "seed_and_augmented".
      chat_format: in place of the card's.
      name_prefix: of the names.

    Raises:
      ValueError: there is no task of this kind; the message lists them.
    """
    model = open_model(model_dir, chat_format)
    names = register_tasks(
        name_prefix,
        model.tokenizer,
        model.chat_format,
        seed_path,
        augmented_path,
        metric_fns=(mean_log_likelihood,),
        tfds_data_dir=tfds_data_dir,
        replace=True,
    )
    kinds = {name.removeprefix(f"{name_prefix}_"): name for name in names}
    if kind not in kinds:
        raise ValueError(f"no task of kind {kind!r}; choose from {', '.join(kinds)} (some need augmented_path)")
    return kinds[kind]
