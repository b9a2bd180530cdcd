"""SentencePiece models of many kinds: the same ids after import, export and transformers, or a refusal at import."""

import io
import pathlib
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humpback_jax.tokenizers import load_tokenizer, tokenizer_from_files
from humpback_jax.weights.convert import export_weights, import_weights
from humpback_jax.weights.foreign_tokenizers import exported_tokenizer_files
from humpback_jax.weights.model_folder import load_model_folder

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_models

IDENTITY = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "byte_fallback": True}
EXACT = {
    "bpe": IDENTITY | {"model_type": "bpe"},
    "bpe_own_symbols": IDENTITY | {"model_type": "bpe", "user_defined_symbols": ["NAME", "<think>", "▁▁▁", "\t"]},
    "bpe_few_spaces": IDENTITY | {"model_type": "bpe", "remove_extra_whitespaces": True},
    "bpe_no_bytes": IDENTITY | {"model_type": "bpe", "byte_fallback": False, "user_defined_symbols": ["<td>"]},
    "bpe_no_prefix": IDENTITY | {"model_type": "bpe", "add_dummy_prefix": False},
}
REFUSED = {
    "normalizer 'nmt_nfkc'": {"model_type": "bpe"},
    "UNIGRAM with normalizer 'nmt_nfkc_cf'": {"model_type": "unigram", "normalization_rule_name": "nmt_nfkc_cf"},
    "UNIGRAM with normalizer 'identity'": IDENTITY | {"model_type": "unigram"},
    "SentencePiece CHAR": IDENTITY | {"model_type": "char"},
    "spaces before words": IDENTITY | {"model_type": "bpe", "treat_whitespace_as_suffix": True},
}
TEXT = [
    "The tide comes in twice a day, and nobody in the harbour asks why.",
    "A baker weighs 500 g of flour; then the dough rests for 12 hours.",
    "def area(width, height):\n    return width * height  # square metres",
    "Größe, naïve café, наука, 漢字かな, 🙂",
    "The moon pulls at the water, and the water follows the moon.",
] * 20


def trained(**options: object) -> dict[str, bytes]:
    """Files of a small SentencePiece model."""
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT), model_writer=out, vocab_size=420, hard_vocab_limit=False, minloglevel=2, **options
    )
    return {"tokenizer.model": out.getvalue()}


@pytest.fixture(scope="module", params=EXACT)
def both(request: pytest.FixtureRequest) -> tuple:
    """(ours, the exported one) of one kind."""
    ours = tokenizer_from_files(trained(**EXACT[request.param]), "here")
    return ours, tokenizer_from_files(exported_tokenizer_files(ours), "exported")


SOMETIMES_KNOWN = st.sampled_from(["the ", "NAME", "<think>", "<0x41>", "  ", "\t", "é", "e\u0301", "🙂\u200d", "漢字"])


@settings(max_examples=150)
@given(parts=st.lists(st.text(max_size=12) | SOMETIMES_KNOWN, max_size=8))
def test_exported_ids_are_ours(both: tuple, parts: list[str]) -> None:
    ours, theirs = both
    text = "".join(parts).replace("▁", "")
    assert theirs.encode(text) == ours.encode(text)


@pytest.mark.parametrize("kind", ["bpe", "bpe_own_symbols"])
def test_ids_survive_import_export_and_transformers(tmp_path: pathlib.Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers", reason="compares with transformers")
    source = hf_folder(tmp_path / "hf", trained(**EXACT[kind]))
    ours = load_tokenizer(source)
    import_weights(source, tmp_path / "native", chat_format="plain")
    assert load_tokenizer(load_model_folder(tmp_path / "native").tokenizer_dir) == ours
    export_weights(tmp_path / "native", tmp_path / "out", show_progress=False)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "out"))
    for text in [*TEXT[:5], "  NAME <think>\t  x", "", "🙂\u200d🚀 e\u0301"]:
        assert theirs.encode(text, add_special_tokens=False) == ours.encode(text), text
    prompt = theirs.apply_chat_template(
        [{"role": "user", "content": "Why?"}], add_generation_prompt=True, return_dict=False
    )
    assert theirs.decode(prompt, skip_special_tokens=True).strip() == "User: Why?\n\nAssistant:"


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_exported_is_refused_at_import(tmp_path: pathlib.Path, words: str) -> None:
    source = hf_folder(tmp_path / "hf", trained(**REFUSED[words]))
    with pytest.raises(ValueError, match=words) as error:
        import_weights(source, tmp_path / "native")
    assert "could not be exported" in str(error.value) and not (tmp_path / "native").exists()
    (tmp_path / "json").mkdir()
    tiny_models.write_tokenizer(tmp_path / "json")
    import_weights(source, tmp_path / "native", tokenizer=tmp_path / "json")
    assert load_tokenizer(tmp_path / "native" / "tokenizer") == load_tokenizer(tmp_path / "json")


def hf_folder(folder: pathlib.Path, tokenizer: dict[str, bytes]) -> pathlib.Path:
    """A tiny model whose only tokenizer is a SentencePiece model."""
    config = tiny_models.CONFIGS["llama1"] | {"vocab_size": 512}
    tiny_models.write_hf_folder(folder, config, tiny_models.random_tensors(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    for name, content in tokenizer.items():
        (folder / name).write_bytes(content)
    return folder
