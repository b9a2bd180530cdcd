"""Servers on this machine answer to their own name only: a page elsewhere may point its name here."""

import http.client
import json
import threading

import pytest

from humpback_jax.report.serve import PageServer


@pytest.fixture
def served():
    """(port, what was received) of a server with a secret page."""
    received = []
    with PageServer(b"secret", 0, received.append) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1], received
        server.shutdown()
        thread.join()


def ask(port, method, path, host, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    if host is not None:
        connection.putheader("Host", host.format(port=port))
    for name, value in (headers | ({"Content-Length": str(len(body))} if body else {})).items():
        connection.putheader(name, value.format(port=port))
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LocalHost:{port}"])
def test_its_own_names_are_answered(served, host):
    port, received = served
    assert ask(port, "GET", "/", host) == (200, b"secret")
    assert ask(port, "POST", "/judgments", host, json.dumps({"a": 1}).encode())[0] == 200
    assert received == [{"a": 1}]


@pytest.mark.parametrize(
    "host",
    ["evil.example:{port}", "127.0.0.1.evil.example:{port}", "localhost", "127.0.0.1:1", "", None, "localhost.:{port}"],
)
def test_other_names_are_refused(served, host):
    port, received = served
    status, content = ask(port, "GET", "/", host)
    assert (status, b"secret" in content) == (403, False)
    # A rebound page is of one origin with the name that it was loaded under.
    origin = "http://" + (host or "")
    assert ask(port, "POST", "/judgments", host, b"{}", Origin=origin)[0] == 403
    assert received == []
