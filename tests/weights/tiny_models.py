"""Tiny random models for the tests of this folder, written in foreign formats without our own code."""

import json
import pathlib
from typing import Any

import numpy as np

LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
BASE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
}
CONFIGS = {
    # As the first LLaMA files: no rope_theta, no num_key_value_heads, no head_dim.
    "llama1": BASE,
    "llama2_gqa": BASE | {"num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 10_000.0},
    "llama3_1_scaled": BASE
    | {
        "num_key_value_heads": 1,
        "head_dim": 16,
        "rope_theta": 500_000.0,
        "rope_scaling": LLAMA3_SCALING,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 131_072,
    },
    "llama3_2_tied_v5": BASE
    | {
        "num_key_value_heads": 2,
        "head_dim": 8,
        "tie_word_embeddings": True,
        "max_position_embeddings": 131_072,
        "rope_parameters": LLAMA3_SCALING | {"rope_theta": 500_000.0, "factor": 32.0},
    },
}


def hf_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Tensor names and shapes that a Hugging Face file of this config holds."""
    width, mlp, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or width // heads
    kv = (config.get("num_key_value_heads") or heads) * head_dim
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, width), "model.norm.weight": (width,)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        shapes |= {
            prefix + "input_layernorm.weight": (width,),
            prefix + "post_attention_layernorm.weight": (width,),
            prefix + "self_attn.q_proj.weight": (heads * head_dim, width),
            prefix + "self_attn.k_proj.weight": (kv, width),
            prefix + "self_attn.v_proj.weight": (kv, width),
            prefix + "self_attn.o_proj.weight": (width, heads * head_dim),
            prefix + "mlp.gate_proj.weight": (mlp, width),
            prefix + "mlp.up_proj.weight": (mlp, width),
            prefix + "mlp.down_proj.weight": (width, mlp),
        }
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (vocab, width)
    return shapes


def random_tensors(config: dict, seed: int = 0, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """Random weights under their Hugging Face names; large enough that logits differ visibly."""
    random = np.random.default_rng(seed)
    return {
        name: (random.standard_normal(shape) * 0.3 + (1.0 if len(shape) == 1 else 0.0)).astype(dtype)
        for name, shape in hf_shapes(config).items()
    }


def write_tokenizer(folder: pathlib.Path, num_extra: int = 0) -> None:
    """A byte-level BPE tokenizer of 256 bytes and three special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: number for number, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = ["<|begin|>", "<|end|>", *(f"<|extra_{number}|>" for number in range(num_extra))]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin|>", "eos_token": "<|end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_hf_folder(
    folder: pathlib.Path, config: dict, tensors: dict[str, np.ndarray], num_files: int = 1, num_extra_tokens: int = 0
) -> pathlib.Path:
    """A Hugging Face folder with these tensors in one or several safetensors files."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder, num_extra_tokens)
    if num_files == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    weight_map: dict[str, str] = {}
    for number, names in enumerate(np.array_split(list(tensors), num_files), start=1):
        file = f"model-{number:05d}-of-{num_files:05d}.safetensors"
        save_file({str(name): tensors[str(name)] for name in names}, folder / file)
        weight_map |= {str(name): file for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def interleave_rows(tensor: np.ndarray, num_heads: int) -> np.ndarray:
    """Query or key rows from halves to pairs, as GGUF converters store them: row 2i + h of a head is row h·d/2 + i."""
    rows, width = tensor.shape
    half = rows // num_heads // 2
    out = np.empty_like(tensor)
    for head in range(num_heads):
        for index in range(half):
            for side in range(2):
                out[head * 2 * half + 2 * index + side] = tensor[head * 2 * half + side * half + index]
    assert out.shape == (rows, width)
    return out


_GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    """The GGUF name of a Hugging Face tensor."""
    fixed = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem = name.removesuffix(".weight")
    if stem in fixed:
        return fixed[stem] + ".weight"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{_GGUF_NAMES[rest]}.weight"


def write_gguf(path: pathlib.Path, config: dict, tensors: dict[str, np.ndarray], **changes: Any) -> pathlib.Path:
    """A GGUF file of architecture llama; `changes` may replace the pre-tokenizer, the architecture or add tensors.

    Keys: architecture, pre, kind, rope_freqs, quantize (name of a quantization type), extra_key, without_types, split
    (number of the part and of all parts).
    """
    import gguf

    writer = gguf.GGUFWriter(path, str(changes.get("architecture", "llama")))
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config.get("rope_theta", 10_000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if "extra_key" in changes:
        writer.add_float32(f"llama.{changes['extra_key']}", 0.5)
    _add_gguf_tokenizer(writer, config["vocab_size"], str(changes.get("pre", "smollm")), "without_types" in changes)
    if "split" in changes:
        _add_split(writer, *changes["split"])
    _write_tensors(writer, config, tensors, changes)
    return path


def write_gguf_part(path: pathlib.Path, config: dict, tensors: dict[str, np.ndarray], split: tuple) -> pathlib.Path:
    """A further part of a file, with tensors only, as gguf-split writes it."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    _add_split(writer, *split)
    _write_tensors(writer, config, tensors, {})
    return path


def _add_split(writer: Any, part: int, parts: int) -> None:
    writer.add_uint16("split.no", part)
    writer.add_uint16("split.count", parts)


def _write_tensors(writer: Any, config: dict, tensors: dict[str, np.ndarray], changes: dict) -> None:
    import gguf

    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    kind = changes.get("quantize")
    for name, tensor in tensors.items():
        if name.endswith("q_proj.weight"):
            tensor = interleave_rows(tensor, heads)
        if name.endswith("k_proj.weight"):
            tensor = interleave_rows(tensor, kv_heads)
        if kind and tensor.ndim == 2:
            wanted = gguf.GGMLQuantizationType[str(kind)]
            writer.add_tensor(gguf_name(name), gguf.quantize(tensor, wanted), raw_dtype=wanted)
        else:
            writer.add_tensor(gguf_name(name), tensor)
    if "rope_freqs" in changes:
        writer.add_tensor("rope_freqs.weight", np.asarray(changes["rope_freqs"], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_gguf_tokenizer(writer: Any, size: int, pre: str, without_types: bool) -> None:
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet, "Ġa", "he"]
    types = [3, 3, 3] + [1] * (len(tokens) - 3)
    tokens += [f"[PAD{number}]" for number in range(len(tokens), size)]
    types += [5] * (size - len(types))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    if not without_types:
        writer.add_token_types(types)
    writer.add_token_merges(["Ġ a", "h e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}")
