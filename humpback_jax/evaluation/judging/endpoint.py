"""A judge behind an OpenAI-compatible endpoint: asked once per question, retried where that helps, never paid twice.

Every reply is appended to a journal and synced before the next is counted: a run that ends early goes on where it was.
A failure that may pass (no connection, timeout, rate limit, server error) is retried with growing waits; when it does
not pass, the run stops and says so. A reply that is no verdict is asked for again; when it stays so, the question is
counted as malformed and has no preference.
"""

import dataclasses
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from humpback_jax.evaluation.judging.comparisons import Judgment, parse_verdict
from humpback_jax.files import GrowingFile, PathLike, read_jsonl

MALFORMED, REFUSED = "malformed", "refused"


@dataclasses.dataclass(frozen=True)
class EndpointConfig:
    """An endpoint and how patiently it is asked.

    Attributes:
      model: name that the endpoint knows.
      base_url: of the API; for example http://127.0.0.1:8000/v1 for a local server.
      key_variable: environment variable that holds the key; empty for an endpoint without keys.
      temperature: of the judge.
      max_tokens: room for its reply.
      attempts: of one call, failures that may pass counted in.
      max_wait: longest wait between two attempts, in seconds; a server's Retry-After is kept to up to here.
      replies: how often a reply that is no verdict is asked for again, the first time counted in.
      concurrency: calls in flight.
      timeout: of a call, in seconds.
    """

    model: str
    base_url: str = "https://api.openai.com/v1"
    key_variable: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    max_tokens: int = 16
    attempts: int = 8
    max_wait: float = 60.0
    replies: int = 3
    concurrency: int = 8
    timeout: float = 120.0

    @property
    def deciding(self) -> dict[str, Any]:
        """The settings that decide what the judge says."""
        return {name: getattr(self, name) for name in ("model", "base_url", "temperature", "max_tokens", "replies")}


class Journal(GrowingFile):
    """Replies by question id, one line each; a line that a crash cut off is dropped and asked again."""

    def __init__(self, path: PathLike) -> None:
        super().__init__(path)
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            self.path.write_bytes(whole)
        self.rows: dict[str, dict[str, Any]] = {}
        for number, row in read_jsonl(path) if whole else ():
            if "id" not in row:
                raise ValueError(f"{path}:{number}: not a judgment; delete this line and run again")
            self.rows[row["id"]] = row

    def append(self, row: dict[str, Any]) -> None:
        super().append(row)
        self.rows[row["id"]] = row


class Endpoint:
    """Calls of one judge; `retries` and `usage` count what they cost, `stopping` ends waits between attempts."""

    def __init__(self, config: EndpointConfig) -> None:
        try:
            import openai
            import tenacity  # noqa: F401
        except ImportError as error:
            raise ValueError(
                f"a judge behind an endpoint needs {error.name}: pip install 'humpback_jax[eval]'"
            ) from error
        key = os.environ.get(config.key_variable, "").strip() if config.key_variable else "none"
        if not key:
            raise ValueError(
                f"the judge at {config.base_url} needs a key: set the environment variable {config.key_variable}, or "
                "give --key_variable '' for an endpoint without keys"
            )
        self.config = config
        self.retries: Counter[str] = Counter()
        self.usage: Counter[str] = Counter()
        self.stopping = threading.Event()
        self._client = openai.OpenAI(api_key=key, base_url=config.base_url, timeout=config.timeout, max_retries=0)

    def ask(self, prompt: str) -> Judgment:
        """One question until there is a verdict, the replies are used up, or the endpoint refuses it.

        Raises:
          ConnectionError: the endpoint cannot be reached, or keeps failing.
          PermissionError: the key, the model's name or the account is refused.
        """
        replies: list[str] = []
        for _ in range(self.config.replies):
            reply, refusal = self._reply(prompt)
            if refusal is not None:
                return Judgment(None, REFUSED, [*replies, refusal])
            replies.append(reply)
            if verdict := parse_verdict(reply):
                return Judgment(verdict, None, replies)
            self.retries[MALFORMED] += 1
        return Judgment(None, MALFORMED, replies)

    def _reply(self, prompt: str) -> tuple[str, str | None]:
        """(text, None), or ("", why this question is refused)."""
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
        try:
            completion = retrying(self._call, prompt)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            return "", str(error)
        except openai.APIStatusError as error:
            if _may_pass(error):
                raise ConnectionError(f"the judge at {self.config.base_url} keeps failing: {error}") from error
            raise PermissionError(f"the judge at {self.config.base_url} refuses: {error}") from error
        except openai.APIError as error:
            raise ConnectionError(f"the judge at {self.config.base_url} cannot be reached: {error}") from error
        if completion.usage is not None:
            self.usage["prompt_tokens"] += completion.usage.prompt_tokens
            self.usage["completion_tokens"] += completion.usage.completion_tokens
        return (completion.choices[0].message.content or "") if completion.choices else "", None

    def _call(self, prompt: str) -> Any:
        self.usage["calls"] += 1
        return self._client.chat.completions.create(
            model=self.config.model,
            messages=[{"role": "user", "content": prompt}],
            temperature=self.config.temperature,
            max_tokens=self.config.max_tokens,
        )

    def _count(self, state: Any) -> None:
        self.retries[type(state.outcome.exception()).__name__] += 1


def _may_pass(error: BaseException) -> bool:
    import openai

    passing = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError, openai.ConflictError)
    return isinstance(error, passing) and getattr(error, "code", None) != "insufficient_quota"


def _wait_seconds(state: Any, longest: float) -> float:
    """What the server asks for, else a growing random wait."""
    import tenacity

    error = state.outcome.exception()
    asked = getattr(getattr(error, "response", None), "headers", {}).get("retry-after")
    try:
        return min(float(asked or ""), longest)
    except (TypeError, ValueError):
        return tenacity.wait_random_exponential(multiplier=0.5, max=longest)(state)


def ask_all(
    endpoint: Endpoint, questions: Mapping[str, str], journal: Journal, progress: Callable[[int], None]
) -> dict[str, Judgment]:
    """Judgments by question id; only questions that the journal lacks are asked.

    Raises:
      OSError: the endpoint gave up; what was answered until then is in the journal.
    """
    todo = [name for name in questions if name not in journal.rows]
    progress(len(questions) - len(todo))
    with ThreadPoolExecutor(endpoint.config.concurrency, thread_name_prefix="judge") as executor:
        futures = [executor.submit(_ask, endpoint, journal, name, questions[name]) for name in todo]
        try:
            for future in as_completed(futures):
                progress(int(future.result()))
        except BaseException as error:
            endpoint.stopping.set()
            executor.shutdown(wait=True, cancel_futures=True)  # calls in flight are paid for: their replies are kept
            if not isinstance(error, OSError):
                raise
            kept = sum(name in journal.rows for name in questions)
            raise type(error)(
                f"{error}; {kept} of {len(questions)} judgments are kept in {journal.path}: run the same command "
                "again to go on"
            ) from error
    columns = [field.name for field in dataclasses.fields(Judgment)]
    return {name: Judgment(**{column: journal.rows[name][column] for column in columns}) for name in questions}


def _ask(endpoint: Endpoint, journal: Journal, name: str, question: str) -> bool:
    """Whether the question was asked: after a failure of another one there is no use."""
    if endpoint.stopping.is_set():
        return False
    try:
        judgment = endpoint.ask(question)
    except Exception:
        endpoint.stopping.set()
        raise
    journal.append({"id": name, **dataclasses.asdict(judgment)})
    return True
