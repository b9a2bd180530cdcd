"""humpback_jax: instruction backtranslation (Humpback) in JAX, from raw web pages to a self-aligned LLaMA."""

__version__ = "0.1.0"
