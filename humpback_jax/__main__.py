"""`python -m humpback_jax` is `humpback`."""

from humpback_jax.allocator import restart_with_tuned_allocator


def run() -> None:
    """Entry point of the command."""
    restart_with_tuned_allocator()
    from humpback_jax.cli import main

    main()


if __name__ == "__main__":
    run()
