"""What a judge's reply says: A or B, in the forms that judges write it in, or nothing."""

import json
import re
from collections.abc import Iterator
from typing import Any

_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_LETTER = re.compile(r"\W*(?:answer|option)?\W*([AB])\W*", re.IGNORECASE)
_BRACKETS = re.compile(r"\[\[\s*(?:answer\s+)?(\w+)\s*\]\]|\\boxed\{\s*(?:\\text\{)?\s*(\w+)", re.IGNORECASE)
_KEY = re.compile(r"winner|verdict|prefer|better|best|choice|decision|judge?ment|answer|result", re.IGNORECASE)
_MARKS = re.compile(r"[*_`\"“”‘’#>]+")
_SIDE = r"(?:(?i:answer|option|response|assistant|model)\s+)?\b([AB])\b"
_BETTER = (
    r"(?:(?:clearly|overall|slightly|much|far|definitely|the)\s+)*(?:better|best|preferred|superior|stronger|winner)"
)
_NOUN = r"(?:verdict|winner|choice|decision|preference|judge?ment|answer|option|response|pick)"
# Sentences that name a winner. A letter is a capital that stands alone: "A better answer" names none.
_SENTENCES = (
    re.compile(rf"(?i:\b{_NOUN}\s*(?:(?:is|was)\s*:?|:|=)\s*){_SIDE}(?=\s*(?:[.,;:!)]|$|because\b|since\b|as\b|for\b))"),
    re.compile(rf"{_SIDE}\s+(?i:(?:is|was|seems)\s+{_BETTER}|wins)\b"),
    re.compile(rf"(?i:\b(?:prefer|choose|pick|select)\s+){_SIDE}(?=\s*(?:[.,;:!)]|$|because\b|since\b|as\b|for\b|over\b))"),
)  # fmt: skip
_UNDECIDED = re.compile(r"\b(?:if|whether|not|neither|nor|both|but|however)\b", re.IGNORECASE)


def parse_verdict(text: str) -> str | None:
    """ "A" or "B" where a judge's reply names one winner, else None.

    Read are, of what stands outside of thoughts (`<think>`): a JSON object with a key such as `winner`, alone or in a
    fence; `[[B]]` and `\\boxed{B}`; a last line of one letter; and a last line whose sentence names the winner, such as
    "Final answer: B" or "Answer A is better." A reply that names both, or takes it back, says nothing.
    """
    said = _THOUGHT.sub("", text).strip()
    lines = [line for line in said.splitlines() if line.strip()]
    if not lines:
        return None
    for found in (_of_json(said), _of_brackets(lines), _of_line(lines[-1])):
        if found:
            return found if found in ("A", "B") else None
    return None


def _of_json(text: str) -> str | None:
    """The winner in the last object that names one; anything but A and B in its place is said as it is."""
    found = None
    for value in _objects(text):
        named = [said for key, said in value.items() if _KEY.search(str(key)) and isinstance(said, str)]
        letters = {match[1].upper() for said in named if (match := _LETTER.fullmatch(said))}
        if len(letters) == 1:
            found = letters.pop()
        elif named and (letters or all(len(said) < 10 for said in named)):
            found = "unclear"
    return found


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder, place = json.JSONDecoder(), 0
    while (place := text.find("{", place)) >= 0:
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            place += 1
            continue
        if isinstance(value, dict):
            yield value


def _of_brackets(lines: list[str]) -> str | None:
    """The letter in double brackets: of all of them, or, where they differ, of the last line."""
    for where in ("\n".join(lines), lines[-1]):
        letters = {(match[1] or match[2]).upper() for match in _BRACKETS.finditer(where)}
        if len(letters) == 1:
            return letters.pop()
    return "unclear" if letters else None


def _of_line(line: str) -> str | None:
    plain = _MARKS.sub("", line).strip()
    if match := _LETTER.fullmatch(plain):
        return match[1].upper()
    if _UNDECIDED.search(plain):
        return None
    letters = {match[1] for sentence in _SENTENCES for match in sentence.finditer(plain)}
    return letters.pop() if len(letters) == 1 else None
