"""The prompt texts, templates a user replaces, and reading scores."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.prompts.prompts import SEED_TAG, WEB_TAG, fill_template, load_prompts
from humpback_jax.prompts.ratings import parse_rating


def test_the_tags_are_the_papers():
    assert SEED_TAG == "Answer in the style of an AI Assistant."
    assert WEB_TAG == "Answer with knowledge from web search."


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ((), "Do it."),
        (("seed",), f"Do it.\n\n{SEED_TAG}"),
        (("web",), f"Do it.\n\n{WEB_TAG}"),
        (("seed", "web"), f"Do it.\n\n{SEED_TAG} {WEB_TAG}"),
        (("web", "seed"), f"Do it.\n\n{SEED_TAG} {WEB_TAG}"),
    ],
)
def test_tags_follow_the_instruction_with_the_seed_tag_first(tags, expected):
    assert load_prompts().tagged("Do it.", tags) == expected


def test_an_unknown_tag_is_named():
    with pytest.raises(ValueError, match=r"'sead'.*seed, web"):
        load_prompts().tagged("Do it.", ["sead"])


def test_the_rubric_names_all_five_levels_and_asks_for_reasons_before_the_score():
    text = load_prompts().rating("INSTRUCTION?", "OUTPUT!")
    assert all(f"\n{level}: " in text for level in range(1, 6))
    assert text.index("INSTRUCTION?") < text.index("OUTPUT!") < text.index("First explain") < text.index("Score: ")


def test_the_rubric_is_short():
    words = len(load_prompts().rating("", "").split())
    assert words < 180, words


def test_the_backward_prompt_holds_the_output():
    assert "\nSome text.\nMore." in load_prompts().backward("Some text.\nMore.")


@given(st.text(alphabet="{}outpinsrc ", max_size=40), st.text(alphabet="{}outpinsrc ", max_size=40))
def test_braces_and_placeholders_in_the_texts_stay_as_they_are(instruction, output):
    text = load_prompts().rating(f"<{instruction}{{output}}>", f"<{output}{{instruction}}{{0}}>")
    assert f"<{instruction}{{output}}>" in text
    assert f"<{output}{{instruction}}{{0}}>" in text


def test_other_braces_of_a_template_stay():
    assert fill_template('{"a": {output}, {x}}', {"output": "1"}) == '{"a": 1, {x}}'


def test_a_users_folder_overrides_one_file(tmp_path):
    (tmp_path / "backward.txt").write_text("Which question is answered by this?\n{output}\n")
    prompts = load_prompts(tmp_path)
    assert prompts.backward("X") == "Which question is answered by this?\nX"
    assert prompts.rating_template == load_prompts().rating_template


def test_a_template_without_its_placeholder_is_named(tmp_path):
    (tmp_path / "rating.txt").write_text("Rate {instruction}!")
    with pytest.raises(ValueError, match=r"rating\.txt lacks the placeholder \{output\}"):
        load_prompts(tmp_path)


def test_a_rubric_that_asks_for_no_number_is_named(tmp_path):
    (tmp_path / "rating.txt").write_text("Is {output} a good answer to {instruction}?")
    with pytest.raises(ValueError, match=r"rating\.txt never says 'Score:' or another word.*one last line in the form"):
        load_prompts(tmp_path)


def test_a_rubric_in_another_language_says_its_own_label(tmp_path):
    (tmp_path / "rating.txt").write_text("Frage: {instruction}\nAntwort: {output}\nZuletzt „Punktzahl: <1 bis 5>“.")
    prompts = load_prompts(tmp_path)
    assert prompts.rubric.label == "Punktzahl"
    assert parse_rating("Gut.\nPunktzahl: 4", prompts.rubric.label) == 4.0
    assert load_prompts().rubric.label == "Score"


def test_a_mistyped_template_name_is_an_error(tmp_path):
    (tmp_path / "backwards.txt").write_text("{output}")
    with pytest.raises(ValueError, match=r"backwards\.txt is not a template.*backward\.txt and rating\.txt"):
        load_prompts(tmp_path)


def test_a_folder_without_templates_and_a_missing_folder_are_errors(tmp_path):
    with pytest.raises(ValueError, match="holds no template"):
        load_prompts(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        load_prompts(tmp_path / "absent")
