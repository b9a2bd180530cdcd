"""Made-up pages for the tests of content and sections."""

import random

_SUBJECTS = ("The gardener", "A wooden gate", "The stove", "Every ladder", "Our baker", "The canal", "A careful smith")
_VERBS = ("keeps", "needs", "loses", "carries", "changes", "measures", "outlasts")
_OBJECTS = ("two buckets of sand", "the better half of its paint", "a sharp edge", "what was promised", "some warmth")
_ENDS = ("before the frost comes", "while nobody looks", "as long as the weather holds", "on most working days")


def prose(seed: int, sentences: int = 5) -> str:
    """Sentences of a text about nothing, the same for the same seed."""
    choose = random.Random(seed).choice
    return " ".join(
        f"{choose(_SUBJECTS)} number {seed}{number} {choose(_VERBS)} {choose(_OBJECTS)}, {choose(_ENDS)}."
        for number in range(sentences)
    )


def paragraphs(seed: int, count: int = 3) -> str:
    """Markup of `count` paragraphs of about 350 characters."""
    return "".join(f"<p>{prose(100 * seed + number)}</p>" for number in range(count))


def headlines(count: int = 8) -> str:
    """A list of links to other pages."""
    items = (f'<li><a href="/{n}">Council number {n} votes on the bridge</a></li>' for n in range(count))
    return f"<ul>{''.join(items)}</ul>"
