"""What the corpus stage makes: a portion of a page that may serve as the answer of a pair."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """A portion of a page.

    Attributes:
      url, header, text: what its name is made of.
      domain: the host of the URL without `www.`; empty where the URL has none (a file).
      cut_by: what bounds it: "header" or "paragraphs".
      language: ISO 639-1 code, or empty where it was not looked at.
      scores: figures of the filters, by name.
      kept_as: why this portion and no other of the same place: "whole_section", "outermost_of_nested",
        "innermost_of_nested", "one_of_a_list" (of sections that all fit, such as questions), "cut_at_paragraphs".
      file, record, start, end: where its page stands: file, ordinal of the record, and the bytes [start, end).
    """

    url: str
    header: str
    text: str
    domain: str = ""
    cut_by: str = "header"
    language: str = ""
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    kept_as: str = "whole_section"
    file: str = ""
    record: int = 0
    start: int = 0
    end: int = 0

    @property
    def id(self) -> str:
        """Stable name: a hash of URL, header and text."""
        return hashlib.sha256("\0".join((self.url, self.header, self.text)).encode()).hexdigest()[:20]

    def to_rows(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(the line of the segments' file: its content; the line of the sources' file beside it: where its page is)."""
        name = self.id
        row = {
            "id": name,
            "url": self.url,
            "header": self.header,
            "text": self.text,
            "domain": self.domain,
            "cut_by": self.cut_by,
            "language": self.language,
            "scores": dict(self.scores),
            "kept_as": self.kept_as,
        }
        return row, {"id": name, "file": self.file, "record": self.record, "start": self.start, "end": self.end}
