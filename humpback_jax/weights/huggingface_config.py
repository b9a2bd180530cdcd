"""config.json of Hugging Face folders, in and out: strict, so that no model is computed as another one."""

from collections.abc import Mapping
from typing import Any

from humpback_jax.models.config import LlamaConfig
from humpback_jax.weights.families import ACTIVATIONS, FAMILIES, Read, family_of
from humpback_jax.weights.rope_fields import RopeFields, rope_from, rope_scaling_to

SIZES = {
    "vocab_size": "vocab_size",
    "emb_dim": "hidden_size",
    "mlp_dim": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "max_position_embeddings": "max_position_embeddings",
}
# What the format's own code assumes of a file that does not say how long the sequences of training were.
OLDEST_LENGTH = 2048
# Fields that no model computes with: labels, dropout, what generation and loading do. All others must be known.
HARMLESS = (
    "_name_or_path _commit_hash _attn_implementation _attn_implementation_autoset add_cross_attention architectures "
    "attention_dropout attn_implementation auto_map bad_words_ids begin_suppress_tokens bos_token_id "
    "cache_implementation chunk_size_feed_forward cross_attention_hidden_size decoder_start_token_id "
    "diversity_penalty do_sample dtype early_stopping embd_pdrop encoder_no_repeat_ngram_size eos_token_id "
    "exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id hidden_dropout id2label "
    "initializer_range is_decoder is_encoder_decoder is_llama_config label2id length_penalty max_length min_length "
    "mlp_dropout model_max_length model_type no_repeat_ngram_size num_beam_groups num_beams num_return_sequences "
    "output_attentions output_hidden_states output_scores pad_token_id prefix pretraining_tp problem_type "
    "remove_invalid_values repetition_penalty resid_pdrop return_dict return_dict_in_generate sep_token_id "
    "suppress_tokens task_specific_params temperature tf_legacy_loss tie_encoder_decoder tokenizer_class top_k top_p "
    "torch_dtype torchscript transformers.js_config transformers_version typical_p unsloth_fixed unsloth_version "
    "use_bfloat16 use_cache"
)
# What would make the model compute something else than ours; a field that is not there, or null, is fine.
MUST_BE: dict[str, tuple[Any, ...]] = {
    "quantization_config": (),
    "rope_interleaved": (False,),
    "pruned_heads": ({}, []),
    "sliding_window_pattern": (1,),
    "sliding_window": (),
    "full_attn_mod": (1,),
    "interpolate_factor": (1,),
    **dict.fromkeys(("lm_head_bias", "attention_bias", "mlp_bias", "use_sliding_window", "use_mrope"), (False,)),
}


def config_from_huggingface(fields: Mapping[str, Any], where: str, name: str) -> LlamaConfig:
    """The architecture that a config.json describes.

    Fields that the format lets a file leave out then have the family's own meaning; everything else must be there.
    What this model cannot compute raises ValueError, and so does a field that is not known: it may say so.
    """
    family = family_of(fields.get("architectures"), where)
    files = FAMILIES[family]
    if fields.get("model_type") not in (None, files.model_type):
        raise ValueError(
            f"{where}: model_type is {fields['model_type']!r}, expected {files.model_type!r}, as architectures is "
            f"{fields['architectures']!r}; a model computes what its own family does, whatever it is renamed to"
        )
    lengths = {"max_position_embeddings": fields.get("max_sequence_length") or OLDEST_LENGTH}
    read = Read(fields, lengths | dict(files.defaults), where)
    read("max_sequence_length")
    own = files.read(read)
    rope = _rope(read, fields, family)
    activation = read("hidden_activation") or read("hidden_act", "silu")
    read("hidden_act")
    if activation not in ACTIVATIONS:
        key = "hidden_activation" if read("hidden_activation") else "hidden_act"
        raise read.fault(key, f"one of {', '.join(ACTIVATIONS)}")
    sizes = read.fields(*SIZES.values(), "rms_norm_eps").sizes(SIZES)
    config = {
        "name": name,
        "family": family,
        "rope_theta": rope.theta or 10_000.0,  # files of LLaMA-1 and LLaMA-2 were written before the field existed
        "rope_scaling": rope.scaling,
        "partial_rotary_factor": rope.partial or 1.0,
        "rms_norm_eps": float(read.fields("rms_norm_eps").needed("rms_norm_eps")),
        "tie_word_embeddings": bool(read("tie_word_embeddings", False)),
        "activation": ACTIVATIONS[activation],
        **sizes,
        **own,
    }
    if family == "gemma3" and "sliding_window" in own:
        config["local_rope_theta"] = _local_theta(read, fields)
    read("rope_local_base_freq")
    _refuse_unknown(read, fields)
    return LlamaConfig(**_without_the_usual(config))


def _rope(read: Read, fields: Mapping[str, Any], family: str) -> RopeFields:
    for key in ("rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor"):
        read(key)
    stated = {key: read(key) for key in ("rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor")}
    stated["original_max_position_embeddings"] = read("original_max_position_embeddings")
    if isinstance(nested := stated["rope_parameters"], dict) and "full_attention" in nested:
        if family != "gemma3":
            raise read.fault("rope_parameters", "one object for all layers")
        stated["rope_parameters"] = nested["full_attention"]
    of_parameters = (stated["rope_parameters"] or {}) if isinstance(stated["rope_parameters"], dict) else {}
    if fields.get("rope_theta") is None and of_parameters.get("rope_theta") is not None:
        stated["rope_theta"] = None  # only the family's default, which the newer field replaces
    length = read.fields("max_position_embeddings").whole("max_position_embeddings")
    rope = rope_from(stated, length, read.where)
    if rope.partial not in (None, 1.0) and family != "phi3":
        raise ValueError(f"{read.where}: partial_rotary_factor {rope.partial!r} is not supported in {family!r}")
    return rope


def _local_theta(read: Read, fields: Mapping[str, Any]) -> float:
    """Rotary base of the layers with a window, which have no scaling."""
    nested = read("rope_parameters")
    local = nested.get("sliding_attention") if isinstance(nested, dict) else None
    if local and rope_from({"rope_parameters": local}, 1, read.where).scaling is not None:
        raise read.fault("rope_parameters", "no scaling in sliding_attention")
    return float((local or {}).get("rope_theta") or read("rope_local_base_freq"))


def _refuse_unknown(read: Read, fields: Mapping[str, Any]) -> None:
    """Raises ValueError for a field that says something and that nobody has looked at."""
    harmless = HARMLESS.split()
    for key, value in fields.items():
        if value is None or key in read.used or key in harmless:
            continue
        if key in MUST_BE and value in MUST_BE[key]:
            continue
        advice = "it may change what the model computes; take it out only if you know that it does not"
        if key in MUST_BE:
            advice = "this model cannot compute that"
        raise ValueError(f"{read.where}: unknown field {key} = {value!r}: {advice}")


def _without_the_usual(config: dict[str, Any]) -> dict[str, Any]:
    """A scale that is the usual one anyway is left to be that."""
    if config.get("query_scale") == config["head_dim"] ** -0.5:
        del config["query_scale"]
    return config


def config_to_huggingface(
    config: LlamaConfig, dtype: str, bos_id: int | None, eos_id: int | list[int] | None
) -> dict[str, Any]:
    """The config.json of a model, in the layout that transformers 4 and 5 both read; `eos_id` may be several.

    Raises:
      ValueError: the files of the model's family cannot say what it computes.
    """
    files = FAMILIES[config.family]
    activation = {ours: theirs for theirs, ours in ACTIVATIONS.items() if theirs != "swish"}[config.activation]
    fields = {
        "_name_or_path": config.name,
        "architectures": [files.architecture],
        "model_type": files.model_type,
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        "hidden_act": activation,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": rope_scaling_to(config),
        "tie_word_embeddings": config.tie_word_embeddings,
        **files.write(config),
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "torch_dtype": dtype,
        "use_cache": True,
    }
    if config.family != "llama":
        fields["pad_token_id"] = None  # the default of some families lies behind a small vocabulary
    again = config_from_huggingface(fields, "what would be written", config.name)
    if again != config:
        ours, theirs = config.architecture(), again.architecture()
        different = next(key for key in ours if ours[key] != theirs[key])
        raise ValueError(
            f"the files of family {config.family!r} cannot say that {different} is {ours[different]!r}; choose a "
            "LlamaConfig.family that has it"
        )
    return fields
