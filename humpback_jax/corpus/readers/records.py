"""What readers of archives hand on: a record as it is stored, or the reason why there is none."""

import dataclasses

# What `InputFile.problem` may be, and what it means.
PROBLEMS = {
    "broken_link": "the link leads to nothing",
    "looping_link": "the link leads back to a folder that holds it",
    "repeated_link": "the link leads to a folder that is read already",
    "unreadable_folder": "the folder cannot be listed",
    "not_a_file": "neither a file nor a folder",
    "missing_file": "the list names a file that is not there",
    "bad_index_row": "the row does not name a file with offset and length",
}


@dataclasses.dataclass(frozen=True, slots=True)
class RawRecord:
    """One record of an archive.

    Attributes:
      kind: what WARC-Type says ("response", "conversion", …); of ARC files "response", or the scheme of other records.
      content: None for a kind that holds no page.
      content_type: the type of the content; `identified_type`: what the archive's maker found the payload to be.
      position, end: bytes of the file where the record stands; of records that share compressed bytes, the whole file.
      truncated: the archive says that its maker cut the record short.
    """

    kind: str
    url: str
    content_type: str
    content: bytes | None
    position: int
    end: int
    identified_type: str = ""
    truncated: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A record, or a stretch of the file, that gives no page; `reason` is the name it is counted under.

    `detail` says more where a person should look at it (damage), else it is empty. `position` and `end` are bytes of
    the file, `record` is the ordinal among all that the file gives, pages or not.
    """

    reason: str
    position: int = 0
    detail: str = ""
    end: int = 0
    record: int = 0


# Reasons that say that a file, or a stretch of it, could not be read: where there is nothing else, the input is broken.
DAMAGE = frozenset(
    {
        *(f"{what}_{kind}" for what in ("truncated", "damaged") for kind in ("warc", "arc")),
        *("not_a_warc", "not_a_arc", "damaged_zip", "damaged_file", "expands_too_far", "read_error"),
        *("unknown_file", "unknown_columns", "empty_file", "bad_encoding"),
        *PROBLEMS,
    }
)
