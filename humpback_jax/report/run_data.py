"""What a run directory holds, read for the report: stages, training curves, held-out figures and other results."""

import dataclasses
import math
from typing import Any

from etils import epath

from humpback_jax.files import PathLike, read_json, read_jsonl
from humpback_jax.report.tables import run_figures

MAX_PREDICTIONS = 200
MAX_RESULT_CELLS = 500


@dataclasses.dataclass(frozen=True)
class RunData:
    """The small files of a run.

    Attributes:
      run_dir: where it lies.
      stages: manifest of every complete stage by name, in the order of the algorithm.
      curves: rows of metrics.jsonl of every model that was trained.
      predictions: backward instructions of held-out answers, the first MAX_PREDICTIONS.
      results: what other evaluations left in RUN_DIR/evaluation/NAME.json, by name.
      config: the gin text of the run, "" if there is none.
    """

    run_dir: epath.Path
    stages: dict[str, dict[str, Any]]
    curves: dict[str, list[dict[str, float]]]
    predictions: list[dict[str, str]]
    results: dict[str, Any]
    config: str

    @property
    def rounds(self) -> list[int]:
        """Rounds of which a selection is there, in order."""
        return sorted(int(name[7:]) for name in self.stages if name.startswith("curated") and name[7:].isdigit())


def read_run(run_dir: PathLike) -> RunData:
    """Reads everything but the pairs.

    Raises:
      FileNotFoundError: the folder holds no complete stage.
      ValueError: a file is damaged; it is named.
    """
    folder = epath.Path(run_dir)
    stages = {name: read_json(folder / name / "manifest.json") for name in run_figures(folder)}
    curves = {name: rows for name in stages if (rows := _curve(folder / name / "metrics.jsonl"))}
    config = folder / "config.gin"
    return RunData(
        folder,
        stages,
        curves,
        _predictions(folder / "evaluation" / "backward_instructions.jsonl"),
        _results(folder / "evaluation"),
        config.read_text() if config.exists() else "",
    )


def _curve(path: epath.Path) -> list[dict[str, float]]:
    """Rows with a step and a loss; a resumed run may have written a step twice, the later row counts."""
    if not path.exists():
        return []
    rows = {row["step"]: row for _, row in read_jsonl(path) if "step" in row and "loss" in row}
    return [rows[step] for step in sorted(rows) if math.isfinite(rows[step]["loss"])]


def _predictions(path: epath.Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    return [row for number, (_, row) in enumerate(read_jsonl(path)) if number < MAX_PREDICTIONS]


def _results(folder: epath.Path) -> dict[str, Any]:
    if not folder.exists():
        return {}
    own = {"manifest.json", "identity.json"}
    paths = sorted(path for path in folder.glob("*.json") if path.name not in own)
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
