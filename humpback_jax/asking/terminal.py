"""The loop of `humpback chat`: lines in, answers out, commands between; in a terminal or through a pipe."""

import contextlib
import dataclasses
import signal
import sys
import threading
from collections.abc import Iterator

import click

from humpback_jax.asking.conversation import Conversation, Settings, exact_text
from humpback_jax.prompts.prompts import TAG_CHOICES

HELP = """\
/tags [on|off|seed|web]     what is appended to questions: both tags, none, or one of them
/set [NAME VALUE]           temperature, top_p, max_new_tokens or seed of the next answers
/prompt [TEXT]              what the model read last, or would read for TEXT, to the token
/history [on|off]           what was said; whether the model sees it
/reset                      forget what was said
/help                       this list
/quit                       leave (or Ctrl-D)

A line that ends in \\ goes on in the next one; pasted lines are one question. A question that begins with / has a
space before it. Ctrl-C stops an answer."""
# What people say for the names of the tags.
TAG_WORDS = {"on": "both", "off": "none", "ai": "seed"}
PROMPT, MORE = "> ", "… "


def talk(conversation: Conversation) -> None:
    """Until the end of the input: answers every question, and does what commands say."""
    terminal = sys.stdin.isatty()
    if terminal:
        click.echo("Ask away; /help lists commands, Ctrl-C stops an answer, Ctrl-D leaves.", err=True)
    # Between two lines Ctrl-C is nothing: one that comes a moment after the answer that it was meant for ends no chat.
    with noticed_interrupt() if terminal else contextlib.nullcontext():
        for text in read_questions(terminal):
            if text.startswith("/"):
                if text.split()[0] == "/quit":
                    return
                print_result(conversation, text)
            elif text.strip():
                print_answer(conversation, text.strip())
    if terminal:
        click.echo("", err=True)


def print_result(conversation: Conversation, text: str) -> None:
    """What a command says, or what is wrong with it."""
    try:
        click.echo(run_command(conversation, text))
    except ValueError as error:
        click.echo(f"{error}", err=True)


def print_answer(conversation: Conversation, text: str) -> None:
    """The answer as it is written; a mistake in the question is said."""
    try:
        conversation.prompt_ids(text)
    except ValueError as error:
        click.echo(f"{error}", err=True)
        return
    pieces = conversation.answer(text)
    with noticed_interrupt() as interrupted, contextlib.closing(pieces):
        for piece in pieces:
            click.echo(piece, nl=False)
            sys.stdout.flush()
            if interrupted.is_set():
                break
    click.echo(" [stopped]\n" if interrupted.is_set() else "\n")


@contextlib.contextmanager
def noticed_interrupt() -> Iterator[threading.Event]:
    """Inside, Ctrl-C sets the event that is yielded, so that no program of the device is left in the middle."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def raised_interrupt() -> Iterator[None]:
    """Inside, Ctrl-C is a KeyboardInterrupt, as while a line is typed; around it, between two lines, it is nothing."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def read_questions(terminal: bool) -> Iterator[str]:
    """Questions and commands, continued lines joined."""
    if terminal:
        with contextlib.suppress(ImportError):  # not on every system; then lines cannot be edited
            import readline

            readline.parse_and_bind("set enable-bracketed-paste on")
    while True:
        try:
            lines = [_read_line(PROMPT, terminal)]
            while lines[-1].endswith("\\"):
                lines[-1] = lines[-1][:-1]
                lines.append(_read_line(MORE, terminal))
        except EOFError:
            return
        except KeyboardInterrupt:
            click.echo("\nCtrl-D leaves", err=True)
            continue
        yield "\n".join(lines)


def _read_line(prompt: str, terminal: bool) -> str:
    """One line; pasted ones come as one, where the terminal marks them."""
    if terminal:
        with raised_interrupt():
            return input(prompt)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def run_command(conversation: Conversation, text: str) -> str:
    """Does what a line that begins with / says, and returns what to print; ValueError says what is wrong with it."""
    name, _, rest = text.partition(" ")
    rest = rest.strip()
    match name:
        case "/help":
            return HELP
        case "/tags":
            return set_tags(conversation, rest)
        case "/set":
            return set_value(conversation, rest.replace("=", " ").split())
        case "/prompt":
            return show_prompt(conversation, rest)
        case "/history":
            return show_history(conversation, rest)
        case "/reset":
            conversation.forget()
            return "forgotten"
    raise ValueError(f"no command {name}; /help lists them. A question that begins with / has a space before it")


def set_tags(conversation: Conversation, word: str) -> str:
    """Which tags the next questions carry."""
    if word:
        choice = TAG_WORDS.get(word, word)
        if choice not in TAG_CHOICES:
            raise ValueError(f"/tags {word}: choose on, off, seed or web")
        conversation.tags = TAG_CHOICES[choice]
    return "tags: " + (", ".join(conversation.tags) or "none")


def set_value(conversation: Conversation, words: list[str]) -> str:
    """One setting of the next answers, or all as they are."""
    settings = conversation.settings
    if words:
        names = [field.name for field in dataclasses.fields(Settings)]
        if len(words) != 2 or words[0] not in names:
            raise ValueError(f"/set takes a name and a value: {', '.join(names)}")
        name, value = words
        kind = type(getattr(settings, name))
        try:
            changed = dataclasses.replace(settings, **{name: kind(value)})
        except ValueError as error:
            words_of = {int: "a whole number", float: "a number"}
            raise ValueError(f"/set {name} {value}: expected {words_of[kind]}") from error
        check_settings(changed, conversation)
        conversation.settings = settings = changed
    return "\n".join(f"{name} {value}" for name, value in dataclasses.asdict(settings).items())


def check_settings(settings: Settings, conversation: Conversation) -> None:
    """ValueError where the engine has no room for an answer of this length, or sampling or seed make no sense."""
    _ = settings.sampling
    room = conversation.engine.config.max_new_tokens
    if not 1 <= settings.max_new_tokens <= room:
        raise ValueError(
            f"max_new_tokens is {settings.max_new_tokens}; there is room for 1 to {room} "
            "(start with --max_new_tokens for more)"
        )
    if not 0 <= settings.seed < 2**32:
        raise ValueError(f"seed is {settings.seed}; expected 0 to {2**32 - 1}")


def show_prompt(conversation: Conversation, text: str) -> str:
    """The prompt for a text, or that of the last question."""
    if not text and conversation.last_prompt is None:
        raise ValueError("nothing was asked yet; /prompt TEXT shows what the model would read")
    ids = conversation.prompt_ids(text) if text else conversation.last_prompt
    return f"{exact_text(ids or (), conversation.asked.model.tokenizer)}\n({len(ids or ())} tokens)"


def show_history(conversation: Conversation, word: str) -> str:
    """What was said; `on` and `off` decide whether the next prompts hold it."""
    if word not in ("", "on", "off"):
        raise ValueError(f"/history {word}: choose on or off, or nothing to see it")
    if word:
        conversation.remembers = word == "on"
        return f"history: {word}"
    shown = [f"{PROMPT}{user}\n{answer}" for user, answer in conversation.turns]
    return "\n\n".join(shown) or "nothing was said yet"
