"""Rotary embeddings in the config.json of Hugging Face folders: the base, its scaling, and how much of a head turns."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from humpback_jax.models.config import LlamaConfig, RopeScaling
from humpback_jax.weights.mapping import Fields

# What each kind of scaling may say; every other field is an error.
_FIELDS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor", "original_max_position_embeddings"),
    "yarn": (
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "truncate",
        "finetuned",
    ),
    "longrope": ("factor", "original_max_position_embeddings", "attention_factor", "short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
_BESIDE = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
_OLD_NAMES = {"su": "longrope"}


class RopeFields(NamedTuple):
    """What a file says; None for what it leaves out."""

    theta: float | None
    scaling: RopeScaling | None
    partial: float | None


def rope_from(fields: Mapping[str, Any], max_positions: int, where: str) -> RopeFields:
    """From `rope_theta` + `rope_scaling`, or from the newer `rope_parameters`; where both are there they must agree."""
    parameters, scaling = fields.get("rope_parameters"), fields.get("rope_scaling")
    for key, value in (("rope_parameters", parameters), ("rope_scaling", scaling)):
        if value is not None and not isinstance(value, dict):
            raise ValueError(f"{where}: {key} must be an object or null, found {value!r}")
    given = [value for value in (parameters, scaling) if value is not None]
    original = fields.get("original_max_position_embeddings")
    scalings = [_scaling(value, original, max_positions, where) for value in given]
    if len(scalings) == 2 and scalings[0] != scalings[1]:
        raise ValueError(f"{where}: rope_scaling and rope_parameters disagree: {scalings[1]} and {scalings[0]}")
    theta = _agreed("rope_theta", fields, given, where)
    return RopeFields(theta, scalings[0] if scalings else None, _agreed("partial_rotary_factor", fields, given, where))


def _agreed(key: str, fields: Mapping[str, Any], given: list[dict], where: str) -> float | None:
    stated = {float(each[key]) for each in (fields, *given) if each.get(key) is not None}
    if len(stated) > 1:
        raise ValueError(f"{where}: {key} and rope_parameters disagree: {sorted(stated)}")
    return stated.pop() if stated else None


def _scaling(stated: Mapping[str, Any], original: int | None, max_positions: int, where: str) -> RopeScaling | None:
    fields = {key: value for key, value in stated.items() if value is not None}
    kind = fields.get("rope_type", fields.get("type", "default"))
    kind = _OLD_NAMES.get(kind, kind)
    if kind not in _FIELDS:
        raise ValueError(f"{where}: rope type {kind!r} is not supported; known: {', '.join(map(repr, _FIELDS))}")
    if unknown := sorted(fields.keys() - {*_FIELDS[kind], *_BESIDE}):
        raise ValueError(f"{where}: unknown rope field {unknown[0]} for rope type {kind!r}")
    if kind == "default":
        return None
    checked = Fields(fields, f"{where}: rope scaling")
    if kind == "llama3":
        factor, low, high = (float(checked.needed(key)) for key in _FIELDS[kind][:3])
        return RopeScaling(factor, low, high, int(original or checked.needed("original_max_position_embeddings")))
    if kind == "linear":
        return RopeScaling(float(checked.needed("factor")), kind=kind)
    if kind == "dynamic":
        if fields.get("original_max_position_embeddings", max_positions) != max_positions:
            raise ValueError(
                f"{where}: rope scaling original_max_position_embeddings is "
                f"{fields['original_max_position_embeddings']}; 'dynamic' scaling grows from max_position_embeddings "
                f"{max_positions} on, expected that or no field"
            )
        factor = float(checked.needed("factor"))
        return RopeScaling(factor, original_max_position_embeddings=max_positions, kind=kind)
    first = int(original or fields.get("original_max_position_embeddings") or max_positions)
    factor = float(fields.get("factor") or max_positions / first)
    plain = RopeScaling(factor, original_max_position_embeddings=first, kind=kind)
    return _yarn(plain, fields) if kind == "yarn" else _longrope(plain, checked)


def _yarn(scaling: RopeScaling, fields: Mapping[str, Any]) -> RopeScaling:
    factor = fields.get("attention_factor")
    if factor is None:
        factor = yarn_attention_factor(scaling.factor, fields.get("mscale"), fields.get("mscale_all_dim"))
    return dataclasses.replace(
        scaling,
        beta_fast=float(fields.get("beta_fast") or 32),
        beta_slow=float(fields.get("beta_slow") or 1),
        truncate=bool(fields.get("truncate", True)),
        attention_factor=float(factor),
    )


def yarn_attention_factor(factor: float, mscale: float | None, mscale_all_dim: float | None) -> float:
    """The factor of a file that does not say it (Peng et al. 2023, section 3.4; DeepSeek-V3 for the two scales)."""

    def at(scale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0

    return at(mscale) / at(mscale_all_dim) if mscale and mscale_all_dim else at(1.0)


def _longrope(scaling: RopeScaling, checked: Fields) -> RopeScaling:
    stated = checked.values.get("attention_factor")
    return dataclasses.replace(
        scaling,
        attention_factor=float(stated or longrope_attention_factor(scaling)),
        short_factor=tuple(map(float, checked.needed("short_factor"))),
        long_factor=tuple(map(float, checked.needed("long_factor"))),
    )


def longrope_attention_factor(scaling: RopeScaling) -> float:
    """The factor of a file that does not say it (Ding et al. 2024)."""
    if scaling.factor <= 1.0:
        return 1.0
    return math.sqrt(1 + math.log(scaling.factor) / math.log(scaling.original_max_position_embeddings))


def rope_scaling_to(config: LlamaConfig) -> dict[str, Any] | None:
    """`rope_scaling` of a config.json, as transformers 4 and 5 both read it."""
    scaling = config.rope_scaling
    if scaling is None:
        return None
    names = {
        "llama3": _FIELDS["llama3"],
        "linear": ("factor",),
        "dynamic": ("factor",),
        "yarn": (*_FIELDS["yarn"][:5], "truncate"),
        "longrope": _FIELDS["longrope"],
    }[scaling.kind]
    fields = {"rope_type": scaling.kind} | {name: getattr(scaling, name) for name in names}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}
