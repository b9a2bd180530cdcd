"""Rubrics as files: what they declare, what is refused, and how ratings of any scale are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.prompts.prompts import load_prompts
from humpback_jax.prompts.ratings import parse_rating
from humpback_jax.prompts.rubrics import RubricConfig, parse_rubric
from humpback_jax.prompts.scales import PAPER_SCALE, on_common_scale, parse_scale

BODY = "Rate it.\n{instruction}\n{output}\n"


def rubric_of(tmp_path, text, **declared):
    path = tmp_path / "mine.txt"
    path.write_text(text, encoding="utf-8")
    return load_prompts(None, RubricConfig(str(path), **declared)).rubric


@pytest.mark.parametrize(
    ("text", "best", "options", "values"),
    [
        ("1-5", None, "1 2 3 4 5", (1, 2, 3, 4, 5)),
        ("0–4", None, "0 1 2 3 4", (0, 1, 2, 3, 4)),
        ("1 bis 10", None, "1 2 3 4 5 6 7 8 9 10", tuple(range(1, 11))),
        ("10-1", None, "1 2 3 4 5 6 7 8 9 10", tuple(range(1, 11))),
        ("1-6", "1", "6 5 4 3 2 1", (1, 2, 3, 4, 5, 6)),
        ("A-E", None, "E D C B A", (1, 2, 3, 4, 5)),
        ("E to A", None, "E D C B A", (1, 2, 3, 4, 5)),
        ("A-C", "C", "A B C", (1, 2, 3)),
        ("1到3", None, "1 2 3", (1, 2, 3)),
        ("poor, fair, good", None, "poor fair good", (1, 2, 3)),
        ("差、中、优", None, "差 中 优", (1, 2, 3)),
    ],
)
def test_a_scale_is_what_it_declares_from_the_worst_to_the_best(text, best, options, values):
    scale = parse_scale(text, best)
    assert (scale.options, scale.values) == (tuple(options.split()), values)


@pytest.mark.parametrize(
    "text", ["", "5", "1-1", "1-E", "a-E", "1-1000", "1, 3, 5", "good, good", "one to five", "1-5-9"]
)
def test_what_is_no_scale_is_refused_with_what_to_write(text):
    with pytest.raises(
        ValueError, match=r"is no scale; write whole numbers as in `1-10`, letters as in `A-E`, or a list"
    ):
        parse_scale(text)


def test_the_best_end_is_an_end():
    with pytest.raises(ValueError, match="best: '3' is no end of the scale '1-5'; write 1 or 5"):
        parse_scale("1-5", "3")


@given(st.integers(0, 60), st.integers(1, 40), st.booleans(), st.data())
def test_every_rating_of_a_scale_of_numbers_is_read_and_no_other(low, steps, counts_down, data):
    high = low + steps
    scale = parse_scale(f"{low}-{high}", str(low) if counts_down else None)
    halves = data.draw(st.integers(2 * low, 2 * high))
    said = str(halves // 2) if halves % 2 == 0 else f"{halves // 2}.5"
    expected = low + high - halves / 2 if counts_down else halves / 2
    assert parse_rating(f"So so.\nGrade: {said}", "Grade", scale) == expected
    assert parse_rating(f"Grade: {said}/{scale.high if not counts_down else high}", "Grade", scale) == expected
    assert parse_rating(f"Grade: {high + 1}", "Grade", scale) is None
    if low:
        assert parse_rating(f"Grade: {low - 1}", "Grade", scale) is None
    common = on_common_scale(expected, scale.low, scale.high)
    assert 1 <= common <= 5
    assert (common >= 3) == (expected >= (scale.low + scale.high) / 2 - 1e-5)


@given(st.floats(1, 5))
def test_the_papers_scale_is_the_common_one(rating):
    assert on_common_scale(rating, PAPER_SCALE.low, PAPER_SCALE.high) == rating


@pytest.mark.parametrize(
    ("text", "label", "scale", "rating"),
    [
        ("Gut.\nBewertung: 7", "Bewertung", "1-10", 7.0),
        ("Bewertung: 7/10", "Bewertung", "1-10", 7.0),
        ("Bewertung: 10", "Bewertung", "1-10", 10.0),
        ("Bewertung: 7/5", "Bewertung", "1-10", None),
        ("Bewertung: 0", "Bewertung", "0-4", 0.0),
        ("Bewertung: 5", "Bewertung", "0-4", None),
        ("我的评分：4", "评分", "1-5", 4.0),
        ("评分：4分", "评分", "1-5", 4.0),
        ("评分：8分/10", "评分", "1-10", 8.0),
        ("8: gut", "Bewertung", "1-10", 8.0),
        ("10/10", "Bewertung", "1-10", 10.0),
        ("Sufficient.\nGrade: B", "Grade", "A-E", 4.0),
        ("**Grade:** A", "Grade", "A-E", 5.0),
        ("Grade: A (complete)", "Grade", "A-E", 5.0),
        ("Grade: C - half of it", "Grade", "A-E", 3.0),
        ("Grade:\nD", "Grade", "A-E", 2.0),
        ("[[E]]", "Grade", "A-E", 1.0),
        ("A: it is all there", "Grade", "A-E", 5.0),
        ("Grade: A-", "Grade", "A-E", None),
        ("Grade: A or B", "Grade", "A-E", None),
        ("Grade: F", "Grade", "A-E", None),
        ("Grade: Bad", "Grade", "A-E", None),
        ("Grade: A good answer", "Grade", "A-E", None),
        ("Grade: a good answer", "Grade", "A-E", None),
        ("Rating: Good", "Rating", "poor, fair, good", 3.0),
        ("Rating: goodness", "Rating", "poor, fair, good", None),
        ("评价：优", "评价", "差、中、优", 3.0),
    ],
)
def test_ratings_of_other_labels_and_scales(text, label, scale, rating):
    assert parse_rating(text, label, parse_scale(scale)) == rating


@pytest.mark.parametrize(
    ("ending", "announced", "scale"),
    [
        ('End with "Score: <rating>".', "Score: ", "1 to 5"),
        ("Zuletzt „Punktzahl: <1 bis 10>“.", "Punktzahl: ", "1 to 10"),
        ('End with "Score: <rating>", 0 to 10.', "Score: ", "0 to 10"),
        ("最后一行：评分：<1到5>", "评分：", "1 to 5"),
        ("Last line: Grade: <A-F>", "Grade: ", "F to A"),
        ("Since 2019-2020 we ask so.\nScore: <rating>", "Score: ", "1 to 5"),
    ],
)
def test_label_and_scale_are_those_that_the_text_asks_for(tmp_path, ending, announced, scale):
    rubric = rubric_of(tmp_path, BODY + ending)
    assert (rubric.announced, rubric.scale.in_words()) == (announced, scale)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_a_head_declares_label_and_scale_and_is_not_asked(tmp_path, mark, line):
    head = "---\nlabel: 评分：\nscale: 0-4\n---\n"
    path = tmp_path / "mine.txt"
    path.write_bytes((mark + (head + BODY).replace("\n", line)).encode())
    prompts = load_prompts(None, RubricConfig(str(path)))
    assert (prompts.rubric.announced, prompts.rubric.low, prompts.rubric.high) == ("评分：", 0, 4)
    assert prompts.rating("I", "O").splitlines() == ["Rate it.", "I", "O"]
    assert "scale: 0-4" in prompts.rating_template  # part of the identity of what is rated


def test_settings_declare_what_the_file_does_not_say(tmp_path):
    rubric = rubric_of(tmp_path, BODY, label="Bewertung", scale="1-10")
    assert (rubric.announced, rubric.high, rubric.parse("Bewertung: 9")) == ("Bewertung: ", 10, 9.0)
    rubric = rubric_of(tmp_path, f"---\nlabel: Note\nscale: 1-5\n---\n{BODY}", scale="1-6", best="1")
    assert (rubric.label, rubric.parse("Note: 1"), rubric.parse("Note: 6")) == ("Note", 6.0, 1.0)
    with pytest.raises(ValueError, match="a checklist has no label and no scale"):
        load_prompts(None, RubricConfig("additive", label="Note"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BODY, r"mine\.txt never says 'Score:'.*one last line in the form \"Score: <rating>\".*scale: 1-5"),
        ("Score: <1-5> {output}", r"mine\.txt lacks the placeholder \{instruction\}"),
        ("---\nlabel: Score\n" + BODY, "no second such line"),
        ("---\nlable: Score\n---\n" + BODY, "declares 'lable: Score'; known are.*label: …"),
        ("---\nlabel: Score\nscale: 5\n---\n" + BODY, "'5' is no scale"),
        ("---\nquestion: Is it?\n---\n" + BODY, r"lacks the placeholder \{question\}"),
        ("---\nquestion: Is it?\n---\n{question}\n" + BODY, r"has \{question\} before the pair"),
        ("---\nquestion: Is it?\nscale: 1-5\n---\n" + BODY + "{question}", "has questions and declares 'scale'"),
        ("---\nquestion: Is it?\nanswers: Ja\n---\n" + BODY + "{question}", "the words for yes and no"),
    ],
)
def test_a_rubric_that_could_not_be_read_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        rubric_of(tmp_path, text)


def test_a_rubric_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*additve; give paper or additive, or the path"):
        load_prompts(None, RubricConfig("additve"))
    (tmp_path / "latin.txt").write_bytes(b"Score: \xe9 {instruction} {output}")
    with pytest.raises(ValueError, match=r"latin\.txt is not UTF-8 text.*save it as UTF-8"):
        load_prompts(None, RubricConfig(str(tmp_path / "latin.txt")))


def test_the_packages_rubrics():
    paper, additive = (load_prompts(None, RubricConfig(name)) for name in ("paper", "additive"))
    assert paper == load_prompts()
    assert (paper.rubric.scale, paper.rubric.announced) == (PAPER_SCALE, "Score: ")
    assert (additive.rubric.low, additive.rubric.high, len(additive.rubric.questions)) == (0, 5, 5)
    assert additive.rubric.common(0) == 1
    assert additive.rubric.common(5) == 5
    asked = additive.rating("Why?", "So.", additive.rubric.questions[0])
    assert "{" not in asked
    assert asked.index("Why?") < asked.index("So.") < asked.index(additive.rubric.questions[0])
    assert parse_rubric(additive.rating_template) is additive.rubric
