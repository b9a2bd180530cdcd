"""Words for what the corpus stage counts: every reason that the code can give has some."""

import pytest

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.page_segments import ToolsRecipe, cut_page
from humpback_jax.corpus.readers.pages import Page
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


def test_every_reason_that_real_pages_give_has_words():
    """The names are written in several modules; here they meet."""
    config = CorpusConfig(min_chars=100)
    tools = ToolsRecipe(config).load()
    results = [cut_page(Page(f"{i}.html", text, True), config, tools) for i, text in enumerate(made_pages())]
    for kind, names in (
        ("block", {name for result in results for name in result.furniture}),
        ("segment", {name for result in results for name in result.rejected}),
        ("outcome", {result.outcome for result in results}),
    ):
        assert names and names <= set(WORDS[kind]), kind


def made_pages():
    """Pages of one's own with most kinds of furniture."""
    text = "".join(f"<p>Paragraph {i} says that the water of place {i} rises twice a day.</p>" for i in range(5))
    menu = "<nav><ul><li><a href=/a>Home</a></li><li><a href=/b>News</a></li></ul></nav>"
    foot = "<footer><p>© 2024 The harbour. All rights reserved.</p></footer>"
    aside = "<aside><h3>Related</h3><ul><li><a href=/c>Another page about water</a></li></ul></aside>"
    main = f"<main><h1>Tides</h1><p class=byline>By A. Writer</p>{text}<h2>Short</h2><p>No.</p></main>"
    comments = f"<h2>Comments</h2><div class=comments>{text}</div>"
    notices = "<div class=share>Share on X</div><div id=cookie-banner>We use cookies.</div>"
    yield f"<body>{menu}{main}{aside}{foot}"
    yield f"<body><h1>CAPITALS</h1>{text}<h2>Contact us</h2>{text}{comments}{foot}"
    yield f"<body>{menu}{foot}"
    yield "<body></body>"
    yield f"<body><h1>Long</h1>{text * 20}{notices}"
