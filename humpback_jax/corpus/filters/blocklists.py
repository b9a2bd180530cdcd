"""Domains and phrases that somebody does not want, given one by one or as "@FILE" with one entry per line."""

from collections.abc import Iterable

from etils import epath

from humpback_jax.corpus.filters.words import PhraseIndex, words
from humpback_jax.files import sha256_of_file

FILE_MARK = "@"
_COMMENT = "#"


def hash_of_setting(setting: str, path: str) -> str:
    """SHA-256 of a file that a setting names; FileNotFoundError names both."""
    if not epath.Path(path).exists() or epath.Path(path).is_dir():
        raise FileNotFoundError(f"{setting} names the file {path}, which does not exist; correct the path or drop it")
    return sha256_of_file(path)


def read_entries(entries: Iterable[str]) -> list[str]:
    """Entries as they are, "@FILE" replaced by the lines of the file; empty lines and lines that begin with # are none.

    Raises:
      ValueError: a file is not UTF-8 text.
    """
    read: list[str] = []
    for entry in entries:
        if not entry.startswith(FILE_MARK):
            read.append(entry)
            continue
        path = entry[len(FILE_MARK) :]
        try:
            lines = epath.Path(path).read_bytes().decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text ({error}); write one entry per line") from error
        read += [line.strip() for line in lines if line.strip() and not line.lstrip().startswith(_COMMENT)]
    return read


def domain_key(domain: str) -> str:
    """A domain as lists are compared by: lower case, punycode, without scheme, path, port, `*.`, `www.` and outer dots.

    Lists in use write "example.org", "*.example.org", "http://example.org/", ".example.org" or "0.0.0.0 example.org".
    """
    words = domain.strip().lower().split()
    host = (words[-1] if words else "").rpartition("//")[2].partition("/")[0].partition(":")[0]
    host = host.removeprefix("*").strip(".").removeprefix("www.")
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return host


def is_blocked_domain(domain: str, blocked: frozenset[str]) -> bool:
    """Whether a host or one that it lies in is on a list of `domain_key`s."""
    if not blocked:
        return False
    labels = domain_key(domain).split(".")
    return any(".".join(labels[first:]) in blocked for first in range(len(labels)))


def phrase_index(phrases: Iterable[str]) -> PhraseIndex:
    """What finds these phrases as whole words, in any case and whatever stands between the words.

    Raises:
      ValueError: a phrase has neither a letter nor a digit.
    """
    names: dict[tuple[str, ...], list[str]] = {}
    for phrase in phrases:
        names.setdefault(tuple(words(phrase)), []).append(phrase)
    if () in names:
        raise ValueError(f"blocked_phrases: {names[()][0]!r} has neither letter nor digit to look for; drop it")
    return PhraseIndex(names)
