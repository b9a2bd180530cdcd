"""Words for what the corpus stage counts: every reason that the code can give has some."""

import pytest

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.reasons import WORDS, corpus_words


def test_settings_stand_in_the_words():
    settings = {"min_chars": 700, "near_duplicates": 0.8, "languages": ["de", "en"]}
    assert corpus_words("segment", "too_short", settings) == ("Too short", "fewer than 700 characters")
    assert corpus_words("segment", "near_duplicate", settings)[1] == "a kept segment is at least 80 % like it"
    assert corpus_words("segment", "other_language", settings)[1] == "it is not written in de, en"
    assert corpus_words("segment", "too_long")[1] == "more than … characters"


def test_one_name_has_the_words_of_what_it_is_about():
    assert corpus_words("segment", "truncated")[1] != corpus_words("outcome", "truncated")[1]


def test_details_and_unknown_reasons_keep_their_names():
    assert corpus_words("record", "http_status:404")[0] == "No page there (404)"
    assert corpus_words("record", "quite_new:x") == ("Quite new: x", "")


@pytest.mark.parametrize("kind", WORDS)
def test_words_name_settings_that_there_are(kind):
    known = set(CorpusConfig.__dataclass_fields__) | {"max_segments"}
    filled = dict.fromkeys(known, "")
    for label, why in WORDS[kind].values():
        assert label and why.format_map(filled)
