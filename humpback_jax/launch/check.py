"""`python -m humpback_jax.launch.check CHIPS`: run on every worker by `setup`, it sees that they make one slice."""

import sys

from humpback_jax.runtime.distributed import agree, join_processes
from humpback_jax.runtime.processes import process_count, process_index


def check(expected_devices: int) -> str:
    """Connects the workers and counts devices.

    Args:
      expected_devices: JAX devices of the whole slice; 0: any number.

    Returns:
      One line that says what this worker sees.

    Raises:
      ValueError: this worker has another number than JAX gives it, or there are other devices than expected.
    """
    index, count = process_index(), process_count()
    join_processes(None)
    import jax

    here = f"{jax.local_device_count()} of {jax.device_count()} devices ({jax.devices()[0].device_kind})"
    line = f"worker {index} of {count}: {here}, jax {jax.__version__}"
    if expected_devices and jax.device_count() != expected_devices:
        raise ValueError(f"{line}; the slice should have {expected_devices}: delete it and create it again")
    agree(True)
    return line


if __name__ == "__main__":
    print(check(int(sys.argv[1])))
