"""What a run directory holds, read for the report: stages, training curves, held-out figures and other results."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

from etils import epath

from humpback_jax import run_files
from humpback_jax.curation.curator import Curator, curator_of
from humpback_jax.files import PathLike, read_json, read_jsonl
from humpback_jax.run_files import arm_of, round_of

STAGE_ORDER = (
    run_files.SEEDS_STAGE,
    run_files.SEGMENTS_STAGE,
    run_files.BACKWARD_STAGE,
    run_files.AUGMENTED_STAGE,
    run_files.MODEL_STAGE.format(t=0),
)
ROUND_ORDER = (run_files.SCORES_STAGE, run_files.CURATOR_STAGE, run_files.CURATED_STAGE, run_files.MODEL_STAGE)
PREFERENCE_ORDER = (
    run_files.SAMPLED_STAGE,
    run_files.SAMPLED_SCORES_STAGE,
    run_files.PREFERENCES_STAGE,
    run_files.PREFERRED_STAGE,
)
MAX_PREDICTIONS = 200
MAX_PREFERENCES = 200
MAX_RESULT_CELLS = 500


@dataclasses.dataclass(frozen=True)
class RunData:
    """The small files of a run.

    Attributes:
      run_dir: where it lies.
      stages: manifest of every complete stage by name, in the order of the algorithm.
      curators: by round, those that were fitted or that chose.
      curves: rows of metrics.jsonl of every model that was trained.
      predictions: backward instructions of held-out answers, the first MAX_PREDICTIONS.
      preferences: pairs of a model's own answers that it learned from, the first MAX_PREFERENCES.
      results: what other evaluations left in RUN_DIR/evaluation/NAME.json, by name.
      config: the gin text of the run, "" if there is none.
    """

    run_dir: epath.Path
    stages: dict[str, dict[str, Any]]
    curators: dict[int, Curator]
    curves: dict[str, list[dict[str, float]]]
    predictions: list[dict[str, str]]
    preferences: list[dict[str, Any]]
    results: dict[str, Any]
    config: str

    @property
    def rounds(self) -> list[int]:
        """Rounds of which a selection is there, in order."""
        rounds = (round_of(name, run_files.CURATED_STAGE) for name in self.stages)
        return sorted(t for t in rounds if t is not None)

    @property
    def heldout_nll(self) -> dict[str, dict[str, Any]]:
        """Held-out likelihood by model, the base model's first; empty where nothing was measured."""
        return self.evaluation.get("nll_per_token", {})

    @property
    def evaluation(self) -> dict[str, Any]:
        """Figures on held-out pairs; empty where nothing was measured."""
        return self.stages.get(run_files.EVALUATION_STAGE, {}).get("figures", {})

    @property
    def auc_by_kind(self) -> dict[int, dict[str, float]]:
        """By round, how well its curator tells whole pairs from each kind of broken twin."""
        return figures_by_round(self.stages, run_files.CURATOR_STAGE, "auc_by_kind")

    @property
    def expected(self) -> dict[int, dict[str, dict[str, float]]]:
        """By round, the precision and recall that p(good) promises for what was kept."""
        return figures_by_round(self.stages, run_files.CURATED_STAGE, "expected")

    @property
    def constant_signals(self) -> dict[int, list[str]]:
        """By round, the signals that were the same for every pair; rounds without one are left out."""
        return figures_by_round(self.stages, run_files.SCORES_STAGE, "constant_signals")

    @property
    def rating_scale(self) -> tuple[int, int]:
        """The lowest and the highest rating by the rubric of the last round."""
        scales = figures_by_round(self.stages, run_files.SCORES_STAGE, "scale")
        low, high = scales[max(scales)] if scales else (1, 5)
        return low, high

    @property
    def preferred(self) -> dict[int, dict[str, Any]]:
        """By round, what was measured of preference learning on pairs that were held out."""
        measured = figures_by_round(self.stages, run_files.PREFERRED_STAGE, "after")
        return {t: self.stages[run_files.PREFERRED_STAGE.format(t=t)]["figures"] for t in measured}

    def selection_settings(self, t: int) -> dict[str, Any]:
        """Settings of a round's selection."""
        return self.stages[run_files.CURATED_STAGE.format(t=t)].get("settings", {})

    def count(self, stage: str, key: str) -> int | None:
        """`in` or `out` of a stage; None where it is not complete."""
        return self.stages[stage]["counts"][key] if stage in self.stages else None


def figures_by_round(stages: Mapping[str, Mapping[str, Any]], template: str, figure: str) -> dict[int, Any]:
    """A figure of a stage by round, where it is there and not empty."""
    rounds = {round_of(name, template): stage["figures"].get(figure) for name, stage in stages.items()}
    return {t: value for t, value in rounds.items() if t is not None and value}


def read_manifests(run_dir: PathLike) -> dict[str, dict[str, Any]]:
    """Manifests of the complete stages by name, in the order of the algorithm.

    Raises:
      FileNotFoundError: the folder holds no complete stage.
    """
    manifests = {path.parent.name: read_json(path) for path in epath.Path(run_dir).glob(f"*/{run_files.MANIFEST}")}
    if not manifests:
        raise FileNotFoundError(f"no complete stage in {run_dir}; run `humpback align --run_dir {run_dir} …` first")
    return {name: manifests[name] for name in sorted(manifests, key=_position)}


def _position(name: str) -> tuple:
    """Sort key: fixed stages; by round scores, curator, curated, m, arms and preference learning; then the rest."""
    if name in STAGE_ORDER:
        return (0, STAGE_ORDER.index(name), 0)
    for place, template in enumerate(ROUND_ORDER):
        if (t := round_of(name, template)) is not None:
            return (1, t, place)
    for place, template in enumerate((run_files.ARM_PAIRS_STAGE, run_files.ARM_MODEL_STAGE)):
        if of_arm := arm_of(name, template):
            t, arm = of_arm
            return (1, t, len(ROUND_ORDER), arm, place)
    for place, template in enumerate(PREFERENCE_ORDER):
        if (t := round_of(name, template)) is not None:
            return (1, t, len(ROUND_ORDER) + 1, "", place)
    return (2, 0, name)


def read_run(run_dir: PathLike) -> RunData:
    """Reads everything but the pairs.

    Raises:
      FileNotFoundError: the folder holds no complete stage.
      ValueError: a file is damaged; it is named.
    """
    folder = epath.Path(run_dir)
    stages = read_manifests(folder)
    predictions = read_rows(folder / run_files.EVALUATION_STAGE / run_files.PREDICTIONS)
    paired = [name for name in stages if round_of(name, run_files.PREFERENCES_STAGE) is not None]
    preferences = (row for name in paired for row in read_rows(folder / name / run_files.PREFERENCES))
    config = folder / run_files.CONFIG
    return RunData(
        folder,
        stages,
        _curators(folder, stages),
        {name: rows for name in stages if (rows := _curve(folder / name / run_files.METRICS))},
        list(itertools.islice(predictions, MAX_PREDICTIONS)),
        list(itertools.islice(preferences, MAX_PREFERENCES)),
        _results(folder / run_files.EVALUATION_STAGE),
        config.read_text() if config.exists() else "",
    )


def _curators(folder: epath.Path, stages: Mapping[str, Mapping[str, Any]]) -> dict[int, Curator]:
    """Curators by round; one that chose from the ratings of another run is in the settings of the selection."""
    curators = {}
    for name, stage in stages.items():
        if (t := round_of(name, run_files.CURATOR_STAGE)) is not None:
            curators[t] = curator_of(read_json(folder / name / run_files.CURATOR))
        elif (t := round_of(name, run_files.CURATED_STAGE)) is not None and stage.get("settings", {}).get("curator"):
            curators[t] = curator_of(stage["settings"]["curator"])
    return curators


def read_rows(path: epath.Path) -> Any:
    """The rows of a JSON-lines file, none where it is missing."""
    return (row for _, row in read_jsonl(path)) if path.exists() else iter(())


def _curve(path: epath.Path) -> list[dict[str, float]]:
    """Rows with a step and a loss; a resumed run may have written a step twice, the later row counts."""
    rows = {row["step"]: row for row in read_rows(path) if "step" in row and "loss" in row}
    return [rows[step] for step in sorted(rows) if math.isfinite(rows[step]["loss"])]


def _results(folder: epath.Path) -> dict[str, Any]:
    of_stage = (run_files.MANIFEST, run_files.IDENTITY)
    paths = sorted(path for path in folder.glob("*.json") if path.name not in of_stage)
    return {path.name.removesuffix(".json"): read_json(path) for path in paths}


def result_rows(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A JSON value as (dotted name, text) rows, at most MAX_RESULT_CELLS of them."""
    rows: list[tuple[str, str]] = []
    pending = [(prefix, value)]
    while pending and len(rows) < MAX_RESULT_CELLS:
        name, item = pending.pop()
        if isinstance(item, dict | list) and item:
            inner = item.items() if isinstance(item, dict) else enumerate(item, start=1)
            pending += [(f"{name}.{key}" if name else str(key), child) for key, child in reversed(list(inner))]
        else:
            rows.append((name, f"{item:.6g}" if isinstance(item, float) else str(item)))
    return rows
