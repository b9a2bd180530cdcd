"""The signals of a pair: their names, what they mean, and how they enter the curator. The docs and the page read this.

Those a model gives come from a few readings of the pair (`stages/readings.py`), the others from its text
(`text_signals.py`). A pair has every signal or is no row: none is guessed.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from humpback_jax.curation.text_signals import (
    code_missing,
    copied_share,
    ends_closed,
    furniture_lines,
    grounding,
    leaked_share,
    prose_share,
)
from humpback_jax.prompts.prompts import Prompts


@dataclasses.dataclass(frozen=True)
class Signal:
    """One column.

    Attributes:
      definition: what it is.
      better: 1 where higher is better, -1 where lower is, 0 where neither.
      asks_model: whether a model gives it, or the text alone.
    """

    definition: str
    better: int
    asks_model: bool


SIGNALS: Mapping[str, Signal] = {
    "rating": Signal("the rating by the rubric, expected over what may be said, mapped to 1 to 5", 1, True),
    "fit": Signal(
        "log p(answer | instruction) - log p(answer | neutral prompt) in nats per token: how much likelier the "
        "instruction makes the answer (pointwise mutual information)",
        1,
        True,
    ),
    "ifd": Signal("exp(-fit): instruction-following difficulty (Li et al., 2024); below 1 where it helps", -1, True),
    "completeness": Signal("log p(end of turn) after the answer's last token: does it end where it ends", 1, True),
    "instruction_log_prob": Signal("mean log-probability of the instruction's tokens, in nats", 1, True),
    "answer_log_prob": Signal("mean log-probability of the answer's tokens after the neutral prompt, in nats", 0, True),
    "grounding": Signal("share of the instruction's words that the output has, weighed by length", 1, False),
    "prose": Signal("share of the output's characters in closed sentences of six words or more", 1, False),
    "furniture": Signal("lines of the output that are no content: menus, bylines, share bars, notices, …", -1, False),
    "closed": Signal("1 where the output's last line is closed by a mark, else 0", 1, False),
    "brevity": Signal("-log(characters of the instruction): a model that did not understand goes on and on", 1, False),
    "copy": Signal("share of the instruction's runs of five words that the output has", -1, False),
    "leak": Signal("share of the instruction's runs of four words from the prompt it was written from", -1, False),
    "code_missing": Signal("1 where the instruction asks for a program and the output has no code, else 0", -1, False),
    "instruction_chars": Signal("length of the instruction", 0, False),
    "output_chars": Signal("length of the output", 0, False),
}


def text_signals(instruction: str, output: str, prompts: Prompts) -> dict[str, float]:
    """The signals that need no model, by name."""
    template = prompts.backward_template.replace("{output}", " ")
    return {
        "grounding": round(grounding(instruction, output), 4),
        "prose": round(prose_share(output), 4),
        "furniture": furniture_lines(output),
        "closed": ends_closed(output),
        "brevity": round(-math.log(max(1, len(instruction))), 4),
        "copy": round(copied_share(instruction, output), 4),
        "leak": round(leaked_share(instruction, template, (prompts.seed_tag, prompts.web_tag)), 4),
        "code_missing": code_missing(instruction, output),
        "instruction_chars": len(instruction),
        "output_chars": len(output),
    }


def constant_signals(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Names of the signals of a model that are the same for every pair: a scorer that tells nothing apart."""
    asked = [name for name, signal in SIGNALS.items() if signal.asks_model]
    return [name for name in asked if len(rows) > 1 and len({row[name] for row in rows}) == 1]
