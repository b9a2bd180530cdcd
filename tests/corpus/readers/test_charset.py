"""Charsets: declared, wrong, missing, hostile."""

import pytest

from humpback_jax.corpus.readers.charset import UndecodableError, decode_page

RUSSIAN = "Широкая электрификация южных губерний даст мощный толчок подъёму сельского хозяйства. " * 5


@pytest.mark.parametrize(
    ("body", "declared"),
    [
        (RUSSIAN.encode("cp1251"), "windows-1251"),
        (RUSSIAN.encode("cp1251"), "utf-8"),
        (RUSSIAN.encode("cp1251"), None),
        (RUSSIAN.encode("utf-8"), "windows-1251"),
        (RUSSIAN.encode("utf-8"), "no-such-charset"),
        (RUSSIAN.encode("utf-8"), "rot13"),
        (RUSSIAN.encode("utf-8-sig"), "iso-8859-1"),
        (RUSSIAN.encode("utf-16"), None),
        (RUSSIAN.encode("koi8-r"), '"KOI8-R"'),
    ],
)
def test_text_is_found_whatever_the_header_says(body: bytes, declared: str | None) -> None:
    assert decode_page(body, declared) == RUSSIAN


def test_meta_tag_is_read_and_the_http_header_wins() -> None:
    body = b"<meta charset='iso-8859-2'>\xb1 \xea \xbf"
    assert decode_page(body, None).endswith("ą ę ż")
    assert decode_page(body, "iso-8859-1").endswith("± ê ¿")


def test_meta_tag_cannot_claim_utf16() -> None:
    assert decode_page(b"<meta charset=utf-16><p>plain</p>", None) == "<meta charset=utf-16><p>plain</p>"


def test_a_few_bad_bytes_are_forgiven_and_many_are_not() -> None:
    text = "word " * 1000
    assert decode_page(text.encode() + b"\xff", "utf-8").startswith(text)
    with pytest.raises(UndecodableError, match="cannot be decoded"):
        decode_page(("word \N{REPLACEMENT CHARACTER}" * 100).encode(), "utf-8")
