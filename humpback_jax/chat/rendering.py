"""Chat templates in Jinja, rendered as transformers renders them: in a sandbox, for templates come with downloads."""

import dataclasses
import datetime
import json
from collections.abc import Sequence
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox

# A template that prints the date would give other ids every day; this is the date LLaMA 3's templates fall back to.
TEMPLATE_DATE = datetime.date(2024, 7, 26)


@dataclasses.dataclass
class PinnedClock:
    """`strftime_now` of one rendering: always the same date; remembers the formats that were asked for."""

    asked: dict[str, str] = dataclasses.field(default_factory=dict)

    def strftime_now(self, date_format: str) -> str:
        """`TEMPLATE_DATE` in this format."""
        return self.asked.setdefault(date_format, TEMPLATE_DATE.strftime(date_format))


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}` says which text is the model's own; it renders as what it encloses."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def render_template(
    template: str, turns: Sequence[tuple[str, str]], *, clock: PinnedClock | None = None, **variables: Any
) -> str:
    """What a chat template makes of (role, text) turns.

    Args:
      template: the Jinja source.
      turns: role and text of each.
      clock: learns which dates the template prints.
      variables: what the template reads besides: `add_generation_prompt`, `bos_token`, `eos_token`, `tags`.

    Raises:
      ValueError: the template fails, for whatever reason.
    """
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _GenerationTag]
    )
    environment.filters["tojson"] = _to_json
    clock = clock or PinnedClock()
    environment.globals.update(raise_exception=_raise_exception, strftime_now=clock.strftime_now)
    messages = [{"role": role, "content": text} for role, text in turns]
    try:
        return environment.from_string(template).render(messages=messages, tools=None, documents=None, **variables)
    except Exception as error:  # a template is a program of somebody else's: it can fail in any way
        raise ValueError(f"the chat template cannot be rendered ({error})") from error


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers' `tojson` writes it: letters as they are, and no HTML escapes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
