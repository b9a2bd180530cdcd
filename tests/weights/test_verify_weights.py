"""`verify`: small differences on good weights, large ones on scrambled weights, and the recorded text."""

import pathlib
import sys

import numpy as np
import pytest

from humpback_jax.weights.convert import import_weights
from humpback_jax.weights.verify import verify_weights

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_models

pytest.importorskip("torch", reason="verify compares with torch and transformers")
pytest.importorskip("transformers", reason="verify compares with torch and transformers")

GQA = tiny_models.CONFIGS["llama2_gqa"]


@pytest.mark.slow
def test_stories260k(shared_data: pathlib.Path) -> None:
    report = verify_weights(shared_data / "model" / "stories260K" / "hf")
    assert report["max_abs_logit_difference"] <= 1e-4
    assert report["argmax_agreement"] == 1
    assert report["greedy_equal"] == report["greedy_tokens"] == 200
    assert report["recorded_greedy_equal"] == report["recorded_greedy_ids"] == 200
    assert report["greedy_text"].startswith("Once upon a time, there was a little girl named Lily.")


@pytest.mark.parametrize("kind", tiny_models.CONFIGS)
def test_random_models(tmp_path: pathlib.Path, kind: str) -> None:
    config = tiny_models.CONFIGS[kind]
    source = tiny_models.write_hf_folder(tmp_path / "hf", config, tiny_models.random_tensors(config))
    report = verify_weights(source, num_tokens=64, greedy_tokens=40)
    assert report["max_abs_logit_difference"] <= 1e-4
    assert report["greedy_equal"] == report["greedy_tokens"] == 40


def test_gguf_and_native_folders(tmp_path: pathlib.Path) -> None:
    file = tiny_models.write_gguf(tmp_path / "model.gguf", GQA, tiny_models.random_tensors(GQA))
    import_weights(file, tmp_path / "native")
    for source in (file, tmp_path / "native"):
        assert verify_weights(source, 64, 20)["max_abs_logit_difference"] <= 1e-4


def test_wrong_weights_are_seen(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Un-permuting a Hugging Face folder, which needs none, must show."""
    from humpback_jax.weights.huggingface import HuggingFaceSource

    source = tiny_models.write_hf_folder(tmp_path / "hf", GQA, tiny_models.random_tensors(GQA))
    monkeypatch.setattr(HuggingFaceSource, "interleaved", True)
    report = verify_weights(source, 64, 40)
    assert report["max_abs_logit_difference"] > 0.01
    assert report["greedy_equal"] < 40 and report["greedy_margin_at_first_difference"] > 0


def test_missing_torch_says_what_to_install(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"torch is not installed: pip install 'humpback_jax\[parity\]'"):
        verify_weights(tmp_path)


def test_random_rows_are_inside_the_vocabulary() -> None:
    from humpback_jax.weights.verify import _rows

    rows = _rows([3, 4], 10, 5)
    assert rows.shape == (2, 5) and rows.dtype == np.int32
    assert rows[0].tolist() == [3, 4, 3, 4, 3] and rows.max() < 10
