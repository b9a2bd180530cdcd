"""A rating of 1 to 5 in a scorer's words, by the label that its rubric asks for."""

import re

LABEL = "Score"

_ASKED = re.compile(r"([^\W\d_][^\W_]*(?:[ -][^\W\d_]+)?)\s*[:：]\s*[<\[{(]")  # `Punktzahl: <1 bis 5>` in a rubric
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_QUOTES = re.compile(r'"[^"\n]*"|“[^”\n]*”|„[^“”\n]*[“”]|«[^»\n]*»')
# No-break and thin spaces, full-width punctuation and digits.
_PLAIN = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u3000": " ", "：": ":", "／": "/"} | {
    chr(0xFF10 + digit): str(digit) for digit in range(10)
})  # fmt: skip
_NUMBER = r"([+-]?[0-9]+(?:[.,][0-9]+)*)"
_RATING = re.compile(r"[1-5](?:\.[05]0*)?")
# What may follow a rating "out of five", and what turns the number into something that is not a rating.
_OUT_OF_FIVE = re.compile(r"[ \t]*(?:/|out of)[ \t]*5(?:\.0+)?(?![0-9]|[.,][0-9])", re.IGNORECASE)
_NOT_A_RATING = re.compile(r"[^\W_]|[ \t]*(?:%|/|out of\b|(?:-|–|—|to\b|or\b|and\b)[ \t]*[0-9])", re.IGNORECASE)
_ALONE = re.compile(rf"\[\[\s*{_NUMBER}|\\boxed\{{\s*(?:\\text\{{)?\s*{_NUMBER}")
_FIRST = re.compile(r"^[ \t*_]*([1-5](?:\.[05]0*)?)[*_ \t]*(?:(?:/|out of)[ \t]*5[ \t]*)?(?::|$)", re.MULTILINE)


def asked_label(template: str) -> str | None:
    """The word before the number that a rubric asks for, last as `WORD: <…>`; `Score` where it says `Score:`."""
    asked = [match[1] for match in _ASKED.finditer(template)]
    if asked and not any(label.lower() == LABEL.lower() for label in asked):
        return asked[-1]
    return LABEL if f"{LABEL}:".lower() in template.translate(_PLAIN).lower() else None


def parse_rating(text: str, label: str = LABEL) -> float | None:
    """The rating in a scorer's answer: the last number after the label, or None where that is not a rating of 1 to 5.

    The paper gives no parsing rule. Ours, case-insensitive: the last `Score:` with a number, on its line or alone on
    the next, decides, even if an earlier one was valid; "The score is 4", `{"score": 4}`, `Score (1-5): 4`, `[[4]]` and
    `\\boxed{4}` are such as well. Without any, a reply that begins with its rating, `4: …`, has that one.

    1 to 5 in steps of a half are ratings (the paper keeps >= 4.5), also written `4/5`, `4.0/5.0`, `4 out of 5`,
    `**Score:** 4`. Not ratings: 0, 6, 10502, -4, 3.7, `4/10`, `4%`, `3-4`, `4 or 5`, `4,5`, words. A label without a
    number (an echo of the rubric, a cut answer) is passed over, and so is what stands in a thought (`<think>`), a cut
    one too, or in a quotation inside of a line.
    """
    said = _own_words(_THOUGHT.sub("", text).translate(_PLAIN), label)
    found = [*_labelled(label).finditer(said), *_ALONE.finditer(said)]
    if not found:
        first = _FIRST.findall(said)
        # Several lines of `1: …` are a list, or the rubric again.
        return float(first[0]) if len(first) == 1 and _FIRST.match(said.lstrip()) else None
    last = max(found, key=re.Match.start)
    number = next(group for group in last.groups() if group)
    rest = said[last.end() :]
    if not _RATING.fullmatch(number) or float(number) > 5:
        return None
    if not _OUT_OF_FIVE.match(rest) and _NOT_A_RATING.match(rest):
        return None
    return float(number)


def _labelled(label: str) -> re.Pattern[str]:
    """The label, perhaps its scale in brackets, a colon and a number; marks may stand between."""
    marks = r"[*_ \t]*"
    before = rf"(?<![^\W_]){re.escape(label)}[\"'`]?{marks}(?:\([^)\n]{{1,12}}\){marks})?"
    number = rf"[*_`\"' \t]*[\[(<{{]?[ \t]*{_NUMBER}"
    alone = rf"[*_ \t]*\n[ \t*_]*{_NUMBER}(?=[ \t*_.]*(?:$|\n|/))"
    return re.compile(
        rf"{before}(?::{number}|:{alone}|\s+is[ \t]*:?[ \t]+{number}|[ \t]*=[ \t]*{number})", re.IGNORECASE
    )


def _own_words(text: str, label: str) -> str:
    """The text without quoted lines, and without quotations inside of a line that hold the label."""
    lines = []
    for line in text.split("\n"):
        if line.lstrip().startswith(">"):
            continue
        for quote in _QUOTES.findall(line):
            inside = quote[1:-1].strip()
            if quote != line.strip() and label.lower() in inside.lower() and inside.lower() != label.lower():
                line = line.replace(quote, "")
        lines.append(line)
    return "\n".join(lines)
