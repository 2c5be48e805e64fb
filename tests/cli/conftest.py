"""A small checkpoint that the commands work on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.checkpoints import cached


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    """A random model of 0.1 million parameters with a byte-level tokenizer and a chat template."""
    return cached("qwen3")
