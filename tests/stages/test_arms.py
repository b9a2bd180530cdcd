"""Arms are as large as the curated set and drawn from the same pairs."""

import json

import pytest

from humpback_jax.stages.arms import draw_arm
from humpback_jax.stages.selection import SelectionConfig, select


def made(number, candidates=1):
    rows = []
    for i in range(number):
        row = {"instruction": f"What is number {i} about?", "output": f"{i} " * (5 + 7 * i % 11), "source": "t"}
        names = [f"p{i}"] if candidates == 1 else [f"p{i}#{k}" for k in range(candidates)]
        rows += [{"id": name, "header": "h"} | row | ({"segment": f"p{i}"} if candidates > 1 else {}) for name in names]
    return rows


def curated_of(make_product, tmp_path, rows):
    pairs = make_product("augmented", "pairs", rows)
    scores = [{"id": row["id"], "score": 1 + (i * 5 % 17) / 5} for i, row in enumerate(rows)]
    scored = make_product("scores1", "scores", scores)
    return select(tmp_path / "curated1", pairs, scored, SelectionConfig(keep_fraction=0.25))


def kept(stage):
    return [json.loads(line) for line in (stage.directory / "curated.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("arm", ["random", "longest"])
@pytest.mark.parametrize("candidates", [1, 3])
def test_an_arm_has_as_many_pairs_of_the_same_set(make_product, tmp_path, arm, candidates):
    rows = made(40, candidates)
    curated = curated_of(make_product, tmp_path, rows)
    stage = draw_arm(tmp_path / "arm", curated, arm)
    drawn = kept(stage)
    assert len(drawn) == len(kept(curated)) == 10
    assert {row["id"] for row in drawn} <= {row["id"] for row in rows}
    assert len({row["instruction"] for row in drawn}) == 10, "one candidate per segment"
    assert stage.counts["in"] == len(rows)
    assert not any("reason" in row for row in drawn)
    if arm == "longest":
        shortest = min(len(row["output"]) for row in drawn)
        assert sum(len(row["output"]) > shortest for row in made(40)) <= 10


def test_the_random_arm_is_blind_to_scores(make_product, tmp_path):
    rows = made(40)
    first = kept(draw_arm(tmp_path / "a", curated_of(make_product, tmp_path / "1", rows), "random"))
    turned = kept(draw_arm(tmp_path / "b", curated_of(make_product, tmp_path / "2", rows[::-1]), "random"))
    assert {row["id"] for row in first} == {row["id"] for row in turned}
