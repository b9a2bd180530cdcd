"""What the trials say: every finding as contrasts of held-out likelihoods, with intervals and a verdict by rule.

A contrast is a weighted sum of NLLs per token of groups; a difference has the weights 1 and -1, and a scaling exponent
(NLL = C - alpha ln N, least squares over the sizes) is such a sum too. Its interval is of a bootstrap that draws the
held-out pairs and the repeats again, the same ones for all groups, so that what groups share drops out.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from humpback_jax.evaluation.evidence.pool import (
    CURATED,
    FIRST_ROUND,
    FIT,
    LONGEST,
    NEXT,
    RANDOM,
    RATING,
    SINGLE,
    WORST,
)
from humpback_jax.evaluation.evidence.run import Measured
from humpback_jax.evaluation.evidence.trials import (
    SEEDS_ALONE,
    UNTAGGED,
    Evidence,
    joint_group,
    seed_group,
    web_group,
)
from humpback_jax.evaluation.paired import holm

RESAMPLES = 9999
CONFIDENCE = 0.95
POWER = 0.8
REPRODUCED, OPPOSITE, NOISE = "reproduced", "not reproduced", "within noise"

Key = tuple[str, str]  # group, tags asked


@dataclasses.dataclass(frozen=True)
class Contrast:
    """A weighted sum of NLLs per token that a finding expects to be negative.

    Attributes:
      words: what it compares, for a reader.
      weights: of the NLL of each (group, tags asked).
      unit: of its value.
    """

    words: str
    weights: Mapping[Key, float]
    unit: str = "nats per token"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A claim, and the contrasts that must all be negative for it to hold.

    Attributes:
      name: short, unique.
      claim: the sentence that is tested.
      source: `paper`, with the place, or `ours`.
      contrasts: all of them.
    """

    name: str
    claim: str
    source: str
    contrasts: tuple[Contrast, ...]


def difference(words: str, better: str, worse: str, asked: str = "seed", worse_asked: str | None = None) -> Contrast:
    """NLL of one group minus another's."""
    return Contrast(words, {(better, asked): 1.0, (worse, worse_asked or asked): -1.0})


def steeper(words: str, first: Mapping[str, int], second: Mapping[str, int]) -> Contrast:
    """The exponent alpha of the second groups minus that of the first, from groups to their sizes."""
    weights = {(group, "seed"): weight for group, weight in _slope_weights(first).items()}
    for group, weight in _slope_weights(second).items():
        weights[group, "seed"] = weights.get((group, "seed"), 0.0) - weight
    return Contrast(words, weights, "nats per token and e-fold of pairs")


def _slope_weights(sizes: Mapping[str, int]) -> dict[str, float]:
    """Weights that turn NLLs into the least-squares slope over ln size, which is -alpha."""
    logs = np.log(list(sizes.values()))
    centred = logs - logs.mean()
    return dict(zip(sizes, (centred / (centred**2).sum()).tolist(), strict=True))


def all_findings(evidence: Evidence) -> list[Finding]:
    """The paper's findings that held-out likelihood can test, then ours."""
    size, joint = evidence.equal_size, joint_group
    web = {order: {web_group(order, n): n for n in evidence.sizes} for order in (CURATED, RANDOM)}
    found = [
        Finding(
            "quality at equal N",
            "of the same number of pairs, the best teach more than the next best, and these more than any",
            "paper, figure 3",
            (
                difference("best against next best", web_group(CURATED, size), web_group(NEXT, size)),
                difference("next best against random", web_group(NEXT, size), web_group(RANDOM, size)),
                difference("best against random", web_group(CURATED, size), web_group(RANDOM, size)),
            ),
        ),
        Finding(
            "joint training",
            "seed pairs and curated pairs together teach more than either alone",
            "paper, table 4",
            (
                difference("together against seed pairs", joint(CURATED), SEEDS_ALONE),
                difference("together against curated pairs", joint(CURATED), web_group(CURATED, size)),
            ),
        ),
        Finding(
            "rounds",
            "what M_1 picks teaches at least as much as what M_0 picks",
            "paper, section 3.4",
            (difference("picks of the last round against the first", joint(CURATED), joint(FIRST_ROUND)),),
        ),
        Finding(
            "tags",
            "trained with tags and asked with both is best; without tags is worst",
            "paper, table 5",
            (
                difference("tags, asked with both, against no tags", joint(CURATED), UNTAGGED, "both", "none"),
                difference("asked with both against one", joint(CURATED), joint(CURATED), "both", "seed"),
            ),
        ),
    ]
    if len(evidence.sizes) > 1:
        flat = steeper("exponent of curated pairs over that of random ones", web[CURATED], web[RANDOM])
        found.append(Finding("uncurated is flat", "more pairs help if they are curated", "paper, figure 3", (flat,)))
    if len(evidence.seed_sizes) > 1:
        seeds = {seed_group(n): n for n in evidence.seed_sizes}
        faster = steeper("exponent of curated pairs over that of seed pairs", web[CURATED], seeds)
        claim = "held-out likelihood rises faster with curated pairs than with seed pairs"
        found.append(Finding("data efficiency", claim, "paper, table 3", (faster,)))
    ours = {
        RANDOM: ("curated against random", "the curated pairs teach more than as many random ones"),
        LONGEST: ("curated against longest", "the curated pairs teach more than the longest ones"),
        RATING: ("curator against rating", "the curator chooses better than the rating alone"),
        FIT: ("curator against fit", "the curator chooses better than the fit alone"),
        SINGLE: ("best of several", "the best of several instructions teaches more than the first one"),
        WORST: ("curated against worst", "the curated pairs teach more than those that the curator likes least"),
    }
    for order, (words, claim) in ours.items():
        if order in evidence.orders:
            found.append(Finding(words, claim, "ours", (difference(words, joint(CURATED), joint(order)),)))
    return found


class Likelihoods:
    """NLL per token of every (group, tags asked), and its distribution under resampling."""

    def __init__(self, measured: Sequence[Measured], seed: int = 0) -> None:
        self.tokens = np.asarray(measured[0].tokens, np.int64)
        self.repeats = sorted({each.trial.repeat for each in measured})
        self.sums: dict[Key, np.ndarray] = {}  # [repeats, pairs], nats
        for each in measured:
            for asked, values in each.log_likelihoods.items():
                table = self.sums.setdefault((each.trial.group, asked), np.zeros((len(self.repeats), len(self.tokens))))
                table[self.repeats.index(each.trial.repeat)] = values
        rng = np.random.default_rng(seed)
        self._pairs = rng.integers(0, len(self.tokens), (RESAMPLES, len(self.tokens)))
        self._repeats = rng.integers(0, len(self.repeats), (RESAMPLES, len(self.repeats)))
        self._drawn: dict[Key, np.ndarray] = {}

    def nll(self, key: Key) -> float:
        """Over all pairs and repeats."""
        return float(-self.sums[key].mean(axis=0).sum() / self.tokens.sum())

    def resampled(self, key: Key) -> np.ndarray:
        """float64 [resamples]."""
        if key not in self._drawn:
            sums, tokens = self.sums[key], self.tokens[self._pairs].sum(axis=1)
            # How often each repeat is drawn, times how often each pair is: one product for all resamples.
            repeats = np.apply_along_axis(np.bincount, 1, self._repeats, minlength=len(self.repeats))
            pairs = np.apply_along_axis(np.bincount, 1, self._pairs, minlength=len(self.tokens))
            self._drawn[key] = -((pairs @ sums.T) * repeats).sum(axis=1) / len(self.repeats) / tokens
        return self._drawn[key]

    def contrast(self, contrast: Contrast) -> dict[str, Any]:
        """Its value, interval and two-sided p-value, and the smallest difference that could have been seen."""
        value = sum(weight * self.nll(key) for key, weight in contrast.weights.items())
        drawn = np.sum([weight * self.resampled(key) for key, weight in contrast.weights.items()], axis=0)
        return {"words": contrast.words, "unit": contrast.unit} | figures_of(value, drawn)


def figures_of(value: float, drawn: np.ndarray) -> dict[str, float]:
    """A value with its interval, two-sided p-value and detectable difference, from resamples of it."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    beyond = min(1.0, 2 * (1 + min((drawn <= 0).sum(), (drawn >= 0).sum())) / (1 + len(drawn)))
    seen = (stats.norm.ppf(1 - (1 - CONFIDENCE) / 2) + stats.norm.ppf(POWER)) * drawn.std()
    named = {"value": value, "low": low, "high": high, "p_value": beyond, "detectable": seen}
    return {name: round(float(number), 5) for name, number in named.items()}


def measure_findings(findings: Sequence[Finding], likelihoods: Likelihoods) -> list[dict[str, Any]]:
    """Every finding with the figures of its contrasts; a contrast is as claimed where its value is below zero."""
    return [
        {
            "name": finding.name,
            "claim": finding.claim,
            "source": finding.source,
            "contrasts": [likelihoods.contrast(contrast) for contrast in finding.contrasts],
        }
        for finding in findings
    ]


def judge_findings(findings: Sequence[Mapping[str, Any]], significance: float) -> list[dict[str, Any]]:
    """The findings with their adjusted p-values and verdicts.

    A finding is as sure as its least sure contrast. It is reproduced where all contrasts are negative and the adjusted
    p-value is below `significance`; not reproduced where a contrast is positive with an interval off zero; within noise
    otherwise.
    """
    judged = []
    for finding in findings:
        contrasts = finding["contrasts"]
        as_claimed = all(each["value"] < 0 for each in contrasts)
        signs = {"sign": as_claimed, "opposite": any(each["low"] > 0 for each in contrasts)}
        p_value = max(each["p_value"] for each in contrasts) if as_claimed else 1.0
        judged.append({**finding, **signs, "p_value": p_value})
    for row, adjusted in zip(judged, holm([row["p_value"] for row in judged]), strict=True):
        row["adjusted_p_value"] = round(adjusted, 5)
        row["verdict"] = _verdict(row, significance)
    return judged


def _verdict(row: Mapping[str, Any], significance: float) -> str:
    if row["opposite"]:
        return OPPOSITE
    return REPRODUCED if row["sign"] and row["adjusted_p_value"] < significance else NOISE
