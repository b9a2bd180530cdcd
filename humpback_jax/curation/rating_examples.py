"""Examples that teach a model to rate: the rating prompt of a pair whose place is known, and the answer `Score: n`.

Whole seed pairs stand against twins broken by rule, and replies that people have ranked against one another. Ratings
follow the package's rubric, in proportion on another scale. There is no rationale: what is read is the digit after
`Score: `.
"""

import collections
from collections.abc import Mapping, Sequence

from humpback_jax.curation.twins import SEED, Twin, broken_twins, drawn
from humpback_jax.data.open_assistant import Sibling
from humpback_jax.data.pairs import Pair
from humpback_jax.prompts.prompts import Prompts

SOURCE = "ratings"
BEST, WORST_REPLY = 5, 2  # of replies that people have ranked, the best of a prompt and the last one
RATING_OF_KIND: Mapping[str, int] = {
    SEED: BEST,
    "furniture_added": 3,  # as it stands on a page
    "half_answer": 2,
    "instruction_garbled": 2,
    "other_answer": 1,
    "wrong_kind": 1,
}


def rating_examples(
    seeds: Sequence[Pair], siblings: Sequence[Sibling], prompts: Prompts, number: int, seed: int = 0
) -> list[Pair]:
    """At most `number` pairs of a rating prompt and its answer, drawn by id; half of ranked replies if there are any.

    Args:
      seeds: pairs that are whole.
      siblings: ranked replies; those to instructions of `seeds` are taken.
      prompts: the rubric, which is no checklist.
      number: of examples.
      seed: of the draw.

    Raises:
      ValueError: fewer than two seed pairs.
    """
    ranked = _of_siblings(seeds, siblings, prompts, seed)[: number // 2]
    return ranked + _of_twins(seeds, prompts, number - len(ranked), seed)


def _of_twins(seeds: Sequence[Pair], prompts: Prompts, number: int, seed: int) -> list[Pair]:
    """Every drawn pair whole and in one broken form, of one kind after another."""
    chosen = drawn(seeds, seed)[: max(2, (number + 1) // 2)]
    twins: dict[str, list[Twin]] = {pair.id: [] for pair in chosen}
    for twin in broken_twins(chosen, seed):
        twins[twin.of].append(twin)
    taken = []
    for i, (whole, *broken) in enumerate(twins.values()):
        taken += [whole, *broken[i % len(broken) :][:1]] if broken else [whole]
    return [_example(t.id, t.instruction, t.output, RATING_OF_KIND[t.kind], prompts) for t in taken][:number]


def _of_siblings(seeds: Sequence[Pair], siblings: Sequence[Sibling], prompts: Prompts, seed: int) -> list[Pair]:
    """All ranked replies to a drawn instruction, rated evenly from the best to the worst."""
    replies: dict[str, list[Sibling]] = collections.defaultdict(list)
    for sibling in siblings:
        replies[sibling.instruction].append(sibling)
    examples = []
    for pair in drawn(seeds, seed):
        ordered = sorted(replies.get(pair.instruction, ()), key=lambda sibling: (sibling.rank, sibling.id))
        for place, reply in enumerate(ordered):
            rating = round(BEST - (BEST - WORST_REPLY) * place / max(1, len(ordered) - 1))
            examples.append(_example(reply.id, reply.instruction, reply.output, rating, prompts))
    return examples


def _example(name: str, instruction: str, output: str, rating: int, prompts: Prompts) -> Pair:
    options = prompts.rubric.scale.options
    said = options[round((rating - 1) / (BEST - 1) * (len(options) - 1))]
    return Pair(f"rating#{name}", prompts.rating(instruction, output), f"{prompts.rubric.announced}{said}", SOURCE)
