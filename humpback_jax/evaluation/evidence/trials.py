"""The trainings that the evidence compares, and what each of them is trained on.

A trial is a finetuning from base: seed pairs, some pairs of A, or both. Trials that differ only in their seed are
repeats of one group, and groups are what findings speak of.
"""

import dataclasses
from collections.abc import Iterator
from typing import Annotated

from humpback_jax.evaluation.evidence.pool import CURATED, NEXT, ORDERS, RANDOM, SHORT_ORDERS
from humpback_jax.prompts.prompts import TAG_CHOICES
from humpback_jax.ranges import NaturalInt, OneOf, PathText, PositiveInt, Range, check_fields


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What is compared, how often, and by which rule a finding counts; fixed before the run.

    Attributes:
      sizes: pairs of A in a training set, ascending; the last is the N of all comparisons of equal size.
      seed_sizes: seed pairs in a training set of seed pairs alone, for their scaling.
      repeats: seeds of training and of random draws.
      orders: how N pairs of A are chosen, to be trained on beside the seed pairs.
      labels: pairs that people have labelled, for the precision and recall of the picks of M_0 and M_1.
      significance: a finding counts where its p-value, adjusted for all findings (Holm), is below.
      keep_models: leave the trained models on the disk, one for each trial.
    """

    sizes: tuple[PositiveInt, ...]
    seed_sizes: tuple[PositiveInt, ...] = ()
    repeats: tuple[NaturalInt, ...] = (0, 1, 2)
    orders: tuple[Annotated[str, OneOf(*ORDERS)], ...] = tuple(ORDERS)
    labels: PathText | None = None
    significance: Annotated[float, Range(above=0, below=1)] = 0.05
    keep_models: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.sizes or list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError(f"Evidence.sizes is {self.sizes}; give numbers of pairs, ascending, such as (32, 64, 128)")
        if missing := sorted(set(SHORT_ORDERS) - set(self.orders)):
            raise ValueError(f"Evidence.orders needs {missing[0]!r} too: findings of the paper speak of it")
        if not self.repeats or len(set(self.repeats)) != len(self.repeats):
            raise ValueError(f"Evidence.repeats is {self.repeats}; give seeds that differ")

    @property
    def equal_size(self) -> int:
        """N: how many pairs of A all comparisons of equal size have."""
        return self.sizes[-1]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training.

    Attributes:
      group: what it is a repeat of.
      repeat: seed of the order of the data, and of random draws.
      order: how pairs of A are chosen; None: there are none.
      size: so many pairs of A.
      seed_size: so many seed pairs, None: all.
      tagged: instructions carry their tags in training.
      asked: tags of the held-out instructions that it is measured with.
    """

    group: str
    repeat: int
    order: str | None = None
    size: int = 0
    seed_size: int | None = None
    tagged: bool = True
    asked: tuple[str, ...] = ("seed",)

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.group}-{self.repeat}"


def web_group(order: str, size: int) -> str:
    """The group trained on pairs of A alone."""
    return f"web_{order}_{size}"


def joint_group(order: str) -> str:
    """The group trained on all seed pairs and N pairs of A."""
    return f"seed_and_{order}"


def seed_group(size: int) -> str:
    """The group trained on so many seed pairs alone."""
    return f"seed_{size}"


SEEDS_ALONE, UNTAGGED = "seed", "seed_and_curated_untagged"


def all_trials(evidence: Evidence) -> Iterator[Trial]:
    """Every training of the evidence, a whole repeat before the next."""
    everywhere = tuple(TAG_CHOICES)
    for repeat in evidence.repeats:
        yield Trial(SEEDS_ALONE, repeat)
        for size in evidence.seed_sizes:
            yield Trial(seed_group(size), repeat, seed_size=size)
        for order in evidence.orders:
            asked = everywhere if order == CURATED else ("seed",)
            yield Trial(joint_group(order), repeat, order, evidence.equal_size, asked=asked)
        yield Trial(UNTAGGED, repeat, CURATED, evidence.equal_size, tagged=False, asked=everywhere)
        for order in (CURATED, RANDOM):
            for size in evidence.sizes:
                yield Trial(web_group(order, size), repeat, order, size, seed_size=0)
        yield Trial(web_group(NEXT, evidence.equal_size), repeat, NEXT, evidence.equal_size, seed_size=0)
