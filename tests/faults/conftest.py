"""One server for the tests of bad input."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.serving import Serving, serving


@pytest.fixture(scope="package")
def server() -> Iterator[Serving]:
    """A server with a tiny random model; shared, so tests leave it as they find it."""
    with serving() as served:
        yield served
