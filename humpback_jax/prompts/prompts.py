"""The words of the algorithm: the two tags, the backward prompt, the rating rubric, and how a rating is read back.

The paper's meaning in our own wording (sections 2.2, 2.3 and 3.1). A folder with a `backward.txt` or a `rating.txt`
replaces ours, so the paper's exact text, or any other, can be dropped in.
"""

import dataclasses
import importlib.resources
import re
from collections.abc import Iterable, Mapping

from etils import epath

from humpback_jax.files import PathLike
from humpback_jax.prompts.ratings import LABEL, asked_label

SEED_TAG = "Answer in the style of an AI Assistant."
WEB_TAG = "Answer with knowledge from web search."
BOTH_TAGS = ("seed", "web")
TAG_CHOICES: dict[str, tuple[str, ...]] = {"both": BOTH_TAGS, "seed": ("seed",), "web": ("web",), "none": ()}

PLACEHOLDERS: Mapping[str, tuple[str, ...]] = {"backward.txt": ("output",), "rating.txt": ("instruction", "output")}


@dataclasses.dataclass(frozen=True)
class Prompts:
    """The texts that a user turn is made of.

    Attributes:
      backward_template: holds `{output}`; asks for the instruction that the output answers.
      rating_template: holds `{instruction}` and `{output}`; asks for a short reason and a last line `Score: <rating>`.
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

    def rating(self, instruction: str, output: str) -> str:
        """The user turn that asks for a rating of a pair."""
        return fill_template(self.rating_template, {"instruction": instruction, "output": output})

    @property
    def rating_label(self) -> str:
        """The word before the rating, as the rubric asks for it."""
        return asked_label(self.rating_template) or LABEL

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


def load_prompts(template_dir: PathLike | None = None) -> Prompts:
    """The package's templates, each replaced by the file of the same name in `template_dir` where there is one.

    Raises:
      FileNotFoundError: the folder does not exist.
      ValueError: it holds no template or one of an unknown name, or a template lacks a placeholder.
    """
    templates = {name: packaged_template(name) for name in PLACEHOLDERS}
    if template_dir is not None:
        templates |= _read_templates(epath.Path(template_dir))
    return Prompts(backward_template=templates["backward.txt"], rating_template=templates["rating.txt"])


def _read_templates(folder: epath.Path) -> dict[str, str]:
    """{file name: text} of the templates in a folder."""
    expected = " and ".join(PLACEHOLDERS)
    if not folder.is_dir():
        raise FileNotFoundError(f"prompt template folder {folder} does not exist; make it and put {expected} in it")
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))}
    if not texts:
        raise ValueError(f"prompt template folder {folder} holds no template; it may hold {expected}")
    for name, text in texts.items():
        if name not in PLACEHOLDERS:
            raise ValueError(f"{folder / name} is not a template that is used; the names are {expected}")
        for placeholder in PLACEHOLDERS[name]:
            if "{" + placeholder + "}" not in text:
                raise ValueError(
                    f"{folder / name} lacks the placeholder {{{placeholder}}}; write it where that text belongs"
                )
        if name == "rating.txt" and asked_label(text) is None:
            raise ValueError(
                f"{folder / name} never says 'Score:' or another word as 'WORD: <…>', so no rating could be read; "
                'end it with a request such as: one last line in the form "Score: <rating>", 1 to 5'
            )
    return {name: text.strip() for name, text in texts.items()}
