"""A tokenizer that has more ids than its model has rows: the ones that no text can produce are left out."""

import json
from collections.abc import Mapping
from typing import Any

from humpback_jax.runtime.console import say
from humpback_jax.tokenizers import ADDED_TOKENS, CONFIG, GENERATION, HF_JSON, SPECIAL_TOKENS

# More than these are no padding, but another tokenizer.
MOST_LEFT_OUT = 8
_NEEDED = ("bos", "eos", "unk")
ROLES = ("bos", "eos", "unk", "pad", "sep", "cls", "mask")


def without_ids_from(num_rows: int, files: Mapping[str, bytes], where: str) -> dict[str, bytes]:
    """The files of a tokenizer without its added special tokens of id `num_rows` and more.

    A padding token is the usual case: it was added behind the vocabulary, and no row of the embedding belongs to it.
    What a text can produce or a turn needs stays, and is for the caller to refuse.
    """
    kept = dict(files)
    gone: dict[str, int] = {}
    for name, take in ((HF_JSON, _of_json), (CONFIG, _of_config), (ADDED_TOKENS, _of_added)):
        if name in kept and (found := take(fields := json.loads(kept[name]), num_rows)):
            kept[name] = json.dumps(fields, indent=2, ensure_ascii=False).encode()
            gone |= found
    configured = (json.loads(files[name]) for name in (CONFIG, SPECIAL_TOKENS) if name in files)
    needed = {_content(fields.get(f"{role}_token")) for fields in configured for role in _NEEDED}
    if not gone or len(gone) > MOST_LEFT_OUT or needed & gone.keys():
        return dict(files)
    for name in (CONFIG, SPECIAL_TOKENS, GENERATION):
        if name in kept:
            fields = json.loads(kept[name])
            _drop_roles(fields, gone)
            kept[name] = json.dumps(fields, indent=2, ensure_ascii=False).encode()
    tokens = ", ".join(f"{token} ({number})" for token, number in sorted(gone.items(), key=lambda item: item[1]))
    say(f"{where}: the embedding has {num_rows} rows; special tokens behind them are left out: {tokens}")
    return kept


def _of_json(fields: dict[str, Any], num_rows: int) -> dict[str, int]:
    added = fields.get("added_tokens", [])
    vocab = fields.get("model", {}).get("vocab")
    in_model = vocab if isinstance(vocab, dict) else {}
    gone = {
        token["content"]: token["id"]
        for token in added
        if token["id"] >= num_rows and token["special"] and token["content"] not in in_model
    }
    fields["added_tokens"] = [token for token in added if token["content"] not in gone]
    return gone


def _of_config(fields: dict[str, Any], num_rows: int) -> dict[str, int]:
    decoder = fields.get("added_tokens_decoder", {})
    gone = {t["content"]: int(i) for i, t in decoder.items() if int(i) >= num_rows and t.get("special", True)}
    fields |= {"added_tokens_decoder": {i: t for i, t in decoder.items() if t["content"] not in gone}} if gone else {}
    return gone


def _of_added(fields: dict[str, Any], num_rows: int) -> dict[str, int]:
    gone = {token: number for token, number in fields.items() if number >= num_rows}
    for token in gone:
        del fields[token]
    return gone


def _drop_roles(fields: dict[str, Any], gone: Mapping[str, int]) -> None:
    """Roles that a token which is gone had: its name in tokenizer files, its id in generation_config.json."""
    for role in ROLES:
        if _content(fields.get(f"{role}_token")) in gone:
            fields[f"{role}_token"] = None
        if fields.get(f"{role}_token_id") in gone.values():
            del fields[f"{role}_token_id"]
    if isinstance(also := fields.get("additional_special_tokens"), list):
        fields["additional_special_tokens"] = [token for token in also if _content(token) not in gone]


def _content(token: Any) -> str | None:
    """A token's spelling, as text or as the object that some files write."""
    return token.get("content") if isinstance(token, dict) else token
