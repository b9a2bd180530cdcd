"""Sites that are made here: articles of several domains, copies, near copies, and what a site says on every page."""

import gzip
import pathlib
import random
from collections.abc import Callable, Sequence

import pytest

STEMS = ("bar", "den", "fol", "gim", "kur", "lan")
WORDS = [stem + vowel + end for stem in STEMS for vowel in "aeiou" for end in ("s", "t", "m", "rk")]
FOOTER = "Written by the friends of this small site, who thank all that have read so far and will come back some day."


def article(rng: random.Random, words: int = 130) -> str:
    """Sentences of invented words, no two alike."""
    return " ".join(" ".join(rng.choice(WORDS) for _ in range(9)).capitalize() + "." for _ in range(max(1, words // 9)))


def changed(text: str, rng: random.Random, share: float = 0.05) -> str:
    """The text with this share of its words replaced by others."""
    words = text.split(" ")
    for i in rng.sample(range(len(words)), round(share * len(words))):
        words[i] = rng.choice(WORDS) + rng.choice("xyz")
    return " ".join(words)


def html(title: str, *paragraphs: str) -> str:
    body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return f"<html><head><title>{title}</title></head><body><main><h1>{title}</h1>{body}</main></body></html>"


def record(url: str, markup: str) -> bytes:
    """A response record, compressed on its own."""
    content = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + markup.encode()
    head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nContent-Type: application/http\r\n"
    return gzip.compress(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content + b"\r\n\r\n", mtime=0)


def site_pages(seed: int = 0, domains: int = 5, pages: int = 8) -> list[tuple[str, str]]:
    """(url, markup) of `domains` sites of 1, 2, … times `pages` / 2 pages, with copies and near copies among them."""
    rng, made, texts = random.Random(seed), [], []
    for domain in range(domains):
        for page in range(max(1, pages * (domain + 1) // 2)):
            kind = rng.random()
            text = article(rng) if kind > 0.2 or not texts else rng.choice(texts)
            if kind < 0.1:
                text = changed(text, rng)
            texts.append(text)
            url = f"https://www.site{domain}.example/{page}"
            made.append((url, html(f"About {rng.choice(WORDS)} {page}", text, FOOTER)))
    return made


@pytest.fixture(scope="session")
def pages() -> list[tuple[str, str]]:
    return site_pages()


@pytest.fixture
def archives(tmp_path: pathlib.Path) -> Callable[..., list[pathlib.Path]]:
    """Writes pages into so many archives in a folder of their own."""

    def write(name: str, pages: Sequence[tuple[str, str]], count: int) -> list[pathlib.Path]:
        folder = tmp_path / name
        folder.mkdir()
        paths = [folder / f"{i:03d}.warc.gz" for i in range(count)]
        for i, path in enumerate(paths):
            path.write_bytes(b"".join(record(*page) for page in pages[i::count]))
        return paths

    return write
