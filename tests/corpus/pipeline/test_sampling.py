"""Sampling: uniform over domains, to the number that is asked for, and hardly changed by new files."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.corpus.pipeline.rows import DROPPED, SEGMENT
from humpback_jax.corpus.pipeline.sampling import Cut, by_domain, cut_for, drop_beyond, rank


def sample(segments, number, seed=0, cap=None):
    """The ids that are drawn of {id: domain}, by the steps as an engine would run them."""
    in_domain = {}
    for segment, domain in segments.items():
        for row in by_domain(segment, iter([(SEGMENT, domain)]), seed):
            in_domain.setdefault(row.key, []).append((row.order, row.payload))
    ranked, dropped = {}, set()
    for domain, rows in in_domain.items():
        for row in rank(domain, iter(sorted(rows)), seed, cap):
            if row.dataset == "ranked":
                ranked.setdefault(row.key, []).append((row.order, row.payload))
            else:
                dropped.add(row.key)
    cut = cut_for({key: len(rows) for key, rows in ranked.items()}, number)
    for key, rows in ranked.items():
        dropped |= {row.key for row in drop_beyond(key, iter(sorted(rows)), cut)}
    return segments.keys() - dropped


def corpus(sizes):
    return {f"{domain}-{i}": domain for domain, size in sizes.items() for i in range(size)}


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 30)), st.integers(1, 120))
def test_domains_differ_by_one_unless_one_is_used_up(sizes, number):
    drawn = sample(corpus(sizes), number)
    counts = Counter(name.split("-")[0] for name in drawn)
    assert len(drawn) == min(number, sum(sizes.values()))
    most = max(counts.values(), default=0)
    assert all(counts[domain] == size or counts[domain] >= most - 1 for domain, size in sizes.items())


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 30), min_size=1), st.integers(1, 9))
def test_no_domain_gives_more_than_the_cap(sizes, cap):
    counts = Counter(name.split("-")[0] for name in sample(corpus(sizes), 10_000, cap=cap))
    assert counts == {domain: min(size, cap) for domain, size in sizes.items()}


def test_new_files_change_little_and_another_seed_much():
    sizes = dict.fromkeys("abcdefghij", 40)
    before = sample(corpus(sizes), 100)
    after = sample(corpus(sizes | {"new": 40}), 100)
    assert len(before & after) >= 85
    grown = sample(corpus(sizes | {"a": 41}), 100)
    assert len(before & grown) >= 98
    assert len(before & sample(corpus(sizes), 100, seed=1)) < 60


def test_a_segment_that_was_dropped_is_not_drawn():
    assert not list(by_domain("id", iter([(SEGMENT, "a"), (DROPPED, "")]), 0))


def test_the_cut_of_nothing_takes_nothing():
    assert cut_for({}, 5) == Cut(0, 0)
    assert cut_for({"000": 3, "001": 2}, 4) == Cut(1, 1)
    assert cut_for({"000": 3}, 9) == Cut(1, 0)
