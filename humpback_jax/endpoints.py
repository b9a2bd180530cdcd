"""A model behind an OpenAI-compatible endpoint: asked once per question, retried where that helps, never paid twice.

Every verdict is appended to a journal and synced before the next is counted: a run that ends early goes on where it
was, and one with more questions pays for these. A failure that may pass (no connection, timeout, rate limit, server
error) is retried with growing waits; when it does not pass, the run stops and says so. A reply that is no verdict is
asked for again; when it stays so, the question is counted as malformed and has none. The first questions are
asked alone: a fault that hits them alike is the endpoint's or a setting's, and stops the run.
"""

import dataclasses
import datetime
import email.utils
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Annotated, Any

from humpback_jax.files import GrowingFile, PathLike, read_jsonl, sha256_of_bytes
from humpback_jax.ranges import PositiveFloat, PositiveInt, Range, Text, check_fields

MALFORMED, REFUSED, CUT, FILTERED, TOO_LONG = "malformed", "refused", "cut", "filtered", "too_long"
UNPAID = (REFUSED, TOO_LONG)
ALIKE = 3  # first questions, or refusals one after the other, of which a fault is no matter of a question
_ADVICE = {
    MALFORMED: "look at what it says, or choose another model",
    REFUSED: "change what its message names: --max_completion_tokens, --temperature none, or --extra_body",
    CUT: "give it more room: --max_tokens 2048, or --max_completion_tokens 2048 for a reasoning model",
    TOO_LONG: "choose a model that takes longer prompts",
    FILTERED: "its filter refuses the prompts; choose another model",
}
_TOO_LONG = re.compile(r"Error code: 413|context.{0,3}length|context window", re.IGNORECASE)
_BAD_PARAMETER = re.compile(
    r"\b(?:unsupported|unrecognized|unknown|unexpected|invalid|extra)\b.{0,30}\b(?:parameter|argument|field|value|inputs?)\b"
    r"|not supported with this model|extra_forbidden",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class EndpointConfig:
    """An endpoint and how patiently it is asked.

    Attributes:
      model: name that the endpoint knows.
      base_url: of the API; for example http://127.0.0.1:8000/v1 for a local server.
      key_variable: environment variable that holds the key; empty for an endpoint without keys.
      temperature: of its replies; None leaves it to the endpoint, as reasoning models want it.
      max_tokens: room for its reply; None where `max_completion_tokens` or nothing says it.
      max_completion_tokens: room for its reply, thoughts counted in: what reasoning models take instead.
      extra_body: further parameters of a request, a JSON object; null takes one out.
      attempts: of one call, failures that may pass counted in.
      max_wait: longest wait between two attempts, in seconds; a server's Retry-After is kept to up to here.
      replies: how often a reply that is no verdict is asked for again, the first time counted in.
      concurrency: calls in flight.
      timeout: of a call, in seconds.
    """

    model: Text
    base_url: Text = "https://api.openai.com/v1"
    key_variable: str = "OPENAI_API_KEY"
    temperature: Annotated[float, Range(0)] | None = 0.0
    max_tokens: PositiveInt | None = 16
    max_completion_tokens: PositiveInt | None = None
    extra_body: str = "{}"
    attempts: PositiveInt = 8
    max_wait: PositiveFloat = 60.0
    replies: PositiveInt = 3
    concurrency: PositiveInt = 8
    timeout: PositiveFloat = 120.0

    def __post_init__(self) -> None:
        check_fields(self)
        try:
            extra = json.loads(self.extra_body)
        except ValueError as error:
            raise ValueError(f"extra_body is {self.extra_body!r}; it must be a JSON object ({error})") from error
        if not isinstance(extra, dict):
            raise ValueError(f"extra_body is {self.extra_body!r}; it must be a JSON object, such as {{}}")

    @property
    def parameters(self) -> dict[str, Any]:
        """Of every request, beside model and messages."""
        room = ("max_completion_tokens", self.max_completion_tokens)
        room = room if self.max_completion_tokens else ("max_tokens", self.max_tokens)
        given = dict([("temperature", self.temperature), room]) | json.loads(self.extra_body)
        return {name: value for name, value in given.items() if value is not None}

    @property
    def deciding(self) -> dict[str, Any]:
        """The settings that decide what it says; room is not among them, for a cut reply is no verdict."""
        named = {name: getattr(self, name) for name in ("model", "base_url", "temperature")}
        return named | ({"extra_body": self.extra_body} if json.loads(self.extra_body) else {})


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of a question.

    Attributes:
      verdict: what was read from the last reply, or None.
      reason: why there is none.
      raw: all replies.
    """

    verdict: Any
    reason: str | None = None
    raw: Any = None


class Journal(GrowingFile):
    """Replies by the hash of their question, one line each; a line that a crash cut off is dropped and asked again."""

    def __init__(self, path: PathLike) -> None:
        super().__init__(path)
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            self.path.write_bytes(whole)
        self.rows: dict[str, dict[str, Any]] = {}
        for number, row in read_jsonl(path) if whole else ():
            if "id" not in row:
                raise ValueError(f"{path}:{number}: no reply to a question; delete this line and run again")
            self.rows[row["id"]] = row

    def append(self, row: dict[str, Any]) -> None:
        super().append(row)
        self.rows[row["id"]] = row


class Endpoint:
    """Calls of one model; `retries` and `usage` count what they cost, `stopping` ends waits between attempts."""

    def __init__(self, config: EndpointConfig, parse: Callable[[str], Any]) -> None:
        """`parse` reads a verdict from a reply, None where there is none; ValueError: the key is not set."""
        try:
            import openai
            import tenacity  # noqa: F401
        except ImportError as error:
            raise ValueError(
                f"a model behind an endpoint needs {error.name}: pip install 'humpback_jax[eval]'"
            ) from error
        key = os.environ.get(config.key_variable, "").strip() if config.key_variable else "none"
        if not key:
            raise ValueError(
                f"the model at {config.base_url} needs a key: set the environment variable {config.key_variable}, or "
                "give --key_variable '' for an endpoint without keys"
            )
        self.config, self._parse = config, parse
        self.retries: Counter[str] = Counter()
        self.usage: Counter[str] = Counter()
        self.stopping = threading.Event()
        self._client = openai.OpenAI(api_key=key, base_url=config.base_url, timeout=config.timeout, max_retries=0)

    def ask(self, prompt: str) -> Answer:
        """One question until there is a verdict, the replies are used up, or the endpoint refuses it.

        Raises:
          ConnectionError: the endpoint cannot be reached, keeps failing, or does not answer as an API does.
          PermissionError: the key, the model's name, the account or a parameter is refused.
        """
        replies: list[str] = []
        for _ in range(self.config.replies):
            completion, refusal = self._completion(prompt)
            if refusal is not None:
                return Answer(None, TOO_LONG if _TOO_LONG.search(refusal) else REFUSED, [*replies, refusal])
            reply, finish = _reply_of(completion)
            replies.append(reply)
            if (verdict := self._parse(reply)) is not None:
                return Answer(verdict, None, replies)
            if finish in _NO_USE:
                return Answer(None, _NO_USE[finish], replies)
            self.retries[MALFORMED] += 1
        return Answer(None, MALFORMED, replies)

    def _completion(self, prompt: str) -> tuple[dict[str, Any], str | None]:
        """(the endpoint's answer, None), or ({}, why this question is refused)."""
        import openai
        import tenacity

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_may_pass),
            wait=lambda state: _wait_seconds(state, self.config.max_wait),
            stop=tenacity.stop_after_attempt(self.config.attempts) | tenacity.stop_when_event_set(self.stopping),
            before_sleep=self._count,
            sleep=tenacity.sleep_using_event(self.stopping),
            reraise=True,
        )
        where = f"the model at {self.config.base_url}"
        try:
            completion = retrying(self._call, prompt)
        except _AnswerError as error:
            if error.refuses:
                return {}, str(error)
            kind = "keeps failing" if _may_pass(error) else "does not answer as an OpenAI-compatible API does"
            raise ConnectionError(f"{where} {kind}: {error}") from error
        except openai.APIStatusError as error:
            if _may_pass(error):
                raise ConnectionError(f"{where} keeps failing: {error}") from error
            if error.status_code not in (400, 413, 422) or _is_of_parameters(error):
                advice = f"; {_ADVICE[REFUSED]}" if _is_of_parameters(error) else ""
                raise PermissionError(f"{where} refuses: {error}{advice}") from error
            return {}, str(error)
        except openai.APIError as error:
            raise ConnectionError(f"{where} cannot be reached: {error}") from error
        usage = completion.get("usage")
        for name in ("prompt_tokens", "completion_tokens"):
            self.usage[name] += int((usage.get(name) if isinstance(usage, dict) else 0) or 0)
        return completion, None

    def _call(self, prompt: str) -> dict[str, Any]:
        self.usage["calls"] += 1
        raw = self._client.chat.completions.with_raw_response.create(
            model=self.config.model, messages=[{"role": "user", "content": prompt}], extra_body=self.config.parameters
        )
        return _answer_of(raw.http_response.text)

    def _count(self, state: Any) -> None:
        self.retries[type(state.outcome.exception()).__name__] += 1


class _AnswerError(Exception):
    """An answer of status 200 that is none: a page, or an error in its body with a status of its own."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status_code = status

    @property
    def refuses(self) -> bool:
        """Whether it is a matter of the question."""
        return self.status_code in (400, 413, 422)


def _answer_of(text: str) -> dict[str, Any]:
    """The answer of the endpoint as an object with `choices`; _AnswerError for anything else."""
    try:
        answer = json.loads(text)
    except ValueError:
        raise _AnswerError(f"no JSON but {text[:80]!r}; is base_url right? It often ends in /v1") from None
    if isinstance(answer, dict) and answer.get("error"):
        error = answer["error"] if isinstance(answer["error"], dict) else {"message": answer["error"]}
        code = str(error.get("code") or error.get("status") or "")
        raise _AnswerError(f"an error in its answer, {error}", int(code) if code.isdigit() else 500)
    if not isinstance(answer, dict) or not isinstance(answer.get("choices"), list):
        raise _AnswerError(f"no 'choices' in its answer {text[:80]!r}; is base_url right?")
    return answer


_NO_USE = {"length": CUT, "content_filter": FILTERED}  # asked again, a reply would end in the same way


def _reply_of(answer: Mapping[str, Any]) -> tuple[str, str]:
    """(text of a reply, why it ended); of a text in parts those that are text."""
    choice = answer["choices"][0] if answer["choices"] else {}
    content = (choice.get("message") or {}).get("content")
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, dict) else part for part in content]
        content = "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else "", str(choice.get("finish_reason"))


def _is_of_parameters(error: Any) -> bool:
    """Whether a request is refused for its parameters, as every other would be."""
    body = error.body if isinstance(error.body, dict) else {}
    said = f"{body.get('code')} {body.get('type')} {body.get('message')} {error}"
    return body.get("param") not in (None, "messages", "prompt") or bool(_BAD_PARAMETER.search(said.replace("_", " ")))


def _may_pass(error: BaseException) -> bool:
    import openai

    if isinstance(error, openai.APIConnectionError):
        return True
    status = getattr(error, "status_code", None)
    is_passing = status is not None and (status in (408, 409, 425, 429) or status >= 500)
    return is_passing and getattr(error, "code", None) != "insufficient_quota"


def _wait_seconds(state: Any, longest: float) -> float:
    """What the server asks for, in seconds, milliseconds or by a date, else a growing random wait."""
    import tenacity

    headers = getattr(getattr(state.outcome.exception(), "response", None), "headers", {})
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            return min(max(0.0, float(headers.get(name) or "") / unit), longest)
        except ValueError:
            continue
    try:
        until = email.utils.parsedate_to_datetime(headers.get("retry-after") or "")
        return min(max(0.0, (until - datetime.datetime.now(until.tzinfo)).total_seconds()), longest)
    except (TypeError, ValueError):
        return tenacity.wait_random_exponential(multiplier=0.5, max=longest)(state)


def question_key(question: str) -> str:
    """By what a question is found in the journal, wherever it stands in a contest."""
    return sha256_of_bytes(question.encode("utf-8", errors="replace"))[:32]


def ask_all(
    endpoint: Endpoint, questions: Mapping[str, str], journal: Journal, progress: Callable[[int], None]
) -> dict[str, Answer]:
    """Answers by question id; only questions that the journal lacks are asked, equal ones once.

    Refusals cost nothing and may be of the moment: they are not in the journal. Cut replies are, with the room they
    had, and are asked again with another.

    Raises:
      OSError: the endpoint gave up; what was answered until then is in the journal.
      ValueError: the first questions, or many in a row, fail alike.
    """
    keys = {name: question_key(question) for name, question in questions.items()}
    room = endpoint.config.max_completion_tokens or endpoint.config.max_tokens
    known = {key: row for key, row in list(journal.rows.items()) if row.get("reason") != CUT or row.get("room") == room}
    todo = {key: questions[name] for name, key in keys.items() if key not in known}
    progress(sum(key not in todo for key in keys.values()))
    asked: dict[str, Answer] = {}

    def keep(key: str, answer: Answer) -> None:
        if answer.reason not in UNPAID:
            journal.append({"id": key, "room": room, **dataclasses.asdict(answer)})

    try:
        for key, answer in _answers(endpoint, todo, not known, keep):
            asked[key] = answer
            progress(1)
    except OSError as error:
        kept = sum(key in journal.rows for key in keys.values())
        raise type(error)(
            f"{error}; {kept} of {len(questions)} replies are kept in {journal.path}: run the same command "
            "again to go on"
        ) from error
    columns = [field.name for field in dataclasses.fields(Answer)]
    before = {key: Answer(**{column: row[column] for column in columns}) for key, row in known.items()}
    return {name: (before | asked)[key] for name, key in keys.items()}


def _answers(
    endpoint: Endpoint, todo: Mapping[str, str], alone: bool, keep: Callable[[str, Answer], None]
) -> Iterator[tuple[str, Answer]]:
    """(key, answer) as they come; with `alone` the first ones one by one, until one of them is a verdict.

    Calls in flight are paid for: whatever ends this, their replies are waited for, and `keep` has been told of them.
    """
    left = dict(todo)

    def keep_verdict(key: str, answer: Answer) -> None:
        if answer.verdict:
            keep(key, answer)

    with ThreadPoolExecutor(endpoint.config.concurrency, thread_name_prefix="endpoint") as executor:
        try:
            first: list[tuple[str, Answer]] = []
            while alone and left and len(first) < ALIKE and not any(answer.verdict for _, answer in first):
                key = next(iter(left))
                answer = executor.submit(_ask, endpoint, key, left.pop(key), keep_verdict).result()
                first += [] if answer is None else [(key, answer)]
            _check_unlike(endpoint, [answer for _, answer in first], min(ALIKE, len(todo)))
            for key, answer in first:
                if not answer.verdict:
                    keep(key, answer)
            yield from first
            yield from _together(endpoint, left, executor, keep)
        except BaseException:
            endpoint.stopping.set()
            executor.shutdown(wait=True, cancel_futures=True)
            raise


def _together(
    endpoint: Endpoint, left: Mapping[str, str], executor: ThreadPoolExecutor, keep: Callable[[str, Answer], None]
) -> Iterator[tuple[str, Answer]]:
    """The rest, many at a time, until one raises or many in a row are refused alike."""
    futures = {executor.submit(_ask, endpoint, key, question, keep): key for key, question in left.items()}
    refused: list[Answer] = []
    for future in as_completed(futures):
        answer = future.result()
        if answer is None:
            continue
        yield futures[future], answer
        refused = [*refused, answer] if answer.reason in UNPAID else []
        if len(refused) >= ALIKE * endpoint.config.concurrency:
            _check_unlike(endpoint, refused, len(refused))


def _check_unlike(endpoint: Endpoint, answers: list[Answer], enough: int) -> None:
    """ValueError where so many answers have one reason why they are none."""
    reasons = {answer.reason for answer in answers if answer.verdict is None}
    if not answers or len(answers) < enough or any(j.verdict for j in answers) or len(reasons) != 1:
        return
    reason = str(reasons.pop())
    said = str(answers[-1].raw[-1] if answers[-1].raw else "")[:200]
    raise ValueError(
        f"the model at {endpoint.config.base_url} gives no verdict: {len(answers)} questions in a row are {reason}, "
        f"the last with {said!r}. Nothing of it is kept; {_ADVICE[reason]}"
    )


def _ask(endpoint: Endpoint, key: str, question: str, keep: Callable[[str, Answer], None]) -> Answer | None:
    """None where it was not asked: after a failure of another one there is no use."""
    if endpoint.stopping.is_set():
        return None
    try:
        answer = endpoint.ask(question)
    except Exception:
        endpoint.stopping.set()
        raise
    keep(key, answer)
    return answer
