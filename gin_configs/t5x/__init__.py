"""gin files for t5x's own programs, which look for them as `humpback_jax/gin_configs/t5x/NAME.gin`."""
