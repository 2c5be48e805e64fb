"""API keys: who is calling.

Keys are given by flag or environment and live in memory as digests. What a caller may use (quotas, models) will hang
on `Caller`: it is what `Gateway` passes on.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from tutti.errors import ConfigError, Unauthorized


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `key` is a short digest that is safe to log, or None where no keys are asked for.

    `call` is the id of this HTTP call, `traceparent` the W3C trace that the caller has it belong to.
    """

    key: str | None = None
    call: str = ""
    traceparent: str | None = None


ANYONE = Caller()


class ApiKeys:
    """The keys that open this server; none given means that everybody may call."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        keys = list(keys)
        if not all(keys):
            raise ConfigError("an API key must not be empty", param="api_key")
        self._digests = [_digest(key) for key in keys]

    def authorize(self, key: str | None) -> Caller:
        """The caller who holds `key`. Raises Unauthorized. Takes the same time whichever key is tried."""
        if not self._digests:
            return ANYONE
        if not key:
            raise Unauthorized("This server needs an API key: send it as 'Authorization: Bearer <key>'.")
        given = _digest(key)
        matches = [hmac.compare_digest(given, known) for known in self._digests]
        if not any(matches):
            raise Unauthorized("The API key is not one of this server's keys.")
        return Caller(given.hex()[:12])


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
