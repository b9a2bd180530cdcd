"""PEFT folders: our logits = PEFT's over the exported base, import = export bit for bit, strictness."""

import json
import pathlib
import shutil
import sys

import jax
import numpy as np
import pytest

from humpback_jax.models.llama import Llama
from humpback_jax.models.lora import LoraConfig, adapted_params, init_adapters
from humpback_jax.weights.adapters import export_adapter, import_adapter, read_adapter, write_adapter
from humpback_jax.weights.convert import export_weights, import_weights
from humpback_jax.weights.model_folder import load_model_folder

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_models

TOKENS = np.random.default_rng(1).integers(0, 300, (2, 60)).astype(np.int32)
CASES = {
    "all_gqa": ("llama2_gqa", LoraConfig(rank=4, alpha=6.0)),
    "some_tied": ("llama3_2_tied_v5", LoraConfig(rank=3, alpha=24.0, targets=("k", "o", "down"))),
}


@pytest.fixture(scope="module", params=CASES)
def stage(request, tmp_path_factory):
    """A folder with `stage/model` (here the base) and `stage/adapter`; the base and its trained-looking adapters."""
    return make(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def gqa_stage(tmp_path_factory):
    return make(tmp_path_factory.mktemp("gqa"), "all_gqa")


@pytest.fixture
def adapter(gqa_stage, tmp_path):
    """An adapter folder to damage, and the configuration of its model."""
    folder, base, *_ = gqa_stage
    return shutil.copytree(folder / "stage" / "adapter", tmp_path / "adapter"), base.config


def make(tmp_path, case):
    kind, lora = CASES[case]
    hf_config = tiny_models.CONFIGS[kind]
    source = tiny_models.write_hf_folder(tmp_path / "hf", hf_config, tiny_models.random_tensors(hf_config))
    import_weights(source, tmp_path / "stage" / "model")
    base = load_model_folder(tmp_path / "stage" / "model")
    fresh = jax.jit(lambda: init_adapters(Llama(base.config), lora, jax.random.key(0)))()
    random = np.random.default_rng(2)
    noise = lambda x: np.asarray(x) + 0.1 * random.standard_normal(x.shape).astype(np.float32)  # noqa: E731
    adapters = jax.tree.map(noise, fresh)
    write_adapter(tmp_path / "stage" / "adapter", base.config, lora, adapters)
    return tmp_path, base, lora, adapters


def logits(config, params):
    with jax.default_matmul_precision("highest"):
        return np.asarray(jax.jit(Llama(config).apply)({"params": params}, TOKENS))


def peft_logits(base, adapter):
    torch = pytest.importorskip("torch", reason="adapters are compared with torch, transformers and peft")
    transformers = pytest.importorskip("transformers", reason="adapters are compared with torch, transformers and peft")
    peft = pytest.importorskip("peft", reason="adapters are compared with torch, transformers and peft")
    model = transformers.AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(model, str(adapter)).eval()
    with torch.no_grad():
        return model(torch.from_numpy(TOKENS.astype(np.int64))).logits.numpy()


def test_peft_gives_our_logits(stage, tmp_path):
    folder, base, lora, adapters = stage
    export_weights(folder / "stage" / "model", tmp_path / "base", show_progress=False)
    export_adapter(folder / "stage", tmp_path / "peft", base=str(tmp_path / "base"))
    reference = peft_logits(tmp_path / "base", tmp_path / "peft")
    ours = logits(base.config, adapted_params(base.params, adapters, lora))
    print(f"{base.config.name}: max |Δlogit| {np.abs(ours - reference).max():.2e}")
    assert np.abs(reference - logits(base.config, base.params)).max() > 1
    np.testing.assert_allclose(ours, reference, atol=1e-4, rtol=0)


def test_import_is_bit_identical_and_merges_into_a_model_folder(stage, tmp_path):
    folder, base, lora, adapters = stage
    export_adapter(folder / "stage", tmp_path / "peft")
    found, again = read_adapter(tmp_path / "peft", base.config)
    assert found == lora
    jax.tree.map(np.testing.assert_array_equal, again, adapters)
    report = import_adapter(tmp_path / "peft", folder / "hf", tmp_path / "merged")
    assert report["tensors"] == 2 * 3 * len(lora.targets)
    merged = load_model_folder(tmp_path / "merged")
    expected = logits(base.config, adapted_params(base.params, adapters, lora))
    np.testing.assert_allclose(logits(merged.config, merged.params), expected, atol=1e-4)


def test_an_adapter_that_peft_wrote_is_imported(gqa_stage, tmp_path):
    torch = pytest.importorskip("torch", reason="the adapter is written by peft")
    transformers = pytest.importorskip("transformers", reason="the adapter is written by peft")
    peft = pytest.importorskip("peft", reason="the adapter is written by peft")
    folder, base, *_ = gqa_stage
    model = transformers.AutoModelForCausalLM.from_pretrained(str(folder / "hf"), dtype=torch.float32)
    torch.manual_seed(0)
    settings = peft.LoraConfig(r=5, lora_alpha=7, target_modules=["q_proj", "v_proj", "up_proj"], lora_dropout=0.1)
    model = peft.get_peft_model(model, settings).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(str(tmp_path / "theirs"))
    lora, adapters = read_adapter(tmp_path / "theirs", base.config)
    assert lora == LoraConfig(rank=5, alpha=7.0, targets=("q", "v", "up"), dropout=0.1)
    with torch.no_grad():
        reference = model(torch.from_numpy(TOKENS.astype(np.int64))).logits.numpy()
    np.testing.assert_allclose(logits(base.config, adapted_params(base.params, adapters, lora)), reference, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_dora": True}, "use_dora is True"),
        ({"use_rslora": True}, "use_rslora"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3', expected 'LORA'"),
        ({"r": 8}, r"q_proj\.lora_A\.weight has shape \[4, 32\], expected \[8, 32\]"),
        ({"r": None}, "r is missing"),
    ],
)
def test_an_adapter_that_computes_something_else_is_refused(adapter, changes, words):
    folder, config = adapter
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match=words) as error:
        read_adapter(folder, config)
    assert "adapter" in str(error.value)


def test_missing_extra_and_damaged_tensors_are_named(adapter):
    from safetensors.numpy import load_file, save_file

    folder, config = adapter
    path = folder / "adapter_model.safetensors"
    tensors, name = load_file(path), "base_model.model.model.layers.2.mlp.up_proj.lora_B.weight"
    save_file({key: value for key, value in tensors.items() if key != name}, path)
    with pytest.raises(ValueError, match=r"layers\.2\.mlp\.up_proj\.lora_B\.weight of shape \[48, 4\] is missing"):
        read_adapter(folder, config)
    save_file(tensors | {"base_model.model.lm_head.lora_A.weight": np.ones((4, 32), np.float32)}, path)
    with pytest.raises(ValueError, match=r"lm_head\.lora_A\.weight has no place"):
        read_adapter(folder, config)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is damaged"):
        read_adapter(folder, config)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"adapter_model\.safetensors is missing"):
        read_adapter(folder, config)


def test_a_stage_without_an_adapter_says_what_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no adapter/; expected a stage .* FinetuneConfig\.lora"):
        export_adapter(tmp_path, tmp_path / "out")
