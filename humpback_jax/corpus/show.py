"""Segments in the terminal: some that are drawn at random, or those of a page."""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from humpback_jax.corpus.segment_files import read_segments, read_shard_file, shard_paths
from humpback_jax.files import PathLike
from humpback_jax.run_files import SEGMENTS


def draw_segments(folder: PathLike, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` segments of a corpus folder, or all where there are fewer; equal seeds draw the same.

    The files hold segments in the order of a hash, so each is a random part of all, and a large corpus is not read
    whole.

    Raises:
      FileNotFoundError: the folder holds no segments.
      ValueError: a file of it is damaged; it is named.
    """
    rng = random.Random(seed)
    paths = shard_paths(folder, SEGMENTS)
    rng.shuffle(paths)
    drawn: list[dict[str, Any]] = []
    for path in paths:
        if len(drawn) < count:
            drawn += draw(read_shard_file(path), count - len(drawn), rng)
    return drawn


def draw(rows: Iterable[Any], count: int, rng: random.Random) -> list[Any]:
    """`count` of the rows, all equally likely, in one pass; fewer where there are not so many."""
    drawn: list[Any] = []
    for number, row in enumerate(rows):
        if number < count:
            drawn.append(row)
        elif (place := rng.randrange(number + 1)) < count:
            drawn[place] = row
    return drawn


def segments_of_url(folder: PathLike, url: str) -> list[dict[str, Any]]:
    """The segments of a page, from a pass over all of them."""
    return [row for row in read_segments(folder) if row["url"] == url]


def print_segments(rows: Sequence[Mapping[str, Any]]) -> None:
    """Every segment with what is known of it, in the terminal."""
    console = Console()
    for row in rows:
        console.rule(style="dim")
        console.print(Text(printable(row["header"]) or "(no header)", style="bold"))
        console.print(Text(printable(row["url"]), style="dim"))
        known = [row.get(name) for name in ("language", "cut_by", "kept_as")]
        scores = [f"{name} {score:.3g}" for name, score in (row.get("scores") or {}).items()]
        facts = [f"{len(row['text'])} characters", *filter(None, known), *scores]
        console.print(Text(printable(" · ".join(facts)), style="dim"))
        console.print(Text(printable(row["text"])))


def printable(text: str) -> str:
    """Without characters that would steer a terminal: pages are not to be trusted."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)
