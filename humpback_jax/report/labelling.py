"""One person labels pairs of a run, blind: the draw, a page that knows nothing but the texts, and labels on the disk.

Pairs are drawn from the last round by strata: what was kept and what was dropped, each by the quartile of what ranked
it, as many of every stratum. So the weakest kept and the best dropped pairs, where a scorer is put to the test, are a
quarter of the draw. Neither stratum nor rank is in the page, and its order is independent of both.
"""

import dataclasses
import itertools
import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from humpback_jax import run_files
from humpback_jax.curation.labels import SCALES, last_rows
from humpback_jax.display.page import pack
from humpback_jax.files import GrowingFile, JsonLines, PathLike, sha256_of_bytes, write_atomically
from humpback_jax.report.page import render_report_page
from humpback_jax.report.run_data import read_manifests

QUARTILES = 4


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of every pair.

    Attributes:
      text: the question.
      levels: what each number of its scale (`curation.labels.SCALES`) means: a word or two, and more where needed.
    """

    text: str
    levels: Mapping[int, tuple[str, str]]


# The score is the paper's rubric (its table 19), in our words, as prompts/templates/rating.txt has it.
QUESTIONS: Mapping[str, Question] = {
    "score": Question(
        "How good an example is the answer?",
        {
            1: (
                "Unusable",
                "incomplete, vague, off topic or not what was asked; a personal story, post, advert or menu",
            ),
            2: ("On topic", "covers most of the request but does not directly solve it"),
            3: ("Useful, but a website's", "complete, but reads like a blog, an article or a search result"),
            4: ("An assistant's", "direct, clear, complete and well organized; little is left to improve"),
            5: ("Perfect", "made for this instruction, expert, logical, engaging, with no sentence to spare"),
        },
    ),
    "text": Question(
        "How clean is the answer's text?",
        {
            0: ("Unusable", "garbled, no prose, nothing but lists of links or names"),
            1: ("Polluted or cut", "remains of a page in it, or it begins or ends in the middle"),
            2: ("Clean", "whole, and nothing in it that does not belong"),
        },
    ),
    "fit": Question(
        "Is the instruction answered?",
        {0: ("No", ""), 1: ("Partly", "or something beside it"), 2: ("Yes", "")},
    ),
}


@dataclasses.dataclass(frozen=True)
class Labelling:
    """Drawn pairs and what was said of them so far.

    Attributes:
      name: hash of the pairs: a label names it, so that a page of another draw is refused.
      pairs: id, instruction and output by id, in the order in which they are asked.
      labels: numbers by question, of the pairs that are labelled.
      file: where labels are added.
    """

    name: str
    pairs: Mapping[str, dict[str, str]]
    labels: dict[str, dict[str, int]]
    file: GrowingFile

    def page(self) -> bytes:
        """The page as it stands: the texts, and the person's own labels."""
        data = {"sheet": self.name, "items": list(self.pairs.values()), "labels": self.labels}
        return render_report_page(
            "label.html.j2",
            styles=("judge.css", "label.css"),
            scripts=("data.js", "theme.js", "post.js", "label.js"),
            posts=True,
            questions=QUESTIONS,
            sheet=pack(data),
            count=len(self.pairs),
        ).encode("utf-8", errors="replace")

    def save(self, value: Any) -> None:
        """Adds the labels of a pair, on the disk before it returns; ValueError: they are none of this draw."""
        if not isinstance(value, dict) or value.get("sheet") != self.name:
            raise ValueError("not a label of this draw; reload the page")
        pair = self.pairs.get(str(value.get("id")))
        if pair is None:
            raise ValueError("expected the id of a pair of this draw")
        said: dict[str, int] = {}
        for name, question in QUESTIONS.items():
            number = value.get(name)
            if type(number) is not int or number not in question.levels:
                low, high = SCALES[name]
                raise ValueError(f"{name} is {number!r}; expected a whole number from {low} to {high}")
            said[name] = number
        self.file.append(pair | {"labels": {name: [number] for name, number in said.items()}})
        self.labels[pair["id"]] = said


def open_labelling(run_dir: PathLike, number: int = 100, seed: int = 0, out: PathLike | None = None) -> Labelling:
    """Draws pairs of the last round and finds what is labelled already.

    Args:
      run_dir: a run with at least one complete selection.
      number: of pairs; a smaller draw is a part of a larger one.
      seed: of the draw.
      out: labels, read and added to; RUN_DIR/labels.jsonl.

    Raises:
      FileNotFoundError: no round of the run has selected yet.
      ValueError: the file of labels is damaged, holds several people's labels of a drawn pair, or has other texts under
        its id; or no pair was rated.
    """
    folder = epath.Path(run_dir)
    drawn = draw_pairs(_last_selection(folder), number, seed)
    pairs = {row["id"]: {key: row[key] for key in ("id", "instruction", "output")} for row in drawn}
    name = sha256_of_bytes(json.dumps(list(pairs.values())).encode())[:16]
    path = epath.Path(out or folder / run_files.LABELS)
    return Labelling(name, pairs, _labelled_before(path, pairs), GrowingFile(path))


def _last_selection(run_dir: epath.Path) -> JsonLines:
    """What the last complete round kept, then what it dropped."""
    stages = read_manifests(run_dir)
    rounds = [t for name in stages if (t := run_files.round_of(name, run_files.CURATED_STAGE)) is not None]
    if not rounds:
        raise FileNotFoundError(
            f"{run_dir}: no pair was kept or dropped yet; run `humpback align` or `humpback curate --round 1` first"
        )
    folder = run_dir / run_files.CURATED_STAGE.format(t=max(rounds))
    return JsonLines([folder / run_files.CURATED, folder / run_files.DROPPED])


def draw_pairs(rows: JsonLines, number: int, seed: int) -> list[dict[str, Any]]:
    """At most `number` rows, as many of every stratum as it has, in an order that says nothing of the strata.

    Of every pair its rank, a hash and its position are held. A pair without a rating has no rank and is not drawn.

    Raises:
      ValueError: no pair has a rank.
    """
    sides: dict[bool, list[tuple[float, int, int]]] = {True: [], False: []}
    for position, row in rows:
        rank = row.get("p_good", row["score"])
        if rank is not None:
            sides["reason" in row].append((rank, _place(f"draw {seed} {row['id']}"), position))
    strata = [stratum for side in sides.values() for stratum in _quartiles(side)]
    # One of each stratum in turn, so that a larger draw holds a smaller one, and small strata leave room to others.
    turns = itertools.zip_longest(*strata)
    taken = itertools.islice((position for turn in turns for position in turn if position is not None), number)
    drawn = rows.at(list(taken))
    if not drawn:
        raise ValueError(f"{rows}: no pair has a rating, so there is nothing to draw from; rate the pairs again")
    return sorted(drawn, key=lambda row: _place(f"order {seed} {row['id']}"))


def _quartiles(ranked: list[tuple[float, int, int]]) -> list[list[int]]:
    """Positions of (rank, place, position), by quartile of the ranks, each in the order of the places.

    Where many pairs have one rank, as whole ratings give, their places divide them.
    """
    ranked = sorted(ranked)
    bounds = [len(ranked) * i // QUARTILES for i in range(QUARTILES + 1)]
    quartiles = [ranked[low:high] for low, high in itertools.pairwise(bounds)]
    return [[position for _, position in sorted(row[1:] for row in quartile)] for quartile in quartiles]


def _place(name: str) -> int:
    """A place in a random order that depends on the name alone."""
    return int(sha256_of_bytes(name.encode("utf-8", errors="replace"))[:16], 16)


def _labelled_before(path: epath.Path, pairs: Mapping[str, dict[str, str]]) -> dict[str, dict[str, int]]:
    """Labels of drawn pairs that the file has, where all questions are answered."""
    if not path.exists():
        return {}
    _close_last_line(path)
    labels = {}
    for name, row in last_rows(path).items():
        if name not in pairs:
            continue
        if any(row[key] != text for key, text in pairs[name].items()):
            raise ValueError(f"{path}: pair {name!r} has other texts than in this run; give another --out")
        if any(len(numbers) > 1 for numbers in row["labels"].values()):
            raise ValueError(
                f"{path}: pair {name!r} has labels of several people, and this adds one's; give another --out"
            )
        if row["labels"].keys() == QUESTIONS.keys():
            labels[name] = {question: numbers[0] for question, numbers in row["labels"].items()}
    return labels


def _close_last_line(path: epath.Path) -> None:
    """Ends a last line that an editor left open; drops one that a crash cut off, whose label was never called saved."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if rest := data[len(whole) :]:
        try:
            json.loads(rest)
        except ValueError:
            write_atomically(path, whole)
        else:
            write_atomically(path, data + b"\n")
