"""An endpoint on this machine, whose behaviour each test scripts."""

import http.server
import json
import threading


class FakeJudge:
    """An OpenAI-compatible server on 127.0.0.1.

    `reply(prompt, call)` gives a reply's content, {"content", "finish"}, or (status, headers, body); `prompts` and
    `requests` are those that came.
    """

    def __init__(self):
        self.prompts, self.keys, self.requests, self.reply = [], [], [], lambda prompt, call: "A"
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, prompt, key):
        with self._lock:
            call = self.prompts.count(prompt)
            self.prompts.append(prompt)
            self.keys.append(key)
        reply = self.reply(prompt, call)
        if isinstance(reply, tuple):
            return reply
        content, finish = (reply["content"], reply["finish"]) if isinstance(reply, dict) else (reply, "stop")
        message = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content}}
        usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}
        body = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [message]}
        return 200, {}, body | {"usage": usage}

    def _handler(self):
        judge = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == "/v1/chat/completions"
                judge.requests.append(request)
                status, headers, body = judge.answer(
                    request["messages"][-1]["content"], self.headers.get("Authorization")
                )
                data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in ({"Content-Type": "application/json"} | headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments):
                """Quiet."""

        return Handler
