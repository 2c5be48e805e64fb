"""Which web pages may use the server: those of this machine, and those that the operator names (`OLLAMA_ORIGINS`).

A browser says by `Origin` whose page asks. A page that may gets the headers that let it read the answer; one that may
not is refused before anything is done, for the browser would only keep the answer from it: a page from anywhere could
still delete a model. Requests without an `Origin`, and those of the server's own pages, are nobody's business here.

Keys travel in headers that a page sets itself, never in cookies: credentials are not allowed, whatever the origin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = (
    *(
        f"{scheme}://{host}{port}"
        for host in ("localhost", "127.0.0.1", "0.0.0.0", "[::1]")
        for scheme in ("http", "https")
        for port in ("", ":*")
    ),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)
_METHODS = "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"
_EXPOSED = "Retry-After, X-Request-Id, Request-Id"
_MAX_AGE = "43200"  # seconds for which a browser may remember what it was allowed
_ASKED = "Access-Control-Request-Headers"
_NAMES = re.compile(r"[\w.-]+(\s*,\s*[\w.-]+)*", re.ASCII)


class Cors:
    """Middleware. `origins` are more than `LOCAL`; `*` in one stands for anything, alone for every page."""

    def __init__(self, app: ASGIApp, origins: Sequence[str] = ()) -> None:
        self._app = app
        self._everybody = "*" in origins
        self._allowed = re.compile("|".join(_pattern(origin) for origin in (*LOCAL, *origins)), re.IGNORECASE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        headers = Headers(scope=scope) if scope["type"] in ("http", "websocket") else Headers()
        origin = headers.get("origin")
        host = headers.get("host")
        if not origin or origin in (f"http://{host}", f"https://{host}"):
            await self._app(scope, receive, send)
        elif not self._everybody and self._allowed.fullmatch(origin) is None:
            await _refuse(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            await Response(status_code=204, headers=self._preflight(origin, headers))(scope, receive, send)
        else:
            await self._app(scope, receive, self._allowing(send, origin))

    def _preflight(self, origin: str, headers: Headers) -> dict[str, str]:
        """What an allowed page hears before it asks: it may send whatever headers it wants to."""
        found = {
            "Access-Control-Allow-Origin": self._named(origin),
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Max-Age": _MAX_AGE,
            "Vary": f"Origin, Access-Control-Request-Method, {_ASKED}",
        }
        asked = headers.get(_ASKED, "")
        if _NAMES.fullmatch(asked.strip()):
            found["Access-Control-Allow-Headers"] = asked.strip()
        return found

    def _allowing(self, send: Send, origin: str) -> Send:
        """`send` with the headers that let the page read the answer."""

        async def allowing(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Access-Control-Allow-Origin"] = self._named(origin)
                headers["Access-Control-Expose-Headers"] = _EXPOSED
                headers.add_vary_header("Origin")
            await send(message)

        return allowing

    def _named(self, origin: str) -> str:
        return "*" if self._everybody else origin


def _pattern(origin: str) -> str:
    """The expression that an origin matches; a port is of digits, and nothing else has a slash."""
    head, port = (origin[:-2], r":\d{1,5}") if origin.endswith(":*") else (origin, "")
    return re.escape(head).replace(r"\*", "[^/]*") + port


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await Response(status_code=403)(scope, receive, send)
