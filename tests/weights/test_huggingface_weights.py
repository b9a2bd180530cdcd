"""Hugging Face folders: import against transformers' logits, export, bit-identity, strictness."""

import json
import pathlib
import sys

import jax
import ml_dtypes
import numpy as np
import pytest

from humpback_jax.models.config import LlamaConfig, RopeScaling
from humpback_jax.models.llama import Llama
from humpback_jax.tokenizers import load_tokenizer
from humpback_jax.weights.convert import export_weights, import_weights
from humpback_jax.weights.huggingface import HuggingFaceSource, config_from_huggingface, config_to_huggingface
from humpback_jax.weights.model_folder import load_model_folder

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_models

TOKENS = np.random.default_rng(1).integers(0, 300, (2, 100)).astype(np.int32)


def our_logits(folder: pathlib.Path, tokens: np.ndarray = TOKENS) -> np.ndarray:
    model = load_model_folder(folder, dtype="float32")
    with jax.default_matmul_precision("highest"):
        return np.asarray(Llama(model.config).apply({"params": model.params}, tokens))


def their_logits(folder: pathlib.Path, tokens: np.ndarray = TOKENS) -> np.ndarray:
    torch = pytest.importorskip("torch", reason="logits are compared with torch and transformers")
    transformers = pytest.importorskip("transformers", reason="logits are compared with torch and transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.from_numpy(tokens.astype(np.int64))).logits.numpy()


@pytest.mark.parametrize("kind", tiny_models.CONFIGS)
def test_import_and_export_give_the_logits_of_transformers(tmp_path: pathlib.Path, kind: str) -> None:
    config = tiny_models.CONFIGS[kind]
    source = tiny_models.write_hf_folder(tmp_path / "hf", config, tiny_models.random_tensors(config))
    report = import_weights(source, tmp_path / "native")
    assert report["tensors"] == len(tiny_models.hf_shapes(config))
    reference = their_logits(source)
    ours = our_logits(tmp_path / "native")
    print(f"{kind}: max |Δlogit| {np.abs(ours - reference).max():.2e}")
    assert np.abs(reference).max() > 1
    np.testing.assert_allclose(ours, reference, atol=1e-4, rtol=0)
    export_weights(tmp_path / "native", tmp_path / "exported")
    np.testing.assert_array_equal(their_logits(tmp_path / "exported"), reference)


def test_scaling_changes_the_logits(tmp_path: pathlib.Path) -> None:
    scaled = tiny_models.CONFIGS["llama3_1_scaled"]
    plain = {key: value for key, value in scaled.items() if key != "rope_scaling"}
    tensors = tiny_models.random_tensors(scaled)
    for name, config in (("scaled", scaled), ("plain", plain)):
        import_weights(tiny_models.write_hf_folder(tmp_path / f"hf_{name}", config, tensors), tmp_path / name)
    assert np.abs(our_logits(tmp_path / "scaled") - our_logits(tmp_path / "plain")).max() > 1e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("kind", ["llama2_gqa", "llama3_2_tied_v5"])
def test_export_then_import_is_bit_identical(tmp_path: pathlib.Path, dtype: type, sharded: bool, kind: str) -> None:
    config = tiny_models.CONFIGS[kind]
    tensors = tiny_models.random_tensors(config, dtype=dtype)
    source = tiny_models.write_hf_folder(tmp_path / "hf", config, tensors, num_files=3 if sharded else 1)
    name = np.dtype(dtype).name
    first = import_weights(source, tmp_path / "native", name)
    export_weights(tmp_path / "native", tmp_path / "out", max_shard_bytes=20_000 if sharded else 10**9)
    files = sorted(file.name for file in (tmp_path / "out").glob("*.safetensors"))
    assert (len(files) > 2) if sharded else files == ["model.safetensors"]
    second = import_weights(tmp_path / "out", tmp_path / "again", name)
    assert first["params_sha256"] == second["params_sha256"]
    exported = HuggingFaceSource(tmp_path / "out")
    for tensor_name, tensor in tensors.items():
        np.testing.assert_array_equal(exported.read_rows(tensor_name, 0, len(tensor)), tensor)


def test_bfloat16_source_survives_a_float32_import(tmp_path: pathlib.Path) -> None:
    config = tiny_models.CONFIGS["llama2_gqa"]
    tensors = tiny_models.random_tensors(config, dtype=ml_dtypes.bfloat16)
    import_weights(tiny_models.write_hf_folder(tmp_path / "hf", config, tensors), tmp_path / "native")
    report = export_weights(tmp_path / "native", tmp_path / "out", "bfloat16")
    assert report["bytes"] == sum(tensor.nbytes for tensor in tensors.values())
    exported = HuggingFaceSource(tmp_path / "out")
    np.testing.assert_array_equal(exported.read_rows("lm_head.weight", 0, 300), tensors["lm_head.weight"])


def test_native_import_copies_and_casts(tmp_path: pathlib.Path) -> None:
    config = tiny_models.CONFIGS["llama1"]
    source = tiny_models.write_hf_folder(tmp_path / "hf", config, tiny_models.random_tensors(config))
    first = import_weights(source, tmp_path / "a")
    assert import_weights(tmp_path / "a", tmp_path / "b")["params_sha256"] == first["params_sha256"]
    import_weights(tmp_path / "a", tmp_path / "c", "bfloat16")
    params = load_model_folder(tmp_path / "c").params
    expected = load_model_folder(tmp_path / "a").params["lm_head"]["kernel"]
    assert params["lm_head"]["kernel"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(params["lm_head"]["kernel"], np.asarray(expected).astype(ml_dtypes.bfloat16))


def write_broken(tmp_path: pathlib.Path, **changes: np.ndarray | None) -> pathlib.Path:
    config = tiny_models.CONFIGS["llama2_gqa"]
    tensors = tiny_models.random_tensors(config) | changes
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    return tiny_models.write_hf_folder(tmp_path / "hf", config, kept)


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("model.layers.1.mlp.up_proj.weight", None, ["is missing", "[48, 32]"]),
        ("lm_head.weight", None, ["is missing", "not tied"]),
        ("model.layers.3.input_layernorm.weight", np.ones(32, np.float32), ["unmapped", "[32]", "model.safetensors"]),
        ("model.layers.0.self_attn.q_proj.bias", np.ones(32, np.float32), ["unmapped", "[32]"]),
        ("model.layers.2.self_attn.k_proj.weight", np.ones((32, 32), np.float32), ["[32, 32]", "[16, 32]"]),
        ("model.norm.weight", np.ones(32, np.int8), ["I8", "F32"]),
    ],
)
def test_wrong_tensors_are_named(
    tmp_path: pathlib.Path, name: str, tensor: np.ndarray | None, words: list[str]
) -> None:
    source = write_broken(tmp_path, **{name: tensor})
    with pytest.raises(ValueError, match="hf") as error:
        import_weights(source, tmp_path / "native")
    assert all(word in str(error.value) for word in [name, *words]), error.value
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_rotary_buffers_are_tolerated(tmp_path: pathlib.Path) -> None:
    source = write_broken(tmp_path, **{"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)})
    assert import_weights(source, tmp_path / "native")["tensors"] == 3 + 9 * 3


def test_tied_model_may_repeat_its_embedding_bit_for_bit_only(tmp_path: pathlib.Path) -> None:
    config = tiny_models.CONFIGS["llama3_2_tied_v5"]
    tensors = tiny_models.random_tensors(config)
    embedding = tensors["model.embed_tokens.weight"]
    same = tiny_models.write_hf_folder(tmp_path / "same", config, tensors | {"lm_head.weight": embedding.copy()})
    assert "lm_head" not in load_model_folder(import_weights(same, tmp_path / "native")["path"]).params
    other = embedding.copy()
    other[-1, -1] += 1e-3
    different = tiny_models.write_hf_folder(tmp_path / "different", config, tensors | {"lm_head.weight": other})
    with pytest.raises(ValueError, match=r"lm_head\.weight.*tie_word_embeddings"):
        import_weights(different, tmp_path / "native2")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["MistralForCausalLM"]}, "model_type"),
        ({"architectures": ["MixtralForCausalLM"]}, "architectures"),
        ({"architectures": None}, "architectures"),
        ({"model_type": "qwen2"}, "model_type"),
        ({"embedding_multiplier": 12.0}, "embedding_multiplier"),
        ({"num_local_experts": 8}, "num_local_experts"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"sliding_window": 4096}, "sliding_window"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_scaling": {"type": "linear"}}, "factor"),
        ({"rope_scaling": {"rope_type": "proportional", "factor": 2.0}}, "proportional"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, "disagree"),
        ({"rope_scaling": tiny_models.LLAMA3_SCALING | {"beta": 1}}, "beta"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor"),
        ({"rms_norm_eps": None}, "rms_norm_eps"),
        ({"hidden_size": 33}, "hidden_size"),
        ({"num_hidden_layers": "3"}, "num_hidden_layers"),
    ],
)
def test_configs_that_cannot_be_computed_are_refused(changes: dict, words: str) -> None:
    fields = tiny_models.CONFIGS["llama2_gqa"] | changes
    with pytest.raises(ValueError, match=words) as error:
        config_from_huggingface(fields, "some/config.json", "x")
    assert "some/config.json" in str(error.value)


def test_config_comes_from_the_source() -> None:
    fields = tiny_models.CONFIGS["llama3_2_tied_v5"]
    config = config_from_huggingface(fields, "config.json", "label")
    scaling = RopeScaling(32.0, 1.0, 4.0, 8192)
    assert config == LlamaConfig("label", 300, 32, 3, 4, 2, 8, 48, 131_072, 500_000.0, scaling, 1e-6, True)
    again = json.loads(json.dumps(config_to_huggingface(config, "float32", 1, 2)))
    assert config_from_huggingface(again, "config.json", "label") == config


def test_tokenizer_larger_than_the_embedding_is_refused(tmp_path: pathlib.Path) -> None:
    config = tiny_models.CONFIGS["llama1"]
    tensors = tiny_models.random_tensors(config)
    source = tiny_models.write_hf_folder(tmp_path / "hf", config, tensors, num_extra_tokens=100)
    with pytest.raises(ValueError, match=r"does not match the embedding.*358 ids.*300 rows"):
        import_weights(source, tmp_path / "native")


def test_damaged_and_incomplete_folders(tmp_path: pathlib.Path) -> None:
    config = tiny_models.CONFIGS["llama1"]
    tensors = tiny_models.random_tensors(config)
    source = tiny_models.write_hf_folder(tmp_path / "hf", config, tensors, num_files=2)
    first = source / "model-00001-of-00002.safetensors"
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model-00001-of-00002\.safetensors is damaged"):
        import_weights(source, tmp_path / "native")
    first.unlink()
    with pytest.raises(FileNotFoundError, match="model-00001-of-00002"):
        import_weights(source, tmp_path / "native")
    second = (source / "model-00002-of-00002.safetensors").read_bytes()
    first.write_bytes(second)
    with pytest.raises(ValueError, match="is in both"):
        import_weights(source, tmp_path / "native")
    (source / "model.safetensors").write_bytes(whole)
    with pytest.raises(ValueError, match="both"):
        import_weights(source, tmp_path / "native")
    with pytest.raises(FileNotFoundError, match="humpback weights fetch"):
        import_weights(tmp_path / "nowhere", tmp_path / "native")
    assert not (tmp_path / "native").exists()


def test_float16_overflow_is_named(tmp_path: pathlib.Path) -> None:
    source = write_broken(tmp_path, **{"model.norm.weight": np.full(32, 1e6, np.float32)})
    with pytest.raises(ValueError, match=r"model\.norm\.weight.*float16"):
        import_weights(source, tmp_path / "native", "float16")


def test_stories260k_logits_and_recorded_greedy_text(shared_data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = shared_data / "model" / "stories260K"
    import_weights(folder / "hf", tmp_path / "native")
    tokens = np.random.default_rng(0).integers(0, 512, (2, 256)).astype(np.int32)
    ours = our_logits(tmp_path / "native", tokens)
    reference = their_logits(folder / "hf", tokens)
    print(f"stories260K: max |Δlogit| {np.abs(ours - reference).max():.2e}")
    np.testing.assert_allclose(ours, reference, atol=1e-4, rtol=0)
    ids = json.loads((folder / "reference.json").read_text())["greedy_from_bos_ids"]
    assert len(ids) == 200
    # Our argmax after every prefix is the recorded next id exactly when our own greedy text is the recorded one.
    assert our_logits(tmp_path / "native", np.asarray([ids[:-1]], np.int32))[0].argmax(-1).tolist() == ids[1:]


def test_a_padding_token_behind_the_embedding_is_left_out(tmp_path: pathlib.Path) -> None:
    config = tiny_models.CONFIGS["llama1"] | {"vocab_size": 258}
    source = tiny_models.write_hf_folder(
        tmp_path / "hf", config, tiny_models.random_tensors(config), num_extra_tokens=1
    )
    fields = json.loads((source / "tokenizer_config.json").read_text()) | {"pad_token": "<|extra_0|>"}
    (source / "tokenizer_config.json").write_text(json.dumps(fields))
    import_weights(source, tmp_path / "native")
    tokenizer = load_tokenizer(tmp_path / "native" / "tokenizer")
    assert tokenizer.vocab_size == 258 and tokenizer.pad_id is None and tokenizer.eos_id == 257
    (source / "tokenizer_config.json").write_text(json.dumps(fields | {"eos_token": "<|extra_0|>"}))
    with pytest.raises(ValueError, match=r"259 ids.*258 rows.*--tokenizer"):
        import_weights(source, tmp_path / "other")


def test_every_id_that_ends_a_text_is_kept(tmp_path: pathlib.Path) -> None:
    """It may stand in config.json alone, as in the files of LLaMA 3."""
    config = tiny_models.CONFIGS["llama1"] | {"eos_token_id": [257, 258, 3]}
    source = tiny_models.write_hf_folder(
        tmp_path / "hf", config, tiny_models.random_tensors(config), num_extra_tokens=1
    )
    import_weights(source, tmp_path / "native", chat_format="plain")
    assert load_tokenizer(tmp_path / "native" / "tokenizer").end_ids == (257, 258)
    export_weights(tmp_path / "native", tmp_path / "out", show_progress=False)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] == [257, 258]
