"""Words for what the corpus stage counts: every reason that the code can give has some."""

import ast
import pathlib
from collections.abc import Iterator

import pytest

from humpback_jax import corpus
from humpback_jax.corpus.build import build_corpus
from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.content import boxes, short_lines
from humpback_jax.corpus.page_segments import ToolsRecipe, cut_page
from humpback_jax.corpus.pipeline import likeness, repeated, sampling
from humpback_jax.corpus.pipeline.cutting import CUTTING_FAILED, READING_FAILED
from humpback_jax.corpus.pipeline.pool import DIED, HUNG
from humpback_jax.corpus.readers.pages import Page
from humpback_jax.corpus.readers.records import DAMAGE, PROBLEMS
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


CORPUS = pathlib.Path(corpus.__file__).parent
# Parts of names that are put together ("damaged_warc"), all in DAMAGE; and words that are no reasons.
PARTS = {"", "damaged", "truncated", "not_a", "none", "nothing is there"}


def texts(node: ast.AST | None) -> Iterator[str]:
    """The texts that an expression may come to; of one that is put together, how it begins."""
    match node:
        case ast.Constant(str(value)):
            yield value.partition(":")[0]
        case ast.JoinedStr([ast.Constant(str(value)), *_]):
            yield value.partition(":")[0].rstrip("_")
        case ast.IfExp():
            yield from (*texts(node.body), *texts(node.orelse))
        case ast.BoolOp() | ast.Tuple():
            for each in node.values if isinstance(node, ast.BoolOp) else node.elts:
                yield from texts(each)


def reasons_in(node: ast.AST) -> Iterator[str]:
    """Reasons written at a node: assigned to one, passed as one, raised as one, or returned by what finds them."""
    match node:
        case ast.keyword(arg="reason"):
            yield from texts(node.value)
        case ast.Assign():
            if any(ast.unparse(target).endswith(("reason", "reasons[index]")) for target in node.targets):
                yield from texts(node.value)
        case ast.Call():
            if ast.unparse(node.func).lower().endswith(("rejectedrecord", "_rejecterror", "badmessageerror")):
                yield from (text for argument in node.args[:1] for text in texts(argument))
        case ast.FunctionDef():
            if "reason" in node.name or node.name == "_outcome":
                returns = (each for each in ast.walk(node) if isinstance(each, ast.Return))
                yield from (text for each in returns for text in texts(each.value))


def test_every_reason_that_is_written_in_the_code_has_words():
    known = {name for words in WORDS.values() for name in words}
    nodes = [node for path in CORPUS.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    found = {reason for node in nodes for reason in reasons_in(node)}
    assert len(found) > 50  # so that another way of writing them does not go by unseen
    assert found - known <= PARTS


def test_reasons_that_have_a_constant_have_words():
    assert DAMAGE | PROBLEMS.keys() | {HUNG, DIED, CUTTING_FAILED, READING_FAILED} <= WORDS["record"].keys()
    later = {likeness.LOW, repeated.ON_SITE, sampling.OVER_CAP, sampling.NOT_SAMPLED, "duplicate", "near_duplicate"}
    assert later <= WORDS["segment"].keys()
    tables = (boxes._TAG_REASONS, boxes._ROLE_REASONS, short_lines._COUNTED)
    assert {reason for table in tables for reason in table.values()} <= WORDS["block"].keys()
    assert {reason for _, reason in short_lines._ANYWHERE.values()} <= WORDS["block"].keys()


@pytest.mark.slow
def test_every_reason_that_a_real_build_gives_has_words(shared_data, tmp_path):
    config = CorpusConfig(num_segments=200, max_per_domain=2, languages=("en",), blocked_phrases=("privacy",))
    inputs = [shared_data / "web" / "pages.warc.gz", shared_data / "web" / "real_crawl", shared_data / "README.md"]
    report = build_corpus(inputs, tmp_path / "corpus", config, show_progress=False)
    for kind, counted in (
        ("record", report.rejected_records),
        ("segment", report.rejected_segments),
        ("outcome", report.page_outcomes),
        ("block", report.furniture),
    ):
        assert counted and {name.partition(":")[0] for name in counted} <= WORDS[kind].keys()
    assert {"not_sampled", "over_domain_cap", "other_language", "blocked_phrase"} <= report.rejected_segments.keys()
