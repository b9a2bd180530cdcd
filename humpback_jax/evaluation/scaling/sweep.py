"""A sweep: variants of a recipe × sizes × seeds, each a run of its own, into one table. Scaling curves and ablations.

    SWEEP_DIR/cells/VARIANT-SIZE-SEED/…     a run as `humpback align` makes it
    SWEEP_DIR/cells/VARIANT-SIZE-SEED.json  its rows of the table, written when the run is measured
    SWEEP_DIR/table.jsonl                   all rows, in the order of the sweep

A cell that has rows is not run again, and a run that was cut off goes on where it was: the table does not depend on how
often the sweep was stopped.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath

from humpback_jax import run_files
from humpback_jax.align import Alignment, Recipe
from humpback_jax.endpoints import EndpointConfig
from humpback_jax.evaluation.judging.comparisons import make_contest
from humpback_jax.evaluation.judging.judge import judge_by_endpoint, judge_by_model
from humpback_jax.evaluation.judging.outputs import generate_outputs
from humpback_jax.evaluation.records import read_outputs
from humpback_jax.files import PathLike, read_json, write_json, write_jsonl
from humpback_jax.inference.shards import claim_directory
from humpback_jax.prompts.prompts import TAG_CHOICES
from humpback_jax.runtime.console import say
from humpback_jax.runtime.processes import is_leader, process_index
from humpback_jax.stages.model import ModelHandle, open_named_model
from humpback_jax.stages.stage import plain


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is varied, and how a run is measured.

    Attributes:
      sizes: numbers of examples.
      datasets: name of a variant to the gin bindings that make it.
      seeds: repeats.
      size_bindings: gin bindings of a cell; `{size}` is filled in.
      seed_bindings: the same with `{seed}`.
      metric: "heldout_nll", nats per token of held-out answers, or "win_rate", in percent.
      prompts: for win rates, instructions to answer.
      baseline: for win rates, outputs to judge against.
      judge: for win rates, a model at an OpenAI-compatible endpoint …
      base_url, key_variable: … and where it is, and the environment variable of its key.
      judge_model: or a local model.
      answer_tags: for win rates, tags at inference, each a row: any of "both", "seed", "web", "none".
    """

    sizes: tuple[int, ...]
    datasets: Mapping[str, tuple[str, ...]]
    seeds: tuple[int, ...] = (0,)
    size_bindings: tuple[str, ...] = ("SelectionConfig.sample = {size}",)
    seed_bindings: tuple[str, ...] = ("BatchConfig.seed = {seed}",)
    metric: str = "heldout_nll"
    prompts: str | None = None
    baseline: str | None = None
    judge: str | None = None
    base_url: str = "https://api.openai.com/v1"
    key_variable: str = "OPENAI_API_KEY"
    judge_model: str | None = None
    answer_tags: tuple[str, ...] = ("both",)

    def __post_init__(self) -> None:
        if self.metric not in ("heldout_nll", "win_rate"):
            raise ValueError(f"Sweep.metric is {self.metric!r}; choose heldout_nll or win_rate")
        if not (self.sizes and self.datasets and self.seeds):
            raise ValueError("Sweep: give at least one of sizes, datasets and seeds each")
        judges = (self.judge is not None) + (self.judge_model is not None)
        if self.metric == "win_rate" and (judges != 1 or self.prompts is None or self.baseline is None):
            raise ValueError("Sweep.metric win_rate needs prompts, baseline, and one of judge and judge_model")
        if unknown := set(self.answer_tags) - TAG_CHOICES.keys():
            raise ValueError(f"Sweep.answer_tags: unknown {sorted(unknown)}; choose from {', '.join(TAG_CHOICES)}")

    @property
    def cells(self) -> list["Cell"]:
        """Every combination, in the order of the table."""
        return [Cell(*each) for each in itertools.product(self.datasets, self.sizes, self.seeds)]

    def bindings(self, cell: "Cell") -> list[str]:
        """The gin bindings of a cell, the variant's last."""
        texts = (*self.size_bindings, *self.seed_bindings, *self.datasets[cell.dataset])
        return [text.replace("{size}", str(cell.size)).replace("{seed}", str(cell.seed)) for text in texts]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a sweep."""

    dataset: str
    size: int
    seed: int

    @property
    def name(self) -> str:
        """Folder of the run."""
        return f"{re.sub(r'[^A-Za-z0-9_.]+', '_', self.dataset)}-{self.size}-{self.seed}"


def run_sweep(directory: PathLike, sweep: Sweep, recipe_of: Callable[[Sequence[str]], Recipe]) -> list[dict[str, Any]]:
    """Runs and measures every cell that has not been measured yet; returns the table.

    `recipe_of` takes the gin bindings of a cell.

    Raises:
      ValueError: the folder was begun with another sweep, or the held-out metric has no held-out pairs.
    """
    folder = epath.Path(directory)
    claim_directory(folder, plain(sweep), process_index())
    recipes = {cell: recipe_of(sweep.bindings(cell)) for cell in sweep.cells}  # a mistake shows before the first run
    rows: list[dict[str, Any]] = []
    for number, (cell, recipe) in enumerate(recipes.items(), start=1):
        result = folder / run_files.CELLS / f"{cell.name}.json"
        if result.exists():
            rows += read_json(result)
            continue
        say(f"cell {number} of {len(recipes)}: {cell.name}")
        measured = _measure(Alignment(recipe, folder / run_files.CELLS / cell.name), sweep)
        # In the order that the file has, which a follower does not wait for.
        measured = [dict(sorted((dataclasses.asdict(cell) | row).items())) for row in measured]
        if is_leader():
            write_json(result, measured)
        rows += measured
    if is_leader():
        write_jsonl(folder / run_files.TABLE, rows)
    return rows


def _measure(alignment: Alignment, sweep: Sweep) -> list[dict[str, Any]]:
    """Runs a cell; its rows of the table without what names the cell."""
    model, rounds = alignment.align(), alignment.recipe.rounds
    # A data set may hold fewer pairs than the size asked for.
    trained = {"examples": alignment.train_round(rounds).counts["out"]}
    if sweep.metric == "heldout_nll":
        if not alignment.recipe.seeds.heldout_path:
            raise ValueError("Sweep.metric heldout_nll needs held-out pairs; set SeedConfig.heldout_path")
        nll = alignment.evaluate().manifest["figures"]["nll_per_token"]
        return [trained | {"heldout_nll": nll[run_files.MODEL_STAGE.format(t=rounds)]["nll"]}]
    return [trained | {"tags": tags} | _win_rate(alignment, model, sweep, tags) for tags in sweep.answer_tags]


def _win_rate(alignment: Alignment, model: ModelHandle, sweep: Sweep, tags: str) -> dict[str, Any]:
    """Generates and judges answers with these tags; the row's figures and where the annotations lie."""
    folder, name = alignment.run_dir / run_files.WIN_RATE.format(tags=tags), f"{alignment.run_dir.name}-{tags}"
    generation, rows = alignment.recipe.answering, read_outputs(str(sweep.prompts))
    answers, chosen = folder / run_files.ANSWERS_STAGE, TAG_CHOICES[tags]
    outputs, made = generate_outputs(answers, model, rows, name, alignment.prompts, generation, chosen)
    baseline = str(sweep.baseline)
    contest = make_contest(read_outputs(baseline), outputs, (baseline, made["outputs"]), partial=True)
    if sweep.judge is not None:
        config = EndpointConfig(sweep.judge, sweep.base_url, sweep.key_variable)
        stage = judge_by_endpoint(folder / run_files.JUDGED, contest, config)
    else:
        judge = open_named_model(str(sweep.judge_model))
        stage = judge_by_model(folder / run_files.JUDGED, contest, judge, generation)
    kept = ("win_rate", "standard_error", "n_total", "n_dropped", "missing_outputs", "avg_length")
    annotations = (stage.directory / run_files.ANNOTATIONS).relative_to(alignment.run_dir.parent.parent)
    return {key: stage.manifest["figures"][key] for key in kept} | {"annotations": str(annotations)}
