"""Compiled programs that outlive the process: a restart loads them instead of compiling again."""

import hashlib
import os
import pathlib
import platform

CACHE_VARIABLE = "HUMPBACK_CACHE"
VARIABLE = "HUMPBACK_COMPILATION_CACHE"


def default_cache() -> pathlib.Path:
    """What all runs of a user share, models and compiled programs: $HUMPBACK_CACHE, else ~/.cache/humpback_jax."""
    return pathlib.Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/humpback_jax").expanduser().absolute()


def machine_name() -> str:
    """Architecture and a hash of the processor's features: programs compiled for other features must not be loaded."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "".join(lines[:1]))
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"


def use_compilation_cache() -> None:
    """Keeps compiled programs beside the fetched models, or where $HUMPBACK_COMPILATION_CACHE says (`off`: nowhere).

    A directory that JAX itself has been given stays in force.
    """
    import jax

    folder = os.environ.get(VARIABLE) or str(default_cache() / "compiled" / machine_name())
    if folder == "off" or jax.config.values["jax_compilation_cache_dir"]:
        return
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
