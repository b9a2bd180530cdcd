"""The registry holds the published numbers, and every size is also a gin file."""

import pytest

from humpback_jax.models.config import REGISTRY, LlamaConfig, RopeScaling, config_from_dict, get_config

# Parameters as published, in billions (model cards; the first LLaMA paper, table 2).
PUBLISHED_BILLIONS = {
    "llama_7b": 6.74, "llama_13b": 13.02, "llama_33b": 32.53, "llama_65b": 65.29, "llama2_7b": 6.74,
    "llama2_13b": 13.02, "llama2_70b": 68.98, "llama3_8b": 8.03, "llama3_70b": 70.55, "llama3_1_8b": 8.03,
    "llama3_1_70b": 70.55, "llama3_2_1b": 1.236, "llama3_2_3b": 3.213, "tinyllama_1_1b": 1.100,
    "smollm2_135m": 0.1345, "smollm2_360m": 0.3618, "smollm2_1_7b": 1.711,
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
