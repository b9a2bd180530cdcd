"""Losses of pairs: against float64 torch of the papers' formulas, packed = unpacked, resumed = uninterrupted."""

import dataclasses
import itertools
import json
import os
import pathlib
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from humpback_jax.data.batching import BatchConfig, plan_batches
from humpback_jax.data.examples import Example, ExamplePair
from humpback_jax.data.packing import fill_rows, pack
from humpback_jax.models.config import get_config
from humpback_jax.models.llama import Llama, init_params
from humpback_jax.models.lora import LoraConfig
from humpback_jax.partitioning import make_mesh
from humpback_jax.training.config import CheckpointConfig
from humpback_jax.training.loop import RunRecord, train
from humpback_jax.training.optimizer import OptimizerConfig
from humpback_jax.training.preference import (
    LOSSES,
    PreferenceLoss,
    answer_divergences,
    answer_log_probs,
    summed_preference_loss,
)
from humpback_jax.training.step import TrainSetup
from humpback_jax.weights.convert import import_weights
from humpback_jax.weights.model_folder import load_model_folder

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "weights"))
import tiny_models

pytestmark = pytest.mark.xdist_group("preference")
TINY = get_config("tiny")
KINDS = {
    "dpo": PreferenceLoss("dpo", beta=0.3),
    "smoothed": PreferenceLoss("dpo", beta=0.2, label_smoothing=0.15),
    "ipo": PreferenceLoss("ipo", beta=0.4),
    "simpo": PreferenceLoss("simpo", beta=2.0, gamma=0.7),
    "simpo_smoothed": PreferenceLoss("simpo", beta=1.5, gamma=0.2, label_smoothing=0.1),
}
ROW = 64


def random_pairs(number=7, vocab=300, reference=True, seed=0):
    """Pairs of 2 to 40 tokens per answer; id 0 is the most frequent one."""
    rng = np.random.default_rng(seed)
    draw = lambda n: np.where(rng.random(n) < 0.3, 0, rng.integers(0, vocab, n)).astype(np.int32)  # noqa: E731
    pairs = []
    for i in range(number):
        prompt, lengths = draw(rng.integers(1, 9)), rng.integers(1, 20, 2)
        chosen, rejected = (Example(prompt, draw(n), f"p{i}") for n in lengths)
        known = tuple(float(-5.0 * n - rng.random()) for n in lengths) if reference else None
        pairs.append(ExamplePair(chosen, rejected, f"p{i}", known))
    return pairs


def rows_of(pairs, packed=True, row_length=ROW):
    lengths = [pair.num_positions for pair in pairs]
    rows = pack(lengths, row_length) if packed else [[i] for i in range(len(pairs))]
    return {name: jnp.asarray(array) for name, array in fill_rows(rows, pairs, row_length).items()}


def loss_and_gradients(model, params, rows, loss, chunk=10):
    value = lambda p: summed_preference_loss(model, p, rows, None, chunk, loss)  # noqa: E731
    with jax.default_matmul_precision("highest"):
        (total, sums), gradients = jax.jit(jax.value_and_grad(value, has_aux=True))(params)
    return float(total), {name: float(each) for name, each in sums.items()}, jax.device_get(gradients)


def assert_close(found, expected, tolerance):
    scale = max(float(np.abs(x).max()) for x in jax.tree.leaves(expected))
    assert scale > 0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale), found, expected)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """(folder of a Hugging Face model with random weights, our model, its parameters)."""
    config = tiny_models.CONFIGS["llama2_gqa"]
    folder = tmp_path_factory.mktemp("hf")
    source = tiny_models.write_hf_folder(folder / "hf", config, tiny_models.random_tensors(config))
    import_weights(source, folder / "native")
    native = load_model_folder(folder / "native", dtype="float32")
    return source, Llama(native.config), native.params


def papers_loss(torch, loss, log_probs, reference, lengths):
    """The formulas as the papers (and TRL, whose IPO is per token) print them, for one pair of float64 numbers."""
    (chosen, rejected), (ref_chosen, ref_rejected) = log_probs, reference
    log_sigmoid, smoothing = torch.nn.functional.logsigmoid, loss.label_smoothing
    if loss.kind == "ipo":
        ratio = (chosen - ref_chosen) / lengths[0] - (rejected - ref_rejected) / lengths[1]
        return (ratio - 1 / (2 * loss.beta)) ** 2
    if loss.kind == "simpo":
        logit = loss.beta * (chosen / lengths[0] - rejected / lengths[1]) - loss.gamma
    else:
        logit = loss.beta * ((chosen - rejected) - (ref_chosen - ref_rejected))
    return -(1 - smoothing) * log_sigmoid(logit) - smoothing * log_sigmoid(-logit)


@pytest.fixture(scope="module")
def their_gradients(foreign, tmp_path_factory):
    """kind -> (loss, gradients in our layout) by torch in float64, one answer after the other, nothing packed."""
    torch = pytest.importorskip("torch", reason="the reference is computed by torch and transformers")
    transformers = pytest.importorskip("transformers", reason="the reference is computed by torch and transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(foreign[0]), dtype=torch.float64, attn_implementation="eager"
    )
    found, config = {}, tiny_models.CONFIGS["llama2_gqa"]
    for kind, loss in KINDS.items():
        model.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        for pair in random_pairs():
            log_probs = []
            for part in (pair.chosen, pair.rejected):
                ids = torch.from_numpy(np.concatenate([part.prompt_ids, part.answer_ids]).astype(np.int64))
                scores = torch.log_softmax(model(ids[None]).logits[0, :-1].double(), dim=-1)
                of_tokens = scores[torch.arange(len(ids) - 1), ids[1:]]
                log_probs.append(of_tokens[len(part.prompt_ids) - 1 :].sum())
            lengths = [len(pair.chosen.answer_ids), len(pair.rejected.answer_ids)]
            total = total + papers_loss(torch, loss, log_probs, pair.reference, lengths)
        total.backward()
        tensors = {name: parameter.grad.float().numpy() for name, parameter in model.named_parameters()}
        folder = tmp_path_factory.mktemp(kind)
        import_weights(tiny_models.write_hf_folder(folder / "hf", config, tensors), folder / "native")
        found[kind] = total.item(), load_model_folder(folder / "native", dtype="float32").params
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_the_papers_in_float64(foreign, their_gradients, kind):
    _, model, params = foreign
    value, sums, gradients = loss_and_gradients(model, params, rows_of(random_pairs()), KINDS[kind])
    expected_value, expected = their_gradients[kind]
    assert value == pytest.approx(expected_value, rel=1e-5)
    assert_close(gradients, jax.device_get(expected), 1e-5)
    assert sums["pairs"] == 7


@pytest.mark.parametrize("kind", ["smoothed", "ipo"])
def test_packed_equals_unpacked_whatever_the_chunks(kind):
    params, pairs = init_params(Llama(TINY), jax.random.key(0)), random_pairs()
    packed = rows_of(pairs)
    assert packed["decoder_segment_ids"].max() > 2, "nothing was packed"
    value, sums, gradients = loss_and_gradients(Llama(TINY), params, packed, KINDS[kind])
    other, other_sums, other_gradients = loss_and_gradients(
        Llama(TINY), params, rows_of(pairs, packed=False), KINDS[kind], chunk=100
    )
    assert other == pytest.approx(value, rel=1e-6)
    assert other_sums == pytest.approx(sums, rel=1e-4, abs=1e-4)
    assert_close(other_gradients, gradients, 3e-6)


def test_nothing_of_a_prompt_or_of_padding_is_learned():
    """Other targets where no answer token is change neither loss nor gradients."""
    params, rows = init_params(Llama(TINY), jax.random.key(0)), rows_of(random_pairs())
    value, _, gradients = loss_and_gradients(Llama(TINY), params, rows, KINDS["dpo"])
    other = jnp.where(rows["decoder_loss_weights"] > 0, rows["decoder_target_tokens"], 7)
    again, _, same = loss_and_gradients(Llama(TINY), params, rows | {"decoder_target_tokens": other}, KINDS["dpo"])
    assert again == value
    jax.tree.map(np.testing.assert_array_equal, same, gradients)


@pytest.mark.parametrize("kind", LOSSES)
def test_equal_answers_teach_nothing_but_a_constant(kind):
    """Margin 0: half a correct pair; chosen and rejected alike, their gradients cancel."""
    pairs = [dataclasses.replace(p, rejected=p.chosen, reference=(-9.0, -9.0)) for p in random_pairs()]
    params = init_params(Llama(TINY), jax.random.key(0))
    loss = PreferenceLoss(kind, beta=0.5)
    value, sums, gradients = loss_and_gradients(Llama(TINY), params, rows_of(pairs, row_length=128), loss)
    constant = {"dpo": np.log(2), "ipo": 1.0, "simpo": np.log1p(np.exp(0.5))}[kind]
    assert value / len(pairs) == pytest.approx(constant, rel=1e-5)
    assert sums["reward_margin"] == pytest.approx(0.0, abs=1e-4)
    assert max(float(np.abs(x).max()) for x in jax.tree.leaves(gradients)) < 1e-4


def test_the_model_itself_as_reference_gives_rewards_of_zero():
    params, pairs = init_params(Llama(TINY), jax.random.key(0)), random_pairs(reference=False)
    rows = rows_of(pairs, packed=False)
    log_probs, lengths = jax.jit(lambda p: answer_log_probs(Llama(TINY), p, rows, 10))(params)
    answers = [(len(pair.chosen.answer_ids), len(pair.rejected.answer_ids)) for pair in pairs]
    np.testing.assert_array_equal(lengths[:, 0], answers)
    assert not lengths[:, 1:].any() and not log_probs[:, 1:].any()
    known = [
        dataclasses.replace(p, reference=(float(a), float(b))) for p, (a, b) in zip(pairs, log_probs[:, 0], strict=True)
    ]
    value, sums, _ = loss_and_gradients(Llama(TINY), params, rows_of(known), KINDS["dpo"])
    assert value / len(pairs) == pytest.approx(np.log(2), rel=1e-5)
    assert sums["chosen_reward"] == pytest.approx(0.0, abs=1e-3)


def test_divergences_are_those_of_a_plain_computation():
    model, rows = Llama(TINY), rows_of(random_pairs(), packed=True)
    params, other = (init_params(Llama(TINY), jax.random.key(seed)) for seed in (0, 1))
    found = jax.jit(lambda p, q: answer_divergences(model, p, q, rows, 10))(params, other)
    inputs = [rows[f"decoder_{name}"] for name in ("input_tokens", "positions", "segment_ids")]
    ours, theirs = (
        np.asarray(jax.nn.log_softmax(model.apply({"params": p}, *inputs)), np.float64) for p in (params, other)
    )
    plain = (np.exp(ours) * (ours - theirs)).sum(-1) * np.asarray(rows["decoder_loss_weights"])
    segments = np.asarray(rows["decoder_segment_ids"])
    for row, pair, side in itertools.product(range(len(plain)), range(3), range(2)):
        expected = plain[row][segments[row] == 2 * pair + side + 1].sum()
        assert float(found[row, pair, side]) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    itself = jax.jit(lambda p: answer_divergences(model, p, p, rows, 10))(params)
    assert float(jnp.abs(itself).max()) < 1e-5


class Killed(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class Data:
    """A plan's batches, up to the one that kills the run."""

    plan: object
    kill_at: int | None = None
    num_steps: int = 5
    seed: int = 1  # of dropout

    def batch(self, step):
        if step == self.kill_at:
            raise Killed
        return self.plan.batch(step)


def trained(directory, kill_at=None, lora=None):
    plan = plan_batches(random_pairs(9), BatchConfig(4, ROW, 1), 5)
    setup = TrainSetup(
        Llama(TINY, dropout_rates=(0.1, 0.2)),
        make_mesh(),
        optimizer=OptimizerConfig(1e-2, 1e-3),
        lora=lora,
        preference=KINDS["dpo"],
    )
    load = lambda shardings: jax.device_put(init_params(Llama(TINY), jax.random.key(0)), shardings)  # noqa: E731
    record = RunRecord(directory, {"data": "abc"})
    checkpointing = CheckpointConfig(period=2)
    return jax.device_get(train(setup, Data(plan, kill_at), load, record, checkpointing=checkpointing).params)


def metrics(directory):
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{name: row[name] for name in ("step", "loss", "grad_norm", "pairs", "reward_accuracy")} for row in rows]


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2, alpha=4.0, targets=("v", "gate"))], ids=["full", "lora"])
def test_a_resumed_run_is_bit_identical(tmp_path, lora):
    expected = trained(tmp_path / "whole", lora=lora)
    with pytest.raises(Killed):
        trained(tmp_path / "cut", kill_at=3, lora=lora)
    found = trained(tmp_path / "cut", lora=lora)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")
    assert [row["pairs"] for row in metrics(tmp_path / "whole")] == [4.0] * 5


MESH_PROGRAM = """
    import json, sys
    import jax, numpy as np
    sys.path.insert(0, sys.argv[1])
    from test_preference import KINDS, ROW, TINY, pack, random_pairs, fill_rows
    from humpback_jax.models.llama import Llama, init_params
    from humpback_jax.partitioning import LogicalAxisRules, MeshShape, batch_sharding, make_mesh, put_global, use_mesh
    from humpback_jax.training.optimizer import OptimizerConfig, make_optimizer
    from humpback_jax.training.step import BATCH_AXES, TrainSetup, init_train_state, make_train_step

    pairs = random_pairs(20)
    rows = pack([pair.num_positions for pair in pairs], ROW)
    arrays = fill_rows(rows, pairs, ROW, 16)
    rows = {k: v.reshape(2, 8, ROW) for k, v in arrays.items()}
    model, config, rules = Llama(TINY, remat_policy="full"), OptimizerConfig(), LogicalAxisRules()
    results = {}
    for name, shape in json.loads(sys.argv[2]).items():
        mesh = make_mesh(MeshShape(**shape), jax.devices()[: int(np.prod(list(shape.values())))])
        with use_mesh(mesh, rules):
            setup = TrainSetup(model, mesh, rules, config, logits_chunk=16, preference=KINDS["smoothed"])
            params = jax.device_get(init_params(Llama(TINY), jax.random.key(0)))
            make = lambda p: init_train_state(p, make_optimizer(config))
            state = jax.jit(make, out_shardings=setup.state_shardings())(params)
            batch = {k: put_global(v, batch_sharding(mesh, rules, BATCH_AXES)) for k, v in rows.items()}
            found = []
            for _ in range(2):
                state, metrics = make_train_step(setup)(
                    state, batch, np.int32(2), np.float32(1e-2), jax.random.key(0)
                )
                found += [float(metrics[each]) for each in ("loss", "grad_norm", "reward_margin", "pairs")]
        results[name] = found
    print(json.dumps(results))
"""
MESHES = {
    "one": {"data": 1, "fsdp": 1, "sequence": 1, "tensor": 1},
    "sequence": {"data": 1, "fsdp": 2, "sequence": 2, "tensor": 2},
}


@pytest.mark.slow
def test_updates_on_meshes_of_8_devices_equal_those_of_one_device():
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    arguments = [str(pathlib.Path(__file__).parent), json.dumps(MESHES)]
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MESH_PROGRAM), *arguments],
        env=os.environ | environment, capture_output=True, text=True, timeout=550, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    results = json.loads(run.stdout.splitlines()[-1])
    for name in MESHES:
        np.testing.assert_allclose(results[name], results["one"], rtol=1e-5, atol=1e-5, err_msg=name)
