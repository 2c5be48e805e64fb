"""One server for the tests of the API."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.api.serving import Serving, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Serving]:
    """A server with a tiny random model; shared, so tests leave it as they find it."""
    with serving() as served:
        yield served


@pytest.fixture
def client(server: Serving) -> Iterator[openai.OpenAI]:
    """The official client."""
    with server.client() as made:
        yield made
