"""What is judged and what a verdict means, whoever the judge is.

Every comparison is judged in both orders. Both verdicts for one side: that side wins. One for each: a draw, for the
judge went by the order. Identical outputs are a draw without a judge. Without two verdicts there is no preference.
"""

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from humpback_jax.evaluation.judging.win_rate import DRAW, mean_lengths, preferences, win_rate
from humpback_jax.evaluation.records import read_outputs
from humpback_jax.files import PathLike, sha256_of_bytes
from humpback_jax.prompts.prompts import fill_template

ORDERS = (1, 2)  # 1: the baseline is Answer A; 2: the model is
BASELINE_WINS, MODEL_WINS = 1.0, 2.0


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


@dataclasses.dataclass(frozen=True)
class Contest:
    """What is judged: comparisons, the names of baseline and model, and how many outputs were missing."""

    comparisons: tuple[Comparison, ...]
    names: tuple[str, str]
    missing: int = 0

    @property
    def sha256(self) -> str:
        """Hash of everything the judge sees."""
        rows = [dataclasses.astuple(comparison) for comparison in self.comparisons]
        return sha256_of_bytes(json.dumps([rows, self.names, self.missing]).encode())

    def questions(self, template: str) -> dict[str, str]:
        """Prompts by question id: both orders of every comparison that has something to judge."""
        questions = {}
        for comparison in self.comparisons:
            answers = (comparison.baseline, comparison.model)
            for order, (first, second) in zip(ORDERS, (answers, answers[::-1]), strict=True):
                texts = {"instruction": comparison.instruction, "first": first, "second": second}
                if not comparison.identical:
                    questions[judgment_id(comparison, order)] = fill_template(template, texts)
        return questions


def judgment_id(comparison: Comparison, order: int) -> str:
    """Names one question to the judge."""
    return f"{comparison.id}:{order}"


def read_contest(outputs: PathLike, baseline: PathLike, limit: int | None = None, partial: bool = False) -> Contest:
    """The contest of two files of outputs, of the first `limit` instructions of the baseline; see `make_contest`."""
    base, model = read_outputs(baseline, limit), read_outputs(outputs)
    if limit is not None:
        wanted = {row["instruction"] for row in base}
        model = [row for row in model if row["instruction"] in wanted]
    return make_contest(base, model, (str(baseline), str(outputs)), partial)


def make_contest(
    base: Sequence[Mapping[str, Any]],
    model: Sequence[Mapping[str, Any]],
    fallback_names: tuple[str, str] = ("baseline", "model"),
    partial: bool = False,
) -> Contest:
    """Matches rows of `instruction` and `output` by instruction, in the order of the baseline's.

    Args:
      fallback_names: of baseline and model, where the rows name no generator.
      partial: take what there is; otherwise a missing output is an error.

    Raises:
      ValueError: outputs are missing and `partial` is false, none matches, or an instruction of the model has no
        baseline.
    """
    outputs: dict[str, list[str]] = defaultdict(list)
    for row in model:
        if isinstance(row.get("output"), str):
            outputs[row["instruction"]].append(row["output"])
    comparisons = []
    for number, row in enumerate(base):
        if outputs.get(row["instruction"]):
            output = outputs[row["instruction"]].pop(0)
            texts = (row["instruction"], row["output"], output, row.get("dataset"))
            comparisons.append(Comparison(f"{number:05d}", *texts))
    strangers, missing = sum(map(len, outputs.values())), len(base) - len(comparisons)
    if strangers or not comparisons:
        raise ValueError(
            f"{strangers} outputs of the model answer instructions that the baseline lacks, {len(comparisons)} match; "
            "give two files of the same instructions"
        )
    if missing and not partial:
        raise ValueError(
            f"{missing} of {len(base)} instructions have no output of the model; finish the generation by running "
            "it again, or judge what there is with --partial, which counts the rest"
        )
    names = [str(rows[0].get("generator") or name) for rows, name in zip((base, model), fallback_names, strict=True)]
    return Contest(tuple(comparisons), (names[0], names[1]), missing)


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


def to_annotations(contest: Contest, judgments: Mapping[str, Judgment], annotator: str) -> list[dict[str, Any]]:
    """Rows as AlpacaEval writes them; `both_orders` holds what the judge said.

    `probability` is the mean over both orders of the probability that the model's output is the better one.
    """
    rows = []
    for comparison in contest.comparisons:
        preference, reason = combined(comparison, judgments)
        both = [judgments.get(judgment_id(comparison, order)) for order in ORDERS]
        chances = [None if judgment is None else judgment.probability for judgment in both]
        probability = 0.5 if comparison.identical else None
        if chances[0] is not None and chances[1] is not None:
            probability = (1 - chances[0] + chances[1]) / 2
        rows.append(
            {
                "instruction": comparison.instruction,
                "output_1": comparison.baseline,
                "generator_1": contest.names[0],
                "dataset": comparison.dataset,
                "output_2": comparison.model,
                "generator_2": contest.names[1],
                "annotator": annotator,
                "preference": preference,
                "reason": reason,
                "both_orders": [None if j is None else {"verdict": j.verdict, "raw": j.raw} for j in both],
                "probability": probability,
            }
        )
    return rows


def judged_figures(annotations: Sequence[Mapping[str, Any]], missing: int) -> dict[str, Any]:
    """Win rate and every way in which a comparison did not get one."""
    draws = [row for row in annotations if row["preference"] == DRAW]
    identical = sum(row["output_1"] == row["output_2"] for row in draws)
    figures: dict[str, Any] = {
        **win_rate(preferences(annotations)),
        "draws_identical": identical,
        "draws_orders_disagree": len(draws) - identical,
        "failed": dict(Counter(row["reason"] for row in annotations if row["reason"] is not None)),
        "missing_outputs": missing,
        **mean_lengths(annotations),
    }
    weighted = [row["probability"] for row in annotations]
    if all(value is not None for value in weighted):
        figures["weighted_win_rate"] = 100 * sum(weighted) / len(weighted)
    return figures
