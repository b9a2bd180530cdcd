"""Published results that a run is put beside: the number, where it is from, and what makes it comparable or not."""

import dataclasses
from collections.abc import Sequence
from typing import Any

PAPER = "Li et al., Self-Alignment with Instruction Backtranslation, arXiv 2308.06259"
ALPACA_EVAL_1 = "AlpacaEval 1"
HUMAN = "human evaluation"
COMPARABLE = (
    "same 805 instructions, judge alpaca_eval_gpt4 (gpt-4, whose meaning has changed since), baseline "
    "text_davinci_003; no interval printed"
)
HUMAN_PROTOCOL = "share of Humpback's wins, ties and losses by paid annotators; not a win rate of an automatic judge"


@dataclasses.dataclass(frozen=True)
class PublishedRow:
    """A published number.

    Attributes:
      model: as the source calls it.
      group: "non-distilled", "distilled" or "proprietary".
      benchmark: what was measured.
      win_rate: in percent; against the benchmark's baseline, or, of people, the share that preferred Humpback.
      standard_error: in percent, where it is known.
      ties, losses: of people, in percent.
      examples: examples finetuned on, as printed.
      source: table and work.
      comparability: what to keep in mind.
    """

    model: str
    group: str
    benchmark: str
    win_rate: float
    source: str
    comparability: str
    standard_error: float | None = None
    ties: float | None = None
    losses: float | None = None
    examples: str | None = None


def _automatic(
    model: str, group: str, win_rate: float, examples: str | None, note: str = "", error: float | None = None
) -> PublishedRow:
    comparability = f"{COMPARABLE}; {note}" if note else COMPARABLE
    source = f"{PAPER}, Table 3 (v3)"
    return PublishedRow(model, group, ALPACA_EVAL_1, win_rate, source, comparability, error, examples=examples)


def _human(model: str, group: str, wins: float, ties: float, losses: float) -> PublishedRow:
    return PublishedRow(model, group, HUMAN, wins, f"{PAPER}, Figure 4 (v3)", HUMAN_PROTOCOL, None, ties, losses)


_LEADERBOARD = "standard error recomputed from the alpaca_eval leaderboard at cd543a1"
PUBLISHED: tuple[PublishedRow, ...] = (
    _automatic("Humpback 33B", "non-distilled", 79.84, "45k"),
    _automatic("Humpback 65B", "non-distilled", 83.71, "45k", _LEADERBOARD, 1.307),
    _automatic("Humpback 70B", "non-distilled", 87.94, "45k", f"LLaMA-2 base; {_LEADERBOARD}", 1.155),
    _automatic("LIMA 65B", "non-distilled", 62.70, "1k"),
    _automatic("Guanaco 33B", "non-distilled", 65.96, "9k"),
    _automatic("Guanaco 65B", "non-distilled", 71.80, "9k"),
    _automatic("OASST SFT 33B", "non-distilled", 54.97, "161k"),
    _automatic("OASST RLHF 33B", "non-distilled", 66.52, "161k", "trained with human preferences too"),
    _automatic("LLaMA-2-Chat 70B", "non-distilled", 92.66, "5.7m", "trained with human preferences too"),
    _automatic("Falcon-Instruct 40B", "distilled", 45.71, "100k"),
    _automatic("Vicuna 33B", "distilled", 88.99, "140k", "answers of ChatGPT"),
    _automatic("WizardLM 13B", "distilled", 86.32, "190k", "answers of OpenAI models; the paper writes WizardLLM"),
    _automatic("airoboros 65B", "distilled", 73.91, "17k", "answers of GPT-4"),
    PublishedRow(
        "text-davinci-003", "proprietary", ALPACA_EVAL_1, 50.0, "tatsu-lab/alpaca_eval leaderboard at cd543a1",
        "the baseline itself: 50 by construction; mean length 307 characters",
    ),
    _automatic("ChatGPT", "proprietary", 89.37, None),
    _automatic("Claude", "proprietary", 88.39, None),
    _automatic("Claude 2", "proprietary", 91.36, None),
    _automatic("GPT-4", "proprietary", 95.28, None, "judged by itself"),
    _human("LIMA 65B", "non-distilled", 55.6, 6.7, 37.8),
    _human("Claude", "proprietary", 59.4, 7.5, 33.1),
    _human("Guanaco 65B", "non-distilled", 59.6, 11.0, 29.4),
    _human("text-davinci-003", "proprietary", 66.7, 13.5, 19.8),
    _human("Falcon-Instruct 40B", "distilled", 81.4, 3.8, 14.9),
)  # fmt: skip


def rows_beside(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results of `annotation_figures` among the rows of AlpacaEval 1, best first, then the human evaluation."""
    automatic = [*map(_row_of_run, results), *(row for row in PUBLISHED if row.benchmark == ALPACA_EVAL_1)]
    human = [row for row in PUBLISHED if row.benchmark == HUMAN]
    return [dataclasses.asdict(row) for row in sorted(automatic, key=lambda row: -row.win_rate) + human]


def _row_of_run(figures: dict[str, Any]) -> PublishedRow:
    """A run as a row, with what differs from the published setting spelled out."""
    judge, baseline, count = figures["annotator"], figures["baseline"], figures["n_total"] + figures["n_dropped"]
    differences = []
    if judge != "alpaca_eval_gpt4":
        differences.append(f"judge {judge}, not alpaca_eval_gpt4: not comparable with these rows")
    if baseline != "text_davinci_003":
        differences.append(f"baseline {baseline}, not text_davinci_003: not comparable with these rows")
    if count != 805:
        differences.append(f"{count} of 805 instructions")
    if figures["n_dropped"]:
        differences.append(f"{figures['n_dropped']} without a preference")
    comparability = "; ".join(differences) or COMPARABLE.rpartition(";")[0]
    where = ("this run", ALPACA_EVAL_1, figures["win_rate"], "this run's annotations")
    return PublishedRow(figures["model"] or "this run", *where, comparability, figures["standard_error"])
