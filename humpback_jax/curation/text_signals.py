"""Signals that a pair's text alone gives: no model is asked.

Each is a number that means the same for every pair, whatever the others are. `signals.py` names and defines them all.
"""

import re
from collections.abc import Iterator

from humpback_jax.corpus.content.short_lines import MAX_LINE, line_reason
from humpback_jax.corpus.filters.words import ngrams, words

COPIED_RUN = 5  # words
STEM = 5  # letters by which inflected forms are taken for one word
SENTENCE_WORDS = 6
LEAK_RUN = 4  # words

# A line that a writer closed, with closing quotes, brackets and Markdown behind the mark.
_CLOSED = re.compile(r"[.!?:;…。！？।։؟]['\"”’»)\]*_`]*$")
# What a template leaves where something was to be filled in; short, and not a template of code.
_PLACEHOLDER = re.compile(
    r"\{\{?\s*[a-z_]+\s*\}?\}|\[(?:insert|your|name|text|instruction|output|input)\b[^\]]*\]|<\|", re.IGNORECASE
)

# "Write a function that …", "Can you please write …": an order at the beginning of a sentence, in some languages. "How
# does Python create a class?" is none. Nouns that mean a program alone: a method may be one of cooking.
_ASKS_FOR_CODE = re.compile(
    r"(?:^|[.!?:]\s|\n)\s*(?:(?:please|kindly|can|could|would|will|you|bitte|por\s+favor|puedes|s'il\s+vous\s+plaît)[\s,]+){0,4}"
    r"(?:write|create|implement|generate|develop|build|code|schreiben?|erstellen?|implementieren?|entwickle|écri[st]|écrivez|"
    r"créez?|implémentez?|escrib[ae]|cre[ae]|implementa|scrivi)\b[^.?!\n]{0,60}?"
    r"\b(?:functions?|programs?|programmes?|scripts?|code|snippets?|class|query|queries|algorithms?|regex|implementation|"
    r"Funktion|Programm|Skript|Klasse|Abfrage|fonction|classe|requête|función|programa|consulta|clase|funzione|programma)"
    r"\b",
    re.IGNORECASE,
)
_ASKED_WITHIN = 200  # characters from the beginning of an instruction
_FENCE = ("```", "~~~")
_INLINE_CODE = re.compile(r"`[^`\n]+`")
# A line that a programming language has, and prose has not.
_CODE_LINE = re.compile(
    r"\s*(?:(?:def|fn|func|function)\s+\w+\s*\(|class\s+\w+.*[:{]$|import\s+[\w.]+;?$|from\s+[\w.]+\s+import\s|#include\b|"
    r"(?:if|for|while|elif|else|try)\b.*[:{]$|return\b.*[;)\]\w]$|(?:SELECT|INSERT|UPDATE|CREATE)\s+[\w*]|"
    r"[\w.\[\]]+\s*[-+*/]?=\s*\S|[\w.]+\(.*\);?$|[{}\])]+;?$|</?\w+[^>]*>|(?:>>>|\$|\.\.\.)\s|.*[;{]$)"
)
_LEAST_CODE = 0.15  # of the characters


def copied_share(instruction: str, output: str, run: int = COPIED_RUN) -> float:
    """Share of the instruction's runs of `run` words that also stand in the output, 0 to 1; 0 for shorter ones."""
    text, source = instruction.lower().split(), output.lower().split()
    runs, present = list(ngrams(text, run)), set(ngrams(source, run))
    return sum(each in present for each in runs) / len(runs) if runs else 0.0


def grounding(instruction: str, output: str) -> float:
    """Share of the instruction's words that the output has too, 0 to 1, each by its letters beyond the third.

    Long words carry the subject, short ones the grammar: that weighs them without a list of any language. A word stands
    in the output where one there begins with the same five letters. 0 where no word is longer than three letters.
    """
    present = {word[:STEM] for word in words(output)}
    weights = {word: _weight(word) for word in words(instruction)}
    total = sum(weights.values())
    return sum(weight for word, weight in weights.items() if word[:STEM] in present) / total if total else 0.0


def _weight(word: str) -> int:
    """Letters beyond the third; a character of a script without spaces is a word, and counts as one letter."""
    return max(len(word) - 3, 0) if word[0] < "\u0e00" or len(word) > 1 else 1


def prose_share(output: str) -> float:
    """Share of the characters in lines that are closed sentences of six words or more, 0 to 1."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    total = sum(map(len, lines))
    closed = sum(len(line) for line in lines if _CLOSED.search(line) and len(words(line)) >= SENTENCE_WORDS)
    return closed / total if total else 0.0


def furniture_lines(output: str) -> int:
    """Lines, or parts of a line between bars, that the corpus stage knows as no content: menus, bylines, notices."""
    parts = (part.strip() for line in output.splitlines() for part in line.split(" | "))
    return sum(line_reason(part) is not None for part in parts if 0 < len(part) <= MAX_LINE)


def ends_closed(output: str) -> float:
    """1 where the last line is closed by a mark, as a code block or a sentence is, else 0."""
    return float(bool(_CLOSED.search(output.rstrip()) or output.rstrip().endswith(("```", "}"))))


def leaked_share(instruction: str, template: str, tags: tuple[str, ...] = ()) -> float:
    """Share of the instruction's runs of four words that stand in the prompt it was written from; 1 for a placeholder.

    Args:
      instruction: what the backward model wrote.
      template: the backward prompt's own words, without the text that fills it.
      tags: the sentences that are appended in training.
    """
    if _PLACEHOLDER.search(instruction) and len(instruction) < 400:
        return 1.0
    runs = list(ngrams(words(instruction), LEAK_RUN))
    present = {run for text in (template, *tags) for run in ngrams(words(text), LEAK_RUN)}
    return sum(run in present for run in runs) / len(runs) if runs else 0.0


def code_missing(instruction: str, output: str) -> float:
    """1 where a program is asked for and the output has no code to speak of, else 0.

    A small backward model asks every page on programming for a function.
    """
    asked = _ASKS_FOR_CODE.search(instruction[:_ASKED_WITHIN]) is not None
    return float(asked and _code_share(output) < _LEAST_CODE)


def _code_share(output: str) -> float:
    """Share of the characters in code: between fences, between backticks, or in lines that look like it."""
    code, total = 0, 0
    for line, fenced in lines_and_fences(output):
        whole = fenced or _CODE_LINE.match(line)
        code += len(line) if whole else sum(map(len, _INLINE_CODE.findall(line)))
        total += len(line)
    return code / total if total else 0.0


def lines_and_fences(text: str) -> Iterator[tuple[str, bool]]:
    """Lines that are not blank, each with whether it is a fence of code or stands between two."""
    fenced = False
    for line in text.splitlines():
        if line.strip():
            fence = line.lstrip().startswith(_FENCE)
            fenced = fenced != fence
            yield line, fenced or fence
