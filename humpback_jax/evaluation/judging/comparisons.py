"""What is judged and what a verdict means, whoever the judge is.

Every comparison is judged in both orders. Both verdicts for one side: that side wins. One for each: a draw, for the
judge went by the order. Identical outputs are a draw without a judge. Without two verdicts there is no preference.
"""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from humpback_jax.evaluation.judging.win_rate import DRAW, preferences, win_rate
from humpback_jax.prompts.prompts import fill_template, packaged_template

ORDERS = (1, 2)  # 1: the baseline is Answer A; 2: the model is
BASELINE_WINS, MODEL_WINS = 1.0, 2.0
_VERDICT = re.compile(r"\W*(?:answer|option)?\W*([AB])\W*", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two outputs for one instruction; `id` is its place in the list."""

    id: str
    instruction: str
    baseline: str
    model: str
    dataset: str | None = None

    @property
    def identical(self) -> bool:
        """True where there is nothing to judge."""
        return self.baseline == self.model

    def sides(self, order: int) -> tuple[str, str]:
        """(Answer A, Answer B)."""
        return (self.baseline, self.model) if order == 1 else (self.model, self.baseline)


@dataclasses.dataclass(frozen=True)
class Judgment:
    """What a judge said to a comparison in one order.

    Attributes:
      verdict: "A", "B", "tie" where a judge's scores are equal, or None where there is none.
      reason: why there is no verdict.
      raw: the judge's words, or its scores.
      probability: that Answer A is the better one, where the judge gives it.
    """

    verdict: str | None
    reason: str | None = None
    raw: Any = None
    probability: float | None = None


def judgment_id(comparison: Comparison, order: int) -> str:
    """Names one question to the judge."""
    return f"{comparison.id}:{order}"


def judge_template() -> str:
    """The question to the judge, with `{instruction}`, `{first}` and `{second}`."""
    return packaged_template("judge.txt")


def judge_prompt(template: str, comparison: Comparison, order: int) -> str:
    """The question to the judge about a comparison in one order."""
    first, second = comparison.sides(order)
    return fill_template(template, {"instruction": comparison.instruction, "first": first, "second": second})


def parse_verdict(text: str) -> str | None:
    """ "A" or "B" where the last line of a judge's reply says just that, else None."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    match = _VERDICT.fullmatch(lines[-1]) if lines else None
    return match[1].upper() if match else None


def pair_outputs(
    baseline: Sequence[Mapping[str, Any]], model: Sequence[Mapping[str, Any]], partial: bool = False
) -> tuple[list[Comparison], int]:
    """(comparisons, instructions of the baseline without an output of the model), matched by instruction.

    Args:
      baseline: rows with `instruction` and `output`, in the order of the comparisons.
      model: the same of the model.
      partial: take what there is; otherwise a missing output is an error.

    Raises:
      ValueError: outputs are missing and `partial` is false, none matches, or an instruction of the model has no
        baseline.
    """
    outputs: dict[str, list[str]] = defaultdict(list)
    for row in model:
        if isinstance(row.get("output"), str):
            outputs[row["instruction"]].append(row["output"])
    comparisons, missing = [], 0
    for number, row in enumerate(baseline):
        if not outputs.get(row["instruction"]):
            missing += 1
            continue
        output = outputs[row["instruction"]].pop(0)
        comparisons.append(Comparison(f"{number:05d}", row["instruction"], row["output"], output, row.get("dataset")))
    strangers = sum(map(len, outputs.values()))
    if strangers or not comparisons:
        raise ValueError(
            f"{strangers} outputs of the model answer instructions that the baseline lacks, {len(comparisons)} match; "
            "give two files of the same instructions"
        )
    if missing and not partial:
        raise ValueError(
            f"{missing} of {len(baseline)} instructions have no output of the model; finish the generation by running "
            "it again, or judge what there is with --partial, which counts the rest"
        )
    return comparisons, missing


def combined(comparison: Comparison, judgments: Mapping[str, Judgment]) -> tuple[float | None, str | None]:
    """(preference, reason): 1, 1.5 or 2, or None with the reason why there is none."""
    if comparison.identical:
        return DRAW, None
    both = [judgments[judgment_id(comparison, order)] for order in ORDERS]
    failed = [judgment.reason or "no_verdict" for judgment in both if judgment.verdict is None]
    if failed:
        return None, failed[0]
    return sum(_preference(j.verdict, order) for j, order in zip(both, ORDERS, strict=True)) / 2, None


def _preference(verdict: str | None, order: int) -> float:
    if verdict == "tie":
        return DRAW
    return MODEL_WINS if (verdict == "A") == (order == 2) else BASELINE_WINS


def to_annotations(
    comparisons: Sequence[Comparison], judgments: Mapping[str, Judgment], names: tuple[str, str], annotator: str
) -> list[dict[str, Any]]:
    """Rows as AlpacaEval writes them; `names` are (baseline, model). `both_orders` holds what the judge said."""
    rows = []
    for comparison in comparisons:
        preference, reason = combined(comparison, judgments)
        said = [judgments.get(judgment_id(comparison, order)) for order in ORDERS]
        rows.append(
            {
                "instruction": comparison.instruction,
                "output_1": comparison.baseline,
                "generator_1": names[0],
                "dataset": comparison.dataset,
                "output_2": comparison.model,
                "generator_2": names[1],
                "annotator": annotator,
                "preference": preference,
                "reason": reason,
                "both_orders": [None if j is None else {"verdict": j.verdict, "raw": j.raw} for j in said],
                "probability": model_probability(comparison, said),
            }
        )
    return rows


def model_probability(comparison: Comparison, said: Sequence[Judgment | None]) -> float | None:
    """Mean over both orders of the probability that the model's output is the better one."""
    if comparison.identical:
        return 0.5
    values = [
        None if j is None or j.probability is None else (j.probability if order == 2 else 1 - j.probability)
        for j, order in zip(said, ORDERS, strict=True)
    ]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(ORDERS) else None


def judged_figures(annotations: Sequence[Mapping[str, Any]], missing: int) -> dict[str, Any]:
    """Win rate and every way in which a comparison did not get one."""
    failures: dict[str, int] = {}
    for row in annotations:
        if row["reason"] is not None:
            failures[row["reason"]] = failures.get(row["reason"], 0) + 1
    draws = [row for row in annotations if row["preference"] == DRAW]
    identical = sum(row["output_1"] == row["output_2"] for row in draws)
    figures: dict[str, Any] = {
        **dataclasses.asdict(win_rate(preferences(annotations))),
        "draws_identical": identical,
        "draws_orders_disagree": len(draws) - identical,
        "failed": failures,
        "missing_outputs": missing,
    }
    for name, column in (("avg_length", "output_2"), ("avg_length_base", "output_1")):
        figures[name] = int(sum(len(row[column]) for row in annotations) / len(annotations))
    weighted = [row["probability"] for row in annotations]
    if all(value is not None for value in weighted):
        figures["weighted_win_rate"] = 100 * sum(weighted) / len(weighted)
    return figures
