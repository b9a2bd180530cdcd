"""Blind judging: sides, keys, results and the tally; the served page in a browser."""

import functools
import json
import threading
import urllib.error
import urllib.request

import pytest
from click.testing import CliRunner

from humpback_jax.cli import cli
from humpback_jax.files import GrowingFile
from humpback_jax.report.blind_test import key_path, make_sheet, save_judgment, sign_test, tally, wilson, write_sheet
from humpback_jax.report.serve import PageServer

NUMBER = 40


@pytest.fixture
def systems(tmp_path):
    """Answers of two systems: one JSON lines with ids, one in AlpacaEval's format with the same ids."""
    rows = {
        name: [{"id": f"p{i}", "instruction": f"Question {i}?", "output": f"{name} says {i}"} for i in range(NUMBER)]
        for name in ("old", "new")
    }
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows["new"]))
    (tmp_path / "old.json").write_text(json.dumps(rows["old"]))
    return tmp_path / "new.jsonl", tmp_path / "old.json"


def judgments(sheet, rater, prefer):
    """A rater who knows what they like: `prefer(left text, right text)` chooses."""
    rows = []
    for item in sheet.items:
        choice = prefer(item["left"], item["right"])
        rows.append({"sheet": sheet.name, "rater": rater, "id": item["id"], "choice": choice, "seconds": 1})
    return rows


def write_results(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def likes_new(left, right):
    return "left" if left.startswith("new") else "right"


def test_sides_are_balanced_and_the_page_does_not_know_them(systems, tmp_path):
    sheet = make_sheet(*systems)
    on_the_right = [item["right"].startswith("new") for item in sheet.items]
    assert sum(on_the_right) == NUMBER // 2
    assert [i for i, item in enumerate(sheet.items) if on_the_right[i]] == [
        i for i, item in enumerate(sheet.items) if item["id"] in sheet.key["a_on_the_right"]
    ]
    page = write_sheet(sheet, tmp_path / "judge.html").decode()
    assert "new.jsonl" not in page
    assert "a_on_the_right" not in page
    assert json.loads(key_path(tmp_path / "judge.html").read_text()) == sheet.key
    assert make_sheet(*systems).name == sheet.name
    assert make_sheet(*systems, seed=1).name != sheet.name


def test_a_preference_is_found_whatever_the_side(systems, tmp_path):
    sheet = make_sheet(*systems)
    write_sheet(sheet, tmp_path / "judge.html")
    results = write_results(tmp_path / "r.jsonl", judgments(sheet, "ann", likes_new))
    counted = tally(key_path(tmp_path / "judge.html"), [results])
    assert (counted["win"], counted["tie"], counted["loss"], counted["left"]) == (NUMBER, 0, 0, 50.0)
    assert counted["p_value"] == pytest.approx(2 / 2**NUMBER)
    assert counted["agreement"] is None


def test_a_rater_who_always_takes_the_left_finds_nothing(systems, tmp_path):
    sheet = make_sheet(*systems)
    write_sheet(sheet, tmp_path / "judge.html")
    results = write_results(tmp_path / "r.jsonl", judgments(sheet, "bob", lambda left, right: "left"))
    counted = tally(key_path(tmp_path / "judge.html"), [results])
    assert (counted["win"], counted["loss"], counted["left"], counted["p_value"]) == (
        NUMBER // 2,
        NUMBER // 2,
        100.0,
        1.0,
    )


def test_several_raters_vote_and_the_last_word_of_each_counts(systems, tmp_path):
    sheet = make_sheet(*systems, limit=10)
    write_sheet(sheet, tmp_path / "judge.html")
    ann = judgments(sheet, "ann", likes_new)
    bob = judgments(sheet, "bob", lambda left, right: "tie")
    eve = judgments(sheet, "eve", likes_new)
    first = write_results(tmp_path / "1.jsonl", judgments(sheet, "ann", lambda left, right: "tie") + ann)
    second = write_results(tmp_path / "2.jsonl", bob)
    key = key_path(tmp_path / "judge.html")
    two = tally(key, [first, second])
    assert (two["win"], two["tie"], two["judgments"], two["raters"], two["agreement"]) == (0, 10, 20, 2, 0.0)
    three = tally(key, [first, second, write_results(tmp_path / "3.jsonl", eve)])
    assert (three["win"], three["tie"], three["agreement"]) == (10, 0, pytest.approx(100 / 3))


def test_results_of_another_sheet_are_refused(systems, tmp_path):
    sheet, other = make_sheet(*systems), make_sheet(*systems, seed=1)
    write_sheet(sheet, tmp_path / "judge.html")
    results = write_results(tmp_path / "r.jsonl", judgments(other, "ann", likes_new))
    with pytest.raises(ValueError, match=r"r\.jsonl:1: a judgment of another sheet"):
        tally(key_path(tmp_path / "judge.html"), [results])
    with pytest.raises(ValueError, match="key of another sheet"):
        write_sheet(other, tmp_path / "judge.html")
    with pytest.raises(ValueError, match="no instruction in common"):
        make_sheet(systems[0], write_results(tmp_path / "x.jsonl", [{"id": "z", "instruction": "?", "output": ""}]))
    with pytest.raises(ValueError, match=r"y\.jsonl:1: expected texts"):
        make_sheet(systems[0], write_results(tmp_path / "y.jsonl", [{"instruction": "?"}]))


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 27.75), (5, 10, 23.66, 76.34), (10, 10, 72.25, 100.0), (81, 263, 25.53, 36.62)],
)
def test_wilson_intervals_are_the_published_ones(successes, trials, low, high):
    """The last row is Newcombe's (1998) example; the others statsmodels' `proportion_confint`."""
    assert wilson(successes, trials) == pytest.approx((low, high), abs=0.01)


@pytest.mark.parametrize(("wins", "losses", "p"), [(0, 0, 1.0), (5, 5, 1.0), (9, 1, 22 / 1024), (0, 6, 2 / 64)])
def test_sign_test(wins, losses, p):
    assert sign_test(wins, losses) == pytest.approx(p)


def test_the_verbs(systems, tmp_path):
    page = tmp_path / "judge.html"
    result = CliRunner().invoke(cli, ["judge", "page", *map(str, systems), "--out", str(page), "--limit", "6"])
    assert "6 items" in result.output
    sheet = make_sheet(*systems, limit=6)
    results = write_results(tmp_path / "r.jsonl", judgments(sheet, "ann", likes_new))
    arguments = ["judge", "tally", str(key_path(page)), str(results)]
    assert "win      6  100.00 %" in CliRunner().invoke(cli, arguments).output
    counted = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).output)
    assert (counted["items"], counted["win_percent"]) == (6, 100.0)


@pytest.fixture
def served(systems, tmp_path):
    """(address, results file, sheet) of a running judging server."""
    sheet, out = make_sheet(*systems, limit=4), tmp_path / "judged.jsonl"
    receive = functools.partial(save_judgment, sheet, GrowingFile(out))
    server = PageServer(write_sheet(sheet, out, posts=True), 0, receive)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", out, sheet
    server.shutdown()
    server.server_close()
    thread.join()


def post(address, value, **headers):
    request = urllib.request.Request(address + "judgments", json.dumps(value).encode(), headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_server_takes_judgments_of_its_own_page_only(served):
    address, out, sheet = served
    good = judgments(sheet, "ann", likes_new)[0]
    assert post(address, good) == 200
    assert post(address, good | {"choice": "both"}) == 400
    assert post(address, good | {"sheet": "other"}) == 400
    assert post(address, good, Origin="http://evil.example") == 403
    assert [json.loads(line) for line in out.read_text().splitlines()] == [good]


@pytest.mark.slow
@pytest.mark.xdist_group("browser")
def test_a_person_judges_with_the_keyboard(served, open_page, violations):
    address, out, sheet = served
    page = open_page(address)
    page.locator("#rater").fill("ann")
    page.locator("#begin-button:enabled").click()
    for number, key in enumerate(["ArrowLeft", "b", "t", "ArrowRight"], start=1):
        page.locator("#place", has_text=f"Item {number} of 4").wait_for()
        if number == 1:
            assert violations(page) == []
        page.keyboard.press(key)
        page.locator("#done", has_text=f"{number} judged").wait_for()
    assert page.locator("#all-done").is_visible()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["choice"] for row in rows] == ["left", "right", "tie", "right"]
    assert {row["id"] for row in rows} == {item["id"] for item in sheet.items}
    page.reload()
    page.locator("#rater").fill("ann")
    page.locator("#begin-button:enabled").click()
    assert page.locator("#done").inner_text() == "4 judged"


@pytest.mark.slow
@pytest.mark.xdist_group("browser")
def test_a_page_sent_by_mail_gives_a_file(systems, open_page, tmp_path):
    out = tmp_path / "judge.html"
    write_sheet(make_sheet(*systems, limit=3), out)
    page = open_page(out.as_uri(), 390, 844, "dark")
    page.locator("#rater").fill("bob")
    page.locator("#begin-button:enabled").click()
    for number in range(1, 4):
        page.get_by_role("button", name="A is better").click()
        page.locator("#done", has_text=f"{number} judged").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save judgments").click()
    counted = tally(key_path(out), [download.value.path()])
    assert (counted["win"] + counted["loss"], counted["tie"], counted["left"]) == (3, 0, 100.0)
