"""humpback_jax: instruction backtranslation (Humpback) in JAX, from raw web pages to a self-aligned LLaMA."""

import pathlib

__version__ = "0.1.0"

# `humpback_jax.gin_configs` lies inside an installed package, but beside the package in a checkout.
_CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
if (_CHECKOUT / "gin_configs" / "defaults.gin").is_file():
    __path__.append(str(_CHECKOUT))
