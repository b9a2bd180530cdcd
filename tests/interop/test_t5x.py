"""Our model and tasks under t5x's own programs, on 8 devices: losses, scores and answers are those of our own."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("t5x", reason="needs t5x: docs/t5x.md has the lines that install it", exc_type=ImportError)
t5x_adapter = pytest.importorskip("humpback_jax.interop.t5x", exc_type=ImportError)

import seqio  # noqa: E402
import tensorflow as tf  # noqa: E402

from humpback_jax.data.examples import supervised_examples  # noqa: E402
from humpback_jax.data.pairs import read_pairs  # noqa: E402
from humpback_jax.inference.requests import EngineConfig, Request  # noqa: E402
from humpback_jax.inference.sampling import SamplingConfig  # noqa: E402
from humpback_jax.interop.t5x_checkpoints import import_t5x  # noqa: E402
from humpback_jax.models.config import get_config  # noqa: E402
from humpback_jax.stages.model import open_model  # noqa: E402
from humpback_jax.training.optimizer import OptimizerConfig  # noqa: E402
from humpback_jax.weights.model_folder import load_model_folder, save_model_folder  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
LENGTHS = {"inputs": 96, "targets": 32}
ROWS, STEPS, MAX_NEW_TOKENS = 8, 6, 6
KEY = np.zeros(2, np.uint32)
OPTIMIZER = OptimizerConfig(learning_rate=1e-3, final_learning_rate=5e-4)


def t5x(program, gin_file, **macros):
    """Runs a program of t5x in a process of its own, with 8 devices."""
    flags = " ".join([os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8"])
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags.strip(), "PYTHONPATH": str(ROOT)}
    bindings = [f"--gin.{name.replace('__', '.')}={value!r}" for name, value in macros.items()]
    command = [sys.executable, "-m", f"t5x.{program}", f"--gin_file=humpback_jax/gin_configs/t5x/{gin_file}", *bindings]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500)
    assert result.returncode == 0, result.stderr[-4000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, byte_tokenizer_dir):
    """model/: the 7B architecture, narrow and with 4 layers; seed.jsonl; run/: six updates, stopped after four."""
    import jax

    from humpback_jax.models.llama import Llama, init_params

    folder = tmp_path_factory.mktemp("t5x")
    narrow = dict(vocab_size=320, emb_dim=64, num_heads=8, num_kv_heads=8, head_dim=8, mlp_dim=176, num_layers=4)
    config = dataclasses.replace(get_config("llama_7b"), name="llama_7b_narrow", **narrow)
    params = init_params(Llama(config), jax.random.key(0))
    save_model_folder(folder / "model", config, params, byte_tokenizer_dir, source="random", chat_format="chatml")
    rows = [
        {"id": f"s{i}", "instruction": f"Say {'e' * (1 + i % 7)} {i}.", "output": "eé " * (1 + i % 7)}
        for i in range(60)
    ]
    (folder / "seed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for steps in (4, STEPS):
        t5x(
            "train",
            "finetune.gin",
            **common(folder),
            MODEL_DIR=str(folder / "run"),
            TRAIN_STEPS=steps,
            DECAY_STEPS=STEPS,
            BATCH_SIZE=ROWS,
            CHECKPOINT_PERIOD=2,
            TASK_FEATURE_LENGTHS=LENGTHS,
            humpback__LlamaModel__dropout=0.0,
            humpback__learning_rate_schedule__learning_rate=OPTIMIZER.learning_rate,
            humpback__learning_rate_schedule__final_learning_rate=OPTIMIZER.final_learning_rate,
            train__stats_period=1,
        )
    import_t5x(folder / "run", folder / "model", folder / "trained")
    return folder


def common(folder):
    paths = dict(MODEL_FOLDER=str(folder / "model"), SEED_PATH=str(folder / "seed.jsonl"))
    return paths | dict(NUM_PARTITIONS=2, DTYPE="float32")


def t5x_losses(folder):
    losses = {}
    for file in sorted((folder / "run" / "train").glob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                if value.tag == "loss":
                    losses[event.step] = float(tf.make_ndarray(value.tensor))
    return losses


def our_training(folder):
    """(losses, parameters) of our own update on the batches that t5x was given."""
    import jax

    from humpback_jax.data.feature_converter import PackedDecoderFeatureConverter
    from humpback_jax.models.llama import Llama
    from humpback_jax.partitioning import LogicalAxisRules, MeshShape, make_mesh, use_mesh
    from humpback_jax.training.optimizer import make_optimizer
    from humpback_jax.training.step import TrainSetup, init_train_state, make_train_step

    name = t5x_adapter.task_name(str(folder / "model"), str(folder / "seed.jsonl"))
    options = dict(dataset_split="train", shuffle=True, num_epochs=None, seed=0, batch_size=ROWS)
    dataset = seqio.get_dataset(name, LENGTHS, PackedDecoderFeatureConverter(), **options)
    model = load_model_folder(folder / "model")
    mesh, rules = make_mesh(MeshShape(), jax.devices()[:1]), LogicalAxisRules()
    llama, optimizer = Llama(model.config), make_optimizer(OPTIMIZER)
    losses, update = {}, make_train_step(TrainSetup(llama, mesh, rules, OPTIMIZER))
    with use_mesh(mesh, rules):
        state = jax.jit(lambda params: init_train_state(params, optimizer))(model.params)
        for step, batch in zip(range(STEPS), dataset.as_numpy_iterator(), strict=False):
            rows = {feature: array[None] for feature, array in batch.items()}
            rate = np.float32(OPTIMIZER.learning_rate_at(step, STEPS))
            state, metrics = update(state, rows, np.int32(1), rate, jax.random.key(0))
            losses[step + 1] = float(metrics["loss"])
    return losses, state.params


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_losses_and_weights_are_those_of_our_trainer(folder):
    import jax

    losses, params = our_training(folder)
    theirs = t5x_losses(folder)
    assert list(theirs) == list(range(1, STEPS + 1))
    np.testing.assert_allclose(list(theirs.values()), list(losses.values()), rtol=0, atol=1e-5)
    trained = load_model_folder(folder / "trained").params
    # Six updates of up to 1e-3 each: where a gradient is all but zero, Adam makes of rounding a part of an update.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-4), trained, params)


def outputs(folder, mode):
    """Runs t5x.infer on the last checkpoint; its rows by id."""
    t5x(
        "infer",
        "score.gin" if mode == "score" else "predict.gin",
        **common(folder),
        CHECKPOINT_PATH=str(folder / "run" / f"checkpoint_{STEPS}"),
        INFER_OUTPUT_DIR=str(folder / mode),
        TASK_FEATURE_LENGTHS=LENGTHS,
        humpback__LlamaModel__max_new_tokens=MAX_NEW_TOKENS,
    )
    (file,) = (folder / mode).glob("*.jsonl-00000-of-00001")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return {row["inputs"]["id"]: row for row in rows}


def ours(folder):
    model = open_model(folder / "trained")
    pairs = read_pairs(folder / "seed.jsonl").pairs
    examples, _ = supervised_examples(pairs, model.tokenizer, model.chat_format, tags=["seed"])
    return model, examples, model.engine(EngineConfig(), "float32")


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_scores_are_those_of_our_engine(folder):
    rows, (_, examples, engine) = outputs(folder, "score"), ours(folder)
    expected = engine.log_likelihoods([(e.id, e.prompt_ids.tolist(), e.answer_ids.tolist()) for e in examples])
    assert len(rows) == len(examples) == 60
    np.testing.assert_allclose([rows[e.id]["score"] for e in examples], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_answers_are_those_of_our_engine(folder):
    rows, (model, examples, engine) = outputs(folder, "predict"), ours(folder)
    greedy = SamplingConfig(temperature=0.0, top_p=1.0)
    requests = [Request(e.id, tuple(e.prompt_ids.tolist()), MAX_NEW_TOKENS, greedy) for e in examples]
    for completion in engine.generate(requests, 0, model.stop_ids):
        row = rows[completion.id]
        assert row["prediction"] == model.tokenizer.decode(completion.token_ids)
        assert row["aux"] == {"num_tokens": len(completion.token_ids), "finished": not completion.truncated}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_eval_gives_the_mean_of_the_scores(folder):
    t5x(
        "eval",
        "eval.gin",
        **common(folder),
        CHECKPOINT_PATH=str(folder / "run" / f"checkpoint_{STEPS}"),
        EVAL_OUTPUT_DIR=str(folder / "eval"),
    )
    (file,) = (folder / "eval").rglob("*-metrics.jsonl")
    figures = json.loads(file.read_text().splitlines()[-1])
    _, examples, engine = ours(folder)
    scores = engine.log_likelihoods([(e.id, e.prompt_ids.tolist(), e.answer_ids.tolist()) for e in examples])
    assert figures["mean_log_likelihood"] == pytest.approx(scores.mean(), rel=1e-5)


def test_the_schedule_is_that_of_our_trainer():
    config = dataclasses.replace(OPTIMIZER, warmup_steps=3)
    schedule = t5x_adapter.learning_rate_schedule(10, config.learning_rate, config.final_learning_rate, 3)
    expected = [config.learning_rate_at(step, 10) for step in range(12)]
    np.testing.assert_allclose([float(schedule(np.int32(step))) for step in range(12)], expected, rtol=1e-6)


def test_every_parameter_has_axes_that_t5x_knows(tiny_model_dir):
    import jax
    from t5x import partitioning

    model = t5x_adapter.LlamaModel(tiny_model_dir, optimizer_def=t5x_adapter.AdamW())
    variables = jax.eval_shape(lambda: model.get_initial_variables(KEY, {}))
    partitioner = t5x_adapter.LlamaPartitioner(1)
    known = {name for name, _ in partitioner.logical_axis_rules}
    axes = jax.tree.leaves(variables["params_axes"], is_leaf=lambda x: hasattr(x, "names"))
    assert len(axes) == len(jax.tree.leaves(variables["params"])) == 12
    assert {name for one in axes for name in one.names} <= known
    assert {name for name, _ in partitioning.standard_logical_axis_rules()} < known


def test_a_prompt_may_hold_token_zero(tiny_model_dir):
    """Prompts of "eee…", id 0, and answers that begin with it, are answered and scored as any other."""
    import jax

    from humpback_jax.data.examples import Example
    from humpback_jax.data.packing import unpacked_rows

    model = t5x_adapter.LlamaModel(tiny_model_dir, dtype="float32", max_new_tokens=4)
    native = open_model(tiny_model_dir)
    params, engine = load_model_folder(tiny_model_dir).params, native.engine(EngineConfig(), "float32")
    examples = [Example([0, 5, 0], [0, 7, 0], "a"), Example([0], [3], "b"), Example([9, 0, 0, 0, 0], [0], "c")]
    rows = unpacked_rows(examples, 12)
    scores = model.score_batch(params, rows)
    pairs = [(e.id, e.prompt_ids.tolist(), e.answer_ids.tolist()) for e in examples]
    np.testing.assert_allclose(scores, engine.log_likelihoods(pairs), rtol=1e-5)
    predictions, aux = jax.jit(model.predict_batch_with_aux)(params, rows)
    requests = [Request(e.id, tuple(e.prompt_ids.tolist()), 4, SamplingConfig(0.0, 1.0)) for e in examples]
    completions = engine.generate(requests, 0, native.stop_ids)
    for completion, count, predicted in zip(completions, aux["num_tokens"].tolist(), predictions.tolist(), strict=True):
        assert tuple(predicted[:count]) == completion.token_ids
        assert predicted[count:] == [t5x_adapter.NO_TOKEN] * (4 - count)


def test_what_does_not_divide_is_named(tiny_model_dir):
    import jax
    from t5x.train_state import FlaxOptimTrainState

    model = t5x_adapter.LlamaModel(tiny_model_dir, optimizer_def=t5x_adapter.AdamW())
    initialize = lambda: FlaxOptimTrainState.create(model.optimizer_def, model.get_initial_variables(KEY, {}))  # noqa: E731
    state, partitioner = jax.eval_shape(initialize), t5x_adapter.LlamaPartitioner(1)
    partitioner.__dict__["mesh"] = jax.sharding.AbstractMesh((2, 2), ("data", "model"))
    assert partitioner.get_mesh_axes(state).params["lm_head"]["kernel"] == jax.sharding.PartitionSpec(None, "model")
    partitioner.__dict__["mesh"] = jax.sharding.AbstractMesh((1, 4), ("data", "model"))
    with pytest.raises(
        ValueError, match=r"key/kernel of shape \(2, 32, 2, 8\) does not divide by model = 4: lower NUM"
    ):
        partitioner.get_mesh_axes(state)


def test_a_task_that_does_not_exist_is_named(tiny_model_dir, tmp_path):
    with pytest.raises(ValueError, match="choose from seed, backward"):
        t5x_adapter.task_name(str(tiny_model_dir), str(tmp_path / "seed.jsonl"), kind="augmented")
