"""The language of a text, and what is asked of it."""

import json
import pickle

import pytest

from humpback_jax.corpus.filters.language import Language, LanguageFinder, language_reason, seed_languages
from humpback_jax.corpus.filters.language_codes import (
    EXACT_LANGUAGES,
    FAST_LANGUAGES,
    KNOWN_LANGUAGES,
    check_languages,
)

TEXTS = {
    "en": "The lighthouse keeper climbs the stairs every evening, trims the lamp and writes down which ships pass by. ",
    "de": "Der Leuchtturmwärter steigt jeden Abend die Treppe hinauf, putzt die Lampe und notiert die Schiffe. ",
    "fr": "Le gardien du phare monte chaque soir les escaliers, nettoie la lampe et note les navires qui passent. ",
    "es": "El farero sube cada noche las escaleras, limpia la lámpara y apunta qué barcos pasan por la costa. ",
    "ru": "Смотритель маяка каждый вечер поднимается по лестнице, чистит лампу и записывает проходящие корабли. ",
    "ja": "灯台守は毎晩階段を上り、ランプを掃除して、通り過ぎる船の名前を書き留めます。",
}
FINDER = LanguageFinder()


@pytest.mark.parametrize("code", TEXTS)
@pytest.mark.parametrize("wanted", [frozenset(), frozenset(["en"]), frozenset(["ja", "fr"])])
def test_prose_is_found_whatever_is_wanted(code: str, wanted: frozenset[str]) -> None:
    text = TEXTS[code] * 4
    language = FINDER.find(text, wanted)
    assert language.code == code
    assert language_reason(language, wanted, 0.5) == (None if not wanted or code in wanted else "other_language")
    assert FINDER.find(text.upper(), wanted).code == code


def test_a_page_that_says_another_language_is_not_believed() -> None:
    assert FINDER.find(TEXTS["en"] * 4, frozenset(["en"]), declared="de-AT").code == "en"
    assert FINDER.find(TEXTS["de"] * 4, frozenset(["en"]), declared="en-US").code == "de"


def test_english_with_code_and_tables_stays_english() -> None:
    code = "import math\n\nfor i in range(10):\n    print(math.sqrt(i) * 3)\n\nvalues = [x for x in data if x.ok]\n"
    table = "name | size\nalpha | 12 kB\nbeta | 7 kB\n"
    text = f"You can nest one loop in another and collect what it gives:\n\n{code}\n{table}\nThat is all there is."
    assert language_reason(FINDER.find(text, frozenset(["en"])), frozenset(["en"]), 0.5) is None


def test_what_is_hardly_language_is_told() -> None:
    assert FINDER.find_exactly("12 34 — 56 / 78 * 9") != Language("en", 1.0)
    assert language_reason(Language("en", 0.3), frozenset(["en"]), 0.5) == "uncertain_language"
    assert language_reason(Language("en", 0.3), frozenset(["en"]), None) is None
    assert language_reason(Language("", 1.0), frozenset(["en"]), None) == "other_language"


def test_the_finder_goes_to_other_processes() -> None:
    assert pickle.loads(pickle.dumps(LanguageFinder())).find(TEXTS["fr"] * 4, frozenset(["en"])).code == "fr"


def test_languages_of_seeds() -> None:
    assert seed_languages([TEXTS["en"] * 2] * 30 + [TEXTS["ja"] * 2] * 2 + ["ok"] * 50) == ("en",)
    assert seed_languages([TEXTS["fr"] * 2] * 6 + [TEXTS["de"] * 2] * 4) == ("fr", "de")
    assert seed_languages([]) == seed_languages(["Yes.", "42"]) == ()


def test_the_known_codes_are_those_of_the_models() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier
    from resiliparse.parse.lang import supported_langs

    assert set(LanguageIdentifier.from_model_file(MODEL_FILE).labels) - {"zxx"} == EXACT_LANGUAGES
    assert set(supported_langs()) == FAST_LANGUAGES
    assert {"en", "de", "zh", "ja", "ru", "sw"} <= EXACT_LANGUAGES & FAST_LANGUAGES < KNOWN_LANGUAGES


@pytest.mark.parametrize(
    ("code", "hint"), [("EN", "'en'"), ("en-US", "'en'"), ("german", "ISO 639-1"), ("", "ISO 639-1")]
)
def test_an_unknown_code_is_refused(code: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"{code!r}; write .*{hint}"):
        check_languages([code])


def test_seed_answers_are_english(shared_data) -> None:
    lines = (shared_data / "seed" / "seed_pairs.jsonl").read_text().splitlines()
    assert seed_languages([json.loads(line)["output"] for line in lines]) == ("en",)
