"""Relatives of LLaMA against transformers: logits, gradients, greedy text, packing, adapters, export."""

import dataclasses
import functools
import json
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from humpback_jax.inference.engine import Engine
from humpback_jax.inference.requests import EngineConfig, Request
from humpback_jax.inference.sampling import SamplingConfig
from humpback_jax.models.config import REGISTRY, get_config
from humpback_jax.models.llama import Llama, abstract_params, logical_specs
from humpback_jax.models.lora import LoraConfig, adapted_params, init_adapters, merge_adapters
from humpback_jax.partitioning import LogicalAxisRules
from humpback_jax.training.loss import summed_loss
from humpback_jax.weights.convert import export_weights, import_weights
from humpback_jax.weights.huggingface import stored
from humpback_jax.weights.huggingface_config import config_from_huggingface, config_to_huggingface
from humpback_jax.weights.mapping import flatten, foreign_slots, to_foreign
from humpback_jax.weights.model_folder import LoadedModel, load_model_folder

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import family_models
from family_models import FAST, VARIANTS, their_model, tokens, write_folder


def fast_are(names: tuple[str, ...]) -> list[Any]:
    """All variants, those of other names as slow tests."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name not in names)) for name in VARIANTS]


TRAINED = ("llama_biases", "qwen2_some_windows", "olmo2", "gemma3_linear", "phi3_longrope", "granite")
GENERATED = ("smollm3_windows", "gemma3_linear", "phi3_longrope")
LENGTH = 40


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(their model, its folder, our model) of a variant, made once."""
    root = tmp_path_factory.mktemp("families")

    @functools.cache
    def make(variant: str) -> tuple[Any, pathlib.Path, LoadedModel]:
        theirs = their_model(variant)
        folder = write_folder(theirs, root / variant / "hf")
        import_weights(folder, root / variant / "native")
        return theirs, folder, load_model_folder(root / variant / "native")

    return make


def their_logits(model: Any, ids: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(ids.astype(np.int64)), use_cache=False).logits.numpy()


@pytest.mark.parametrize("variant", fast_are(FAST))
def test_logits_are_those_of_transformers(made: Any, variant: str) -> None:
    theirs, _, ours = made(variant)
    ids = tokens(LENGTH)
    expected = their_logits(theirs, ids)
    found = jax.jit(Llama(ours.config).apply)({"params": ours.params}, ids)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("variant", fast_are(TRAINED))
def test_packed_training_has_the_loss_and_gradients_of_transformers(made: Any, variant: str) -> None:
    """Two sequences in one row here, two rows there; layers are scanned and recomputed, as in training."""
    import torch

    theirs, ours = their_model(variant), made(variant)[2]  # a new one: some keep how long they have been
    ids, half = tokens(LENGTH, 2), LENGTH
    batch = torch.from_numpy(ids.astype(np.int64))
    logits = theirs(batch[:, :-1], use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="mean")
    losses.backward()

    row = {
        "decoder_input_tokens": ids[:, :-1].reshape(1, -1),
        "decoder_target_tokens": ids[:, 1:].reshape(1, -1),
        "decoder_positions": np.tile(np.arange(half - 1, dtype=np.int32), 2)[None],
        "decoder_segment_ids": np.repeat(np.asarray([[1, 2]], np.int32), half - 1, axis=1),
        "decoder_loss_weights": np.ones((1, 2 * half - 2), np.float32),
    }
    model = Llama(ours.config, remat_policy="full")

    def loss(params: dict) -> jax.Array:
        total, count = summed_loss(model, params, row, None, logits_chunk=64)
        return total / count

    value, gradients = jax.jit(jax.value_and_grad(loss))(ours.params)
    assert float(value) == pytest.approx(float(losses), abs=1e-5)
    expected = {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}
    leaves, slots = flatten(gradients), foreign_slots(ours.config, "huggingface")
    for name, parts in stored(ours.config).items():
        rules = [(slots[part].rule, slots[part].layer) for part, _ in parts]
        found = [np.asarray(leaves[rule.path]) for rule, _ in rules]
        one = [leaf if layer is None else leaf[layer] for leaf, (_, layer) in zip(found, rules, strict=True)]
        whole = [to_foreign(leaf, rule, ours.config) for leaf, (rule, _) in zip(one, rules, strict=True)]
        np.testing.assert_allclose(np.concatenate(whole), expected[name], atol=1e-5, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("new_tokens", [40, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("variant", fast_are(GENERATED))
def test_slots_write_what_transformers_generates(made: Any, variant: str, new_tokens: int) -> None:
    """Greedy, with a cache, across the edge of the window, behind a head that the prompts share."""
    import torch

    ours = made(variant)[2]
    head = tokens(17, 1)[0].tolist()
    prompts = [head + tokens(n, 1)[0].tolist() for n in (3, 7)]
    config = EngineConfig(slots=2, prompt_buckets=(32,), max_new_tokens=new_tokens)
    engine = Engine(Llama(ours.config), lambda shardings: jax.device_put(ours.params, shardings), config)
    greedy = SamplingConfig(0.0, 1.0)
    requests = [Request(str(i), tuple(prompt), new_tokens, greedy) for i, prompt in enumerate(prompts)]
    written = engine.generate(requests, 0, ())
    for prompt, completion in zip(prompts, written, strict=True):
        theirs = their_model(variant)
        options = {"do_sample": False, "max_new_tokens": new_tokens, "eos_token_id": None, "pad_token_id": 0}
        batch = torch.tensor([prompt])
        ids = theirs.generate(batch, attention_mask=torch.ones_like(batch), **options)
        assert list(completion.token_ids) == ids[0, len(prompt) :].tolist()


@pytest.mark.parametrize("variant", fast_are(FAST))
def test_export_is_bit_identical_and_loads(made: Any, variant: str, tmp_path: pathlib.Path) -> None:
    import torch
    import transformers

    theirs, folder, ours = made(variant)
    export_weights(folder.parent / "native", tmp_path / "out", show_progress=False, max_shard_bytes=30_000)
    again = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    assert type(again) is type(theirs)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    fields = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config_from_huggingface(fields, "config.json", "x").architecture() == ours.config.architecture()
    ids = tokens(LENGTH)
    np.testing.assert_array_equal(their_logits(again, ids), their_logits(theirs, ids))


@pytest.mark.parametrize("sharded", [False, True])
def test_files_of_torch_are_read_without_their_code(made: Any, tmp_path: pathlib.Path, sharded: bool) -> None:
    import torch

    theirs, folder, ours = made("phi3_longrope")
    source = tmp_path / "bin"
    source.mkdir()
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (source / file.name).write_bytes(file.read_bytes())
    state = {name: tensor.to(torch.bfloat16) for name, tensor in theirs.state_dict().items()}
    del state["lm_head.weight"]  # tied
    if sharded:
        names = list(state)[::2], list(state)[1::2]
        files = [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
        for file, of_file in zip(files, names, strict=True):
            torch.save({name: state[name] for name in of_file}, source / file)
        weight_map = {name: file for file, of_file in zip(files, names, strict=True) for name in of_file}
        (source / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    else:
        torch.save(state, source / "pytorch_model.bin")
    import_weights(source, tmp_path / "native")
    found = load_model_folder(tmp_path / "native").params["layers"]["mlp"]["up"]["kernel"]
    expected = np.asarray(jnp.asarray(ours.params["layers"]["mlp"]["up"]["kernel"], jnp.bfloat16), np.float32)
    np.testing.assert_array_equal(found, expected)


class _Touch:
    """What a pickle would run."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return pathlib.Path.touch, (pathlib.Path(self.path),)


def test_code_in_a_file_of_torch_is_not_run(made: Any, tmp_path: pathlib.Path) -> None:
    import torch

    _, folder, _ = made("granite")
    source = tmp_path / "bin"
    source.mkdir()
    (source / "config.json").write_bytes((folder / "config.json").read_bytes())
    torch.save({"model.norm.weight": _Touch(str(tmp_path / "touched"))}, source / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin holds something else than tensors"):
        import_weights(source, tmp_path / "native")
    assert not (tmp_path / "touched").exists()
    (source / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ValueError, match="zip archive"):
        import_weights(source, tmp_path / "native")


def test_adapters_leave_biases_alone(made: Any) -> None:
    _, _, ours = made("llama_biases")
    model, lora = Llama(ours.config), LoraConfig(rank=2)
    adapters = jax.tree.map(lambda x: x + 0.1, init_adapters(model, lora, jax.random.key(0)))
    ids = tokens(LENGTH)
    apply = jax.jit(model.apply)
    adapted = apply({"params": adapted_params(ours.params, adapters, lora)}, ids)
    merged = apply({"params": merge_adapters(ours.params, adapters, lora)}, ids)
    np.testing.assert_allclose(adapted, merged, atol=1e-3)
    assert not np.allclose(merged, apply({"params": ours.params}, ids), atol=1e-2)


@pytest.mark.parametrize("variant", fast_are(FAST))
def test_every_axis_of_a_relative_has_a_rule(made: Any, variant: str) -> None:
    config = made(variant)[2].config
    specs, shapes = logical_specs(Llama(config)), abstract_params(Llama(config))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == config.num_params
    for spec in jax.tree.leaves(specs, is_leaf=lambda x: isinstance(x, jax.sharding.PartitionSpec)):
        LogicalAxisRules().partition_spec(tuple(spec))


def test_a_renamed_relative_is_refused_by_the_field_that_differs(made: Any, tmp_path: pathlib.Path) -> None:
    _, folder, _ = made("granite")
    fields = json.loads((folder / "config.json").read_text())
    renamed = fields | {"architectures": ["LlamaForCausalLM"]}
    with pytest.raises(ValueError, match="model_type is 'granite'"):
        config_from_huggingface(renamed, "config.json", "x")
    with pytest.raises(ValueError, match=r"unknown field (embedding|residual|attention)_multiplier"):
        config_from_huggingface(renamed | {"model_type": "llama"}, "config.json", "x")


def test_the_first_llama_files_say_their_length_in_their_own_way() -> None:
    first = dict(family_models.tiny_models.BASE) | {"architectures": ["LLaMAForCausalLM"], "max_sequence_length": 1024}
    del first["max_position_embeddings"]
    assert config_from_huggingface(first, "config.json", "x").max_position_embeddings == 1024
    del first["max_sequence_length"]
    assert config_from_huggingface(first, "config.json", "x").max_position_embeddings == 2048


def test_an_export_that_cannot_say_it_all_is_refused() -> None:
    odd = dataclasses.replace(get_config("tiny"), logit_soft_cap=3.0)
    with pytest.raises(ValueError, match=r"'llama'.*logit_soft_cap"):
        config_to_huggingface(odd, "float32", None, None)


QWEN = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_act": "silu",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "max_position_embeddings": 32_768,
    "max_window_layers": 24,
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "sliding_window": 32_768,
    "tie_word_embeddings": True,
    "use_mrope": False,
    "use_sliding_window": False,
    "vocab_size": 151_936,
}


def test_a_window_that_is_switched_off_is_none() -> None:
    assert config_from_huggingface(QWEN, "config.json", "qwen2_5_0_5b") == get_config("qwen2_5_0_5b")


@pytest.mark.parametrize("name", REGISTRY)
def test_every_published_size_can_be_written_in_its_own_files(name: str) -> None:
    fields = json.loads(json.dumps(config_to_huggingface(get_config(name), "float32", 1, [2, 3])))
    assert config_from_huggingface(fields, "config.json", name) == get_config(name)
