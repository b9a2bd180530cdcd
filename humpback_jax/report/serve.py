"""A page on this machine's own address, for a browser; and the judgments that a judging page sends back."""

import http.server
import json
import webbrowser
from collections.abc import Callable
from typing import Any

import click

MAX_BODY = 1 << 20
OWN_NAMES = ("127.0.0.1", "localhost")


class PageServer(http.server.ThreadingHTTPServer):
    """A server of one page at 127.0.0.1; port 0 takes a free one.

    It answers only to requests for its own name: a page elsewhere can let its own name lead here, and the browser would
    then let it read what it finds.

    Args:
      page: HTML in UTF-8, or a function that makes it anew for every reader.
      port: to listen at.
      receive: gets each JSON value that the page posts to `/judgments`; it raises ValueError for one it refuses.

    Raises:
      OSError: the port is taken.
    """

    def __init__(
        self, page: bytes | Callable[[], bytes], port: int, receive: Callable[[Any], None] | None = None
    ) -> None:
        self.page, self.receive = page, receive
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            message = f"port {port} is taken ({error.strerror}); give another one with --port"
            raise OSError(error.errno, message) from error

    @property
    def hosts(self) -> tuple[str, ...]:
        """What a browser that means this server sends as `Host`."""
        return tuple(f"{name}:{self.server_address[1]}" for name in OWN_NAMES)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        if not self.is_meant():
            self.answer(403, b"refused", "text/plain")
            return
        page = self.server.page
        if self.path.split("?")[0] == "/":
            self.answer(200, page() if callable(page) else page, "text/html; charset=utf-8")
        else:
            self.answer(404, b"not found", "text/html; charset=utf-8")

    def do_POST(self) -> None:
        receive, length = self.server.receive, int(self.headers.get("Content-Length") or 0)
        same_page = self.is_meant() and self.headers.get("Origin") in (None, f"http://{self.headers.get('Host')}")
        if receive is None or self.path != "/judgments" or not same_page or not 0 < length <= MAX_BODY:
            self.answer(403, b"refused", "text/plain")
            return
        try:
            receive(json.loads(self.rfile.read(length)))
        except ValueError as error:
            self.answer(400, str(error).encode(), "text/plain; charset=utf-8")
            return
        self.answer(200, b"{}", "application/json")

    def is_meant(self) -> bool:
        """Whether the request names this server as its host."""
        return (self.headers.get("Host") or "").lower() in self.server.hosts

    def answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(content)), "X-Content-Type-Options": "nosniff"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Nothing: the terminal is for the address."""


def serve(server: PageServer, show: bool = True, as_json: bool = False) -> None:
    """Serves until Ctrl-C; `show` opens the browser; the address is printed as text or as JSON."""
    with server:
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        click.echo(json.dumps({"url": url}) if as_json else f"{url} (Ctrl-C ends)")
        if show:
            webbrowser.open(url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
