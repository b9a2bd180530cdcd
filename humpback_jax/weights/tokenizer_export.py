"""Tokenizer files as transformers needs them to give the same ids as ours."""

import json
from typing import Any

from humpback_jax.tokenizers import CONFIG, HF_JSON, SENTENCEPIECE, FileTokenizer, SentencePieceTokenizer


def exported_tokenizer_files(tokenizer: FileTokenizer) -> dict[str, bytes]:
    """{file name: content} for a Hugging Face folder.

    A SentencePiece model also gets an equivalent tokenizer.json: transformers 5 reads a bare tokenizer.model with a
    rule of its own that drops the first space of a text.
    """
    files = dict(tokenizer.files)
    config: dict[str, Any] = {"clean_up_tokenization_spaces": False} | tokenizer.config
    if isinstance(tokenizer, SentencePieceTokenizer):
        files[HF_JSON] = sentencepiece_as_json(tokenizer, bool(config.setdefault("add_bos_token", True)))
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
    names = {number: token for token, number in tokenizer.special_tokens.items()}
    for role in ("bos", "eos", "unk", "pad"):
        number = getattr(tokenizer, f"{role}_id")
        config.setdefault(f"{role}_token", None if number is None else names[number])
    files[CONFIG] = json.dumps(config, indent=2, ensure_ascii=False).encode()
    return files


def sentencepiece_as_json(tokenizer: SentencePieceTokenizer, add_bos: bool) -> bytes:
    """A tokenizer.json with the ids of a SentencePiece BPE model; ValueError for other kinds of model."""
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

    proto = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.files[SENTENCEPIECE])
    normalizer, trainer, kinds = proto.normalizer_spec, proto.trainer_spec, proto.SentencePiece
    if trainer.model_type != trainer.BPE or normalizer.precompiled_charsmap or normalizer.remove_extra_whitespaces:
        raise ValueError(
            f"{tokenizer.where}: only SentencePiece BPE models that leave the text as it is can be exported to "
            f"{HF_JSON}; put a {HF_JSON} beside the model"
        )
    vocab = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    scores = {p.piece: p.score for p in proto.pieces if p.type in (kinds.NORMAL, kinds.USER_DEFINED)}
    unknown = proto.pieces[trainer.unk_id].piece
    model = models.BPE(
        vocab=vocab, merges=_merges(scores), unk_token=unknown, fuse_unk=True, byte_fallback=trainer.byte_fallback
    )
    backend = Tokenizer(model)
    prefix = [normalizers.Prepend("▁")] if normalizer.add_dummy_prefix else []
    backend.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(" ", 1, 0)] if normalizer.add_dummy_prefix else []
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    backend.decoder = decoders.Sequence(steps)
    special = sorted(tokenizer.special_tokens.items(), key=lambda item: item[1])
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token, _ in special])
    for token, number in special:
        if backend.token_to_id(token) != number:
            raise ValueError(f"{tokenizer.where}: special token {token!r} cannot keep its id {number} in {HF_JSON}")
    if add_bos and tokenizer.bos_id is not None:
        bos = proto.pieces[tokenizer.bos_id].piece
        single, special_tokens = [bos, "$A"], [(bos, tokenizer.bos_id)]
        backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=special_tokens)
    return backend.to_str().encode()


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
    """Every way to build a piece from two others, best score of the built piece first, as SentencePiece merges."""
    ranked = []
    for piece, score in scores.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in scores and right in scores:
                ranked.append((-score, cut, left, right))
    ranked.sort(key=lambda entry: entry[:2])
    return [(left, right) for _, _, left, right in ranked]
