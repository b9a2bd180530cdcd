"""Pairs out of rows: one or two texts under their usual names, or a conversation, of which the first turn is taken.

Known are Alpaca, Dolly, self-instruct, prompt and completion, question and answer, inputs and targets; ShareGPT's
`from` and `value`, OpenAI's `role` and `content`, LIMA's plain lists. Names are told in any case of letters.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from humpback_jax.data.candidates import Candidate, UnusableError, text_of

# By which names seed files call the same thing: ours first.
INSTRUCTION_KEYS = ("instruction", "prompt", "question", "query", "inputs", "user")
CONTEXT_KEYS = ("input", "context")
OUTPUT_KEYS = ("output", "response", "completion", "answer", "targets", "target", "assistant")
SYSTEM_KEYS = ("system", "system_prompt", "system_message")
HISTORY_KEYS = ("history",)
MESSAGE_KEYS = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat", "data")
NAMES: Mapping[str, tuple[str, ...]] = {
    "instruction": INSTRUCTION_KEYS,
    "input": CONTEXT_KEYS,
    "output": OUTPUT_KEYS,
    "system": SYSTEM_KEYS,
    "history": HISTORY_KEYS,
    "messages": MESSAGE_KEYS,
    "id": ("id",),
    "source": ("source",),
}
SYSTEM_CHOICES = ("join", "drop", "reject")

_ROLE_KEYS, _TEXT_KEYS = ("role", "from", "speaker", "author"), ("content", "value", "text")
_ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "customer"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "chatbot", "bing", "bard", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
# Names that mean something else beside one of the others: who asked, a label, a search.
_ONLY_ALONE = ("user", "assistant", "target", "query")
_ABSENT = object()
_NO_INPUT = re.compile(r"<?\s*no\s?input\s*>?\.?", re.IGNORECASE)  # how Alpaca files say that there is none


@dataclasses.dataclass(frozen=True)
class RowReader:
    """How rows become pairs.

    Attributes:
      columns: names of `NAMES` to the columns that hold them; a dot leads into an object. Others go by their names.
      system: what becomes of a system text: `join` puts it above the instruction, `drop` leaves it out, `reject`
        leaves out the pair. Each is counted.
      with_outputs: False reads instructions alone.
    """

    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    system: str = "join"
    with_outputs: bool = True

    def __post_init__(self) -> None:
        if self.system not in SYSTEM_CHOICES:
            raise ValueError(f"system is {self.system!r}; choose from {', '.join(SYSTEM_CHOICES)}")
        if unknown := sorted(self.columns.keys() - NAMES.keys()):
            raise ValueError(f"columns names {unknown[0]!r}; what a column can be is one of {', '.join(NAMES)}")

    def candidates(self, row: Mapping[str, Any], where: str, name: str, number: int) -> Iterator[Candidate]:
        """Of a row, one or, of self-instruct's instances, several; `name` is the file's, `number` the row's."""
        values = self._values(row)
        pair_id = _label(values.get("id")) or f"{name}:{number}"
        source = _label(values.get("source")) or name
        instances = values.pop("instances", None)
        for index, each in enumerate(instances if isinstance(instances, list) and instances else [{}]):
            own = f"{pair_id}/{index}" if index else pair_id
            try:
                inner = self._values(each) if isinstance(each, Mapping) and each else {}
                texts, notes = self._texts({**values, **inner}, row)
            except UnusableError as error:
                yield Candidate(where, own, source=source, reason=error.reason, detail=error.detail)
            else:
                yield Candidate(where, own, *texts, source=source, notes=notes)

    def _values(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row by the names of `NAMES`; of several usual names for one thing the one that holds something."""
        by_case = {str(key).strip().lower(): key for key in reversed(list(row))}
        values, taken = {}, set(self.columns.values())
        for name, usual in NAMES.items():
            if name in self.columns:
                if (value := _inside(row, self.columns[name])) is not _ABSENT:
                    values[name] = value
                continue
            keys = [by_case[key] for key in usual if key in by_case and by_case[key] not in taken]
            keys = _speaking(name, [key for key in keys if _is_given(row[key])], row) or keys[:1]
            if name in ("instruction", "output") and len({repr(row[key]) for key in keys}) > 1:
                choice = f"say which is meant: columns = ('{name}={keys[0]}',)"
                values[f"two_{name}s"] = f"both {keys[0]!r} and {keys[1]!r} are given; {choice}"
            if keys:
                values[name] = row[keys[0]]
        if "instances" in by_case:
            values["instances"] = row[by_case["instances"]]
        return values

    def _texts(self, values: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[tuple[str, str], tuple[str, ...]]:
        """((instruction, output), notes); UnusableError says why there is no pair."""
        turns = next((values[k] for k in ("messages", "instruction") if isinstance(values.get(k), list)), None)
        is_pair = isinstance(values.get("instruction"), str) and ("output" in values or not self.with_outputs)
        if turns is not None and ("messages" in self.columns or not is_pair):
            return self._first_turn(turns, values)
        for name in ("instruction", "output")[: 1 + self.with_outputs]:
            if f"two_{name}s" in values:
                raise UnusableError(f"two_{name}s", values[f"two_{name}s"])
            if name not in values and not (name == "instruction" and values.get("input")):
                raise UnusableError(f"no_{name}", _lacks(name, row))
        if _is_given(values.get("history")):
            raise UnusableError("needs_history", "earlier turns are given under 'history'; a pair is a first turn")
        context = text_of(values.get("input"), "input")
        context = "" if _NO_INPUT.fullmatch(context) else context
        parts = [text_of(values.get("instruction"), "instruction") if "instruction" in values else context]
        parts += [context] if context and "instruction" in values else []
        if not parts[0]:
            raise UnusableError("empty_instruction")
        return self._pair("\n\n".join(parts), values.get("output"), text_of(values.get("system"), "system"), ())

    def _first_turn(self, turns: Sequence[Any], values: Mapping[str, Any]) -> tuple[tuple[str, str], tuple[str, ...]]:
        """Of a conversation; neighbouring messages of one role are one."""
        if not turns:
            raise UnusableError("empty_conversation")
        said = {"system": [text_of(values.get("system"), "system")], "user": [], "assistant": []}
        rest = list(enumerate(turns))
        for role in ("system", "user", "assistant"):
            while rest and role_of(turns, *rest[0]) == role:
                said[role].append(message_text(rest.pop(0)[1]))
        if rest and not said["user"]:
            raise UnusableError("begins_with_answer", "the conversation begins with an answer; a pair is a first turn")
        joined = {role: "\n\n".join(filter(None, texts)) for role, texts in said.items()}
        if not joined["user"]:
            raise UnusableError("empty_instruction")
        output = joined["assistant"] if said["assistant"] else values.get("output")
        if self.with_outputs and not said["assistant"] and output is None:
            raise UnusableError("no_output", "the conversation has no answer to its first turn")
        return self._pair(joined["user"], output, joined["system"], ("later_turns_left_out",) if rest else ())

    def _pair(
        self, instruction: str, output: Any, system: str, notes: tuple[str, ...]
    ) -> tuple[tuple[str, str], tuple[str, ...]]:
        if isinstance(output, list) and output and isinstance(output[0], dict):
            output = "\n\n".join(map(message_text, output))  # an answer as messages, beside a prompt as messages
        answer = text_of(output, "output") if self.with_outputs else ""
        if self.with_outputs and not answer:
            raise UnusableError("empty_output")
        if system and self.system == "reject":
            raise UnusableError("with_system", "it has a system text")
        if system:
            notes = (*notes, "system_joined" if self.system == "join" else "system_left_out")
        return (f"{system}\n\n{instruction}" if system and self.system == "join" else instruction, answer), notes


def column_names(columns: Sequence[str]) -> dict[str, str]:
    """{"instruction": "q"} of ("instruction=q",); ValueError for anything else."""
    pairs = [column.partition("=") for column in columns]
    if wrong := [column for column, (name, _, there) in zip(columns, pairs, strict=True) if not (name and there)]:
        raise ValueError(f"column {wrong[0]!r} is not of the form instruction=NAME_IN_THE_FILE")
    return {name.strip(): there.strip() for name, _, there in pairs}


def _speaking(name: str, keys: list[str], row: Mapping[str, Any]) -> list[str]:
    """Of usual names that hold something, those that can be meant."""
    if name == "messages":
        return [key for key in keys if isinstance(row[key], list)]
    return [key for key in keys if key.strip().lower() not in _ONLY_ALONE] or keys


def _is_given(value: Any) -> bool:
    return value is not None and value == value and value not in ("", [], {})  # NaN is no value


def _label(value: Any) -> str:
    """An id or a source as text; empty where it is none, for then that of the file does as well."""
    try:
        return text_of(value, "label")
    except UnusableError:
        return ""


def _inside(row: Mapping[str, Any], name: str) -> Any:
    if name in row or "." not in name:
        return row.get(name, _ABSENT)
    outer, _, rest = name.partition(".")
    inner = row.get(outer)
    return _inside(inner, rest) if isinstance(inner, Mapping) else _ABSENT


def _lacks(name: str, row: Mapping[str, Any]) -> str:
    keys = ", ".join(map(repr, row)) or "none"
    return f"no {name!r} (the keys are {keys}); a pair needs a text under one of {', '.join(NAMES[name])}, or columns"


def role_of(turns: Sequence[Any], place: int, turn: Any) -> str:
    """Whose message a turn is; of a plain list the user's and the assistant's by turns."""
    if isinstance(turn, str):
        return "assistant" if place % 2 else "user"
    role = next((turn[key] for key in _ROLE_KEYS if key in turn), None) if isinstance(turn, Mapping) else None
    known = _ROLES.get(str(role).strip().lower())
    if known is None:
        kind = "not_a_message" if role is None else "other_role"
        raise UnusableError(kind, f"message {place + 1} of {len(turns)} has the role {role!r}")
    return known


def message_text(turn: Any) -> str:
    """The text of a message, also where it is a list of parts."""
    if isinstance(turn, str):
        return text_of(turn, "message")
    content = next((turn[key] for key in _TEXT_KEYS if key in turn), None)
    if not isinstance(content, list):
        return text_of(content, "content")
    other = [part for part in content if not (isinstance(part, str) or "text" in part)]
    if other:
        raise UnusableError("not_a_text", f"a message has a part that is no text: {other[0].get('type')!r}")
    return "".join(text_of(part if isinstance(part, str) else part["text"], "content") for part in content)
