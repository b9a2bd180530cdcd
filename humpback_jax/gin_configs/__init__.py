"""gin files; a package, so that `--gin_file=humpback_jax/gin_configs/…` is found wherever the package is installed."""
