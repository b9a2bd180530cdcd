"""Shared fixtures: where the optional test data lies."""

import pathlib

import pytest

SHARED = pathlib.Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of real test data beside the checkout; the test skips by name where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real test data in {SHARED.parent.name}/{SHARED.name} beside the checkout")
    return SHARED
