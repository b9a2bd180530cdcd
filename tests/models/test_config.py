"""The registry holds the published numbers, and every size is also a gin file."""

import pytest

from humpback_jax.models.config import REGISTRY, LlamaConfig, RopeScaling, config_from_dict, get_config

# Parameters as published, in billions (model cards; the first LLaMA paper, table 2).
PUBLISHED_BILLIONS = {
    "llama_7b": 6.74, "llama_13b": 13.02, "llama_33b": 32.53, "llama_65b": 65.29, "llama2_7b": 6.74,
    "llama2_13b": 13.02, "llama2_70b": 68.98, "llama3_8b": 8.03, "llama3_70b": 70.55, "llama3_1_8b": 8.03,
    "llama3_1_70b": 70.55, "llama3_2_1b": 1.236, "llama3_2_3b": 3.213, "tinyllama_1_1b": 1.100,
    "smollm2_135m": 0.1345, "smollm2_360m": 0.3618, "smollm2_1_7b": 1.711, "mistral_7b": 7.248,
    "mistral_nemo_12b": 12.25, "mistral_small_24b": 23.57, "qwen2_5_0_5b": 0.494, "qwen2_5_1_5b": 1.544,
    "qwen2_5_3b": 3.086, "qwen2_5_7b": 7.616, "qwen2_5_14b": 14.77, "qwen2_5_32b": 32.76, "qwen2_5_72b": 72.71,
    "qwen3_0_6b": 0.596, "qwen3_1_7b": 1.721, "qwen3_4b": 4.022, "qwen3_8b": 8.191, "qwen3_14b": 14.77,
    "qwen3_32b": 32.76, "smollm3_3b": 3.075, "olmo2_1b": 1.485, "olmo2_7b": 7.299, "olmo2_13b": 13.72,
    "olmo2_32b": 32.23, "gemma2_2b": 2.614, "gemma2_9b": 9.242, "gemma2_27b": 27.23, "gemma3_1b": 1.000,
    "gemma3_4b": 3.880, "gemma3_12b": 11.77, "gemma3_27b": 27.01, "phi3_mini": 3.821, "phi3_medium": 13.96,
    "phi4": 14.66, "phi4_mini": 3.836, "granite3_2b": 2.534, "granite3_8b": 8.171,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED_BILLIONS)
def test_number_of_parameters_is_the_published_one(name):
    assert get_config(name).num_params / 1e9 == pytest.approx(PUBLISHED_BILLIONS[name], rel=2e-3)


def test_every_published_size_is_listed_once():
    assert set(REGISTRY) == {*PUBLISHED_BILLIONS, "tiny"}


@pytest.mark.parametrize("config", REGISTRY.values(), ids=lambda c: c.name)
def test_config_survives_its_saved_form(config):
    assert config_from_dict({"name": config.name, **config.architecture()}) == config


def test_unknown_size_lists_the_known_ones():
    with pytest.raises(KeyError, match=r"llama_8b.*smollm2_135m"):
        get_config("llama_8b")


def test_impossible_heads_are_refused_by_name():
    fields = {**get_config("tiny").architecture(), "num_kv_heads": 3}
    with pytest.raises(ValueError, match="num_heads=4 is not a multiple of num_kv_heads=3"):
        LlamaConfig(name="bad", **fields)


def test_rope_scaling_of_a_saved_config_is_a_dataclass():
    assert get_config("llama3_2_1b").rope_scaling == RopeScaling(factor=32.0)
