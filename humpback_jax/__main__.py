"""`python -m humpback_jax` is `humpback`."""

from humpback_jax.cli import main

main()
