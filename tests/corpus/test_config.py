"""Settings that cannot be meant are refused when they are given, by name and with what was expected."""

import dataclasses
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.corpus.config import CorpusConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_chars": 0}, "min_chars takes a whole number of at least 1, found 0"),
        ({"min_chars": 700, "max_chars": 600}, "min_chars <= max_chars"),
        ({"min_chars": "600"}, "min_chars takes a whole number of at least 1, found '600'; write it without quotes"),
        ({"min_chars": 600.0}, "min_chars takes a whole number"),
        ({"min_chars": True}, "min_chars takes a whole number of at least 1, found True"),
        ({"max_chars": None}, "max_chars takes a whole number of at least 1, found None"),
        ({"ngram": 0}, "ngram takes a whole number of at least 1"),
        ({"min_sentence_words": 0}, "min_sentence_words"),
        ({"max_page_bytes": 0}, "max_page_bytes"),
        ({"jaccard_threshold": 0.0}, "jaccard_threshold takes a number above 0"),
        ({"jaccard_threshold": float("nan")}, "jaccard_threshold takes a number above 0, found nan"),
        ({"include_header": "false"}, "include_header takes True or False, found 'false'"),
        ({"markdown": 1}, "markdown takes True or False, found 1"),
        ({"mask_personal_data": None}, "mask_personal_data"),
        ({"sections_without_headers": "no"}, "sections_without_headers"),
        ({"nested": "both"}, "nested takes a text among outermost, innermost, all, found 'both'"),
        ({"long_sections": "end"}, "long_sections takes a text among beginning, pieces, found 'end'"),
        ({"nested": True}, "nested takes a text"),
        ({"languages": "en"}, r"languages takes several texts .not empty., found 'en'; write \('en',\)"),
        ({"languages": ("en", "German")}, "no language has the code 'German'"),
        ({"languages": ("en-GB",)}, "write 'en'"),
        ({"navigation_phrases": "cookie"}, "navigation_phrases takes several texts"),
        ({"blocked_domains": "example.org"}, "blocked_domains takes several texts"),
        ({"blocked_domains": ("example.org", 3)}, "blocked_domains takes several texts .not empty., found .*3"),
        ({"blocked_phrases": ("",)}, "blocked_phrases takes several texts .not empty."),
        ({"decontaminate": "eval.json"}, "decontaminate takes several texts"),
        ({"min_language_probability": 1.5}, "min_language_probability takes a number from 0 to 1 or None, found 1.5"),
        ({"max_link_density": -0.1}, "max_link_density takes a number from 0 to 1"),
        ({"max_symbol_density": 20}, "max_symbol_density takes a number from 0 to 1"),
        ({"max_list_share": "1/2"}, "max_list_share takes a number from 0 to 1 or None, found '1/2'"),
        ({"min_answer_likeness": 35}, "min_answer_likeness takes a number from 0 to 1"),
        ({"near_duplicates": 0}, "near_duplicates takes a number above 0"),
        ({"near_duplicates": 80}, "near_duplicates takes a number above 0 and of at most 1"),
        ({"repeated_on_pages": -1}, "repeated_on_pages takes a whole number of at least 0"),
        ({"num_segments": 0}, "num_segments takes a whole number of at least 1"),
        ({"num_segments": 1.5}, "num_segments takes a whole number of at least 1 or None"),
        ({"max_per_domain": 0}, "max_per_domain takes a whole number of at least 1"),
        ({"seed": -1}, "seed takes a whole number of at least 0"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CorpusConfig(**settings)


def test_lists_are_taken_as_tuples_and_the_config_goes_anywhere() -> None:
    config = CorpusConfig(languages=["de", "seeds"], blocked_phrases=["a b"])  # type: ignore[arg-type]
    assert config.languages == ("de", "seeds")
    assert pickle.loads(pickle.dumps(config)) == config and hash(config)
    assert CorpusConfig(max_link_density=1, near_duplicates=None, num_segments=None).max_link_density == 1


def test_wanted_languages() -> None:
    assert CorpusConfig().wanted_languages(("en",)) == {"en"}
    assert CorpusConfig().wanted_languages(()) == frozenset()
    assert CorpusConfig(languages=("seeds", "de")).wanted_languages(("en",)) == {"en", "de"}
    assert CorpusConfig(languages=("de",)).wanted_languages(("en",)) == {"de"}
    assert CorpusConfig(languages=()).wanted_languages(("en",)) == frozenset()


def test_named_files_are_hashed_and_missing_ones_named(tmp_path) -> None:
    paths = [tmp_path / name for name in ("domains", "phrases", "prompts.txt")]
    for path in paths:
        path.write_text(path.name)
    config = CorpusConfig(
        blocked_domains=("a.example", f"@{paths[0]}"),
        blocked_phrases=(f"@{paths[1]}",),
        decontaminate=(str(paths[2]),),
    )
    hashes = config.file_hashes()
    assert hashes.keys() == set(map(str, paths)) and len(set(hashes.values())) == 3
    paths[2].write_text("changed")
    assert config.file_hashes() != hashes
    for name, setting in zip(
        ("domains", "phrases", "prompts.txt"), ("blocked_domains", "blocked_phrases", "decontaminate"), strict=True
    ):
        (tmp_path / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"{setting} names the file .*{re.escape(name)}"):
            config.file_hashes()
        (tmp_path / name).write_text(name)


def test_every_setting_is_documented() -> None:
    named = set(re.findall(r"\w+", CorpusConfig.__doc__ or ""))
    assert {field.name for field in dataclasses.fields(CorpusConfig)} <= named


@given(
    st.sampled_from([f.name for f in dataclasses.fields(CorpusConfig)]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.tuples(st.text()),
)
def test_any_value_is_taken_or_refused_by_name(name: str, value: object) -> None:
    try:
        config = CorpusConfig(**{name: value})  # type: ignore[arg-type]
    except ValueError as error:
        assert name in str(error) or name == "languages"
    else:
        assert getattr(config, name) == value
