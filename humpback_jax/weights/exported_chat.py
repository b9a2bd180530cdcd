"""How a model is asked, for other programs: its tokenizer, its chat template, and the ids that end an answer."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from humpback_jax.chat.export import exported_template, template_difference
from humpback_jax.chat.formats import ChatFormat
from humpback_jax.tokenizers import (
    ADDED_TOKENS,
    CHAT_TEMPLATE,
    CHAT_TEMPLATE_JSON,
    CONFIG,
    GENERATION,
    HF_JSON,
    SPECIAL_TOKENS,
    FileTokenizer,
)
from humpback_jax.weights.foreign_tokenizers import exported_tokenizer_files
from humpback_jax.weights.model_folder import ModelCard

# They repeat tokenizer_config.json or the template, and would contradict what is written there now.
_SUPERSEDED = (SPECIAL_TOKENS, ADDED_TOKENS, CHAT_TEMPLATE_JSON, CHAT_TEMPLATE)


@dataclasses.dataclass(frozen=True)
class ExportedChat:
    """Files of a Hugging Face folder that say how its model is asked.

    Attributes:
      files: {file name: content}.
      template: the chat template's Jinja source, or None for a model without a chat format.
      bos_id: what a text begins with.
      end_ids: what ends an answer; the end of a turn first.
      end_tokens: their spelling.
    """

    files: dict[str, bytes]
    template: str | None
    bos_id: int | None
    end_ids: tuple[int, ...]
    end_tokens: tuple[str, ...]


def exported_chat(card: ModelCard, tokenizer: FileTokenizer) -> ExportedChat:
    """The files with which transformers writes the ids of training, and stops where this program stops.

    Raises:
      ValueError: no chat template gives these ids, or the tokenizer cannot be written as a tokenizer.json.
    """
    files = exported_tokenizer_files(tokenizer)
    config = json.loads(files[CONFIG])
    names = {number: token for token, number in tokenizer.special_tokens.items()}
    template, end_ids = _asked_and_ended(card, tokenizer, files[HF_JSON])
    for name in _SUPERSEDED:
        files.pop(name, None)
    config |= {"eos_token": names[end_ids[0]] if end_ids else None}
    config["model_max_length"] = card.config.max_position_embeddings
    config.pop("chat_template", None)
    if template is not None:
        files[CHAT_TEMPLATE] = template.encode()
        config["chat_template"] = template  # for programs that do not read a file of its own
    generation = json.loads(tokenizer.files.get(GENERATION, b"{}"))
    generation |= {"bos_token_id": tokenizer.bos_id, "eos_token_id": one_or_several(end_ids)}
    files[GENERATION] = _json({key: value for key, value in generation.items() if value is not None})
    files[CONFIG] = _json(config)
    end_tokens = tuple(names[number] for number in end_ids)
    return ExportedChat(files, template, tokenizer.bos_id, end_ids, end_tokens)


def check_exportable(tokenizer: FileTokenizer, chat_format: str | None) -> None:
    """Raises ValueError if a model with this tokenizer, trained in this format, could not be exported."""
    files = exported_tokenizer_files(tokenizer)
    if chat_format is not None:
        _template(ChatFormat(chat_format), tokenizer, None, files[HF_JSON])


def _asked_and_ended(
    card: ModelCard, tokenizer: FileTokenizer, tokenizer_json: bytes
) -> tuple[str | None, tuple[int, ...]]:
    """The chat template, and what ends an answer; of a model without a chat format, what its makers say."""
    if card.chat_format is not None:
        chat_format = ChatFormat(card.chat_format)
        try:
            return _template(chat_format, tokenizer, card.tags, tokenizer_json), chat_format.stop_ids(tokenizer)
        except ValueError:
            # A base whose own template is of no use here was not trained in it, and leaves as it came.
            if chat_format.name != "tokenizer" or card.training:
                raise
    eos = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    return tokenizer.chat_template, tuple(dict.fromkeys([*eos, *tokenizer.end_ids]))


def one_or_several(ids: Sequence[int]) -> int | list[int] | None:
    """Ids as configurations write them: none, one, or a list."""
    return list(ids) if len(ids) > 1 else next(iter(ids), None)


def _template(chat_format: ChatFormat, tokenizer: FileTokenizer, tags: str | None, tokenizer_json: bytes) -> str:
    """The tokenizer's own template where it gives the ids of training, else one of the format's pieces."""
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer_json.decode())
    for own in (True, False) if chat_format.name == "tokenizer" else (False,):
        template = exported_template(chat_format, tokenizer, tags, own)
        different = template_difference(template, chat_format, tokenizer, backend)
        if different is None:
            return template
    raise ValueError(
        f"{tokenizer.where}: no chat template makes the ids of chat format {chat_format.name!r} with this tokenizer: a "
        f"turn such as {different!r} becomes other ids when it is rendered as one text; choose another chat format"
    )


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, indent=2, ensure_ascii=False).encode() + b"\n"
