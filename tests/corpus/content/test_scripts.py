"""Pages whose text is in their scripts are told from pages that have none."""

import json
import time

import pytest

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.content.scripts import has_text_in_scripts
from humpback_jax.corpus.page_segments import ToolsRecipe, explain_page
from humpback_jax.corpus.readers.pages import Page

TEXT = "The miller opens the gate when the river is high, and he closes it before the water reaches the meadow. " * 6
RUSSIAN = "Мельник открывает затвор, когда вода в реке стоит высоко, и закрывает его, пока луг ещё сухой. " * 6
CHINESE = "磨坊主在河水上涨的时候打开水闸，然后在水流到草地之前把它关上，这样牛就不会站在水里。" * 10


@pytest.mark.parametrize("text", [TEXT, RUSSIAN, CHINESE], ids=["English", "Russian", "Chinese"])
@pytest.mark.parametrize(
    "script",
    [
        '<script id="__NEXT_DATA__" type="application/json">{}</script>',
        "<script>window.__NUXT__={}</script>",
        "<SCRIPT>self.__next_f.push([1, {}])</SCRIPT>",
        '<script type="application/ld+json">{}</script>',
    ],
)
def test_the_state_of_a_framework_is_text(script: str, text: str) -> None:
    assert has_text_in_scripts("<div id=app></div>" + script.replace("{}", json.dumps({"a": {"body": text}})))
    assert has_text_in_scripts(script.replace("{}", json.dumps(json.dumps({"a": {"body": text}}))))
    lines = [text[i : i + 150] for i in range(0, len(text), 150)]
    assert has_text_in_scripts(script.replace("{}", json.dumps([{"p": line} for line in lines], ensure_ascii=False)))


@pytest.mark.parametrize(
    "script",
    [
        "",
        "<script>" + "function f(x){return x+1};" * 100 + "</script>",
        f'<script>var a="{"QUJDREVGR0hJSktM" * 60}"</script>',
        f'<script>var a="{"/assets/js/chunk-1234.js " * 60}"</script>',
        f"<script>/* {TEXT} */</script>",
        '<script>var a="Short words here."</script>',
        f"<p>{TEXT}</p>",
    ],
    ids=["none", "code", "data", "addresses", "a remark", "short", "shown"],
)
def test_code_is_no_text(script: str) -> None:
    assert not has_text_in_scripts(script)


def test_hostile_scripts_cost_no_more_than_their_size() -> None:
    begin = time.process_time()
    for script in (
        '"' * 999_999,
        '"' + "\\" * 999_999,
        '"' + '\\"' * 499_999,
        '"' + "a " * 499_999,
        "<script>" * 99_999,
    ):
        assert not has_text_in_scripts(f"<script>{script}")
        assert not has_text_in_scripts(f"<script>{script}</script>")
    assert time.process_time() - begin < 10


def test_such_a_page_is_counted_as_what_it_is() -> None:
    config = CorpusConfig()
    tools = ToolsRecipe(config).load()
    state = f"<script>s={json.dumps({'text': TEXT})}</script>"
    outcomes = {
        name: explain_page(Page("u", markup, True), config, tools).outcome
        for name, markup in {
            "shell": f"<div id=app></div>{state}",
            "loading": f"<div id=app>Loading...</div><h1>News</h1>{state}",
            "menu": f"<nav><a href=/>Home</a> <a href=/b>News</a></nav>{state}",
            "nothing": "<div id=app></div><script>go()</script>",
            "shown": f"<h1>The mill</h1><p>{TEXT[:500]}</p>{state}",
        }.items()
    }
    assert outcomes == {
        "shell": "text_in_scripts",
        "loading": "text_in_scripts",
        "menu": "text_in_scripts",
        "nothing": "no_text",
        "shown": "all_rejected",
    }
