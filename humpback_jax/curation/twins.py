"""Seed pairs and twins broken by rule: labels that cost nothing, for the curator to learn from and to be measured on.

Every twin differs from its pair in one respect, so that what tells them apart is that respect and nothing else. Draws
depend on the seed, the kind and the pair's id alone: the same pairs give the same twins in any order.
"""

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence

from humpback_jax.corpus.filters.words import words
from humpback_jax.data.pairs import Pair

LEAST_BROKEN = 2  # pairs that exchange their answers
LEAST_WORDS = 12  # of an answer of which half can be told from the whole

# What stands around the text of a page.
_ABOVE = (
    ("Home", "News", "About us", "Contact"),
    ("Skip to content", "Menu", "Search", "Log in"),
    ("Share", "Tweet", "Print", "Email"),
    ("Posted by admin on March 3, 2019", "Filed under: General", "4 comments"),
    ("Home > Articles > Guides", "Advertisement"),
    ("Table of contents", "Previous", "Next"),
)
_BELOW = (
    ("Read more", "Related articles", "You may also like", "Top stories this week"),
    ("Subscribe to our newsletter", "Enter your email address", "Sign up"),
    ("Leave a comment", "Your name", "Post comment", "Cancel reply"),
    ("© 2021 All rights reserved", "Privacy policy", "Terms of use", "Cookie settings"),
    ("Tags: tips, life, how to", "Previous post", "Next post"),
    ("12 people found this helpful", "Report", "Reply", "Share on Facebook"),
)
# Tasks that the text of an answer does not do; `{topic}` is a word of the pair.
_OTHER_TASKS = (
    "Write a Python function that returns the number of times {topic} occurs in a list.",
    "Translate the following sentence into French: I have never heard of {topic}.",
    "Write a poem of four lines about {topic}.",
    "Write a SQL query that selects all rows of the table {topic}.",
    "Classify the sentiment of this review as positive or negative: The {topic} was a waste of money.",
    "Generate a list of ten names for a company that sells {topic}.",
    "Rewrite the sentence in the passive voice: My brother explained {topic} to me.",
    "Write a short dialogue between two friends who disagree about {topic}.",
    "What is the plural of the word {topic}?",
    "Write a detailed implementation of a class named {topic} in Java.",
)


@dataclasses.dataclass(frozen=True)
class Twin:
    """A pair, whole or broken. `kind`: "seed" for a whole one, else how it was broken; `of`: id of the whole pair."""

    id: str
    of: str
    kind: str
    instruction: str
    output: str

    @property
    def good(self) -> bool:
        """Whether it is whole."""
        return self.kind == SEED


SEED = "seed"
Broken = tuple[str, str] | None  # instruction and output; None where this pair cannot be broken so


def _other_answer(pair: Pair, others: Sequence[Pair], draw: random.Random) -> Broken:
    """The answer of another pair, of those that are nearest in length."""
    length = len(pair.output)
    near = sorted((other for other in others if other.output != pair.output), key=lambda o: abs(len(o.output) - length))
    return (pair.instruction, draw.choice(near[:16]).output) if near else None


def _half_answer(pair: Pair, others: Sequence[Pair], draw: random.Random) -> Broken:
    """The first part of the answer, cut between two words."""
    parts = pair.output.split(" ")
    if len(parts) < LEAST_WORDS:
        return None
    return pair.instruction, " ".join(parts[: round(len(parts) * draw.uniform(0.3, 0.7))]).rstrip()


def _furniture(pair: Pair, others: Sequence[Pair], draw: random.Random) -> Broken:
    """What a page has around its text, above the answer, below it, or both: one to three blocks on each side."""
    above, below = draw.choice(((True, False), (False, True), (True, True)))
    separator = draw.choice(("\n", "\n", " | "))
    parts = [pair.output]
    if above:
        parts = [*(separator.join(block) for block in draw.sample(_ABOVE, draw.randint(1, 3))), *parts]
    if below:
        parts = [*parts, *(separator.join(block) for block in draw.sample(_BELOW, draw.randint(1, 3)))]
    return pair.instruction, "\n\n".join(parts)


def _wrong_kind(pair: Pair, others: Sequence[Pair], draw: random.Random) -> Broken:
    """Another task about a word of the pair."""
    topics = [word for word in dict.fromkeys(words(pair.instruction)) if len(word) > 4]
    topics = topics or [word for word in dict.fromkeys(words(pair.output)) if len(word) > 4]
    return (draw.choice(_OTHER_TASKS).format(topic=draw.choice(topics)), pair.output) if topics else None


def _garbled(pair: Pair, others: Sequence[Pair], draw: random.Random) -> Broken:
    """The instruction with its words in disorder, or cut and begun again, or repeated."""
    parts = pair.instruction.split()
    if len(parts) < 3:
        return None
    way = draw.randrange(3)
    if way == 0:
        shuffled = list(parts)
        draw.shuffle(shuffled)
        text = " ".join(shuffled)
    elif way == 1:
        dropped = [part for part in parts if draw.random() > 0.5] or parts[:1]
        text = " ".join(dropped)
    else:
        some = parts[: max(2, len(parts) // 3)]
        text = " ".join([*some, *some, *some, *parts[: len(parts) // 2]])
    return None if text == pair.instruction else (text, pair.output)


KINDS: Mapping[str, Callable[[Pair, Sequence[Pair], random.Random], Broken]] = {
    "other_answer": _other_answer,
    "half_answer": _half_answer,
    "furniture_added": _furniture,
    "wrong_kind": _wrong_kind,
    "instruction_garbled": _garbled,
}


def drawn(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """The pairs in an order that depends on the seed and their ids alone."""
    return sorted(pairs, key=lambda pair: random.Random(f"{seed} {pair.id}").random())


def broken_twins(pairs: Sequence[Pair], seed: int = 0, kinds: Sequence[str] = tuple(KINDS)) -> list[Twin]:
    """Every pair whole, followed by a twin of every kind in which it can be broken.

    Raises:
      ValueError: fewer than two pairs, of which none has another's answer.
    """
    if len(pairs) < LEAST_BROKEN:
        raise ValueError(f"{len(pairs)} seed pairs; broken twins need two or more, to exchange their answers")
    twins = []
    for pair in pairs:
        twins.append(Twin(f"{pair.id}#{SEED}", pair.id, SEED, pair.instruction, pair.output))
        for kind in kinds:
            broken = KINDS[kind](pair, pairs, random.Random(f"{seed} {kind} {pair.id}"))
            if broken is not None:
                twins.append(Twin(f"{pair.id}#{kind}", pair.id, kind, *broken))
    return twins
