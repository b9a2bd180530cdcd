"""MHTML: a page that a browser saved with all its parts, as a mail message."""

import dataclasses
import email
import email.errors
import email.message
import email.policy

_HTML_TYPES = ("text/html", "application/xhtml+xml")


# What the email package raises for headers that no mail program writes.
_MAIL_ERRORS = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError)


@dataclasses.dataclass(frozen=True, slots=True)
class SavedPage:
    """The page of an MHTML file; `url` may be empty, `truncated` if its end is missing."""

    url: str
    body: bytes
    charset: str | None
    truncated: bool


def read_mhtml(data: bytes) -> SavedPage | None:
    """The page of an MHTML file, undone from its transfer encoding; None where it has none.

    The page is the part that the root names by `start`, else the first that is HTML; frames, styles and images are
    other parts.
    """
    try:
        return _saved_page(data)
    except _MAIL_ERRORS:
        return None


def _saved_page(data: bytes) -> SavedPage | None:
    message = email.message_from_bytes(data, policy=email.policy.compat32)
    start = str(message.get_param("start") or "")
    parts = [part for part in message.walk() if not part.is_multipart() and part.get_content_type() in _HTML_TYPES]
    root = next((part for part in parts if start and part.get("Content-ID", "").strip() == start.strip()), None)
    part = root or next(iter(parts), None)
    if part is None:
        return None
    body = part.get_payload(decode=True)
    if not isinstance(body, bytes):
        return None
    url = str(part.get("Content-Location") or message.get("Snapshot-Content-Location") or "")
    # A part that another one follows is whole, though the file ends too early.
    is_last = part is list(message.walk())[-1]
    cut = is_last and any(isinstance(d, email.errors.CloseBoundaryNotFoundDefect) for d in _defects(message))
    return SavedPage("".join(url.split()), body, _charset(part), cut)


def _defects(message: email.message.Message) -> list[email.errors.MessageDefect]:
    return [defect for part in message.walk() for defect in part.defects]


def _charset(part: email.message.Message) -> str | None:
    charset = part.get_param("charset")
    return charset if isinstance(charset, str) else None
