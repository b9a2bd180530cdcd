"""A page in one file: style, script and drawings inside, and a content policy that runs and loads nothing else.

The texts of crawled pages are hostile. They reach a page as base64 or escaped by jinja2; its script puts them into the
document as text only.
"""

import base64
import functools
import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import jinja2

SHARED_TEMPLATES = "display/templates"


@functools.cache
def page_environment(folder: str, words: tuple[Callable[..., Any], ...] = ()) -> jinja2.Environment:
    """Templates of a folder of the package, beside those that all pages share; `words` are functions they call."""
    loaders = [jinja2.PackageLoader("humpback_jax", place) for place in (folder, SHARED_TEMPLATES)]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "percent": _percent, "seconds": _seconds, "clip": clip}
    environment.filters["fingerprint"] = _fingerprint
    environment.globals |= {function.__name__: function for function in words}
    return environment


def render_page(
    environment: jinja2.Environment,
    template: str,
    styles: Sequence[str],
    scripts: Sequence[str],
    posts: bool = False,
    **values: Any,
) -> str:
    """A page with its style and script inside; one that `posts` may speak to its own server, others to none."""
    style = "\n".join(_source(environment, name) for name in styles)
    script = '"use strict";\n{\n' + "\n".join(_source(environment, name) for name in scripts) + "\n}\n"
    return environment.get_template(template).render(style=style, script=script, posts=posts, **values)


def _source(environment: jinja2.Environment, name: str) -> str:
    """A style or script of the package; whole, never a value filled in, so that its hash is known."""
    assert environment.loader is not None
    text = environment.loader.get_source(environment, name)[0]
    if "</s" in text.lower():
        raise AssertionError(f"{name} holds a closing tag, which would end its block in the page")
    return text


def pack(value: Any) -> str:
    """JSON as base64 of gzip; equal values give equal text. A lone surrogate becomes U+FFFD."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    data = text.encode("utf-8", errors="replace")
    return base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode()


def clip(text: str, length: int) -> str:
    """One line of at most `length` characters."""
    text = " ".join(text[: 4 * length].split())
    return text if len(text) <= length else text[: length - 1] + "…"


def _fingerprint(text: str) -> str:
    """How a content policy names a block."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _number(value: float) -> str:
    """12,345 or 12.3."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _seconds(value: float) -> str:
    """`12 s`, `3 min 20 s`, `2 h 05 min`; `under 1 s`."""
    seconds = round(value)
    if seconds < 1:
        return "under 1 s"
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
