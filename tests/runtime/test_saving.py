"""A full disk while Orbax writes is one error that says so, and no traceback of its threads."""

import errno
import logging

import jax.numpy as jnp
import pytest
from orbax.checkpoint._src.futures.future import CommitFuture

from humpback_jax.runtime.saving import saving
from humpback_jax.weights.params_store import write_params


@pytest.mark.parametrize(
    "words",
    [
        "RESOURCE_EXHAUSTED: Failed to write 4279 bytes to file 16: No space left on device [os_error_code='28']",
        "Failed writing: Disk quota exceeded",
    ],
)
def test_a_full_disk_is_an_error_of_the_system_that_names_the_place(tmp_path, words):
    with pytest.raises(OSError, match="no space left while writing a/model; free space") as caught, saving("a/model"):
        raise ValueError(words)
    assert caught.value.errno == errno.ENOSPC


def test_other_errors_are_left_as_they_are():
    with pytest.raises(ValueError, match="shapes differ"), saving("a/model"):
        raise ValueError("shapes differ")


async def fails():
    raise ValueError("Failed writing: No space left on device")


def test_what_a_thread_of_orbax_raises_is_not_written_as_well(capfd):
    with pytest.raises(OSError, match="no space left while writing a/model"), saving("a/model"):
        CommitFuture(fails(), name="a write").result()
    assert capfd.readouterr().err == ""


def test_other_messages_are_still_written(tmp_path, caplog):
    write_params(tmp_path / "params", {"a": jnp.zeros(3)})
    with caplog.at_level(logging.WARNING, "absl"):
        logging.getLogger("absl").warning("the bucket is far away")
    assert "the bucket is far away" in caplog.text
