"""How a rating is read back from what a scorer wrote."""

import re

SCORE_PREFIX = "Score: "

# "Score:" and a number on one line; Markdown marks, quotes and one opening bracket may stand between them.
_SCORE = re.compile(r"\bscore[*_ \t]*:[*_`\"' \t]*[\[(<{]?[ \t]*([+-]?[0-9]+(?:[.,][0-9]+)*)", re.IGNORECASE)
_RATING = re.compile(r"[1-5](?:\.[05]0*)?")
# What may follow a rating "out of five", and what turns the number into something that is not a rating.
_OUT_OF_FIVE = re.compile(r"[ \t]*(?:/|out of)[ \t]*5(?![0-9]|[.,][0-9])", re.IGNORECASE)
_NOT_A_RATING = re.compile(r"[^\W_]|[ \t]*(?:%|/|out of\b|(?:-|–|—|to\b|or\b|and\b)[ \t]*[0-9])", re.IGNORECASE)


def parse_rating(text: str) -> float | None:
    """The rating in a scorer's answer: the last `Score: <number>`, or None where that is not a rating of 1 to 5.

    The paper gives no parsing rule. Ours, case-insensitive: the last `Score:` with a number on the same line decides,
    even if an earlier one was valid. 1 to 5 in steps of a half are ratings (the paper keeps >= 4.5), also written
    `4/5`, `4 out of 5`, `**Score:** 4`, `Score: [5]` or `Score: 4.0`. Not ratings: 0, 6, 10502, -4, 3.7, `4/10`, `4%`,
    `3-4`, `4 or 5`, `4,5`, words. A `Score:` without a number (an echo of the rubric, a cut answer) is passed over.
    """
    matches = list(_SCORE.finditer(text))
    if not matches:
        return None
    number, rest = matches[-1].group(1), text[matches[-1].end() :]
    if not _RATING.fullmatch(number) or float(number) > 5:
        return None
    if not _OUT_OF_FIVE.match(rest) and _NOT_A_RATING.match(rest):
        return None
    return float(number)
