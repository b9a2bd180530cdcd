"""Statistics of data sets: lengths as in the paper's table of data statistics, and verb-noun diversity as an extra."""

import collections
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from humpback_jax.data.pairs import read_pairs
from humpback_jax.files import PathLike

# Characters, mean and standard deviation (version 1 Table 2, version 3 Table 1). The printed 352 and 134 of the whole
# set's instructions must be the other way round: with them the variance of the pairs outside A_4 would be negative.
PAPER_ROWS = {
    "Seed": (3_200, (148, 322), (1_072, 818)),
    "A_5 (round 2)": (41_821, (115, 175), (1_663, 616)),
    "A_4 (round 2)": (195_043, (206, 298), (1_985, 649)),
    "A, all": (502_133, (134, 352), (1_722, 653)),
}
TOP_VERBS, TOP_NOUNS = 20, 4


def length_figures(lengths: Sequence[int]) -> dict[str, Any]:
    """Mean, standard deviation (n - 1), median and extremes of lengths in characters."""
    if not lengths:
        return dict.fromkeys(("mean", "sd", "median", "min", "max"))
    return {
        "mean": round(float(np.mean(lengths)), 1),
        "sd": round(float(np.std(lengths, ddof=1)), 1) if len(lengths) > 1 else None,
        "median": float(np.median(lengths)),
        "min": min(lengths),
        "max": max(lengths),
    }


def file_statistics(path: PathLike, parse: Callable[[Iterable[str]], Iterable[Any]] | None = None) -> dict[str, Any]:
    """Of a file in any format of seeds, or of a stage's product: number of pairs, lengths of instructions and outputs
    in characters, distinct instructions and sources; with `parse` also the verb-noun diversity.
    """
    pairs = read_pairs(path).pairs
    instructions = [pair.instruction for pair in pairs]
    figures = {
        "pairs": len(pairs),
        "instruction_chars": length_figures(list(map(len, instructions))),
        "output_chars": length_figures([len(pair.output) for pair in pairs]),
        "distinct_instructions": len(set(instructions)),
        "sources": dict(sorted(collections.Counter(pair.source for pair in pairs).items())),
    }
    return figures if parse is None else figures | {"verb_noun": verb_noun_figures(parse(instructions), len(pairs))}


def paper_statistics() -> dict[str, Any]:
    """The paper's own rows, in the same form."""
    figures = {}
    for name, (count, *lengths) in PAPER_ROWS.items():
        chars = [{"mean": mean, "sd": deviation} for mean, deviation in lengths]
        figures[name] = {"pairs": count, "instruction_chars": chars[0], "output_chars": chars[1]}
    return figures


def spacy_parser(model: str) -> Callable[[Iterable[str]], Iterable[Any]]:
    """The dependency parser of an installed spaCy model, such as en_core_web_sm.

    Raises:
      ValueError: spaCy or the model is not installed; says what to install.
    """
    try:
        import spacy

        return spacy.load(model, disable=["ner"]).pipe
    except (ImportError, OSError) as error:
        raise ValueError(
            f"verb-noun diversity needs spaCy and its model {model} ({error}): pip install spacy, then "
            f"python -m spacy download {model}"
        ) from error


def verb_noun_figures(documents: Iterable[Any], total: int) -> dict[str, Any]:
    """Root verbs and their direct objects, as the paper's sunbursts show them (Figure 6 of version 3).

    `documents` are the `total` instructions, parsed: tokens with `dep_`, `pos_`, `lemma_` and `children`. Figures are
    the share that has a verb with an object, and the most common verbs, each with its most common objects.
    """
    nouns: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for verb, noun in filter(None, map(root_verb_and_object, documents)):
        nouns[verb][noun] += 1
    parsed = sum(counts.total() for counts in nouns.values())
    top = sorted(nouns, key=lambda verb: (-nouns[verb].total(), verb))[:TOP_VERBS]
    return {
        "parsed": parsed,
        "parsed_share": round(parsed / total, 4) if total else None,
        "distinct_pairs": sum(map(len, nouns.values())),
        "top": {verb: dict(nouns[verb].most_common(TOP_NOUNS)) for verb in top},
    }


def root_verb_and_object(document: Iterable[Any]) -> tuple[str, str] | None:
    """(verb, noun) lemmas of the first root that is a verb with a direct object, else None."""
    for token in document:
        if token.dep_ == "ROOT" and token.pos_ == "VERB":
            for child in token.children:
                if child.dep_ in ("dobj", "obj"):
                    return token.lemma_.lower(), child.lemma_.lower()
    return None
