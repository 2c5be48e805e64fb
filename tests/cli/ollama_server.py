"""A server that speaks Ollama's protocol without any model: what it is asked is kept, what it says is written here.

For what a client does with other servers' answers: progress of pulls, several models in memory, vectors, errors in the
middle of a stream.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Object = dict[str, Any]


@dataclass
class OllamaServer:
    """`models` are what `/api/show` says by name; `pullable` what a pull brings; `running` the rows of `/api/ps`.

    `answer` are the lines of every answer; `steps` those of every pull.
    """

    models: dict[str, Object] = field(default_factory=dict)
    pullable: dict[str, Object] = field(default_factory=dict)
    running: Sequence[Object] = ()
    answer: Sequence[Object] = ()
    steps: Sequence[Object] = ()
    vector: Sequence[float] = ()
    asked: list[tuple[str, Object]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    port: int = 0

    @property
    def host(self) -> dict[str, str]:
        """The environment of its clients."""
        return {"OLLAMA_HOST": f"127.0.0.1:{self.port}"}

    def bodies(self, path: str) -> list[Object]:
        """What `path` was asked, in order."""
        return [body for asked, body in self.asked if asked == path]

    def respond(self, path: str, body: Object) -> tuple[int, Sequence[Object]]:
        """The status, and one object or several lines."""
        name = body.get("model", "")
        if path == "/api/version":
            return 200, [{"version": "0.32.1"}]
        if path == "/api/ps":
            return 200, [{"models": list(self.running)}]
        if path == "/api/pull":
            return 200, self._pulled(name)
        if path == "/api/create":
            return 200, [{"status": "writing manifest"}, {"status": "success"}]
        if name not in self.models:
            return 404, [{"error": f"model '{name}' not found"}]
        if path == "/api/show":
            return 200, [self.models[name]]
        if path == "/api/embed":
            return 200, [{"model": name, "embeddings": [list(self.vector)]}]
        if body.get("stream") is False:
            return 200, [{"done": True, "done_reason": "load"}]
        return 200, self.answer

    def _pulled(self, name: str) -> Sequence[Object]:
        if name not in self.pullable:
            return [{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}]
        self.models[name] = self.pullable[name]
        return self.steps


def show(*capabilities: str, **fields: Any) -> Object:
    """What `/api/show` says of a model."""
    details = {
        "parent_model": "",
        "family": "llama",
        "parameter_size": "1.2B",
        "quantization_level": "Q4_K_M",
    }
    facts = {"general.architecture": "llama", "llama.context_length": 4096, "llama.embedding_length": 64}
    return {"details": details, "model_info": facts, "capabilities": list(capabilities), **fields}


@contextmanager
def ollama_server(**fields: Any) -> Iterator[OllamaServer]:
    """Such a server, on loopback."""
    state = OllamaServer(**fields)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({})

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}"))

        def answer(self, body: Mapping[str, Any]) -> None:
            state.asked.append((self.path, dict(body)))
            state.keys.add(self.headers["authorization"])
            status, objects = state.respond(self.path, dict(body))
            self.send_response(status)
            self.end_headers()
            for one in objects:
                self.wfile.write(json.dumps(one).encode() + b"\n")
                self.wfile.flush()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
