"""The page of the evidence: figures, plots, and Markdown that reads like a short paper."""

import collections
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jinja2
import numpy as np
from etils import epath

import humpback_jax
from humpback_jax import run_files
from humpback_jax.align import Alignment
from humpback_jax.display.plots import (
    INK,
    KEPT_COLOR,
    Plot,
    finish_plot,
    label_axes,
    label_rows,
    new_axes,
    series_color,
)
from humpback_jax.evaluation.evidence.findings import (
    NOISE,
    OPPOSITE,
    REPRODUCED,
    Likelihoods,
    all_findings,
    judge_findings,
    measure_findings,
)
from humpback_jax.evaluation.evidence.picks import label_finding, shares
from humpback_jax.evaluation.evidence.pool import CURATED, RANDOM
from humpback_jax.evaluation.evidence.run import Measured
from humpback_jax.evaluation.evidence.trials import SEEDS_ALONE, UNTAGGED, Evidence, joint_group, web_group
from humpback_jax.files import PathLike, read_json, write_atomically, write_json
from humpback_jax.prompts.prompts import TAG_CHOICES
from humpback_jax.stages.stage import plain

FIGURES, PAGE, PLOTS = "evidence.json", "evidence.md", "evidence"
HASHED = (run_files.SEGMENTS_STAGE, run_files.AUGMENTED_STAGE, run_files.BACKWARD_STAGE)


def evidence_figures(
    directory: PathLike, evidence: Evidence, alignment: Alignment, measured: Sequence[Measured]
) -> dict[str, Any]:
    """Everything that the page says, as plain values; also written to DIRECTORY/evidence.json."""
    likelihoods, folder = Likelihoods(measured), epath.Path(directory)
    found = measure_findings(all_findings(evidence), likelihoods)
    if evidence.labels:
        found.append(label_finding(alignment, evidence.labels, str(folder / "labelled")))
    judged = judge_findings(found, evidence.significance)
    stages = {name: read_json(alignment.run_dir / name / run_files.MANIFEST) for name in alignment.complete_stages()}
    figures: dict[str, Any] = {
        "evidence": dataclasses.asdict(evidence),
        "findings": [finding | {"meaning": _meaning(finding)} for finding in judged],
        "counted": _count(judged),
        "groups": _groups(measured, likelihoods),
        "tags": _tags(likelihoods),
        "shares": shares(alignment),
        "setting": _setting(alignment, stages, likelihoods),
        "trials": [{"name": each.trial.name, "seconds": each.seconds} for each in measured],
        "machine": _machine(stages, measured),
        "hashes": {name: next(iter(stages[name]["outputs"].values())) for name in HASHED},
    }
    by_labels = [finding["labelled"] for finding in judged if "labelled" in finding]
    figures["labelled"] = by_labels[0] if by_labels else None
    figures = plain(figures)
    write_json(folder / FIGURES, figures)
    return figures


def write_page(directory: PathLike, figures: Mapping[str, Any], command: str) -> epath.Path:
    """Writes DIRECTORY/evidence.md and its plots in DIRECTORY/evidence/; returns the page."""
    folder = epath.Path(directory)
    plots = {plot.name: plot for plot in (contrasts_plot(figures["findings"]), scaling_plot(figures))}
    (folder / PLOTS).mkdir(parents=True, exist_ok=True)
    for plot in plots.values():
        write_atomically(folder / PLOTS / f"{plot.name}.png", plot.png)
    loader = jinja2.PackageLoader("humpback_jax", "evaluation/evidence/templates")
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    text = environment.get_template("evidence.md.j2").render(figures, plots=plots, command=command)
    write_atomically(folder / PAGE, text)
    return folder / PAGE


def _count(judged: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    verdicts = collections.Counter(finding["verdict"] for finding in judged)
    counted = {"reproduced": verdicts[REPRODUCED], "noise": verdicts[NOISE], "opposite": verdicts[OPPOSITE]}
    return counted | {"findings": len(judged), "signs": sum(finding["sign"] for finding in judged)}


def _meaning(finding: Mapping[str, Any]) -> str:
    """The verdict in a sentence, with the contrast that decided it."""
    weakest = max(finding["contrasts"], key=lambda each: (each["low"] > 0, each["value"] >= 0, each["p_value"]))
    figure = f"{weakest['words']}: {weakest['value']:+.4f} [{weakest['low']:+.4f}, {weakest['high']:+.4f}]"
    if finding["verdict"] == REPRODUCED:
        return f"holds; the least sure contrast is {figure}."
    if finding["verdict"] == OPPOSITE:
        return f"does not hold: {figure}."
    if abs(weakest["value"]) < weakest["detectable"]:
        return f"cannot be decided here: {figure}, and a difference under {weakest['detectable']:.4f} would be missed."
    return f"is not sure once all findings are counted: {figure}."


def _groups(measured: Sequence[Measured], likelihoods: Likelihoods) -> list[dict[str, Any]]:
    """Every group once, with what it was trained on and how likely held-out answers are, best first."""
    first = {each.trial.group: each for each in reversed(measured)}
    alone = likelihoods.nll((SEEDS_ALONE, "seed"))
    rows = [
        {
            "name": group,
            "pairs": each.pairs,
            "output_chars": each.output_chars,
            "nll": likelihoods.nll((group, "seed")),
            "difference": likelihoods.nll((group, "seed")) - alone,
        }
        for group, each in first.items()
    ]
    return sorted(rows, key=lambda row: row["nll"])


def _tags(likelihoods: Likelihoods) -> list[dict[str, Any]]:
    """Training with and without tags, by the tags asked."""
    names = {"with tags": joint_group(CURATED), "without tags": UNTAGGED}
    return [
        {"name": name, "nll": {asked: likelihoods.nll((group, asked)) for asked in TAG_CHOICES}}
        for name, group in names.items()
    ]


def _setting(alignment: Alignment, stages: Mapping[str, Any], likelihoods: Likelihoods) -> dict[str, Any]:
    seeds, segments = stages[run_files.SEEDS_STAGE], stages[run_files.SEGMENTS_STAGE]
    return {
        "base": alignment.base.card.config.name,
        "seeds": stages[run_files.MODEL_STAGE.format(t=0)]["counts"]["out"],
        "seeds_read": seeds["counts"]["in"],
        "segments": segments["counts"]["out"],
        "pairs": stages[run_files.AUGMENTED_STAGE]["counts"]["out"],
        "heldout": len(likelihoods.tokens),
        "tokens": int(likelihoods.tokens.sum()),
    }


def _machine(stages: Mapping[str, Any], measured: Sequence[Measured]) -> dict[str, Any]:
    return {
        "device": jax.devices()[0].device_kind,
        "count": jax.device_count(),
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "version": humpback_jax.__version__,
        "alignment_seconds": sum(stage["seconds"] for stage in stages.values()),
        "trial_seconds": sum(each.seconds for each in measured),
    }


def contrasts_plot(findings: Sequence[Mapping[str, Any]]) -> Plot:
    """Every contrast of likelihoods with its interval; left of zero is as claimed."""
    rows = [each for finding in findings for each in finding["contrasts"] if each["unit"] == "nats per token"]
    axes = new_axes(0.8 + 0.3 * len(rows))
    places = np.arange(len(rows))
    values = np.asarray([row["value"] for row in rows])
    spread = [[row["value"] - row["low"] for row in rows], [row["high"] - row["value"] for row in rows]]
    axes.errorbar(values, places, xerr=np.maximum(spread, 0), fmt="o", color=KEPT_COLOR, markersize=4, linewidth=1.4)
    axes.axvline(0, color=INK, linewidth=0.8)
    label_rows(axes, [_short(row["words"]) for row in rows], "nats per token; left of zero as claimed")
    alt = "; ".join(f"{row['words']} {row['value']:+.4f}" for row in rows)
    return finish_plot(axes, "contrasts", "evidence", "Contrasts", f"{alt}.")


def _short(words: str) -> str:
    return words if len(words) < 34 else words[:32] + "…"


def scaling_plot(figures: Mapping[str, Any]) -> Plot:
    """NLL over the number of pairs, curated and random pairs alone."""
    nll, axes, told = {row["name"]: row["nll"] for row in figures["groups"]}, new_axes(), []
    for place, order in enumerate((CURATED, RANDOM)):
        sizes = figures["evidence"]["sizes"]
        values = [nll[web_group(order, size)] for size in sizes]
        axes.plot(sizes, values, "o-", color=series_color(place), label=f"{order} pairs", markersize=4)
        told.append(f"{order}: " + ", ".join(f"{n} {v:.4f}" for n, v in zip(sizes, values, strict=True)))
    axes.set_xscale("log", base=2)
    axes.set_xticks(figures["evidence"]["sizes"], [str(size) for size in figures["evidence"]["sizes"]])
    label_axes(axes, "pairs of A, without seed pairs", "NLL per token")
    return finish_plot(axes, "scaling", "evidence", "Scaling", f"{'; '.join(told)}.")
