"""An HTTP server on loopback that answers well and badly."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

BODY = b"\x89PNG\r\n\x1a\n" + bytes(1000)


class Site(ThreadingHTTPServer):
    """The server; `seen` are the (path, headers) of its requests, `enough` ends the answers that never end,
    `files` are what it has."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.enough = threading.Event()
        self.sent = 0
        self.files = {"/ok": BODY}

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        self.server.seen.append((parts.path, {name.lower(): value for name, value in self.headers.items()}))
        match parts.path:
            case path if path in self.server.files:
                self._answer(200, self.server.files[path])
            case "/to":
                self._answer(302, b"", {"Location": query["url"][0], "Set-Cookie": "secret=1; Path=/"})
            case "/loop":
                self._answer(302, b"", {"Location": "/loop"})
            case "/endless":
                self._answer(200, None)
                while not self.server.enough.is_set():
                    self.wfile.write(bytes(10_000))
                    self.server.sent += 10_000
            case "/slow":
                self._answer(200, None)
                while not self.server.enough.wait(0.02):
                    self.wfile.write(b"x")
            case "/huge":
                self._answer(200, b"", {"Content-Length": str(10**12)})
            case "/short":
                self._answer(200, BODY, {"Content-Length": str(len(BODY) + 5)})
            case "/gzip":
                self._answer(200, BODY, {"Content-Encoding": "gzip"})
            case "/empty":
                self._answer(200, b"")
            case _:
                self._answer(404, b"<html>not here</html>")

    def _answer(self, status: int, body: bytes | None, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        known = {} if body is None else {"Content-Length": str(len(body))}
        for name, value in {**known, "Connection": "close", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def site(tls: ssl.SSLContext | None = None) -> Iterator[Site]:
    """A running server."""
    server = Site()
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that leave early are meant to
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.enough.set()
        server.shutdown()
        thread.join(10)
        server.server_close()
