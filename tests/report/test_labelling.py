"""Labelling by one person: the draw, what the page does not know, labels on the disk, and how they are read back."""

import base64
import collections
import contextlib
import gzip
import itertools
import json
import random
import re
import threading
import urllib.error
import urllib.request

import made_run
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from humpback_jax.cli import cli
from humpback_jax.curation.labels import SCALES, last_rows, read_labels
from humpback_jax.files import JsonLines
from humpback_jax.report.labelling import QUESTIONS, draw_pairs, open_labelling
from humpback_jax.report.serve import PageServer

KEPT, DROPPED = 40, 200
GOOD, BAD = {"score": 5, "text": 2, "fit": 2}, {"score": 1, "text": 0, "fit": 0}


def make_selection(folder, t=1, p_good=True, kept=KEPT, dropped=DROPPED):
    """A finished round t; ranks are numbers that stand nowhere else. Returns {id: (kept, rank)}."""
    rng = random.Random(t)
    rows = {"curated.jsonl": [], "dropped.jsonl": []}
    for i in range(kept + dropped):
        file = "curated.jsonl" if i < kept else "dropped.jsonl"
        rank = rng.uniform(0.7, 1.0) if i < kept else rng.uniform(0.0, 0.7)
        row = {"reason": "below_min_p_good"} if i >= kept else {}
        row |= {"id": f"pair{i}", "instruction": f"Why {i}?", "output": f"Because of {i}.", "source": "a.html"}
        row |= {"score": rank if not p_good else rng.uniform(1, 5)} | ({"p_good": rank} if p_good else {})
        rows[file].append(row | {"signals": {"fit": rng.uniform(0, 1)}})
    for name, content in rows.items():
        made_run.write_jsonl(folder / f"curated{t}" / name, content)
    made_run.write_manifest(folder, f"curated{t}", {"in": kept + dropped, "out": kept, "rejected": {}})
    rank_name = "p_good" if p_good else "score"
    return {row["id"]: ("reason" not in row, row[rank_name]) for content in rows.values() for row in content}


def content(page):
    """What lies in the page, unpacked."""
    packed = re.search(rb'id="sheet">([^<]*)<', page)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def say(labelling, name, said):
    labelling.save({"sheet": labelling.name, "id": name} | said)


@pytest.mark.parametrize("p_good", [True, False])
def test_every_quartile_of_both_sides_is_drawn_alike(tmp_path, p_good):
    make_selection(tmp_path, 1)
    ranks = make_selection(tmp_path, 2, p_good)
    drawn = open_labelling(tmp_path, 80).pairs
    for side, size in ((True, KEPT), (False, DROPPED)):
        ascending = sorted((rank, name) for name, (kept, rank) in ranks.items() if kept == side)
        quartile = {name: 4 * place // size for place, (_, name) in enumerate(ascending)}
        assert collections.Counter(quartile[name] for name in drawn if name in quartile) == dict.fromkeys(range(4), 10)


def test_the_order_says_nothing_of_the_strata(tmp_path):
    """Kept pairs come no sooner than dropped ones: over many seeds their mean place is the middle."""
    ranks = make_selection(tmp_path)
    places = []
    for seed in range(40):
        drawn = list(open_labelling(tmp_path, 60, seed).pairs)
        places += [place / (len(drawn) - 1) for place, name in enumerate(drawn) if ranks[name][0]]
    assert sum(places) / len(places) == pytest.approx(0.5, abs=0.04)  # 4.8 standard errors


@settings(max_examples=60, deadline=None)
@given(
    ranks=st.lists(st.tuples(st.booleans(), st.sampled_from([1.0, 2.0, 3.5, None])), min_size=1, max_size=40),
    number=st.integers(1, 50),
    seed=st.integers(0, 5),
)
def test_a_draw_has_no_pair_twice_and_grows_with_its_number(tmp_path_factory, ranks, number, seed):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [{"id": f"i{i}", "score": rank} | ({} if kept else {"reason": "r"}) for i, (kept, rank) in enumerate(ranks)]
    made_run.write_jsonl(path, rows)
    rated = {row["id"] for row in rows if row["score"] is not None}
    if not rated:
        with pytest.raises(ValueError, match="no pair has a rating"):
            draw_pairs(JsonLines([path]), number, seed)
        return
    drawn = [row["id"] for row in draw_pairs(JsonLines([path]), number, seed)]
    assert drawn == [row["id"] for row in draw_pairs(JsonLines([path]), number, seed)]
    assert len(set(drawn)) == len(drawn) == min(number, len(rated))
    assert set(drawn) <= {row["id"] for row in draw_pairs(JsonLines([path]), number + 3, seed)} <= rated


def test_another_seed_draws_others(tmp_path):
    make_selection(tmp_path)
    assert open_labelling(tmp_path, 40).pairs.keys() != open_labelling(tmp_path, 40, seed=1).pairs.keys()


def test_the_page_holds_texts_and_ones_own_labels_only(tmp_path):
    ranks = make_selection(tmp_path)
    page = open_labelling(tmp_path, 30).page()
    inside = content(page)
    assert inside.keys() == {"sheet", "items", "labels"} and inside["labels"] == {}
    assert {tuple(item) for item in inside["items"]} == {("id", "instruction", "output")}
    for text in (page.decode(), json.dumps(inside)):
        assert not re.search(r"p_good|below_min|signals", text)
        assert not [rank for _, rank in ranks.values() if f"{rank:.4f}"[1:] in text]
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page.decode())


def test_the_page_of_all_pairs_is_the_same_whatever_was_thought_of_them(tmp_path):
    """Other ratings, others kept, another round: not a byte differs."""
    make_selection(tmp_path / "a")
    make_selection(tmp_path / "b", t=3, p_good=False, kept=DROPPED, dropped=KEPT)
    pages = [open_labelling(tmp_path / name, KEPT + DROPPED).page() for name in "ab"]
    assert len(content(pages[0])["items"]) == KEPT + DROPPED
    assert pages[0] == pages[1]


def test_labels_are_on_the_disk_and_the_reader_reads_them(tmp_path):
    make_selection(tmp_path)
    labelling = open_labelling(tmp_path, 10)
    names = list(labelling.pairs)
    for name, said in zip(names, itertools.cycle([GOOD, BAD]), strict=False):
        say(labelling, name, said)
        row = json.loads((tmp_path / "labels.jsonl").read_text().splitlines()[-1])
        assert row == labelling.pairs[name] | {"labels": {question: [number] for question, number in said.items()}}
    read = read_labels(tmp_path / "labels.jsonl", labelling.pairs)
    assert [(pair.id, pair.good, pair.usable) for pair in read] == [
        (n, i % 2 == 0, i % 2 == 0) for i, n in enumerate(names)
    ]


def test_what_is_labelled_is_not_asked_again_and_a_mind_may_change(tmp_path):
    make_selection(tmp_path)
    labelling = open_labelling(tmp_path, 10)
    first, second = list(labelling.pairs)[:2]
    say(labelling, first, GOOD)
    say(labelling, second, GOOD)
    say(labelling, first, BAD)
    assert content(labelling.page())["labels"] == {first: BAD, second: GOOD}
    again = open_labelling(tmp_path, 12)
    assert content(again.page())["labels"] == {first: BAD, second: GOOD}
    assert len((tmp_path / "labels.jsonl").read_text().splitlines()) == 3
    assert [(pair.id, pair.good) for pair in read_labels(tmp_path / "labels.jsonl")] == [(first, False), (second, True)]


@pytest.mark.parametrize("end", ["", '{"id": "pair'], ids=["of an editor", "of a crash"])
def test_an_open_last_line_is_closed(tmp_path, end):
    make_selection(tmp_path)
    labelling, path = open_labelling(tmp_path, 10), tmp_path / "labels.jsonl"
    first, second = list(labelling.pairs)[:2]
    say(labelling, first, GOOD)
    path.write_text(path.read_text() + end if end else path.read_text().rstrip("\n"))
    again = open_labelling(tmp_path, 10)
    say(again, second, BAD)
    assert list(last_rows(path)) == [first, second]


def test_a_row_without_all_answers_is_asked_again(tmp_path):
    make_selection(tmp_path)
    pair = next(iter(open_labelling(tmp_path, 10).pairs.values()))
    made_run.write_jsonl(tmp_path / "labels.jsonl", [pair | {"labels": {"score": [4]}}])
    assert open_labelling(tmp_path, 10).labels == {}


def test_labels_of_other_texts_or_several_people_are_refused(tmp_path):
    make_selection(tmp_path)
    pair = next(iter(open_labelling(tmp_path, 10).pairs.values()))
    path, several = tmp_path / "mine.jsonl", {"score": [4, 2], "text": [1, 2], "fit": [2, 2]}
    for row, message in ((pair | {"output": "Other."}, "other texts"), (pair, "several people")):
        made_run.write_jsonl(path, [row | {"labels": several}])
        with pytest.raises(ValueError, match=rf"mine\.jsonl: pair '{pair['id']}' has .*{message}"):
            open_labelling(tmp_path, 10, out=path)


def test_the_reader_refuses_two_texts_under_one_id(tmp_path):
    rows = [{"id": "a", "instruction": "Why?", "output": text, "labels": {"score": [3]}} for text in ("So.", "Thus.")]
    made_run.write_jsonl(tmp_path / "l.jsonl", rows)
    with pytest.raises(ValueError, match=r"l\.jsonl:2: id 'a' stands above with another instruction or output"):
        read_labels(tmp_path / "l.jsonl")


def test_a_run_without_a_selection_says_what_to_run(tmp_path):
    result = CliRunner().invoke(cli, ["curate", "label", str(tmp_path)])
    assert isinstance(result.exception, FileNotFoundError) and "humpback align" in str(result.exception)
    made_run.write_manifest(tmp_path, "seeds", {"in": 1, "out": 1, "rejected": {}})
    made_run.write_manifest(tmp_path, "curated1_random", {"in": 1, "out": 1, "rejected": {}})
    with pytest.raises(FileNotFoundError, match=r"run `humpback align` or `humpback curate --round 1` first"):
        open_labelling(tmp_path)


def test_the_questions_are_those_of_the_labels():
    assert list(QUESTIONS) == list(SCALES)
    for name, (low, high) in SCALES.items():
        assert list(QUESTIONS[name].levels) == list(range(low, high + 1))


def test_the_verb_serves_the_draw(tmp_path, monkeypatch):
    make_selection(tmp_path)
    served = []
    monkeypatch.setattr("humpback_jax.report.serve.serve", lambda *arguments: served.extend(arguments))
    out = tmp_path / "mine.jsonl"
    options = [f"--out={out}", "--number=7", "--seed=3", "--no_browser", "--json"]
    result = CliRunner().invoke(cli, ["curate", "label", str(tmp_path), *options], catch_exceptions=False)
    assert result.exit_code == 0
    server, browser, as_json = served
    server.server_close()
    assert (browser, as_json) == (False, True)
    sheet = content(server.page())
    assert [item["id"] for item in sheet["items"]] == list(open_labelling(tmp_path, 7, 3).pairs)
    server.receive({"sheet": sheet["sheet"], "id": sheet["items"][0]["id"]} | GOOD)
    assert list(last_rows(out)) == [sheet["items"][0]["id"]]


@contextlib.contextmanager
def serving(labelling):
    """The address of a running server."""
    server = PageServer(labelling.page, 0, labelling.save)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


def status(address, value):
    request = urllib.request.Request(address + "judgments", json.dumps(value).encode())
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_server_takes_labels_of_its_own_draw_only(tmp_path):
    make_selection(tmp_path)
    labelling = open_labelling(tmp_path, 10)
    good = {"sheet": labelling.name, "id": next(iter(labelling.pairs))} | GOOD
    wrong = [{"sheet": "other"}, {"id": "pair999"}, {"id": None}, {"id": ["x"]}]
    wrong += [{"score": value} for value in (0, 6, 3.0, "3", True, None)]
    wrong += [{"text": 3}, {"fit": -1}]
    with serving(labelling) as address:
        assert [status(address, good | change) for change in wrong] == [400] * len(wrong)
        assert [status(address, value) for value in ([], None, "x")] == [400] * 3
        assert not (tmp_path / "labels.jsonl").exists()
        assert status(address, good) == 200
        with urllib.request.urlopen(address) as answer:  # a page that is loaded again knows what was said
            assert content(answer.read())["labels"] == {good["id"]: GOOD}


@pytest.mark.slow
@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_person_labels_with_the_keyboard(tmp_path, open_page, violations, scheme):
    make_selection(tmp_path)
    with serving(open_labelling(tmp_path, 4)) as address:
        page = open_page(address, scheme=scheme)
        page.locator("#place", has_text="Pair 1 of 4").wait_for()
        assert violations(page) == []
        for key in ("9", "0", "4", "1", "Backspace", "2", "2"):  # 9 and 0 are no score; a text of 1 becomes 2
            page.keyboard.press(key)
        page.locator("#done", has_text="1 labelled").wait_for()
        page.locator("#place", has_text="Pair 2 of 4").wait_for()
        page.keyboard.press("s")
        page.locator("#place", has_text="Pair 3 of 4").wait_for()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        page.locator("#place", has_text="Pair 1 of 4").wait_for()
        page.keyboard.press("1")  # another mind
        page.locator('fieldset[name="score"] button[value="1"][aria-pressed="true"]').wait_for()
        page.reload()
        page.locator("#place", has_text="Pair 2 of 4").wait_for()
        for number in (2, 3, 4):
            for name in QUESTIONS:
                page.locator(f'fieldset[name="{name}"] button[value="2"]').click()
            page.locator("#done", has_text=f"{number} labelled").wait_for()
        assert page.locator("#all-done").is_visible()
        assert violations(page) == []
    rows = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    said = [[row["labels"][name][0] for name in QUESTIONS] for row in rows]
    assert said == [[4, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
    assert len({row["id"] for row in rows}) == 4


@pytest.mark.slow
@pytest.mark.xdist_group("browser")
def test_a_phone_shows_everything_and_hostile_texts_do_nothing(tmp_path, open_page, violations):
    made_run.make_run(tmp_path, 12)
    labelling = open_labelling(tmp_path)
    with serving(labelling) as address:
        page = open_page(address, 390, 844, "dark")
        for number in range(1, len(labelling.pairs) + 1):
            page.locator("#place", has_text=f"Pair {number} of {len(labelling.pairs)}").wait_for()
            page.keyboard.press("ArrowRight")
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate("window.hacked") is None
