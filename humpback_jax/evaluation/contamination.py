"""Decontamination: which evaluation items share a 13-gram of words with what a model was trained on.

An evaluation text of fewer words counts as overlapping where a training text holds exactly these words and no others.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from humpback_jax import run_files
from humpback_jax.corpus.filters.contamination import NGRAM, PromptIndex, read_prompts
from humpback_jax.data.pairs import Pair, read_pairs, write_pairs
from humpback_jax.files import PathLike

EXAMPLES = 3


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Of one training set with one evaluation set: ids of the evaluation items and of the training pairs that share."""

    evaluation_items: int
    train_pairs: int
    overlapping_items: tuple[str, ...]
    overlapping_pairs: tuple[str, ...]

    @property
    def figures(self) -> dict[str, Any]:
        """Counts and a few ids."""
        return {
            "evaluation_items": self.evaluation_items,
            "overlapping_items": len(self.overlapping_items),
            "train_pairs": self.train_pairs,
            "overlapping_pairs": len(self.overlapping_pairs),
            "examples": list(self.overlapping_items[:EXAMPLES]),
        }


def overlap(pairs: Sequence[Pair], items: Mapping[str, str], n: int = NGRAM) -> Overlap:
    """Overlap of training pairs (instruction or output) with an evaluation set, {id: text}."""
    index = PromptIndex({name: (text,) for name, text in items.items()}, n)
    overlapping_items, overlapping_pairs = set[str](), []
    for pair in pairs:
        if shared := index.find_whole(pair.instruction) | index.find_whole(pair.output):
            overlapping_items |= shared
            overlapping_pairs.append(pair.id)
    return Overlap(len(items), len(pairs), tuple(sorted(overlapping_items)), tuple(overlapping_pairs))


def read_evaluation_texts(path: PathLike) -> dict[str, str]:
    """The prompt of every item of an evaluation file by id, its turns as one text; raises as `read_prompts`."""
    return {name: "\n".join(turns) for name, turns in read_prompts(path).items()}


def report_overlaps(
    train_files: Sequence[PathLike], evaluation: Mapping[str, Mapping[str, str]], n: int = NGRAM
) -> dict[str, dict[str, Overlap]]:
    """By training set (files in any format of seeds) and evaluation set, {name: {id: text}}."""
    sets = {str(path): read_pairs(path).pairs for path in train_files}
    return {
        path: {name: overlap(pairs, texts, n) for name, texts in evaluation.items()} for path, pairs in sets.items()
    }


def overlap_figures(overlaps: Mapping[str, Mapping[str, Overlap]]) -> dict[str, Any]:
    """Figures by training set and evaluation set."""
    return {path: {name: each.figures for name, each in by_name.items()} for path, by_name in overlaps.items()}


def contamination_figures(
    model: PathLike, train_files: Sequence[PathLike], evaluation: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """What is printed with a model's result: overlaps of its training sets, named or found in its run."""
    files = train_files or training_files(model)
    if not files:
        return {"contamination": "not checked: name the training sets with --train"}
    return {"contamination": overlap_figures(report_overlaps(files, evaluation))}


def write_clean(path: PathLike, overlaps: Mapping[str, Overlap], folder: PathLike) -> int:
    """Writes the pairs of a training file that share nothing as FOLDER/NAME.jsonl; returns how many are left."""
    dropped = {name for each in overlaps.values() for name in each.overlapping_pairs}
    kept = [pair for pair in read_pairs(path).pairs if pair.id not in dropped]
    write_pairs(epath.Path(folder) / f"{epath.Path(path).name.split('.')[0]}.jsonl", kept)
    return len(kept)


def training_files(model: PathLike) -> list[str]:
    """Training sets of RUN_DIR/m2 (or its folder `model`), as far as the run has them: seeds and the last selection.

    Those of an arm, RUN_DIR/m2_random, are the seeds and the arm's own pairs.
    """
    folder = epath.Path(model)
    folder = folder.parent if folder.name == run_files.MODEL else folder
    name, run = folder.name, folder.parent
    files = [run / run_files.SEEDS_STAGE / run_files.SEED_PAIRS]
    if t := run_files.round_of(name, run_files.MODEL_STAGE):
        files.append(run / run_files.CURATED_STAGE.format(t=t) / run_files.CURATED)
    elif of_arm := run_files.arm_of(name, run_files.ARM_MODEL_STAGE):
        t, arm = of_arm
        files.append(run / run_files.ARM_PAIRS_STAGE.format(t=t, arm=arm) / run_files.CURATED)
    return [str(path) for path in files if path.exists()]
