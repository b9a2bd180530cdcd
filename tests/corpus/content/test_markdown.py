"""Blocks as Markdown."""

from humpback_jax.corpus.content.html import read_html


def markdown_of(markup: str) -> str:
    return read_html(markup).text(markdown=True)


def test_markdown_of_a_page() -> None:
    page = """<h1>Pumps</h1><h3>Use of <code>run()</code></h3><p>Call <code>pump.run(1)</code> or <kbd>run</kbd>.</p>
    <p><b>Mind the valve</b></p>
    <pre class="language-python">
def run():
    pass</pre>
    <ul><li>one <code>a</code><ol><li>two</ol><li>three<pre>x
y</pre></ul>
    <table><tr><th>Name<th>Rate<tr><td><code>A|1</code><td>3<tr><td>B</table>
    <blockquote><p>Never run dry.</p><ul><li>Ever</ul></blockquote>"""
    assert markdown_of(page) == (
        "# Pumps\n\n### Use of `run()`\n\nCall `pump.run(1)` or `run`.\n\n**Mind the valve**\n\n"
        "```python\ndef run():\n    pass\n```\n\n"
        "- one `a`\n  1. two\n- three\n  ```\n  x\n  y\n  ```\n\n"
        "| Name | Rate |\n| --- | --- |\n| A\\|1 | 3 |\n| B |  |\n\n"
        "> Never run dry.\n\n> - Ever"
    )


def test_fences_are_longer_than_those_in_the_code() -> None:
    assert markdown_of("<pre>```\nx\n```</pre>") == "````\n```\nx\n```\n````"


def test_a_part_of_a_page_is_whole_markdown() -> None:
    page = read_html("<h2>T</h2><table><tr><td>a<td>b<tr><td>c<td>d<tr><td>e<td>f</table><p>end</p>")
    assert page.text(range(2, 4), markdown=True) == "| c | d |\n| --- | --- |\n| e | f |"
    assert page.text(range(2, 4)) == "c | d\ne | f"


def test_the_language_of_code_by_the_names_in_use() -> None:
    for markup in (
        "<pre class='brush: js'>x</pre>",
        "<pre><code class='language-js'>x</code></pre>",
        "<pre><code class='hljs lang-js'>x</code></pre>",
        "<pre data-lang=js>x</pre>",
        "<div class='highlight-source-js'><pre>x</pre></div>",
        "<div class='highlight-js notranslate'><div><pre>x</pre></div></div>",
    ):
        assert markdown_of(markup) == "```js\nx\n```", markup
