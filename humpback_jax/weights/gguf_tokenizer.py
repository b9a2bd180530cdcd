"""The tokenizer inside a GGUF file, rebuilt as the files that Hugging Face or SentencePiece would have."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from humpback_jax.tokenizers import CONFIG, HF_JSON, SENTENCEPIECE

_KEY = "tokenizer.ggml."
# Token types of GGUF files; SentencePiece uses the same numbers.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def gguf_tokenizer_files(reader: Any, where: str) -> dict[str, bytes]:
    """{file name: content} of a tokenizer with the same ids as the one inside a GGUF file.

    Byte-level BPE (`gpt2`) becomes tokenizer.json, SentencePiece BPE (`llama`) becomes tokenizer.model; the special
    tokens and the chat template go to tokenizer_config.json. An unknown kind or pre-tokenizer raises ValueError.

    Args:
      reader: the file's `gguf.GGUFReader`.
      where: the file, for messages.
    """
    fields = {key: field.contents() for key, field in reader.fields.items() if key.startswith("tokenizer.")}
    tokens = fields.get(_KEY + "tokens")
    kind = fields.get(_KEY + "model")
    if not tokens or kind not in ("gpt2", "llama"):
        raise ValueError(f"{where}: tokenizer.ggml.model is {kind!r}; known: 'gpt2' (byte-level BPE), 'llama'")
    if kind == "gpt2":
        files = {HF_JSON: _byte_level_bpe(fields, where)}
    else:
        files = {SENTENCEPIECE: _sentencepiece_model(fields, where)}
    return files | {CONFIG: json.dumps(_config(fields), indent=2, ensure_ascii=False).encode()}


def _config(fields: Mapping[str, Any]) -> dict[str, Any]:
    tokens = fields[_KEY + "tokens"]
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for role, name in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        number = fields.get(f"{_KEY}{name}_token_id")
        config[f"{role}_token"] = tokens[number] if number is not None and number < len(tokens) else None
    config["add_bos_token"] = _adds_bos(fields)
    if fields.get("tokenizer.chat_template"):
        config["chat_template"] = fields["tokenizer.chat_template"]
    return config


def _adds_bos(fields: Mapping[str, Any]) -> bool:
    """Whether a text begins with BOS; a file that does not say means yes for SentencePiece and no for BPE."""
    return bool(fields.get(_KEY + "add_bos_token", fields[_KEY + "model"] == "llama"))


# How the ways to cut a text before merging are called in GGUF files.
PRE_TOKENIZERS = {"smollm": "digits", "gpt-2": "gpt2", "llama-bpe": "llama3", "llama3": "llama3", "llama-v3": "llama3"}


def _pre_tokenizer(kind: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind != "llama3")
    if kind == "gpt2":
        return words
    if kind == "digits":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_LLAMA3_PATTERN), behavior="isolated"), words])


def _byte_level_bpe(fields: Mapping[str, Any], where: str) -> bytes:
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors

    pre = fields.get(_KEY + "pre")
    if pre not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS)
        raise ValueError(f"{where}: unknown pre-tokenizer tokenizer.ggml.pre = {pre!r}; known: {known}")
    tokens, types = fields[_KEY + "tokens"], fields[_KEY + "token_type"]
    if len(set(tokens)) != len(tokens):
        raise ValueError(f"{where}: tokenizer.ggml.tokens holds a token twice")
    vocab = {token: number for number, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in fields[_KEY + "merges"]]
    kind = PRE_TOKENIZERS[pre]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=kind == "llama3"))
    tokenizer.pre_tokenizer = _pre_tokenizer(kind)
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, number in zip(tokens, types, strict=True) if number in (CONTROL, UNKNOWN)]
    added = [token for token, number in zip(tokens, types, strict=True) if number == USER_DEFINED]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in added])
    if _adds_bos(fields):
        number = fields[_KEY + "bos_token_id"]
        bos = tokens[number]
        tokenizer.post_processor = processors.TemplateProcessing(single=[bos, "$A"], special_tokens=[(bos, number)])
    return tokenizer.to_str().encode()


def _sentencepiece_model(fields: Mapping[str, Any], where: str) -> bytes:
    from sentencepiece import sentencepiece_model_pb2

    tokens, types = fields[_KEY + "tokens"], fields[_KEY + "token_type"]
    scores: Sequence[float] = fields.get(_KEY + "scores") or ()
    if not len(tokens) == len(scores) == len(types):
        raise ValueError(
            f"{where}: tokenizer.ggml.tokens, scores and token_type have {len(tokens)}, {len(scores)} and "
            f"{len(types)} entries; they must be as many"
        )
    model = sentencepiece_model_pb2.ModelProto()
    for token, score, kind in zip(tokens, scores, types, strict=True):
        model.pieces.add(piece=token, score=score, type=kind)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type = trainer.BPE
    trainer.vocab_size = len(tokens)
    trainer.byte_fallback = BYTE in types
    for name, default in (("unk", 0), ("bos", 1), ("eos", 2), ("pad", -1)):
        long_name = {"unk": "unknown", "pad": "padding"}.get(name, name)
        number = fields.get(f"{_KEY}{long_name}_token_id", default)
        setattr(trainer, f"{name}_id", number)
        if 0 <= number < len(tokens):
            setattr(trainer, f"{name}_piece", tokens[number])
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = fields.get(_KEY + "add_space_prefix", True)
    normalizer.remove_extra_whitespaces = fields.get(_KEY + "remove_extra_whitespaces", False)
    normalizer.escape_whitespaces = True
    normalizer.precompiled_charsmap = bytes(fields.get(_KEY + "precompiled_charsmap") or b"")
    return model.SerializeToString()
