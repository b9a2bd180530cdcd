"""The real small model: its configuration, its tokenizer and its logits."""

import os
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humpback_jax.models.config import get_config
from humpback_jax.tokenizers import load_tokenizer, tokenizer_files
from humpback_jax.weights.model_folder import read_model_card

TEXTS = (
    "",
    "  two  spaces  ",
    "\n\n\tx\r\n",
    "<|im_start|>system\n<|im_end|><|endoftext|><repo_name>",
    "a\x00b\x7f",
    "naïve café 12345 ½ ﬁ ①",
    "🦙🏽‍🚀 漢字 עברית ไทย e\u0301 \u200b\ufeff\u2028",
    "'s 't it's IT'S 3.14 1,000",
    "\ud800 lone \udc00",
)


@pytest.mark.slow
def test_smollm2_is_what_the_registry_says(smollm2: str) -> None:
    model = read_model_card(smollm2)
    assert model.config == get_config("smollm2_135m")
    assert model.chat_format == "tokenizer"
    tokenizer = load_tokenizer(os.path.join(smollm2, "tokenizer"))
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (49_152, 1, 2, 0)
    assert tokenizer.special_id("<|im_end|>") == 2


@pytest.mark.slow
def test_smollm2_agrees_with_transformers(smollm2: str) -> None:
    pytest.importorskip("transformers", reason="compares with transformers")
    from humpback_jax.weights.verify import verify_weights

    report = verify_weights(smollm2, num_tokens=64)
    print(report)
    assert report["max_abs_logit_difference"] <= 2e-3
    assert report["greedy_equal"] == report["greedy_tokens"] == 200
    assert report["perplexity"] < 40


@pytest.mark.slow
def test_smollm2_against_transformers_and_round_trip(smollm2: str) -> None:
    transformers = pytest.importorskip("transformers", reason="compares with transformers")
    folder = pathlib.Path(smollm2) / "tokenizer"
    ours, theirs = load_tokenizer(folder), transformers.AutoTokenizer.from_pretrained(str(folder))
    assert ours.encode("<|im_end|>") != [2] and ours.encode("!") == [17]
    assert ours.encode("In 1984, it's") == [788, 216, 33, 41, 40, 36, 28, 357, 506]
    for text in TEXTS:
        ids = ours.encode(text)
        assert ours.decode(ids) == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        assert not set(ids) & set(range(17))
        if "<|" not in text and "\ud800" not in text:
            assert theirs.encode(text, add_special_tokens=False) == ids, text
    assert tokenizer_files(folder).keys() >= {"tokenizer.json", "tokenizer_config.json"}

    # This vocabulary has no token for some bytes: six control characters, and the planes above U+3FFFF vanish.
    missing = "\x04\x06\x13\x14\x16\x1d"
    assert ours.encode(missing) == theirs.encode(missing, add_special_tokens=False) == []

    @settings(max_examples=300)
    @given(st.text(st.characters(max_codepoint=0x3FFFF, exclude_characters=missing, codec="utf-8"), max_size=60))
    def round_trip(text: str) -> None:
        assert ours.decode(ours.encode(text)) == text

    round_trip()
