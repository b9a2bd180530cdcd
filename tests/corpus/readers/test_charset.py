"""Charsets: declared, wrong, missing, hostile."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.corpus.readers.charset import UndecodableError, decode_page

RUSSIAN = "Широкая электрификация южных губерний даст мощный толчок подъёму сельского хозяйства. " * 5
FRENCH = "Dès l'été, où la forêt s'éclaire, l'évêque gâté reçut vingt-huit maïs brûlés près d'un chêne âgé. " * 5
KOREAN = "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. 다람쥐 헌 쳇바퀴에 타고파. " * 5
CHINESE = "水泵停机以后如果底阀关不严管子里的水就会慢慢流回井里第二天再开机时就要重新灌水。" * 5
JAPANESE = "いろはにほへと散りぬるを我が世誰ぞ常ならむ有為の奥山今日越えて浅き夢見し酔ひもせず。" * 5
VIETNAMESE = "Máy bơm có thể mất nước vào ban đêm nếu van đáy không kín, và phải mồi lại vào buổi sáng. " * 5


def page(text: str, codec: str, label: str = "") -> bytes:
    """An HTML page of a text, in a charset, with or without a meta tag that names one."""
    meta = f'<meta charset="{label}">' if label else ""
    return f"<html><head>{meta}<title>t</title></head><body><p>{text}</p></body></html>".encode(codec)


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


@pytest.mark.parametrize(
    ("text", "codec", "label"),
    [
        (RUSSIAN, "mac_cyrillic", "x-mac-cyrillic"),
        (RUSSIAN, "mac_cyrillic", "X-Mac-Ukrainian"),
        (RUSSIAN, "cp855", "ibm855"),
        (RUSSIAN, "cp866", "cp866"),
        (RUSSIAN, "utf-32-le", ""),
        (RUSSIAN, "utf-32-be", ""),
        (RUSSIAN, "utf-32", ""),
        (RUSSIAN, "utf-16-le", ""),
        (RUSSIAN, "utf-16-be", ""),
        (FRENCH, "utf-16-be", "utf-16"),
        (FRENCH, "cp850", "cp850"),
        (FRENCH, "iso8859-15", "latin9"),
        (FRENCH, "mac_roman", "macintosh"),
        (FRENCH, "utf-7", "utf-7"),
        (KOREAN, "johab", "johab"),
        (KOREAN, "johab", "cp1361"),
        (KOREAN, "cp949", "euc-kr"),
        (KOREAN, "iso2022_kr", "iso-2022-kr"),
        (KOREAN, "iso2022_kr", ""),
        (CHINESE, "hz", "hz-gb-2312"),
        (CHINESE, "hz", ""),
        (CHINESE, "gb18030", "gb2312"),
        (CHINESE, "gbk", ""),
        (JAPANESE, "iso2022_jp", "iso-2022-jp"),
        (JAPANESE, "iso2022_jp", ""),
        (JAPANESE, "euc_jp", ""),
        (JAPANESE, "cp932", "shift_jis"),
        ("水泵停機以後，底閥關不嚴，管子裡的水就會流回井裡。" * 5, "big5", "big5"),
        ("ปั๊มน้ำอาจเสียน้ำในเวลากลางคืนถ้าวาล์วปิดไม่สนิท “ดี” " * 5, "cp874", "tis-620"),
        (FRENCH + "ﾊﾝｶｸ", "utf-8", ""),
    ],
)
def test_charsets_of_all_kinds(text: str, codec: str, label: str) -> None:
    assert text in decode_page(page(text, codec, label), None)
    if label:
        assert text in decode_page(page(text, codec), label)


def test_vietnamese_letters_are_put_together() -> None:
    parts = unicodedata.normalize("NFD", VIETNAMESE)
    # cp1258 has some letters whole (â, ơ) and their tones apart.
    for whole in "âêôăơưđÂÊÔ":
        parts = parts.replace(unicodedata.normalize("NFD", whole), whole)
    reordered = unicodedata.normalize("NFC", parts)
    body = "".join(_in_cp1258(letter) for letter in reordered).encode("cp1258")
    assert decode_page(b"<meta charset=windows-1258>" + body, None).endswith(VIETNAMESE)


def _in_cp1258(letter: str) -> str:
    """One letter as the charset writes it: a base that it has, then the tone."""
    try:
        letter.encode("cp1258")
        return letter
    except UnicodeEncodeError:
        decomposed = unicodedata.normalize("NFD", letter)
        tone = next(mark for mark in decomposed[1:] if mark in "\u0300\u0301\u0303\u0309\u0323")
        return unicodedata.normalize("NFC", decomposed.replace(tone, "")) + tone


def test_a_byte_order_mark_before_another_charset() -> None:
    body = b"\xef\xbb\xbf" + page(FRENCH, "cp1252")
    assert FRENCH in decode_page(body, None)
    assert FRENCH in decode_page(b"\xef\xbb\xbf" + page(FRENCH, "cp1252", "iso-8859-1"), None)


@pytest.mark.parametrize(
    "body",
    [
        b"<p>\x1b$)A\x0eJV3L:s\x0f text</p>" * 20,
        b"<p>\x1b$+Gabc\x1b(B</p>" * 20,
        page("Tiếng Việt".encode().decode("latin-1"), "latin-1", "viscii"),
        page(FRENCH, "utf-8")[:-20] + FRENCH.encode("cp1252") * 3,
    ],
    ids=["iso-2022-cn", "iso-2022-cn-ext", "viscii", "two charsets"],
)
def test_what_no_codec_reads_is_refused(body: bytes) -> None:
    if b"viscii" in body:
        body = body.replace(b"\xe1", b"\xd0")  # no longer UTF-8
    with pytest.raises(UndecodableError):
        decode_page(body, None)


def test_ascii_that_only_looks_like_escapes_stays() -> None:
    for text in ("set ~{x} and a~~b", "ls \x1b[31mred\x1b[0m", "a+b-c and C++ +-", "~user/~{two}~ and ~{three}"):
        assert decode_page(f"<p>{text}</p>".encode(), None) == f"<p>{text}</p>"
    assert "a+b-c" in decode_page(b"<meta charset=utf-7><p>a+b-c</p>", None)


def test_meta_tag_is_read_and_the_http_header_wins() -> None:
    body = b"<meta charset='iso-8859-2'>\xb1 \xea \xbf"
    assert decode_page(body, None).endswith("ą ę ż")
    assert decode_page(body, "iso-8859-1").endswith("± ê ¿")


def test_xml_declaration_is_read() -> None:
    body = '<?xml version="1.0" encoding="koi8-u"?><html><p>Ґрунт і їжа</p></html>'.encode("koi8-u")
    assert "Ґрунт і їжа" in decode_page(body, None)


def test_meta_tag_cannot_claim_utf16() -> None:
    assert decode_page(b"<meta charset=utf-16><p>plain</p>", None) == "<meta charset=utf-16><p>plain</p>"


def test_a_few_bad_bytes_are_forgiven_and_many_are_not() -> None:
    text = "word " * 1000
    assert decode_page(text.encode() + b"\xff", "utf-8").startswith(text)
    with pytest.raises(UndecodableError, match="cannot be decoded"):
        decode_page(("word \N{REPLACEMENT CHARACTER}" * 100).encode(), "utf-8")


LABELS = [
    "utf-8",
    "utf-16",
    "utf-7",
    "x-mac-cyrillic",
    "johab",
    "big5",
    "hz-gb-2312",
    "ibm437",
    "iso-2022-jp",
    "viscii",
]


@given(st.binary(max_size=300), st.sampled_from(LABELS) | st.none() | st.text(max_size=12))
def test_any_bytes_give_text_or_the_one_error(body: bytes, declared: str | None) -> None:
    for content in (body, b"<meta charset=" + (declared or "").encode() + b">" + body, b"\xef\xbb\xbf" + body):
        try:
            decode_page(content, declared).encode()
        except UndecodableError as error:
            assert str(error)
