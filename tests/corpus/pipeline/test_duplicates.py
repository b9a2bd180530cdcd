"""Near-duplicates: planted copies are found, templates are no copies, what is dropped has a kept twin."""

import itertools
import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.pipeline import signatures
from humpback_jax.corpus.pipeline.duplicates import (
    LEADERS,
    Text,
    are_duplicates,
    drop_near,
    pair_up,
    shingles,
    similarity,
)
from humpback_jax.corpus.pipeline.engine import number_text
from humpback_jax.corpus.pipeline.signatures import FOUND_AT_THRESHOLD, MAX_BANDS, band_keys, bands_for, words_of
from tests.corpus.pipeline.conftest import article, changed

THRESHOLD = CorpusConfig().near_duplicates
DIRECTIVE = """Description: sets the name of the file that holds the {name} list. Syntax: {name} path-of-file.
Default: none. Context: server config, virtual host. Status: extension. The {name} directive gives the name of a
file with one {what}
per line, which the server reads when it starts. The path is taken as relative to the folder of the server. A file that
is not there is an error. {security} Lines that begin with a hash sign are left out, and so are empty lines. Once the
file is read, what stands in it is held in memory until the server ends, so that a long list costs memory in every
process. For more than a few thousand lines use a database in its place."""


def is_found(first, second, headers=("", "")):
    keys = band_keys([first, second], THRESHOLD)
    texts = [Text.of(header, text) for header, text in zip(headers, (first, second), strict=True)]
    return bool((keys[0] == keys[1]).any()) and are_duplicates(*texts, THRESHOLD) is not None


@pytest.mark.parametrize("words", [100, 200, 400])
def test_copies_with_a_twentieth_of_the_words_changed_are_found(words):
    rng = random.Random(words)
    texts = [article(rng, words) for _ in range(150)]
    found = [is_found(text, changed(text, rng)) for text in texts]
    assert sum(found) / len(found) >= 0.97
    assert not any(is_found(text, other) for text, other in itertools.pairwise(texts))


def test_the_bands_find_a_pair_at_the_threshold():
    for threshold in (0.3, 0.5, 0.65, 0.8, 0.95, 1.0):
        bands, rows = bands_for(threshold)
        assert bands <= MAX_BANDS
        assert 1 - (1 - threshold**rows) ** bands >= FOUND_AT_THRESHOLD


def test_a_template_with_other_facts_is_no_duplicate():
    users = DIRECTIVE.format(name="AuthUserFile", what="user", security="Keep it out of the document root.")
    groups = DIRECTIVE.format(name="AuthGroupFile", what="group", security="Keep it out of the document root.")
    reworded = DIRECTIVE.format(name="AuthUserFile", what="user", security="Never put it below the document root.")
    assert similarity(shingles(words_of(users)), shingles(words_of(groups))) > THRESHOLD
    assert not is_found(users, groups)
    assert is_found(users, reworded)
    first = users + " Call us on 0800 138 4021 or come to the office on the market square at any time of the day."
    other = users + " Call us on 0300 762 9910 or come to the office on the market square at any time of the day."
    assert not is_found(first, other) and is_found(first, first.replace("at any time of the day", "whenever you like"))


def test_headers_that_name_what_a_text_is_about_tell_templates_apart():
    text = "Returns the {what} of an array along one axis, computed in place. " + article(random.Random(5), 110)
    least, most = text.format(what="minimum"), text.format(what="maximum")
    assert is_found(least, most)
    assert not is_found(least, most, ("The minimum", "The maximum"))
    # Names are made of words, and a text bends them.
    adds, takes = least.replace("minimum", "sum; it adds"), least.replace("minimum", "rest; it subtracts")
    assert is_found(adds, takes, ("ops.Scatter", "ops.ScatterV2"))
    assert not is_found(adds, takes, ("ops.ScatterAdd", "ops.ScatterSub"))
    # Copies of one text under headers of which it says nothing, or under a longer and a shorter one.
    assert is_found(least, least.replace("along", "over"), ("Page 17", "Page 18"))
    assert is_found(least, most, ("The minimum", "The minimum of an array"))


def test_much_more_text_is_no_duplicate():
    rng = random.Random(3)
    text = article(rng, 120)
    assert is_found(text, text + " " + article(rng, 25))
    assert not is_found(text, text + " " + article(rng, 60))


def test_scripts_without_spaces_are_compared_by_characters():
    text = "".join(chr(0x4E00 + i * 37 % 2000) for i in range(300))
    assert len(shingles(words_of(text))) > 250
    assert is_found(text, text[:100] + "山川" + text[102:])
    assert not is_found(text, text[::-1])


@given(st.text(), st.text())
def test_any_two_texts_can_be_compared(first, second):
    texts = Text.of("", first), Text.of("", second)
    assert 0 <= similarity(texts[0].shingles, texts[1].shingles) <= 1
    assert are_duplicates(texts[0], texts[0], 1.0) == similarity(texts[0].shingles, texts[0].shingles) == 1
    assert (are_duplicates(*texts, THRESHOLD) is None) == (are_duplicates(*texts[::-1], THRESHOLD) is None)
    assert band_keys([first, second], THRESHOLD).shape == (2, bands_for(THRESHOLD)[0])


@given(st.sets(st.tuples(st.integers(0, 25), st.integers(0, 25)).filter(lambda pair: pair[0] < pair[1])))
def test_what_is_dropped_is_similar_to_what_is_kept(pairs):
    """And nothing that is kept is similar to an earlier one that is kept: the greedy maximal independent set."""
    edges = sorted((f"{later:02d}", f"{earlier:02d}") for earlier, later in pairs)
    rows = [(f"{a}\t{b}", json.dumps({"dropped": a, "kept": b, "similarity": 0.9})) for a, b in edges]
    dropped = {row.key: json.loads(row.payload)["kept"] for row in drop_near("", iter(rows))}
    assert all((segment, kept) in edges and kept not in dropped for segment, kept in dropped.items())
    assert all(later in dropped or earlier in dropped for later, earlier in edges)


@given(st.sets(st.integers(0, 10_000), max_size=60))
def test_a_large_band_is_compared_with_its_first(members):
    names = sorted(f"{member:05d}" for member in members)
    pairs = {(row.key, row.order.partition("\t")[2]) for row in pair_up("band", iter([(name, "") for name in names]))}
    expected = {(a, b) for i, a in enumerate(names[:LEADERS]) for b in names[i + 1 :]}
    assert pairs == expected


SENTENCES = st.text(st.sampled_from("abcdeéß ’.-_7山川ก\n\U0001d400\u0130"), max_size=40)


@given(st.lists(SENTENCES, min_size=1, max_size=6))
def test_many_texts_have_as_many_different_shingles_as_one_by_one(texts):
    """Equal shingles have equal hashes, others other ones: those of `words_of`, in any company of other texts."""
    hashes, ends = signatures._shingle_hashes([text.casefold() for text in texts])
    found = [set(part.tolist()) for part in np.split(hashes, ends)[: len(texts)]]
    expected = [shingles(words_of(text)) - {""} for text in texts]
    assert [len(each) for each in found] == [len(each) for each in expected]
    assert len(set().union(*found)) == len(set().union(*expected))
    assert (band_keys(texts, 0.65) == np.concatenate([band_keys([text], 0.65) for text in texts])).all()


def test_bands_agree_as_often_as_texts_are_similar():
    rng = random.Random(1)
    pairs = [(text, changed(text, rng, 0.1)) for text in (article(rng, 150) for _ in range(200))]
    keys = band_keys([text for pair in pairs for text in pair], THRESHOLD).reshape(len(pairs), 2, -1)
    similar = [similarity(*(shingles(words_of(text)) for text in pair)) for pair in pairs]
    _, rows = bands_for(THRESHOLD)
    agreed, expected = (keys[:, 0] == keys[:, 1]).mean(), np.mean([each**rows for each in similar])
    assert abs(agreed - expected) < 0.03


def test_signatures_are_the_same_on_every_machine():
    """A change of these says that corpora built before and after differ."""
    assert number_text(int(band_keys(["one two three four five six"], 0.65)[0, 0])) == "fe16e51cb07e05dc"
