"""What training brought, on held-out answers: the last model beside M_0 and beside every arm, in one line each."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from humpback_jax.report.words import arm_words
from humpback_jax.run_files import ARM_MODEL_STAGE, MODEL_STAGE, arm_of, round_of

SEED_MODEL = MODEL_STAGE.format(t=0)
BASE = "base"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two models on the same held-out answers.

    Attributes:
      model, rival: names of stages, or `base`.
      nll, rival_nll: nats per answer token.
      difference: of the first minus the second; below 0 the model is better.
      interval: of the difference, 95 %, where it was measured.
    """

    model: str
    rival: str
    nll: float
    rival_nll: float
    difference: float
    interval: tuple[float, float] | None = None

    @property
    def sentence(self) -> str:
        """`m2: 2.401, random pairs: 2.432, difference -0.031 [-0.050, -0.012]`."""
        of_arm = arm_of(self.rival, ARM_MODEL_STAGE)
        rival = arm_words(of_arm[1]) if of_arm else self.rival
        text = f"{self.model}: {self.nll:.3f}, {rival}: {self.rival_nll:.3f}, difference {self.difference:+.3f}"
        if self.interval is None:
            return text
        low, high = self.interval
        return f"{text} [{low:+.3f}, {high:+.3f}]"

    @property
    def verdict(self) -> str:
        """What the interval says, in plain words; "" without one."""
        if self.interval is None:
            return ""
        low, high = self.interval
        if high < 0:
            return "better"
        return "worse" if low > 0 else "no clear difference"


def last_model(nll: Mapping[str, Any]) -> str | None:
    """The model of the last round that was measured; None where there is none but the base model and arms."""
    rounds = [t for name in nll if (t := round_of(name, MODEL_STAGE)) is not None]
    return MODEL_STAGE.format(t=max(rounds)) if rounds else None


def reference_model(nll: Mapping[str, Any]) -> str | None:
    """What gains are counted from: M_0, which has seen the seed pairs only; in a run without one, the base model."""
    return next((name for name in (SEED_MODEL, BASE) if name in nll), None)


def comparisons(figures: Mapping[str, Any]) -> list[Comparison]:
    """What the figures of the evaluation stage say of the last model: against M_0 first, then against every arm."""
    nll = figures.get("nll_per_token", {})
    model, reference = last_model(nll), reference_model(nll)
    if model is None:
        return []
    found = [
        Comparison(
            row["model"],
            row["rival"],
            nll[row["model"]]["nll"],
            nll[row["rival"]]["nll"],
            row["difference"],
            (row["low"], row["high"]),
        )
        for row in figures.get("nll_differences", [])
    ]
    if reference is not None and reference not in (model, *(each.rival for each in found)):
        ours, theirs = nll[model]["nll"], nll[reference]["nll"]
        found.insert(0, Comparison(model, reference, ours, theirs, round(ours - theirs, 4)))
    return found
