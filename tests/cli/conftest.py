"""A small checkpoint that the commands work on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.models.checkpoints import cached


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    """A random model of 0.1 million parameters with a byte-level tokenizer and a chat template."""
    return cached("qwen3")


@pytest.fixture(scope="session")
def endless(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with a context so long that a greedy answer (it never ends by itself) lasts for minutes."""
    folder = tmp_path_factory.mktemp("endless") / "model"
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 100_000}))
    return folder
