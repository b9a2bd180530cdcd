"""Files on a web server, such as those of Common Crawl, read forward and by ranges."""

import dataclasses
import http.client
import io
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, BinaryIO, cast

_TIMEOUT_SECONDS = 60
_MAX_READ_AHEAD = 1 << 20  # a seek so little forward reads on


def is_web_url(path: str) -> bool:
    """Whether a path names a file on a web server."""
    return path.lower().startswith(("http://", "https://"))


@dataclasses.dataclass(frozen=True, order=True)
class WebPath:
    """A file on a web server, as far as readers need paths."""

    url: str

    def __fspath__(self) -> str:
        return self.url

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the path."""
        return urllib.parse.unquote(urllib.parse.urlsplit(self.url).path.rpartition("/")[2])

    def open(self, mode: str = "rb") -> BinaryIO:
        """The file as a seekable stream of bytes; OSError where the server does not give it."""
        if mode != "rb":
            raise io.UnsupportedOperation(f"a file on a web server is opened as rb, not {mode}")
        return cast(BinaryIO, io.BufferedReader(WebFile(self.url), 1 << 18))

    def size(self) -> int:
        """Bytes of the file, as the server says; 0 where it does not say."""
        with _request(self.url, "HEAD") as answer:
            return int(answer.headers.get("Content-Length") or 0)


class WebFile(io.RawIOBase):
    """Reads by one request per stretch; only what is read is fetched, give or take the connection's buffer."""

    def __init__(self, url: str) -> None:
        self._url, self._position, self._size = url, 0, -1
        self._answer: Any = None

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Offset of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        """To an offset; from the end only where the server says how long the file is."""
        if whence == io.SEEK_END:
            if self._size < 0:
                self._size = WebPath(self._url).size()
            offset += self._size
        elif whence == io.SEEK_CUR:
            offset += self._position
        gap = offset - self._position
        if self._answer is not None and 0 < gap <= _MAX_READ_AHEAD:
            gap -= len(self._answer.read(gap))
        if gap:
            self.close_connection()
        self._position = offset
        return offset

    def readinto(self, buffer: Any) -> int:
        """Fills `buffer` from the next bytes; 0 at the end."""
        try:
            if self._answer is None:
                self._answer = self._answer_from(self._position)
            block = self._answer.read(len(buffer)) if self._answer else b""
        except http.client.HTTPException as error:
            raise OSError(f"{self._url}: {error!r}") from error
        buffer[: len(block)] = block
        self._position += len(block)
        return len(block)

    def _answer_from(self, position: int) -> Any:
        try:
            answer = _request(self._url, "GET", {"Range": f"bytes={position}-"})
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return ""
            raise
        if position and answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            answer.close()
            raise OSError(f"{self._url}: the server sends no ranges of files")
        return answer

    def close_connection(self) -> None:
        """Ends the answer that is being read, if any."""
        if self._answer:
            self._answer.close()
        self._answer = None

    def close(self) -> None:
        """Ends the answer too."""
        self.close_connection()
        super().close()


def _request(url: str, method: str, headers: dict[str, str] | None = None) -> Any:
    request = urllib.request.Request(url, method=method, headers=headers or {})
    return urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
