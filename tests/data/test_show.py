"""Examples for the eye: green is learned, grey is not."""

import io

from rich.console import Console

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.data.examples import supervised_examples
from humpback_jax.data.pairs import Pair
from humpback_jax.data.show import ANSWER_STYLE, PROMPT_STYLE, show_examples


def _styled(panel):
    text = panel.renderable
    return {
        style: "".join(text.plain[span.start : span.end] for span in text.spans if span.style == style)
        for style in (PROMPT_STYLE, ANSWER_STYLE)
    }


def _panels(byte_tokenizer, **options):
    pairs = [Pair(str(index), "[red]Why?[/red]", "éa", "test") for index in range(5)]
    examples, _ = supervised_examples(pairs, byte_tokenizer, ChatFormat("inst"))
    return show_examples(examples, byte_tokenizer, **options)


def test_supervised_tokens_are_green_and_prompt_tokens_grey(byte_tokenizer):
    panels = _panels(byte_tokenizer, limit=2)
    assert len(panels) == 2
    assert _styled(panels[0]) == {PROMPT_STYLE: "⟨256⟩[INST] [red]Why?[/red] [/INST]", ANSWER_STYLE: " éa⟨257⟩"}


def test_ids_are_shown_token_by_token(byte_tokenizer):
    styled = _styled(_panels(byte_tokenizer, limit=1, with_ids=True)[0])
    assert styled[PROMPT_STYLE].startswith("⟨256⟩[⟨246⟩I⟨228⟩")
    assert styled[ANSWER_STYLE].endswith("a⟨252⟩⟨257⟩")


def test_panels_print_with_their_counts(byte_tokenizer):
    stream = io.StringIO()
    for panel in _panels(byte_tokenizer, limit=1):
        Console(file=stream, width=100, force_terminal=True, color_system="standard").print(panel)
    assert "\x1b[32m éa\x1b[0m\x1b[32m⟨257⟩\x1b[0m" in stream.getvalue()
    assert "5 supervised tokens" in stream.getvalue()
