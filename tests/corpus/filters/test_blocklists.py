"""Domains with what lies below them, and phrases as words."""

import pytest

from humpback_jax.corpus.filters.blocklists import (
    domain_key,
    hash_of_setting,
    is_blocked_domain,
    phrase_index,
    read_entries,
)


@pytest.mark.parametrize(
    "entry",
    [
        *("example.org", "EXAMPLE.org.", "*.example.org", ".example.org", "www.example.org"),
        *("http://example.org/a?b", "0.0.0.0 example.org"),
    ],
)
def test_all_ways_to_write_a_domain(entry: str) -> None:
    blocked = frozenset([domain_key(entry)])
    inside = ("example.org", "www.example.org", "a.b.Example.org", "example.org:8080")
    outside = ("notexample.org", "example.org.uk", "org", "", "example.com")
    assert all(is_blocked_domain(host, blocked) for host in inside)
    assert not any(is_blocked_domain(host, blocked) for host in outside)


def test_domains_of_other_scripts() -> None:
    assert is_blocked_domain("xn--bcher-kva.example", frozenset([domain_key("bücher.example")]))
    assert is_blocked_domain("shop.bücher.example", frozenset([domain_key("xn--bcher-kva.example")]))


def test_entries_of_a_file(tmp_path) -> None:
    (tmp_path / "list.txt").write_bytes("\ufeff# comment\nfirst entry\n\n  second  \r\n".encode())
    assert read_entries(["zeroth", f"@{tmp_path}/list.txt"]) == ["zeroth", "first entry", "second"]
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match=r"latin\.txt is not UTF-8"):
        read_entries([f"@{tmp_path}/latin.txt"])


def test_a_missing_file_is_named_with_its_setting(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"blocked_domains names the file .*gone\.txt"):
        hash_of_setting("blocked_domains", str(tmp_path / "gone.txt"))
    with pytest.raises(FileNotFoundError, match="blocked_phrases"):
        hash_of_setting("blocked_phrases", str(tmp_path))


def test_phrases_are_found_as_words_in_any_case() -> None:
    index = phrase_index(["as an AI model", "casino", "免费下载"])
    assert index.find_in("As an A.I. model") == set()
    assert index.find_in("... AS AN  AI\nmodel, I") == {"as an AI model"}
    assert index.find_in("the CASINO's") == {"casino"} and index.find_in("casinos") == set()
    assert index.find_in("点击免费下载吧") == {"免费下载"}


def test_a_phrase_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="'---' has neither letter nor digit"):
        phrase_index(["fine", "---"])
