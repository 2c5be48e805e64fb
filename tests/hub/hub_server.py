"""A small Hugging Face hub on loopback: the parts of its protocol that a download uses.

`GET /api/models/<repo>/revision/<revision>`, `GET /api/models/<repo>/tree/<commit>`, and `HEAD`/`GET`
`/<repo>/resolve/<commit>/<file>` with ETag, X-Repo-Commit and Range.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server holds and what it was asked. `gated` repositories answer only to the token."""

    repos: dict[str, dict[str, bytes]]
    gated: set[str] = field(default_factory=set)
    token: str = "hf_secret"
    fetched: list[str] = field(default_factory=list)
    asked: int = 0
    sent: int = 0  # bytes of files
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.asked += 1
        path = unquote(urlsplit(self.path).path).strip("/").split("/")
        if path[:2] == ["api", "models"]:
            repo, verb, revision = "/".join(path[2:4]), path[4], path[5]
            if not self.allowed(repo):
                return
            if revision not in ("main", COMMIT):
                self.fail(404, "RevisionNotFound", "Revision Not Found")
                return
            files = self.hub.repos[repo]
            self.answer(self.info(repo, files) if verb == "revision" else self.tree(files))
        elif len(path) >= 5 and path[2] == "resolve":
            repo, name = "/".join(path[:2]), "/".join(path[4:])
            if self.allowed(repo):
                self.send_file(name, self.hub.repos[repo][name])
        else:
            self.fail(404, "EntryNotFound", "Entry not found")

    def allowed(self, repo: str) -> bool:
        if repo not in self.hub.repos:
            self.fail(401, "RepoNotFound", "Repository not found")
        elif repo in self.hub.gated and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self.fail(403, "GatedRepo", f"Access to model {repo} is restricted")
        else:
            return True
        return False

    def info(self, repo: str, files: dict[str, bytes]) -> object:
        return {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files], "tags": []}

    def tree(self, files: dict[str, bytes]) -> object:
        return [
            {"type": "file", "path": name, "size": len(data), "oid": self.etag(data)}
            for name, data in files.items()
        ]

    def etag(self, data: bytes) -> str:
        return hashlib.sha1(data).hexdigest()

    def send_file(self, name: str, data: bytes) -> None:
        start = 0
        requested = self.headers.get("Range")
        if requested:
            start = int(requested.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if requested else 200)
        self.send_header("ETag", f'"{self.etag(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if requested:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "GET":
            self.hub.fetched.append(name)
            try:
                for place in range(start, len(data), 4096):
                    self.hub.sent += self.wfile.write(data[place : place + 4096])
            except OSError:  # the client has read enough
                self.close_connection = True

    def answer(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def fail(self, status: int, code: str, message: str) -> None:
        data = json.dumps({"error": message}).encode()
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """The hub, listening on a free port of loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
