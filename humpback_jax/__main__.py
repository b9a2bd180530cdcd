"""`python -m humpback_jax` is `humpback`."""

from humpback_jax.runtime.startup import prepare_process


def run() -> None:
    """Entry point of the command."""
    prepare_process()
    from humpback_jax.cli import main

    main()


if __name__ == "__main__":
    run()
