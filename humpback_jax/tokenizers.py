"""One tokenizer interface over SentencePiece and Hugging Face `tokenizers`."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from etils import epath


class Tokenizer(Protocol):
    """Text to token ids and back."""

    vocab_size: int
    bos_id: int | None
    eos_id: int | None
    unk_id: int | None
    chat_template: str | None  # the Jinja source of the tokenizer's own chat template

    @property
    def end_ids(self) -> tuple[int, ...]:
        """What ends a text for the model's makers, besides `eos_id`."""

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text; adds nothing, and never reads a special token out of the text."""

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """What `encode` gives for every text, on all cores where the library can."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; special tokens and ids outside the vocabulary are left out."""

    def special_id(self, token: str) -> int | None:
        """Id of a special token such as `<|im_end|>`, or None."""

    def __hash__(self) -> int:
        """Tokenizers are the keys of caches."""


HF_JSON, SENTENCEPIECE, CONFIG = "tokenizer.json", "tokenizer.model", "tokenizer_config.json"
CHAT_TEMPLATE, ADDED_TOKENS, SPECIAL_TOKENS = "chat_template.jinja", "added_tokens.json", "special_tokens_map.json"
CHAT_TEMPLATE_JSON = "chat_template.json"
# generation_config.json is no tokenizer file, but it holds the ids that end a turn and travels with them.
GENERATION = "generation_config.json"
TOKENIZER_FILES = (
    *(HF_JSON, SENTENCEPIECE, CONFIG, CHAT_TEMPLATE, CHAT_TEMPLATE_JSON, ADDED_TOKENS, SPECIAL_TOKENS),
    GENERATION,
)
# How a user turn and its answer can be written (`chat.formats`); "tokenizer" is the tokenizer's own Jinja template.
CHAT_FORMATS = ("plain", "inst", "chatml", "llama3", "tokenizer")
# Control tokens by their looks: some files forget to mark them as special. `<think>` or `<td>` are words of the model.
_CONTROL = re.compile(r"<[|｜][^<>\s]+[|｜]>|</?s>|<(?:unk|pad|bos|eos|mask|sep|cls|[a-z]+_of_[a-z]+)>|\[/?[A-Z_]+\]")
# Put before pieces that text must not match: noncharacters, which no text holds.
_UNREACHABLE = "\U0010fffe\U0010ffff"


class FileTokenizer(Tokenizer):
    """What both kinds share: the files they are made of, which also decide equality and are what gets pickled.

    Attributes:
      files: {file name: content}.
      config: tokenizer_config.json, empty if there is none.
      where: the folder or file they came from, for messages.
      pad_id: what the tokenizer's makers padded with; nothing here depends on it.
    """

    pad_id: int | None

    def __init__(self, files: Mapping[str, bytes], where: str) -> None:
        self.files = dict(files)
        self.where = where
        self.config = _object(files, CONFIG, where)
        self.chat_template = _chat_template(files, self.config, where)
        self._specials: dict[str, int] = {}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the tokenizer's files; `load_tokenizer(folder)` gives an equal tokenizer."""
        target = epath.Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (target / name).write_bytes(content)

    def special_id(self, token: str) -> int | None:
        return self._specials.get(token)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Ids that generation_config.json says end a text; an ordinary token is none, whatever a default says."""
        stated = _object(self.files, GENERATION, self.where).get("eos_token_id")
        special = set(self._specials.values())
        return tuple(number for number in (stated if isinstance(stated, list) else [stated]) if number in special)

    @property
    def special_tokens(self) -> dict[str, int]:
        """{special token: id}."""
        return dict(self._specials)

    def _configured_token(self, role: str) -> str | None:
        """The token that the configuration gives the role of bos, eos, unk or pad."""
        token = self.config.get(f"{role}_token", _object(self.files, SPECIAL_TOKENS, self.where).get(f"{role}_token"))
        return token.get("content") if isinstance(token, dict) else token

    def _configured_id(self, role: str) -> int | None:
        token = self._configured_token(role)
        if token is None:
            return None
        if token not in self._specials:
            raise ValueError(f"{self.where}: {role}_token {token!r} of {CONFIG} is not a token of this tokenizer")
        return self._specials[token]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileTokenizer) and self.files == other.files

    def __hash__(self) -> int:
        return hash(tuple(sorted((name, hash(content)) for name, content in self.files.items())))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.files, self.where)


class HFTokenizer(FileTokenizer):
    """A Hugging Face `tokenizer.json`."""

    def __init__(self, files: Mapping[str, bytes], where: str) -> None:
        import tokenizers

        super().__init__(files, where)
        fields = _object(files, HF_JSON, where)
        roles = {role: self._configured_token(role) for role in ("bos", "eos", "pad")}
        self._specials = _mark_control_tokens(fields, {token for token in roles.values() if token})
        control = dict(self._specials)
        try:
            self._backend = tokenizers.Tokenizer.from_str(json.dumps(fields))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"{where}/{HF_JSON} cannot be read ({error}); get this file again") from error
        self._backend.encode_special_tokens = True
        self._backend.no_truncation()
        self._backend.no_padding()
        self.vocab_size = max(self._backend.get_vocab().values(), default=-1) + 1
        unknown = self._configured_token("unk") or _unknown_token(_object(files, HF_JSON, where)["model"])
        if unknown is not None and unknown not in self._specials:
            unknown_id = self._backend.token_to_id(unknown)
            self._specials |= {} if unknown_id is None else {unknown: unknown_id}
        self.unk_id = self._specials.get(unknown) if unknown is not None else None
        self.bos_id, self.eos_id, self.pad_id = (self._configured_id(role) for role in roles)
        for token, number in control.items():
            if token != unknown and number in self.encode(token):
                raise ValueError(f"{where}/{HF_JSON}: typed text can produce the special token {token!r}")

    def encode(self, text: str) -> list[int]:
        return self._backend.encode(_valid_unicode(text), add_special_tokens=False).ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        valid = [_valid_unicode(text) for text in texts]
        return [encoding.ids for encoding in self._backend.encode_batch_fast(valid, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        special = set(self._specials.values())
        text_ids = [int(i) for i in ids if 0 <= i < self.vocab_size and int(i) not in special]
        return self._backend.decode(text_ids, skip_special_tokens=True)


class SentencePieceTokenizer(FileTokenizer):
    """A SentencePiece `tokenizer.model`; as trained, a space is put before the text and taken off again."""

    def __init__(self, files: Mapping[str, bytes], where: str) -> None:
        import sentencepiece

        super().__init__(files, where)
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(_protected_model(files[SENTENCEPIECE]))
        except Exception as error:  # protobuf and SentencePiece raise several kinds
            raise ValueError(f"{where}/{SENTENCEPIECE} is not a SentencePiece model ({error})") from error
        self._num_pieces = self._processor.get_piece_size()
        self._specials = self._find_specials()
        self.vocab_size = max([self._num_pieces, *(number + 1 for number in self._specials.values())])
        self.bos_id, self.eos_id, self.unk_id, self.pad_id = map(self._role_id, ("bos", "eos", "unk", "pad"))

    def encode(self, text: str) -> list[int]:
        return self._processor.encode(_valid_unicode(text))

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        return self._processor.encode([_valid_unicode(text) for text in texts])

    def decode(self, ids: Sequence[int]) -> str:
        return self._processor.decode([int(i) for i in ids if 0 <= i < self._num_pieces])

    def _find_specials(self) -> dict[str, int]:
        pieces = range(self._num_pieces)
        control = (i for i in pieces if self._processor.is_control(i) or self._processor.is_unknown(i))
        specials = {self._processor.id_to_piece(i): i for i in control}
        for number, token in self.config.get("added_tokens_decoder", {}).items():
            specials.setdefault(token["content"], int(number))
        for token, number in _object(self.files, ADDED_TOKENS, self.where).items():
            specials.setdefault(token, number)
        return specials

    def _role_id(self, role: str) -> int | None:
        if self._configured_token(role) is not None or f"{role}_token" in self.config:
            return self._configured_id(role)
        number = getattr(self._processor, f"{role}_id")()
        return number if number >= 0 else None


def load_tokenizer(path: str | os.PathLike[str]) -> FileTokenizer:
    """The tokenizer at `path`: a folder (tokenizer.json, else tokenizer.model) or one of these files."""
    return tokenizer_from_files(tokenizer_files(path), os.fspath(path))


def tokenizer_files(path: str | os.PathLike[str]) -> dict[str, bytes]:
    """{file name: content} of the tokenizer at `path`, whatever else is in its folder."""
    source = epath.Path(path)
    if source.is_dir():
        return {name: (source / name).read_bytes() for name in TOKENIZER_FILES if (source / name).exists()}
    if not source.exists():
        raise FileNotFoundError(f"no tokenizer at {source}; give a folder with {HF_JSON} or {SENTENCEPIECE}")
    if source.suffix == ".gguf":
        raise ValueError(f"{source} is a GGUF file: see humpback_jax.weights.gguf.load_gguf_tokenizer")
    return {HF_JSON if source.suffix == ".json" else SENTENCEPIECE: source.read_bytes()}


def tokenizer_from_files(files: Mapping[str, bytes], where: str) -> FileTokenizer:
    """The tokenizer that these files make; FileNotFoundError if the one that matters is missing."""
    if HF_JSON in files:
        return HFTokenizer(files, where)
    if SENTENCEPIECE in files:
        return SentencePieceTokenizer(files, where)
    raise FileNotFoundError(f"no tokenizer in {where}: neither {HF_JSON} nor {SENTENCEPIECE} is there; copy one")


def _object(files: Mapping[str, bytes], name: str, where: str) -> dict[str, Any]:
    if name not in files:
        return {}
    try:
        value = json.loads(files[name])
    except ValueError as error:
        raise ValueError(f"{where}/{name} is not valid JSON ({error}); get this file again") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where}/{name}: expected a JSON object, found {type(value).__name__}")
    return value


def _chat_template(files: Mapping[str, bytes], config: Mapping[str, Any], where: str) -> str | None:
    """The template's own file wins over tokenizer_config.json, where several named ones may stand."""
    if CHAT_TEMPLATE in files:
        return files[CHAT_TEMPLATE].decode("utf-8-sig")
    template = _object(files, CHAT_TEMPLATE_JSON, where).get("chat_template") or config.get("chat_template")
    if not isinstance(template, list):
        return template
    named = {entry["name"]: entry["template"] for entry in template}
    if "default" in named or len(named) < 2:
        return named.get("default", next(iter(named.values()), None))
    # None of them is what the makers mean by default: whoever asks for the tokenizer's template hears their names.
    names = ", ".join(sorted(named))
    words = f"none of the templates {names} is called default; put the one to use into {CHAT_TEMPLATE}"
    return "{{ raise_exception(" + json.dumps(words) + ") }}"


def _unknown_token(model: Mapping[str, Any]) -> str | None:
    """What stands for letters that a model of a tokenizer.json does not have: Unigram names its place."""
    number = model.get("unk_id")
    return model.get("unk_token") if number is None else model["vocab"][number][0]


def _mark_control_tokens(fields: dict[str, Any], also: set[str]) -> dict[str, int]:
    """Changes a parsed tokenizer.json so that text cannot produce control tokens; returns {control token: id}.

    Control tokens are marked special, which the library can be told not to look for; merges that would build one from
    ordinary pieces are dropped, and pieces of Unigram that spell one are given another spelling. `also` are further
    tokens to protect, such as the end-of-text token.
    """
    added, model = fields.get("added_tokens", []), fields.get("model", {})
    for token in added:
        token["special"] = token["special"] or token["content"] in also or bool(_CONTROL.fullmatch(token["content"]))
    control = {token["content"]: token["id"] for token in added if token["special"]}
    vocab = model.get("vocab")
    if isinstance(vocab, dict):
        control |= {token: vocab[token] for token in also - control.keys() if token in vocab}
    elif isinstance(vocab, list):  # Unigram: a row per id
        pieces = {piece: number for number, (piece, _) in enumerate(vocab)}
        control |= {token: pieces[token] for token in also - control.keys() if token in pieces}
        hidden = {pieces[token] for token in control if token in pieces}
        rows = enumerate(vocab)
        model["vocab"] = [[_UNREACHABLE * (i in hidden) + piece, score] for i, (piece, score) in rows]
        fields["added_tokens"] = [token for token in added if token["content"] not in pieces or not token["special"]]
    if model.get("merges"):
        model["merges"] = [merge for merge in model["merges"] if _merged(merge) not in control]
    return control


def _merged(merge: str | Sequence[str]) -> str:
    return merge.replace(" ", "", 1) if isinstance(merge, str) else "".join(merge)


def _protected_model(serialized: bytes) -> bytes:
    """The SentencePiece model with user-defined pieces that look like control tokens made control pieces."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(serialized)
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece
    for piece in model.pieces:
        if piece.type == kinds.USER_DEFINED and _CONTROL.fullmatch(piece.piece):
            piece.type = kinds.CONTROL
    return model.SerializeToString()


def _valid_unicode(text: str) -> str:
    """Text that can be written as UTF-8: surrogate pairs joined, lone surrogates replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
