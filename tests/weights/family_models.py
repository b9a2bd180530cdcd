"""Tiny random models of other families than LLaMA, made and written by transformers."""

import pathlib
import sys
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_models

COMMON: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": None,
    "bos_token_id": 256,
    "eos_token_id": 257,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 10_000.0}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.3],
    "long_factor": [1.0, 2.5, 7.0],
    "rope_theta": 10_000.0,
}
# {variant: (architecture, fields)}; the windows are shorter than the compared sequences.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama_biases": ("Llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama_linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}),
    "llama_dynamic": (
        "Llama",
        {
            "max_position_embeddings": 32,
            "rope_parameters": {"rope_type": "dynamic", "factor": 3.0, "rope_theta": 1e4},
        },
    ),
    "mistral_window": ("Mistral", {"sliding_window": 7}),
    "mistral_no_window_wide_heads": ("Mistral", {"sliding_window": None, "head_dim": 16}),
    "mistral_yarn": ("Mistral", {"sliding_window": 20, "rope_parameters": YARN, "num_key_value_heads": 4}),
    "qwen2_tied": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen2_some_windows": ("Qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "qwen2_yarn": ("Qwen2", {"rope_parameters": YARN | {"attention_factor": 0.9, "beta_fast": 16}}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "qwen3_biases": ("Qwen3", {"head_dim": 8, "attention_bias": True, "tie_word_embeddings": True}),
    "qwen3_windows": (
        "Qwen3",
        {
            "head_dim": 24,
            "use_sliding_window": True,
            "sliding_window": 6,
            "num_hidden_layers": 3,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "smollm3": ("SmolLM3", {"num_hidden_layers": 5}),
    "smollm3_list": ("SmolLM3", {"no_rope_layers": [0, 1], "attention_bias": True, "mlp_bias": True}),
    "smollm3_windows": ("SmolLM3", {"no_rope_layers": [1, 0], "use_sliding_window": True, "sliding_window": 5}),
    "olmo2": ("Olmo2", {}),
    "olmo2_all_heads": ("Olmo2", {"num_key_value_heads": 4, "attention_bias": True}),
    "olmo2_tied": ("Olmo2", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "gemma2": ("Gemma2", {"sliding_window": 6, "head_dim": 8, "query_pre_attn_scalar": 8}),
    "gemma2_wide": (
        "Gemma2",
        {"sliding_window": 9, "head_dim": 16, "query_pre_attn_scalar": 40, "num_hidden_layers": 4},
    ),
    "gemma2_uncapped": (
        "Gemma2",
        {"head_dim": 8, "final_logit_softcapping": None, "attn_logit_softcapping": None, "attention_bias": True},
    ),
    "gemma3": ("Gemma3", {"sliding_window": 6, "head_dim": 8, "num_hidden_layers": 7, "query_pre_attn_scalar": 8}),
    "gemma3_linear": (
        "Gemma3",
        {
            "sliding_window": 5,
            "head_dim": 16,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "gemma3_capped_untied": (
        "Gemma3",
        {
            "sliding_window": 7,
            "layer_types": ["full_attention", "sliding_attention"],
            "head_dim": 8,
            "final_logit_softcapping": 5.0,
            "tie_word_embeddings": False,
        },
    ),
    "phi3_window": ("Phi3", {"sliding_window": 7}),
    "phi3_partial": ("Phi3", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.75}}),
    "phi3_longrope": (
        "Phi3",
        {
            "tie_word_embeddings": True,
            "original_max_position_embeddings": 16,
            "rope_parameters": LONG | {"partial_rotary_factor": 0.75},
        },
    ),
    "granite": (
        "Granite",
        {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_multiplier": 0.2, "logits_scaling": 8.0},
    ),
    "granite_tied_biases": (
        "Granite",
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "attention_multiplier": 0.5},
    ),
    "granite_plain": ("Granite", {"attention_multiplier": 8**-0.5}),
}
# A variant of each family, and what no other of these has, is compared always; the rest are slow tests.
FAST = (
    "llama_biases",
    "mistral_window",
    "qwen2_some_windows",
    "qwen3",
    "smollm3_windows",
    "olmo2",
    "gemma2",
    "gemma3_linear",
    "phi3_longrope",
    "granite",
)


def their_model(variant: str) -> Any:
    """The model of a variant, in float32, every weight drawn anew so that no norm or bias is trivial."""
    torch = pytest.importorskip("torch", reason="families are compared with torch and transformers")
    transformers = pytest.importorskip("transformers", reason="families are compared with torch and transformers")
    architecture, fields = VARIANTS[variant]
    name = "Gemma3TextConfig" if architecture == "Gemma3" else f"{architecture}Config"
    config = getattr(transformers, name)(**{**COMMON, **fields}, attn_implementation="eager")
    model = getattr(transformers, f"{architecture}ForCausalLM")(config).float().eval()
    draw = torch.Generator().manual_seed(len(variant))
    with torch.no_grad():
        for parameter in model.parameters():
            middle = parameter.mean() if parameter.ndim == 1 else 0.0
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.2 + middle)
    return model


def write_folder(model: Any, folder: pathlib.Path) -> pathlib.Path:
    """The model as transformers saves it, with a tokenizer."""
    model.save_pretrained(folder)
    tiny_models.write_tokenizer(folder)
    return folder


def tokens(length: int, rows: int = 2) -> np.ndarray:
    return np.random.default_rng(length).integers(0, 256, (rows, length)).astype(np.int32)
