"""Rubrics: the text that asks for a rating, and how the answer is read. They are files, with what they declare on top.

    ---
    label: Bewertung
    scale: 1-10
    ---
    Bewerte die Antwort … {instruction} … {output} … „Bewertung: <1 bis 10>“.

Without a head the label is what the text asks for, and the scale what stands beside it, or the paper's 1 to 5. A
checklist asks several questions, each to be answered by one of two words; their probabilities are the rating.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping

from humpback_jax.prompts.ratings import LABEL, asked_label, parse_rating
from humpback_jax.prompts.scales import PAPER_SCALE, RANGE_INSIDE, RatingScale, on_common_scale, parse_scale
from humpback_jax.ranges import PathText, Text, check_fields

PAPER, ADDITIVE = "paper", "additive"
PACKAGED: Mapping[str, str] = {PAPER: "rating.txt", ADDITIVE: "additive.txt"}
QUESTION = "question"
YES_NO = ("Yes", "No")
_FENCE = "---"
_KEYS = ("label", "scale", "best", QUESTION, "answers")
_NO_FORMAT = (
    "never says 'Score:' or another word as 'WORD: <…>', so no rating could be read; end it with a request such as: "
    'one last line in the form "Score: <rating>", 1 to 5. Or declare them in its first lines: ---, label: Score, '
    "scale: 1-5, ---"
)


@dataclasses.dataclass(frozen=True)
class RubricConfig:
    """Which rubric rates.

    Attributes:
      name: `paper`: pick one of 1 to 5; `additive`: a checklist, whose probabilities of yes are summed; or the path of
        a file. None: rating.txt of `Recipe.prompt_dir`, or the paper's.
      label: the word before the rating, where the rubric does not declare it.
      scale: what may be said, such as `1-10`, `0-4`, `A-E`, where the rubric does not declare it.
      best: the better end of the scale, where that is not the highest number or the first letter.
    """

    name: PathText | None = None
    label: Text | None = None
    scale: Text | None = None
    best: Text | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def declared(self) -> dict[str, str]:
        """What settings declare in the place of the rubric's head."""
        named = {"label": self.label, "scale": self.scale, "best": self.best}
        return {key: value for key, value in named.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Rubric:
    """What rates a pair.

    Attributes:
      template: holds `{instruction}` and `{output}`, and of a checklist `{question}` after them.
      label: the word before the rating.
      colon: as it stands behind the label.
      scale: what may be said; of a checklist it has no meaning.
      questions: of a checklist, else empty.
      answers: the words for yes and no.
    """

    template: str
    label: str = LABEL
    colon: str = ":"
    scale: RatingScale = PAPER_SCALE
    questions: tuple[str, ...] = ()
    answers: tuple[str, str] = YES_NO

    @property
    def low(self) -> int:
        """The lowest rating."""
        return 0 if self.questions else self.scale.low

    @property
    def high(self) -> int:
        """The highest rating: of a checklist every question counts one."""
        return len(self.questions) or self.scale.high

    @property
    def announced(self) -> str:
        """What stands before a rating: `Score: `."""
        return f"{self.label}{self.colon}" + (" " if self.colon == ":" else "")

    @property
    def how_read(self) -> dict[str, object]:
        """How an answer is read, for the identity of a job; empty for the paper's way."""
        if (self.label, self.scale) == (LABEL, PAPER_SCALE):
            return {}
        return {"label": self.announced, "scale": dataclasses.asdict(self.scale)}

    def parse(self, text: str) -> float | None:
        """The rating in a written answer, or None. A checklist has no written answer."""
        return None if self.questions else parse_rating(text, self.label, self.scale)

    def common(self, rating: float) -> float:
        """A rating on the scale from 1 to 5, as the curator's weights mean it."""
        return on_common_scale(rating, self.low, self.high)


@functools.lru_cache(maxsize=16)
def parse_rubric(text: str) -> Rubric:
    """A rubric as it stands in its file; `Score` on 1 to 5 where it asks for nothing.

    Raises:
      ValueError: the head says what is not known, or a checklist is not one.
    """
    head, body = _split(text)
    questions = tuple(value for key, value in head if key == QUESTION)
    said = dict(head)
    if questions:
        return _checklist(body, questions, said)
    label, colon = _label(said.get("label", ""), body)
    return Rubric(body, label, colon, _scale(said, label, body))


def read_rubric(text: str, where: object, declared: Mapping[str, str]) -> str:
    """Checks the text of a rubric and puts what settings declare on its top.

    Args:
      text: of the file.
      where: names it in errors.
      declared: `label`, `scale`, `best`.

    Raises:
      ValueError: it lacks a placeholder, says nothing of how a rating is written, or declares what is not known.
    """
    text = text.removeprefix("\ufeff").strip()
    try:
        head, body = _split(text)
        if declared:
            if any(key == QUESTION for key, _ in head):
                raise ValueError(
                    "a checklist has no label and no scale; take RubricConfig.label, .scale and .best away"
                )
            kept = [(key, value) for key, value in head if key not in declared]
            head = [*kept, *declared.items()]
            text = "\n".join([_FENCE, *(f"{key}: {value}" for key, value in head), _FENCE, body])
        rubric = parse_rubric(text)
        placeholders = ["instruction", "output", *([QUESTION] if rubric.questions else [])]
        for placeholder in placeholders:
            if "{" + placeholder + "}" not in body:
                raise ValueError(f"lacks the placeholder {{{placeholder}}}; write it where that text belongs")
        if rubric.questions and body.rindex("{question}") < max(body.rindex("{instruction}"), body.rindex("{output}")):
            raise ValueError("has {question} before the pair; write it after {output}, so that the pair is read once")
        if not rubric.questions and "label" not in dict(head) and asked_label(body) is None:
            raise ValueError(_NO_FORMAT)
    except ValueError as error:
        raise ValueError(f"{where} {error}") from None
    return text


def _split(text: str) -> tuple[list[tuple[str, str]], str]:
    """(key, value) of a head between two lines `---`, and what comes below it."""
    lines = text.strip().splitlines()
    if not lines or lines[0].strip() != _FENCE:
        return [], text.strip()
    ends = [i for i, line in enumerate(lines) if i and line.strip() == _FENCE]
    if not ends:
        raise ValueError(f"begins with {_FENCE} and has no second such line; close its head")
    head = []
    for line in lines[1 : ends[0]]:
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*(\w+)\s*[:：]\s*(.+?)\s*", line)
        if match is None or match[1] not in _KEYS:
            raise ValueError(
                f"declares {line.strip()!r}; known are, a line each: {', '.join(f'{k}: …' for k in _KEYS)}"
            )
        head.append((match[1], match[2]))
    return head, "\n".join(lines[ends[0] + 1 :]).strip()


def _label(declared: str, body: str) -> tuple[str, str]:
    """The label and its colon, as they are declared or asked for."""
    label = declared.rstrip(":： ") or asked_label(body) or LABEL
    full_width = declared.endswith("：") or re.search(rf"{re.escape(label)}\s*：", body) is not None
    return label, "：" if full_width else ":"


def _scale(said: Mapping[str, str], label: str, body: str) -> RatingScale:
    """As it is declared, or as it stands where the rating is asked for: `Punktzahl: <1 bis 10>`."""
    if "scale" in said:
        return parse_scale(said["scale"], said.get("best"))
    asked = [line for line in body.splitlines() if re.search(rf"{re.escape(label)}\s*[:：]", line, re.IGNORECASE)]
    for match in reversed([match for line in asked for match in RANGE_INSIDE.finditer(line)]):
        try:
            return parse_scale(match[0], said.get("best"))
        except ValueError:
            continue  # a date, or the number of a page
    return parse_scale("1-5", said["best"]) if "best" in said else PAPER_SCALE


def _checklist(body: str, questions: tuple[str, ...], said: Mapping[str, str]) -> Rubric:
    if others := [key for key in ("label", "scale", "best") if key in said]:
        raise ValueError(
            f"has questions and declares {others[0]!r}; a checklist counts its questions, take that line out"
        )
    answers = [part.strip() for part in re.split(r"[/,，、]", said.get("answers", " / ".join(YES_NO)))]
    if len(answers) != 2 or "" in answers or answers[0] == answers[1]:
        raise ValueError(
            f"declares answers {said['answers']!r}; write the words for yes and no, as in `answers: Yes / No`"
        )
    return Rubric(body, questions=questions, answers=(answers[0], answers[1]))
