"""A rating in a scorer's words, by the label and on the scale that its rubric asks for."""

import functools
import re

from humpback_jax.prompts.scales import PAPER_SCALE, RatingScale

LABEL = "Score"

_ASKED = re.compile(r"([^\W\d_][^\W_]*(?:[ -][^\W\d_]+)?)\s*[:：]\s*[<\[{(]")  # `Punktzahl: <1 bis 5>` in a rubric
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_QUOTES = re.compile(r'"[^"\n]*"|“[^”\n]*”|„[^“”\n]*[“”]|«[^»\n]*»')
# No-break and thin spaces, full-width punctuation and digits.
_PLAIN = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u3000": " ", "：": ":", "／": "/"} | {
    chr(0xFF10 + digit): str(digit) for digit in range(10)
})  # fmt: skip
_NUMBER = r"([+-]?[0-9]+(?:[.,][0-9]+)*)"
_POINTS = "分点점"  # points, written behind the number without a space
_FIRST_UNSPACED = "\u2e80"  # from here on scripts put no space between words


def asked_label(template: str) -> str | None:
    """The word before the number that a rubric asks for, last as `WORD: <…>`; `Score` where it says `Score:`."""
    asked = [match[1] for match in _ASKED.finditer(template)]
    if asked and not any(label.lower() == LABEL.lower() for label in asked):
        return asked[-1]
    return LABEL if f"{LABEL}:".lower() in template.translate(_PLAIN).lower() else None


def parse_rating(text: str, label: str = LABEL, scale: RatingScale = PAPER_SCALE) -> float | None:
    """The rating in a scorer's answer: the last one after the label, or None where that is not on the scale.

    The paper gives no parsing rule. Ours, case-insensitive: the last `Score:` with a number, on its line or alone on
    the next, decides, even if an earlier one was valid; "The score is 4", `{"score": 4}`, `Score (1-5): 4`, `[[4]]` and
    `\\boxed{4}` are such as well. Without any, a reply that begins with its rating, `4: …`, has that one.

    Numbers of the scale in steps of a half are ratings (the paper keeps >= 4.5), also written `4/5`, `4.0/5.0`,
    `4 out of 5`, `**Score:** 4`. On a scale of 1 to 5 these are none: 0, 6, 10502, -4, 3.7, `4/10`, `4%`, `3-4`,
    `4 or 5`, `4,5`, words. A label without a number (an echo of the rubric, a cut answer) is passed over, and so is
    what stands in a thought (`<think>`), a cut one too, or in a quotation inside of a line.

    Args:
      text: the answer.
      label: the word before the rating.
      scale: what a rating may be; what it counts is returned.
    """
    forms = _forms(label, scale)
    said = _own_words(_THOUGHT.sub("", text).translate(_PLAIN), label)
    found = [*forms.labelled.finditer(said), *forms.alone.finditer(said)]
    if not found:
        first = forms.first.findall(said)
        # Several lines of `1: …` are a list, or the rubric again.
        return scale.value_of(first[0]) if len(first) == 1 and forms.first.match(said.lstrip()) else None
    last = max(found, key=re.Match.start)
    rating = next(group for group in last.groups() if group)
    rest = said[last.end() :]
    value = scale.value_of(rating)
    if value is None or (not forms.out_of.match(rest) and forms.something_else.match(rest)):
        return None
    return value


class _Forms:
    """How ratings of a scale stand after a label.

    Attributes:
      labelled: the label, perhaps its scale in brackets, a colon and a rating; marks may stand between.
      alone: a rating in the brackets of a benchmark.
      first: a line that begins with its rating.
      out_of: what may follow a rating "out of five".
      something_else: what follows what is no rating.
    """

    def __init__(self, label: str, scale: RatingScale) -> None:
        best = re.escape(str(scale.high) if scale.is_numeric else scale.options[-1])
        ratings = "|".join(re.escape(option) for option in sorted(scale.options, key=len, reverse=True))
        if len(ratings) == 2 * len(scale.options) - 1 and not scale.is_numeric:
            ratings = f"(?-i:{ratings})"  # letters are said as they are asked for: "Grade: a good answer" is no A
        rating = _NUMBER if scale.is_numeric else rf"({ratings})"
        marks = r"[*_ \t]*"
        is_word = "" if label[:1] >= _FIRST_UNSPACED else r"(?<![^\W_])"
        before = rf"{is_word}{re.escape(label)}[\"'`]?{marks}(?:\([^)\n]{{1,12}}\){marks})?"
        here = rf"[*_`\"' \t]*[\[(<{{]?[ \t]*{rating}"
        below = rf"[*_ \t]*\n[ \t*_]*{rating}(?=[ \t*_.]*(?:$|\n|/))"
        said = rf"{before}(?::{here}|:{below}|\s+is[ \t]*:?[ \t]+{here}|[ \t]*=[ \t]*{here})"
        out_of = rf"[ \t]*(?:/|out of)[ \t]*{best}"
        self.labelled = re.compile(said, re.IGNORECASE)
        self.alone = re.compile(rf"\[\[\s*{rating}|\\boxed\{{\s*(?:\\text\{{)?\s*{rating}")
        number = rf"((?:{ratings})(?:\.[05]0*)?)" if scale.is_numeric else rf"({ratings})"
        self.first = re.compile(rf"^[ \t*_]*{number}[*_ \t]*(?:{out_of}[ \t]*)?(?::|$)", re.MULTILINE)
        self.out_of = re.compile(rf"[{_POINTS}]?{out_of}(?:\.0+)?(?![0-9]|[.,][0-9])", re.IGNORECASE)
        another = rf"(?:[0-9]|(?:{ratings})(?![^\W_]))"
        letter = "" if scale.is_numeric or len(scale.options[0]) > 1 else r"[+-]|[ \t]+[a-z]|"
        self.something_else = re.compile(
            rf"(?:{letter}[^\W_{_POINTS}]|[ \t]*(?:%|/|out of\b|(?:-|–|—|to\b|or\b|and\b)[ \t]*{another}))",
            re.IGNORECASE if scale.is_numeric else 0,
        )


@functools.lru_cache(maxsize=16)
def _forms(label: str, scale: RatingScale) -> _Forms:
    return _Forms(label, scale)


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
