"""Pairs that differ from one another: vectors of what a model made of them, and the greedy k-centre choice.

Greedy k-centre (Gonzalez, 1985) takes the pair farthest from all that are taken already, which leaves no pair farther
from its nearest centre than twice the least distance possible. Sener and Savarese (2018) choose training data by it.
"""

import base64
import functools
import io
from collections.abc import Sequence

import numpy as np
from etils import epath

from humpback_jax.files import write_atomically

NONE, K_CENTRE = "none", "k_centre"
DIMENSIONS = 256
_DIGITS = 5  # of a distance; what differs less is the same, whatever the order of a sum was


def projected(hidden: np.ndarray) -> np.ndarray:
    """Hidden states, float [n, width], as float16 [n, at most DIMENSIONS]: distances stay about what they are.

    A wide state is multiplied by random signs, always the same (Achlioptas, 2003).
    """
    width = hidden.shape[1]
    return (hidden @ _signs(width) if width > DIMENSIONS else np.asarray(hidden)).astype(np.float16)


@functools.lru_cache(maxsize=2)
def _signs(width: int) -> np.ndarray:
    signs = np.random.default_rng(0).integers(0, 2, (width, DIMENSIONS)) * 2 - 1
    return (signs / np.sqrt(DIMENSIONS)).astype(np.float32)


def vector_to_text(vector: np.ndarray) -> str:
    """A float16 vector as a JSON text, little-endian in base64."""
    return base64.b64encode(vector.astype("<f2").tobytes()).decode("ascii")


def vector_of_text(text: str) -> np.ndarray:
    """The float16 vector of `vector_to_text`."""
    return np.frombuffer(base64.b64decode(text), "<f2")


def write_vectors(path: epath.Path, vectors: np.ndarray) -> None:
    """Writes float16 [n, d] as a .npy file, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, vectors)
    write_atomically(path, buffer.getvalue())


def read_vectors(path: epath.Path) -> np.ndarray:
    """The vectors of `write_vectors`."""
    return np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)


def k_centre(vectors: np.ndarray, ids: Sequence[bytes] | np.ndarray, first: int, count: int) -> np.ndarray:
    """Places of `count` vectors, each the farthest from those before it; of equally far ones that whose id is first.

    Distance is 1 - cosine, after the mean of all vectors is taken away: hidden states of a model point one way. Held
    are one float32 copy of the vectors and a distance of each.

    Args:
      vectors: float [n, d].
      ids: of each, which decide ties.
      first: the place that is taken first.
      count: at most n.
    """
    order = np.argsort(np.asarray(ids), kind="stable")
    directions = np.asarray(vectors, np.float32)[order]
    directions -= directions.mean(axis=0, dtype=np.float64).astype(np.float32)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-6)
    distances = np.full(len(order), np.inf, np.float32)
    taken = np.empty(min(count, len(order)), np.int64)
    place = int(np.flatnonzero(order == first)[0])
    for i in range(len(taken)):
        taken[i] = place
        distances = np.minimum(distances, np.round(1 - directions @ directions[place], _DIGITS))
        distances[place] = -np.inf
        place = int(np.argmax(distances))
    return order[taken]
