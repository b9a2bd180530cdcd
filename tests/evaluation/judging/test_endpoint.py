"""An endpoint whose parameters, replies and answers are not those of every other."""

import datetime
import email.utils
import re
import time

import pytest

from humpback_jax.evaluation.judging.comparisons import make_contest
from humpback_jax.evaluation.judging.judge import judge_by_endpoint

pytest.importorskip("openai", reason="needs the extra `eval`")
pytest.importorskip("tenacity", reason="needs the extra `eval`")

BASELINE = [{"instruction": f"Question {i}?", "output": f"short {i}"} for i in range(6)]
MODEL = [{"instruction": f"Question {i}?", "output": f"a longer answer {i}" if i else "short 0"} for i in range(6)]


def prefers_longer(prompt, call=0):
    first, second = re.search(r"\[Answer A\]\n(.*)\n\n\[Answer B\]\n(.*)\n\nReply", prompt, re.DOTALL).groups()
    return "A" if len(first) > len(second) else "B"


@pytest.fixture
def judged(fake_judge, tmp_path):
    from humpback_jax.endpoints import EndpointConfig

    def judge(rows=6, order=1, **settings):
        defaults = dict(model="judge", base_url=fake_judge.url, key_variable="", max_wait=0.01, attempts=4)
        contest = make_contest(BASELINE[:rows][::order], MODEL[:rows])
        return judge_by_endpoint(tmp_path / "judged", contest, EndpointConfig(**defaults | settings)).manifest[
            "figures"
        ]

    return judge


def test_a_refused_parameter_stops_at_the_first_question_and_can_be_changed(fake_judge, judged):
    def reply(prompt, call):
        refused = next((name for name in ("max_tokens", "temperature") if name in fake_judge.requests[-1]), None)
        body = {"error": {"message": f"Unsupported parameter: '{refused}'", "param": refused, "code": "unsupported"}}
        return (400, {}, body) if refused else prefers_longer(prompt)

    fake_judge.reply = reply
    with pytest.raises(PermissionError, match=r"'max_tokens'; change what .*--temperature none, or --extra_body"):
        judged()
    assert len(fake_judge.prompts) == 1
    figures = judged(max_completion_tokens=900, temperature=None, extra_body='{"reasoning_effort": "low"}')
    assert (figures["n_wins"], figures["failed"]) == (5, {})
    assert fake_judge.requests[-1].keys() == {"model", "messages", "max_completion_tokens", "reasoning_effort"}
    with pytest.raises(ValueError, match="must be a JSON object"):
        judged(extra_body="[1]")


@pytest.mark.parametrize(
    ("reply", "reason", "calls"),
    [
        ({"content": None, "finish": "length"}, "cut.*--max_completion_tokens 2048", 3),
        ({"content": "<think>\nAnswer A is better", "finish": "length"}, "cut", 3),
        ({"content": "", "finish": "content_filter"}, "filtered", 3),
        ("They are alike.", "malformed, the last with 'They are alike.'", 9),
        ((400, {}, {"error": {"message": "policy"}}), "refused", 3),
        ((413, {}, {"error": {"message": "large"}}), "too_long", 3),
        ((400, {}, {"error": {"message": "maximum context length is 9"}}), "too_long", 3),
    ],
)
def test_a_fault_of_all_stops_after_the_first_questions_and_is_no_verdict(fake_judge, judged, reply, reason, calls):
    fake_judge.reply = lambda prompt, call: reply
    with pytest.raises(ValueError, match=f"gives no verdict: 3 questions in a row are {reason}"):
        judged()
    assert len(fake_judge.prompts) == calls
    fake_judge.reply = prefers_longer
    assert judged()["n_wins"] == 5
    assert len(fake_judge.prompts) == calls + 10


def test_more_rows_and_more_room_pay_only_for_what_is_new(fake_judge, judged):
    def reply(prompt, call):
        if "Question 2" in prompt and fake_judge.requests[-1]["max_tokens"] < 100:
            return {"content": "Let me see", "finish": "length"}
        return prefers_longer(prompt)

    fake_judge.reply = reply
    assert judged(rows=4, concurrency=1)["failed"] == {"cut": 1}
    assert len(fake_judge.prompts) == 6
    figures = judged(concurrency=1)
    assert (len(fake_judge.prompts), figures["n_total"], figures["failed"]) == (10, 5, {"cut": 1})
    figures = judged(concurrency=1, max_tokens=500)
    assert (len(fake_judge.prompts), figures["n_total"], figures["failed"]) == (12, 6, {})
    assert judged(order=-1, max_tokens=500)["n_wins"] == 5  # another order of the rows is nothing new either
    assert len(fake_judge.prompts) == 12


def test_what_was_refused_is_asked_again(fake_judge, judged):
    fake_judge.reply = lambda prompt, call: (400, {}, {}) if "Question 3" in prompt else prefers_longer(prompt)
    assert judged()["failed"] == {"refused": 1}
    fake_judge.reply = prefers_longer
    assert judged()["failed"] == {}
    assert len(fake_judge.prompts) == 12


def test_refusals_that_set_in_later_stop_the_run_too(fake_judge, judged):
    fake_judge.reply = lambda prompt, call: (400, {}, {}) if len(fake_judge.prompts) > 3 else prefers_longer(prompt)
    with pytest.raises(ValueError, match="3 questions in a row are refused"):
        judged(concurrency=1)
    assert len(fake_judge.prompts) < 10


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<html>Sign in</html>", "does not answer as .* no JSON but '<html>Sign in</html>'; is base_url right"),
        ({"object": "list"}, "no 'choices' in its answer"),
        ({"error": {"message": "upstream", "code": 502}}, "keeps failing: an error in its answer.*upstream"),
        ({"error": "no such route"}, "keeps failing: .*no such route"),
    ],
)
def test_answers_that_are_none_are_named(fake_judge, judged, body, message):
    fake_judge.reply = lambda prompt, call: (200, {}, body)
    with pytest.raises(ConnectionError, match=message):
        judged(attempts=2)


def test_an_error_in_an_answer_that_passes_and_a_text_in_parts(fake_judge, judged):
    def reply(prompt, call):
        failures = [(200, {}, {"error": {"message": "upstream", "code": 502}}), (408, {}, {})]
        parts = [{"type": "text", "text": prefers_longer(prompt)}, {"type": "other"}]
        return failures[call] if call < 2 else {"content": parts, "finish": "stop"}

    fake_judge.reply = reply
    assert judged()["n_wins"] == 5


@pytest.mark.parametrize("asked", ["seconds", "date", "milliseconds"])
def test_a_wait_that_the_server_asks_for_is_kept(fake_judge, judged, asked):
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=3)
    headers = {
        "seconds": {"Retry-After": "0.5"},
        "date": {"Retry-After": email.utils.format_datetime(at, usegmt=True)},
        "milliseconds": {"retry-after-ms": "500"},
    }
    fake_judge.reply = lambda prompt, call: (429, headers[asked], {}) if len(fake_judge.prompts) == 1 else "A"
    started = time.monotonic()
    judged(rows=2, max_wait=30.0)
    assert time.monotonic() - started >= 0.5
