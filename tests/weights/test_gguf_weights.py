"""GGUF files written here with gguf's own writer: the same weights as the Hugging Face original."""

import pathlib
import sys
import zipfile

import numpy as np
import pytest

from humpback_jax.models.config import RopeScaling
from humpback_jax.tokenizers import load_tokenizer
from humpback_jax.weights.convert import import_weights
from humpback_jax.weights.gguf import GGUFSource, llama3_factors, load_gguf_tokenizer
from humpback_jax.weights.mapping import flatten, halves_from_pairs
from humpback_jax.weights.model_folder import load_model_folder

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_models

GQA, TIED = tiny_models.CONFIGS["llama2_gqa"], tiny_models.CONFIGS["llama3_2_tied_v5"]


def hf_divisors(theta: float, head_dim: int) -> np.ndarray:
    """Frequency divisors computed by transformers, as GGUF converters store them."""
    torch = pytest.importorskip("torch", reason="needs transformers' own rotary scaling")
    transformers = pytest.importorskip("transformers", reason="needs transformers' own rotary scaling")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = transformers.LlamaConfig(**tiny_models.CONFIGS["llama3_1_scaled"])
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = theta ** -(np.arange(0, head_dim, 2) / head_dim)
    return plain / scaled.numpy()


@pytest.mark.parametrize("config", [GQA, TIED | {"rope_theta": 500_000.0}], ids=["gqa", "tied"])
def test_same_parameters_as_the_hugging_face_original(tmp_path: pathlib.Path, config: dict) -> None:
    tensors = tiny_models.random_tensors(config)
    hf = tiny_models.write_hf_folder(tmp_path / "hf", config, tensors)
    file = tiny_models.write_gguf(tmp_path / "model.gguf", config, tensors)
    import_weights(hf, tmp_path / "a")
    import_weights(file, tmp_path / "b")
    theirs, ours = load_model_folder(tmp_path / "a"), load_model_folder(tmp_path / "b")
    expected = theirs.config.architecture() | {"rope_scaling": None}
    assert ours.config.architecture() == expected
    assert ours.card.chat_format == "tokenizer"
    for path, leaf in flatten(theirs.params).items():
        np.testing.assert_array_equal(flatten(ours.params)[path], leaf, err_msg=path)


def test_rows_come_out_of_pairs() -> None:
    rows = np.array([[[0], [3], [1], [4], [2], [5]]])
    assert halves_from_pairs(rows).ravel().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("kind", "tolerance"), [("Q8_0", 0.02), ("Q4_1", 0.2), ("BF16", 0.02)])
def test_quantized_tensors_are_dequantized_row_by_row(tmp_path: pathlib.Path, kind: str, tolerance: float) -> None:
    config = GQA | {"intermediate_size": 64}  # rows of quantized tensors are whole blocks of 32
    tensors = tiny_models.random_tensors(config)
    file = tiny_models.write_gguf(tmp_path / "model.gguf", config, tensors, quantize=kind)
    hf = tiny_models.write_hf_folder(tmp_path / "hf", config, tensors)
    import_weights(file, tmp_path / "a")
    import_weights(hf, tmp_path / "b")
    quantized, exact = (flatten(load_model_folder(tmp_path / name).params) for name in "ab")
    for path, leaf in exact.items():
        error = np.abs(np.asarray(quantized[path]) - np.asarray(leaf)).max()
        assert error < tolerance, path
        assert path.endswith("scale") == (error == 0), path


def test_llama3_scaling_is_read_from_the_frequency_divisors(tmp_path: pathlib.Path) -> None:
    config = tiny_models.CONFIGS["llama3_1_scaled"]
    tensors = tiny_models.random_tensors(config)
    divisors = hf_divisors(500_000.0, 16)
    assert divisors.min() == pytest.approx(1) and divisors.max() == pytest.approx(8)
    assert ((divisors > 1.01) & (divisors < 7.99)).any()
    file = tiny_models.write_gguf(tmp_path / "a.gguf", config, tensors, rope_freqs=divisors)
    source = GGUFSource(file)
    assert source.config.rope_scaling == RopeScaling(8.0, 1.0, 4.0, 8192)
    ones = tiny_models.write_gguf(tmp_path / "b.gguf", config, tensors, rope_freqs=np.ones(8))
    source = GGUFSource(ones)
    assert source.config.rope_scaling is None
    other = llama3_factors(RopeScaling(8.0, 1.0, 4.0, 4096), 500_000.0, 16)
    for number, factors in enumerate((other, np.ones(7))):
        wrong = tiny_models.write_gguf(tmp_path / f"wrong{number}.gguf", config, tensors, rope_freqs=factors)
        with pytest.raises(ValueError, match=r"rope_freqs\.weight"):
            GGUFSource(wrong)


def test_strictness_names_file_and_tensor(tmp_path: pathlib.Path) -> None:
    tensors = tiny_models.random_tensors(GQA)
    bad = {
        "missing": {name: tensor for name, tensor in tensors.items() if "2.mlp.down" not in name},
        "misshapen": tensors | {"model.layers.0.self_attn.v_proj.weight": np.ones((32, 32), np.float32)},
        "extra": tensors | {"model.layers.3.mlp.up_proj.weight": np.ones((48, 32), np.float32)},
    }
    words = {
        "missing": r"blk\.2\.ffn_down.*missing",
        "misshapen": r"attn_v.*\[32, 32\].*\[16, 32\]",
        "extra": "unmapped",
    }
    for name, changed in bad.items():
        file = tiny_models.write_gguf(tmp_path / f"{name}.gguf", GQA, changed)
        with pytest.raises(ValueError, match=words[name]) as error:
            import_weights(file, tmp_path / "out")
        assert f"{name}.gguf" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "qwen2"}, "qwen2"),
        ({"pre": "tekken"}, "tokenizer.ggml.pre = 'tekken'"),
        ({"extra_key": "logit_scale"}, "llama.logit_scale"),
        ({"extra_key": "attention.sliding_window"}, "sliding_window"),
    ],
)
def test_other_architectures_are_refused(tmp_path: pathlib.Path, changes: dict, words: str) -> None:
    file = tiny_models.write_gguf(tmp_path / "model.gguf", GQA, tiny_models.random_tensors(GQA), **changes)
    with pytest.raises(ValueError, match=words):
        import_weights(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_cut_files_and_wrong_archives(tmp_path: pathlib.Path) -> None:
    file = tiny_models.write_gguf(tmp_path / "model.gguf", GQA, tiny_models.random_tensors(GQA))
    whole = file.read_bytes()
    archive = tmp_path / "two.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.write(file, "a.gguf")
    assert import_weights(archive, tmp_path / "good")["tensors"] == 30
    with zipfile.ZipFile(archive, "a") as zipped:
        zipped.write(file, "b.gguf")
    with pytest.raises(ValueError, match=r"two\.zip contains 2 \.gguf files"):
        import_weights(archive, tmp_path / "out")
    archive.write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"two\.zip is not a whole zip"):
        import_weights(archive, tmp_path / "out")
    for length in (len(whole) - 5000, 3000, 10, 0):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cut short"):
            import_weights(file, tmp_path / "out")


def test_tokenizer_of_the_file_goes_into_the_folder(tmp_path: pathlib.Path) -> None:
    file = tiny_models.write_gguf(tmp_path / "model.gguf", GQA, tiny_models.random_tensors(GQA))
    import_weights(file, tmp_path / "native")
    inside, saved = load_gguf_tokenizer(file), load_tokenizer(load_model_folder(tmp_path / "native").tokenizer_dir)
    assert inside == saved
    assert (saved.bos_id, saved.eos_id, saved.unk_id, saved.vocab_size) == (1, 2, 0, 300)
    assert saved.decode(saved.encode("he said a 12 <|im_end|>")) == "he said a 12 <|im_end|>"
    assert not {0, 1, 2} & set(saved.encode("<|im_start|><|im_end|><|endoftext|>"))


def test_a_model_in_parts_is_read_from_any_of_them(tmp_path: pathlib.Path) -> None:
    tensors = tiny_models.random_tensors(GQA)
    names = list(tensors)
    whole = import_weights(tiny_models.write_gguf(tmp_path / "whole.gguf", GQA, tensors), tmp_path / "a")
    files = [tmp_path / f"toy-0000{number}-of-00002.gguf" for number in (1, 2)]
    tiny_models.write_gguf(files[0], GQA, {name: tensors[name] for name in names[:9]}, split=(0, 2))
    tiny_models.write_gguf_part(files[1], GQA, {name: tensors[name] for name in names[9:]}, split=(1, 2))
    for number, file in enumerate(files):
        figures = import_weights(file, tmp_path / f"parts{number}")
        assert figures["params_sha256"] == whole["params_sha256"]
    assert load_model_folder(tmp_path / "parts1").config.name == "toy"
    files[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"part 2 of 2.*toy-00001-of-00002\.gguf is missing"):
        import_weights(files[1], tmp_path / "out")


def test_a_tokenizer_can_be_given_where_that_of_the_file_is_unknown(tmp_path: pathlib.Path) -> None:
    tensors = tiny_models.random_tensors(GQA)
    for name, changes, words in (
        ("other", {"pre": "tekken"}, "tokenizer.ggml.pre = 'tekken'.*--tokenizer"),
        ("untyped", {"without_types": True}, "tokenizer.ggml.token_type is missing.*--tokenizer"),
    ):
        file = tiny_models.write_gguf(tmp_path / f"{name}.gguf", GQA, tensors, **changes)
        with pytest.raises(ValueError, match=words):
            import_weights(file, tmp_path / "out")
        (tmp_path / name).mkdir()
        tiny_models.write_tokenizer(tmp_path / name)
        import_weights(file, tmp_path / f"{name}_native", tokenizer=tmp_path / name)
        given = load_tokenizer(load_model_folder(tmp_path / f"{name}_native").tokenizer_dir)
        assert given == load_tokenizer(tmp_path / name)
