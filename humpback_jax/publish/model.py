"""A model as a folder that transformers loads, with the page that its export writes."""

from typing import Any

from humpback_jax.files import PathLike
from humpback_jax.weights.convert import export_weights
from humpback_jax.weights.find import find_model
from humpback_jax.weights.origins import NOTHING_SAID, Origins


def publish_model(
    model: PathLike,
    destination: PathLike,
    dtype: str | None = None,
    origins: Origins = NOTHING_SAID,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Exports any model that `find_model` finds to a new folder."""
    return export_weights(find_model(model, convert=False), destination, dtype, origins=origins, overwrite=overwrite)
