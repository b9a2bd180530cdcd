"""People judge two systems side by side and blind (paper, section 3.4): a page, its results as JSON lines, the tally.

A sheet shows each instruction with two answers, left and right; which system is which stays in a key file that the
page does not hold. Half of the items have the first system on the left.
"""

import dataclasses
import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from etils import epath
from scipy import stats

from humpback_jax.display.page import pack
from humpback_jax.evaluation.records import read_records
from humpback_jax.files import (
    GrowingFile,
    PathLike,
    read_json,
    read_jsonl,
    sha256_of_bytes,
    write_atomically,
    write_json,
)
from humpback_jax.report.page import render_report_page

# What a rater may choose, as the page words it.
PROTOCOL = {"left": "A is better", "right": "B is better", "tie": "No clear difference"}


@dataclasses.dataclass(frozen=True)
class Sheet:
    """What raters see and what they do not.

    Attributes:
      name: hash of the items and their sides: results name it, so that no other sheet's are counted.
      items: rows of id, instruction, left and right, in the order of the file of system A.
      key: JSON value with the systems' names and the ids where A stands on the right.
    """

    name: str
    items: list[dict[str, str]]
    key: dict[str, Any]


def make_sheet(a: PathLike, b: PathLike, seed: int = 0, limit: int | None = None) -> Sheet:
    """Pairs the answers of two systems and draws the sides.

    Args:
      a, b: JSON lines or a JSON list with `instruction`, `output` and, if you like, `id` (AlpacaEval's outputs, or what
        `humpback generate` writes).
      seed: of the sides and of the drawn items.
      limit: judge at most so many items, drawn at random.

    Raises:
      ValueError: a row lacks a text, or the two files have no instruction in common.
    """
    answers_a, answers_b = _answers(a), _answers(b)
    common = [name for name in answers_a if name in answers_b]
    if not common:
        raise ValueError(f"{a} and {b} have no instruction in common; both must answer the same ones")
    drawn = random.Random(seed).sample(common, min(limit or len(common), len(common)))
    swapped = set(drawn[: len(drawn) // 2])  # a random half: `drawn` is in random order
    items = []
    for name in (name for name in common if name in set(drawn)):
        left, right = answers_a[name]["output"], answers_b[name]["output"]
        if name in swapped:
            left, right = right, left
        items.append({"id": name, "instruction": answers_a[name]["instruction"], "left": left, "right": right})
    sheet = sha256_of_bytes(json.dumps(items, sort_keys=True).encode())[:16]
    ids = [item["id"] for item in items]
    key = {"sheet": sheet, "a": str(a), "b": str(b), "seed": seed, "ids": ids}
    return Sheet(sheet, items, key | {"a_on_the_right": [name for name in ids if name in swapped]})


def _answers(path: PathLike) -> dict[str, dict[str, str]]:
    """Rows by id; a row without one is named by its instruction."""
    answers = {}
    for number, row in enumerate(read_records(path), start=1):
        if not (isinstance(row.get("instruction"), str) and isinstance(row.get("output"), str)):
            raise ValueError(f"{path}:{number}: expected texts under 'instruction' and 'output'")
        name = str(row.get("id") or sha256_of_bytes(row["instruction"].encode())[:20])
        answers[name] = row
    return answers


def write_sheet(sheet: Sheet, path: PathLike, posts: bool = False) -> bytes:
    """Writes the page to PATH and its key to `NAME.key.json`; returns the page.

    Where it `posts` each judgment to its server, PATH is that of the results, and the page is not written.

    Raises:
      ValueError: the key file is there and belongs to another sheet.
    """
    target, key = epath.Path(path), key_path(path)
    if key.exists() and read_json(key)["sheet"] != sheet.name:
        raise ValueError(f"{key} is the key of another sheet (other answers, seed or limit); give another path")
    page = render_report_page(
        "judge.html.j2",
        styles=("judge.css",),
        scripts=("data.js", "theme.js", "post.js", "judge.js"),
        protocol=PROTOCOL,
        sheet=pack({"sheet": sheet.name, "posts": posts, "items": sheet.items}),
        count=len(sheet.items),
        posts=posts,
    ).encode("utf-8", errors="replace")
    write_json(key, sheet.key)
    if not posts:
        write_atomically(target, page)
    return page


def key_path(path: PathLike) -> epath.Path:
    """`judge.key.json` for judge.html or judge.jsonl."""
    target = epath.Path(path)
    return target.with_name(target.stem + ".key.json")


def save_judgment(sheet: Sheet, results: GrowingFile, value: Any) -> None:
    """Adds a judgment to the results, on the disk before it returns; ValueError: it is none of this sheet."""
    if not isinstance(value, dict) or value.get("sheet") != sheet.name:
        raise ValueError("not a judgment of this sheet; reload the page")
    if value.get("choice") not in PROTOCOL or value.get("id") not in sheet.key["ids"]:
        raise ValueError(f"expected the id of an item and a choice of {', '.join(PROTOCOL)}")
    results.append({key: value.get(key) for key in ("sheet", "rater", "id", "choice", "seconds")})


def tally(key: PathLike, results: Sequence[PathLike]) -> dict[str, Any]:
    """Outcome of a blind comparison, counted with the key of its sheet; shares are in percent.

    Returns:
      a, b: the files of the two systems.
      win, tie, loss: items of `a` by the majority of their raters; no majority is a tie.
      intervals: 95 % Wilson interval of each share.
      judgments, raters: rows that were counted, the last of each rater and item, and who gave them.
      agreement: share of rater pairs that chose the same for an item, None with one rater.
      left: share of the verdicts without ties that went to the left side; 50 if the side does not matter.
      p_value: two-sided sign test of wins against losses.
      items, win_percent, tie_percent, loss_percent: number of items and shares of it.

    Raises:
      ValueError: a row belongs to another sheet or is damaged, or there is none.
    """
    sheet = read_json(key)
    swapped = set(sheet["a_on_the_right"])
    latest: dict[tuple[str, str], str] = {}
    for path in results:
        for number, row in read_jsonl(path):
            if row.get("sheet") != sheet["sheet"] or row.get("id") not in sheet["ids"]:
                raise ValueError(f"{path}:{number}: a judgment of another sheet than {key}; give that sheet's key")
            if row.get("choice") not in PROTOCOL:
                raise ValueError(f"{path}:{number}: choice is {row.get('choice')!r}, expected {', '.join(PROTOCOL)}")
            latest[str(row.get("rater") or ""), row["id"]] = row["choice"]
    if not latest:
        raise ValueError("no judgment in these files")
    by_item: dict[str, list[str]] = defaultdict(list)
    for (_, name), choice in latest.items():
        side_of_a = "right" if name in swapped else "left"
        by_item[name].append("tie" if choice == "tie" else "win" if choice == side_of_a else "loss")
    counts, sides = Counter(map(_majority, by_item.values())), Counter(latest.values())
    decided = sides["left"] + sides["right"]
    outcomes = ("win", "tie", "loss")
    return {
        "a": sheet["a"],
        "b": sheet["b"],
        **{name: counts[name] for name in outcomes},
        "intervals": {name: wilson(counts[name], len(by_item)) for name in outcomes},
        "judgments": len(latest),
        "raters": len({rater for rater, _ in latest}),
        "agreement": _agreement(by_item.values()),
        "left": 100 * sides["left"] / decided if decided else None,
        "p_value": sign_test(counts["win"], counts["loss"]),
        "items": len(by_item),
        **{f"{name}_percent": round(100 * counts[name] / len(by_item), 2) for name in outcomes},
    }


def _majority(verdicts: Sequence[str]) -> str:
    """What more than half of the raters say; else a tie."""
    verdict, number = Counter(verdicts).most_common(1)[0]
    return verdict if 2 * number > len(verdicts) else "tie"


def _agreement(groups: Iterable[Sequence[str]]) -> float | None:
    same = total = 0
    for verdicts in groups:
        total += math.comb(len(verdicts), 2)
        same += sum(math.comb(number, 2) for number in Counter(verdicts).values())
    return 100 * same / total if total else None


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share, in percent (Wilson 1927; Brown, Cai and DasGupta 2001, equation 4)."""
    interval = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return round(100 * float(interval.low), 2), round(100 * float(interval.high), 2)


def sign_test(wins: int, losses: int) -> float:
    """Two-sided exact binomial p-value of a fair coin; ties do not count."""
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
