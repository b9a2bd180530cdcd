"""A model as a folder that transformers loads, with a card."""

import pathlib
from typing import Any

from humpback_jax.files import PathLike
from humpback_jax.publish.data import CARD
from humpback_jax.weights.convert import export_weights
from humpback_jax.weights.find import find_model
from humpback_jax.weights.model_folder import read_model_card

_CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
tags:
- instruction-backtranslation
---

# {name}

Trained by instruction backtranslation with humpback_jax. Weights: {source}. Chat format: {chat_format}. SHA-256 of the
parameters: `{sha256}`.
"""


def publish_model(model: PathLike, destination: PathLike, dtype: str | None = None) -> dict[str, Any]:
    """Exports any model that `find_model` finds to a new folder; what the export says of it is its card."""
    found = find_model(model, convert=False)
    result = export_weights(found, destination, dtype)
    readme = pathlib.Path(destination) / CARD
    if not readme.exists():
        card = read_model_card(find_model(model))
        text = _CARD.format(
            name=readme.parent.name, source=card.source, chat_format=card.chat_format, sha256=card.params_sha256
        )
        readme.write_text(text, encoding="utf-8")
    return result
