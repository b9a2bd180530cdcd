"""A SentencePiece model as a tokenizer.json with the same ids, or a refusal that names what differs."""

import functools
import operator
import random
import re
from typing import Any

from humpback_jax.tokenizers import SENTENCEPIECE, SentencePieceTokenizer

# Texts that both must agree on: letters of many kinds, what normalizers change, spaces of every sort.
_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz ETAOIN .,;:'\"-()",
    "aäöüßéèñçøå ÀÉ Ωλ Жизнь שלום مرحبا ไทย 漢字かなカナ한국어",
    "  \t\n\r 　 \u2009",
    "ﬁ①½Ａｂ²™…“”‘’–—ﾊﾟ㌔",
    "e\u0301a\u0308🙂👩\u200d🚀🏽\ufe0f",
    "0123456789+-*/=<>{}[]()|\\_#&%$@!?~^`",
)
_WORDS = ("of", "was", "def", "return", "<html>", "</s>", "<0x0A>", "User:", "Zeit", "für", "наука", "東京")
NUM_TEXTS = 5000
_WAY_OUT = (
    "Train with a tokenizer.json, of its makers or as transformers writes one "
    "(AutoTokenizer.from_pretrained(FOLDER).save_pretrained(OTHER)): humpback weights import --tokenizer=OTHER"
)


def sentencepiece_as_json(tokenizer: SentencePieceTokenizer, add_bos: bool) -> bytes:
    """A tokenizer.json with the ids of a SentencePiece model.

    Raises:
      ValueError: the library of tokenizer.json cannot compute these ids; the first text that differs is named.
    """
    backend, made = _backend(tokenizer, add_bos)
    different = _first_difference(tokenizer, backend)
    if different is not None:
        raise ValueError(
            f"{tokenizer.where}: {made} makes other ids as a tokenizer.json, such as of {different!r}, so a model "
            f"trained with it could not be exported. {_WAY_OUT}"
        )
    return backend.to_str().encode()


def _backend(tokenizer: SentencePieceTokenizer, add_bos: bool) -> tuple[Any, str]:
    """The `tokenizers.Tokenizer`, and in words what kind of model it stands for."""
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import AddedToken, Tokenizer, decoders, processors

    proto = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.files[SENTENCEPIECE])
    normalizer, trainer = proto.normalizer_spec, proto.trainer_spec
    kind = trainer.ModelType.Name(trainer.model_type)
    own = [piece.piece for piece in proto.pieces if piece.type == proto.SentencePiece.USER_DEFINED]
    made = f"SentencePiece {kind} with normalizer {normalizer.name!r}" + (
        f", user_defined_symbols {own}" if own else ""
    )
    if kind != "BPE" or trainer.treat_whitespace_as_suffix:
        # Unigram finds ways to cut a text that are equally likely (`l|ll`, `ll|l`); the two choose differently.
        raise ValueError(
            f"{tokenizer.where}: {made} has no tokenizer.json of exactly its ids, so a model trained with it could not "
            f"be exported; only BPE with spaces before words has. {_WAY_OUT}"
        )
    backend = Tokenizer(_bpe(proto))
    backend.normalizer = _normalizer(normalizer)
    backend.pre_tokenizer = _cuts(own, trainer.byte_fallback)
    strip = [decoders.Strip(" ", 1, 0)] if normalizer.add_dummy_prefix else []
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    backend.decoder = decoders.Sequence(steps)
    special = sorted(tokenizer.special_tokens.items(), key=operator.itemgetter(1))
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token, _ in special])
    for token, number in special:
        if backend.token_to_id(token) != number:
            raise ValueError(
                f"{tokenizer.where}: special token {token!r} cannot keep its id {number} in tokenizer.json"
            )
    if add_bos and tokenizer.bos_id is not None:
        bos = proto.pieces[tokenizer.bos_id].piece
        single, special_tokens = [bos, "$A"], [(bos, tokenizer.bos_id)]
        backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=special_tokens)
    return backend, made


def _bpe(proto: Any) -> Any:
    from tokenizers import models

    kinds, trainer = proto.SentencePiece, proto.trainer_spec
    vocab = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    scores = {p.piece: p.score for p in proto.pieces if p.type == kinds.NORMAL}
    own = any(p.type == kinds.USER_DEFINED for p in proto.pieces)
    return models.BPE(
        vocab=vocab,
        merges=_merges(scores),
        unk_token=proto.pieces[trainer.unk_id].piece,
        fuse_unk=True,
        byte_fallback=trainer.byte_fallback,
        ignore_merges=own,  # a user-defined symbol is cut out whole, and no merges lead to it
    )


def _normalizer(spec: Any) -> Any:
    from tokenizers import Regex, normalizers

    steps: list[Any] = [normalizers.Precompiled(spec.precompiled_charsmap)] if spec.precompiled_charsmap else []
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    steps += [normalizers.Prepend("▁")] if spec.add_dummy_prefix else []
    return normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])


def _cuts(own: list[str], bytes_known: bool) -> Any:
    """User-defined symbols stand alone; so does the `<` of what spells the name of a byte.

    Where whole pieces are looked up before any merge, such a name in a text would be read as the byte.
    """
    from tokenizers import Regex, pre_tokenizers

    patterns = [re.escape(symbol.replace(" ", "▁")) for symbol in sorted(own, key=len, reverse=True)]
    patterns += ["<(?=0x[0-9A-F]{2}>)"] if own and bytes_known else []
    return pre_tokenizers.Split(Regex("|".join(patterns)), behavior="isolated") if patterns else None


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
    """Every way to build a piece from two others, best score of the built piece first, as SentencePiece merges."""
    cuts = [(-score, cut, piece) for piece, score in scores.items() for cut in range(1, len(piece))]
    merges = [(piece[:cut], piece[cut:]) for _, cut, piece in sorted(cuts, key=operator.itemgetter(0, 1))]
    return [(left, right) for left, right in merges if left in scores and right in scores]


def _first_difference(tokenizer: SentencePieceTokenizer, backend: Any) -> str | None:
    """The first text of many that the two encode to other ids."""
    special = sorted(tokenizer.special_tokens, key=len, reverse=True)
    texts = [_without(special, text) for text in _texts(tuple(_own_pieces(tokenizer)))]
    theirs = backend.encode_batch_fast(texts, add_special_tokens=False)
    pairs = zip(texts, tokenizer.encode_all(texts), theirs, strict=True)
    return next((text for text, ours, encoded in pairs if ours != encoded.ids), None)


def _own_pieces(tokenizer: SentencePieceTokenizer) -> list[str]:
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.files[SENTENCEPIECE])
    drawn = random.Random(0).sample(list(proto.pieces), min(400, len(proto.pieces)))
    own = [piece for piece in proto.pieces if piece.type == proto.SentencePiece.USER_DEFINED]
    return [piece.piece.replace("▁", " ") for piece in (*own, *drawn)]


@functools.cache
def _texts(pieces: tuple[str, ...]) -> tuple[str, ...]:
    """Random texts, the same every time, with pieces of the vocabulary among them."""
    draw = random.Random(0)
    letters = sorted({letter for text in (*pieces, *_ALPHABETS) for letter in text})
    texts = ["", " ", "\n", *pieces, *(letter * times for letter in letters for times in (3, 5))]
    while len(texts) < NUM_TEXTS:
        alphabet = draw.choice([*_ALPHABETS, "".join(_ALPHABETS)])
        parts = (
            *("".join(draw.choices(alphabet, k=draw.randint(1, 12))), draw.choice(_WORDS), draw.choice(pieces)),
            draw.choice([" ", "  ", "\n", "", ""]),
        )
        texts.append("".join(draw.choices(parts, k=draw.randint(1, 9))))
    return tuple(texts)


def _without(special: list[str], text: str) -> str:
    """The text without the spelling of special tokens, which tokenizer.json reads as such, and without the mark `▁`."""
    for token in special:
        text = text.replace(token, "")
    return text.replace("▁", "")
