"""A registry of models on loopback, over real HTTP: the protocol of Ollama's registry, well behaved and badly.

Tokens (401 with a realm, for anybody or for a password), Basic passwords, blobs by 307 to another host name (where a
token is refused, as storage services do), ranges,
uploads in parts. What it does wrong is said by the fields of `Registry`, which may be changed while it runs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

IMAGE = "application/vnd.ollama.image."
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Registry:
    """What the registry has, how it misbehaves, and what it was asked."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)  # by "namespace/model:tag"
    files: dict[str, bytes] = field(default_factory=dict)  # by path: ordinary files of a web server
    hub: bool = False  # of Hugging Face's kind: models in several files have no manifest, but are listed
    token: str | None = None
    password: str = ""  # "user:secret", which the token service wants; with `basic`, the registry itself
    basic: bool = False
    identity: str = ""  # the token service exchanges this for its token (OAuth 2's refresh token)
    redirects: bool = True
    ranges: bool = True
    rate: float = 0.0  # bytes a second on each connection; 0: as fast as it goes
    cuts: list[int] = field(default_factory=list)  # the next blob answers end after so many bytes
    upload_cuts: list[int] = field(default_factory=list)  # the next PATCHes end after so many bytes
    failures: list[int] = field(default_factory=list)  # the next answers are these statuses
    lies: dict[str, bytes] = field(default_factory=dict)  # content that is not what the digest says
    holds: set[str] = field(
        default_factory=set
    )  # "manifest", "blob", "rest": these answers wait for `release`
    release: threading.Event = field(default_factory=threading.Event)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    sent: int = 0  # bytes of blobs
    holding: threading.Event = field(default_factory=threading.Event)  # something waits now
    uploads: dict[str, bytearray] = field(default_factory=dict)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def name(self, model: str) -> str:
        """The name to pull `model` by."""
        return f"{self.url}/{model}"

    def add(self, model: str, weights: bytes, **layers: Any) -> str:
        """Put a model there; `layers` are its other layers by kind. The digest of its manifest, in hex."""
        config = json.dumps({"model_format": "gguf", "model_family": "tiny", "model_type": "1M"}).encode()
        entries = [self._entry(IMAGE + "model", weights)]
        for kind, data in layers.items():
            entries.append(self._entry(IMAGE + kind, data))
        # Spaces and an unknown field: a store that wrote the manifest anew would change its digest.
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._entry(CONFIG, config),
            "layers": entries,
            "made by": "a test",
        }
        return self.add_manifest(model, json.dumps(manifest, indent=1).encode())

    def add_manifest(self, model: str, raw: bytes) -> str:
        self.manifests[model if ":" in model else f"{model}:latest"] = raw
        return hashlib.sha256(raw).hexdigest()

    def _entry(self, media_type: str, data: bytes) -> dict[str, Any]:
        self.blobs[digest_of(data)] = data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def asked(self, method: str, pattern: str) -> int:
        """How many requests there were of a method for paths that match."""
        return sum(one == method and re.search(pattern, path) is not None for one, path, _ in self.seen)


class Handler(BaseHTTPRequestHandler):
    registry: Registry
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.handle_one()

    def do_GET(self) -> None:
        self.handle_one()

    def do_POST(self) -> None:
        self.handle_one()

    def do_PATCH(self) -> None:
        self.handle_one()

    def do_PUT(self) -> None:
        self.handle_one()

    def handle_one(self) -> None:
        registry = self.registry
        parts = urlsplit(self.path)
        registry.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        if registry.failures:
            self.answer(registry.failures.pop(0), b"out of order")
        elif parts.path == "/token":
            self.give_token()
        elif parts.path.startswith("/storage/"):
            self.storage(parts.path.removeprefix("/storage/"))
        elif registry.hub and parts.path.startswith("/api/models/"):
            self.list_files(parts.path)
        elif registry.hub and "/resolve/main/" in parts.path and parts.path in registry.files:
            target = f"http://localhost:{registry.port}/storage/{digest_of(registry.files[parts.path])}"
            self.answer(302, b"", {"Location": target})
        elif parts.path in registry.files:
            self.content(registry.files[parts.path], {"ETag": digest_of(registry.files[parts.path])})
        elif registry.basic and not self.knows_password():
            self.answer(401, b"{}", {"WWW-Authenticate": 'Basic realm="test"'})
        elif registry.token and self.headers.get("Authorization") != f"Bearer {registry.token}":
            challenge = f'Bearer realm="{registry.url}/token",service="test",scope="repository:pull"'
            self.answer(401, b"{}", {"WWW-Authenticate": challenge})
        elif match := re.fullmatch(r"/v2/([^/]+/[^/]+)/manifests/([^/]+)", parts.path):
            self.manifest(f"{match[1]}:{match[2]}")
        elif match := re.fullmatch(r"/v2/[^/]+/[^/]+/blobs/uploads/(\w*)", parts.path):
            self.upload(match[1], parse_qs(parts.query))
        elif match := re.fullmatch(r"/v2/[^/]+/[^/]+/blobs/(sha256:\w+)", parts.path):
            self.blob(match[1])
        else:
            self.answer(404, b"what is that?")

    def list_files(self, path: str) -> None:
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/main", path)
        begin = f"/{match[1] if match else ''}/resolve/main/"
        found = [
            {
                "type": "file",
                "path": path.removeprefix(begin),
                "size": len(data),
                "oid": "0",
                "lfs": {"oid": digest_of(data)[7:], "size": len(data), "pointerSize": 134},
            }
            for path, data in self.registry.files.items()
            if path.startswith(begin)
        ]
        found.append({"type": "directory", "path": "Q4_K_M", "size": 0, "oid": "0"})
        self.answer(200 if found[1:] else 404, json.dumps(found).encode())

    def knows_password(self) -> bool:
        password = base64.b64encode(self.registry.password.encode()).decode()
        return self.headers.get("Authorization") == f"Basic {password}"

    def give_token(self) -> None:
        registry = self.registry
        if self.command == "POST":
            form = parse_qs(self.body().decode())
            knows = registry.identity != "" and form.get("refresh_token") == [registry.identity]
            self.answer(200 if knows else 401, json.dumps({"access_token": registry.token}).encode())
        elif registry.password and not self.knows_password():
            self.answer(401, b'{"details":"incorrect username or password"}')
        else:
            self.answer(200, json.dumps({"token": registry.token}).encode())

    def manifest(self, model: str) -> None:
        if self.command == "PUT":
            raw = self.body()
            wanted = json.loads(raw)
            absent = [
                one["digest"]
                for one in (*wanted["layers"], wanted["config"])
                if one["digest"] not in self.registry.blobs
            ]
            if not absent:
                self.registry.manifests[model] = raw
            self.answer(400 if absent else 201, json.dumps(absent).encode())
            return
        self.hold("manifest")
        raw_found = self.registry.manifests.get(model)
        if raw_found is None and self.registry.hub:
            self.answer(400, b'{"error":"The specified tag is a sharded GGUF."}')
        elif raw_found is None or self.headers.get("Accept") != MANIFEST:
            self.answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
        else:
            self.answer(200, raw_found, {"Content-Type": MANIFEST})

    def blob(self, digest: str) -> None:
        if digest not in self.registry.blobs:
            self.answer(404, b"no such blob")
        elif self.command == "HEAD":
            self.answer(200, self.registry.blobs[digest])
        elif self.registry.redirects:
            # The same server by its other name: another host for whoever sends tokens.
            target = f"http://localhost:{self.registry.port}/storage/{digest}"
            self.answer(307, b"", {"Location": target})
        else:
            self.storage(digest)

    def storage(self, digest: str) -> None:
        if self.headers.get("Authorization") and self.registry.redirects:
            self.answer(400, b"only one way of authentication is allowed")
            return
        data = {**self.registry.blobs, **{digest_of(one): one for one in self.registry.files.values()}}[
            digest
        ]
        self.content(self.registry.lies.get(digest, data), {})

    def content(self, data: bytes, headers: dict[str, str]) -> None:
        registry = self.registry
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if registry.ranges else None
        start, end, status = 0, len(data), 200
        if match:
            start, end, status = int(match[1]), min(len(data), int(match[2] or len(data)) + 1), 206
            headers = headers | {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}
        cut = registry.cuts.pop(0) if registry.cuts and end - start > 1 else end - start
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(end - start)}.items():
            self.send_header(name, value)
        self.end_headers()
        if end - start > 1:
            self.hold("blob")
        self.pour(data[start : start + min(cut, end - start)])
        if cut < end - start:
            self.close_connection = True

    def pour(self, data: bytes) -> None:
        step = max(1, min(1 << 16, int(self.registry.rate * 0.05))) if self.registry.rate else 1 << 16
        try:
            for place in range(0, len(data), step):
                self.registry.sent += self.wfile.write(data[place : place + step])
                if place:
                    self.hold("rest")
                if self.registry.rate:
                    time.sleep(0.05)
        except OSError:  # the client went
            self.close_connection = True

    def upload(self, place: str, query: dict[str, list[str]]) -> None:
        registry = self.registry
        if self.command == "POST":
            place = f"u{len(registry.uploads)}"
            registry.uploads[place] = bytearray()
        data = registry.uploads[place]
        if self.command == "PATCH":
            start = int(self.headers["Content-Range"].split("-")[0])
            if start != len(data):
                self.answer(416, b"there is a hole")
                return
            length = int(self.headers["Content-Length"])
            cut = registry.upload_cuts.pop(0) if registry.upload_cuts else length
            data += self.rfile.read(min(cut, length))
            if cut < length:
                self.close_connection = True
                return
        if self.command == "PUT":
            digest = query["digest"][0]
            if digest_of(bytes(data)) != digest:
                self.answer(400, b"digest invalid")
                return
            registry.blobs[digest] = bytes(data)
            self.answer(201, b"")
            return
        location = f"/v2/any/any/blobs/uploads/{place}?state={len(data)}"
        headers = {"Location": location} | ({"Range": f"0-{len(data) - 1}"} if data else {})
        self.answer(204 if self.command == "GET" else 202, b"", headers)

    def hold(self, what: str) -> None:
        if what in self.registry.holds:
            self.registry.holding.set()
            self.registry.release.wait(60)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        known = {} if status == 204 else {"Content-Length": str(len(data))}
        for name, value in {**known, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def serve_registry() -> Iterator[Registry]:
    """A registry on a free port of loopback."""
    registry = Registry()
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), type("RegistryHandler", (Handler,), {"registry": registry})
    )
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that are killed are meant to be
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    registry.port = int(server.server_address[1])
    try:
        yield registry
    finally:
        registry.release.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
