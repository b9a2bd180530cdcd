"""Tokenizers in and out: what is inside a GGUF file as ours read it, ours as transformers gives the same ids."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from humpback_jax.tokenizers import CONFIG, HF_JSON, SENTENCEPIECE, FileTokenizer, SentencePieceTokenizer
from humpback_jax.weights.sentencepiece_json import sentencepiece_as_json

_KEY = "tokenizer.ggml."
_GIVE_ONE = "Give the model's tokenizer yourself: humpback weights import --tokenizer=FOLDER"
# Token types of GGUF files; SentencePiece uses the same numbers.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
# Fields of tokenizer_config.json that make transformers change what tokenizer.json says.
_REBUILDING = ("added_tokens_decoder", "add_prefix_space", "legacy", "auto_map", "sp_model_kwargs", "tokenizer_file")
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
        raise ValueError(
            f"{where}: tokenizer.ggml.model is {kind!r}; known: 'gpt2' (byte-level BPE), 'llama'. {_GIVE_ONE}"
        )
    name, write = (HF_JSON, _byte_level_bpe) if kind == "gpt2" else (SENTENCEPIECE, _sentencepiece_model)
    return {name: write(fields, where)} | {CONFIG: json.dumps(_config(fields), indent=2, ensure_ascii=False).encode()}


def _needed(fields: Mapping[str, Any], name: str, where: str) -> Any:
    """A field without which the tokenizer cannot be rebuilt."""
    if _KEY + name not in fields:
        raise ValueError(f"{where}: {_KEY}{name} is missing, so the tokenizer inside cannot be rebuilt. {_GIVE_ONE}")
    return fields[_KEY + name]


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
        raise ValueError(f"{where}: unknown pre-tokenizer tokenizer.ggml.pre = {pre!r}; known: {known}. {_GIVE_ONE}")
    tokens, types = fields[_KEY + "tokens"], _needed(fields, "token_type", where)
    if len(set(tokens)) != len(tokens):
        raise ValueError(f"{where}: tokenizer.ggml.tokens holds a token twice")
    vocab = {token: number for number, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in _needed(fields, "merges", where)]
    kind = PRE_TOKENIZERS[pre]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=kind == "llama3"))
    tokenizer.pre_tokenizer = _pre_tokenizer(kind)
    tokenizer.decoder = decoders.ByteLevel()
    typed = list(zip(tokens, types, strict=True))
    special = [AddedToken(token, normalized=False, special=True) for token, kind in typed if kind in (CONTROL, UNKNOWN)]
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token, kind in typed if kind == USER_DEFINED])
    if _adds_bos(fields):
        number = _needed(fields, "bos_token_id", where)
        bos = tokens[number]
        tokenizer.post_processor = processors.TemplateProcessing(single=[bos, "$A"], special_tokens=[(bos, number)])
    return tokenizer.to_str().encode()


def _sentencepiece_model(fields: Mapping[str, Any], where: str) -> bytes:
    from sentencepiece import sentencepiece_model_pb2

    tokens, types = fields[_KEY + "tokens"], _needed(fields, "token_type", where)
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


def exported_tokenizer_files(tokenizer: FileTokenizer) -> dict[str, bytes]:
    """{file name: content} for a Hugging Face folder.

    A SentencePiece model also gets an equivalent tokenizer.json: transformers 5 reads a bare tokenizer.model with a
    rule of its own that drops the first space of a text.
    """
    files = dict(tokenizer.files)
    config: dict[str, Any] = {"clean_up_tokenization_spaces": False} | tokenizer.config
    if isinstance(tokenizer, SentencePieceTokenizer):
        files[HF_JSON] = sentencepiece_as_json(tokenizer, bool(config.setdefault("add_bos_token", True)))
    else:
        files[HF_JSON] = _as_read_here(files[HF_JSON], tokenizer.special_tokens)
    # Other classes of transformers rebuild the tokenizer by rules of their own instead of reading tokenizer.json.
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    for name in _REBUILDING:
        config.pop(name, None)
    names = {number: token for token, number in tokenizer.special_tokens.items()}
    for role in ("bos", "eos", "unk", "pad"):
        number = getattr(tokenizer, f"{role}_id")
        config.setdefault(f"{role}_token", None if number is None else names[number])
    files[CONFIG] = json.dumps(config, indent=2, ensure_ascii=False).encode()
    return files


def _as_read_here(tokenizer_json: bytes, special_tokens: Mapping[str, int]) -> bytes:
    """A tokenizer.json whose special tokens take no whitespace around them, and whose prefix stands where ours does.

    `HFTokenizer` encodes the text between two special tokens by itself, so that each gets the prefix that others give
    to the first text alone.
    """
    fields = json.loads(tokenizer_json)
    for token in fields.get("added_tokens", []):
        if token["content"] in special_tokens:
            token |= {"special": True, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    pre = fields.get("pre_tokenizer") or {}
    for step in pre.get("pretokenizers", [pre]):
        if step.get("type") == "Metaspace" and step.get("prepend_scheme") == "first":
            step["prepend_scheme"] = "always"
    return tokenizer_json if fields == json.loads(tokenizer_json) else json.dumps(fields, ensure_ascii=False).encode()
