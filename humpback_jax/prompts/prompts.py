"""The words of the algorithm: the two tags, the backward prompt, and the rubric.

The paper's meaning in our own wording (sections 2.2, 2.3 and 3.1). A folder with a `backward.txt` or a `rating.txt`
replaces ours, so the paper's exact text, or any other, can be dropped in. See `rubrics.py` for what a rubric declares.
"""

import dataclasses
import importlib.resources
import re
from collections.abc import Iterable, Mapping

from etils import epath

from humpback_jax.files import PathLike
from humpback_jax.prompts.rubrics import PACKAGED, QUESTION, Rubric, RubricConfig, parse_rubric, read_rubric

SEED_TAG = "Answer in the style of an AI Assistant."
WEB_TAG = "Answer with knowledge from web search."
BOTH_TAGS = ("seed", "web")
TAG_CHOICES: dict[str, tuple[str, ...]] = {"both": BOTH_TAGS, "seed": ("seed",), "web": ("web",), "none": ()}

BACKWARD, RATING = "backward.txt", "rating.txt"
TEMPLATES = (BACKWARD, RATING)


@dataclasses.dataclass(frozen=True)
class Prompts:
    """The texts that a user turn is made of.

    Attributes:
      backward_template: holds `{output}`; asks for the instruction that the output answers.
      rating_template: the rubric as its file has it: what it declares, and a text with `{instruction}` and `{output}`.
      seed_tag: appended to the instructions of seed pairs.
      web_tag: appended to the instructions of augmented pairs.
    """

    backward_template: str
    rating_template: str
    seed_tag: str = SEED_TAG
    web_tag: str = WEB_TAG

    def backward(self, output: str) -> str:
        """The user turn of the backward model for a text; it has no tag unless the template holds one."""
        return fill_template(self.backward_template, {"output": output})

    def rating(self, instruction: str, output: str, question: str = "") -> str:
        """The user turn that asks for a rating of a pair, or one question of a checklist about it."""
        values = {"instruction": instruction, "output": output} | ({QUESTION: question} if question else {})
        return fill_template(self.rubric.template, values)

    @property
    def rubric(self) -> Rubric:
        """What rates, and how its answer is read."""
        return parse_rubric(self.rating_template)

    def tagged(self, instruction: str, tags: Iterable[str] = ()) -> str:
        """The instruction, a blank line and its tags joined by a space (paper, section 2.3).

        Args:
          instruction: text of the user turn.
          tags: any of "seed" and "web"; both, the paper's choice at inference, always come with the seed tag first.

        Raises:
          ValueError: another tag name.
        """
        wanted = set(tags)
        texts = {"seed": self.seed_tag, "web": self.web_tag}
        if unknown := sorted(wanted - texts.keys()):
            raise ValueError(
                f"unknown tag {unknown[0]!r}; use any of {', '.join(texts)}, in a list such as ['seed', 'web']"
            )
        chosen = [text for name, text in texts.items() if name in wanted]
        return "\n\n".join([instruction, " ".join(chosen)]) if chosen else instruction

    def tag_texts(self, tags: Iterable[str]) -> dict[str, str]:
        """The texts of these tags by their field: what a stage reads that appends no other."""
        wanted, texts = set(tags), {"seed": self.seed_tag, "web": self.web_tag}
        return {f"{tag}_tag": text for tag, text in texts.items() if tag in wanted}


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """Replaces `{name}` for the given names in one pass; every other brace, in template or value, stays as it is."""
    names = "|".join(map(re.escape, values))
    return re.sub(rf"\{{({names})\}}", lambda match: values[match.group(1)], template)


def packaged_template(name: str) -> str:
    """The text of one of the package's own templates, such as `backward.txt`."""
    return importlib.resources.files("humpback_jax.prompts").joinpath("templates", name).read_text("utf-8").strip()


def load_prompts(template_dir: PathLike | None = None, rubric: RubricConfig = RubricConfig()) -> Prompts:  # noqa: B008
    """The package's templates, each replaced by the file of the same name in `template_dir` where there is one.

    Args:
      template_dir: a user's folder.
      rubric: which one rates: it stands before the folder's where it names one.

    Raises:
      FileNotFoundError: the folder, or the rubric's file, does not exist.
      ValueError: the folder holds no template or one of an unknown name, a template lacks a placeholder, or a rubric
        does not say how a rating is written.
    """
    own = {} if template_dir is None else _read_templates(epath.Path(template_dir))
    backward, _ = own.get(BACKWARD, (packaged_template(BACKWARD), BACKWARD))
    text, where = own.get(RATING, (packaged_template(RATING), RATING))
    if rubric.name is not None:
        text, where = _read_rubric(rubric.name)
    return Prompts(backward_template=backward, rating_template=read_rubric(text, where, rubric.declared))


def _read_rubric(name: str) -> tuple[str, object]:
    """Text and place of a rubric of the package, or of a file."""
    if name in PACKAGED:
        return packaged_template(PACKAGED[name]), f"rubric {name}"
    path = epath.Path(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"RubricConfig.name: there is no file {name}; give {' or '.join(PACKAGED)}, or the path of your rubric"
        )
    return _text_of(path), path


def _read_templates(folder: epath.Path) -> dict[str, tuple[str, object]]:
    """{file name: (text, place)} of the templates in a folder."""
    expected = " and ".join(TEMPLATES)
    if not folder.is_dir():
        raise FileNotFoundError(f"prompt template folder {folder} does not exist; make it and put {expected} in it")
    texts = {path.name: (_text_of(path), folder / path.name) for path in sorted(folder.glob("*.txt"))}
    if not texts:
        raise ValueError(f"prompt template folder {folder} holds no template; it may hold {expected}")
    for name in texts:
        if name not in TEMPLATES:
            raise ValueError(f"{folder / name} is not a template that is used; the names are {expected}")
    if BACKWARD in texts and "{output}" not in texts[BACKWARD][0]:
        raise ValueError(f"{folder / BACKWARD} lacks the placeholder {{output}}; write it where that text belongs")
    return texts


def _text_of(path: epath.Path) -> str:
    """A template without a byte order mark and blank lines around it."""
    try:
        return path.read_text(encoding="utf-8").removeprefix("\ufeff").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
