"""Folders with each kind of tokenizer, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processor import small_tokenizers
from tutti.models.processor import Tokenizer, load_tokenizer


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint folder with a tokenizer, by kind."""
    root = tmp_path_factory.mktemp("tokenizers")
    return {kind: small_tokenizers.save(root / kind, kind) for kind in small_tokenizers.KINDS}


@pytest.fixture(scope="session")
def loaded(folders: dict[str, Path]) -> dict[str, Tokenizer]:
    """Our tokenizer of each folder."""
    return {kind: load_tokenizer(folder) for kind, folder in folders.items()}


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with a tokenizer of a kind, and keys for its tokenizer_config.json."""

    def make(kind: str = "byte_level", **config: object) -> Path:
        return small_tokenizers.save(tmp_path / "model", kind, **config)

    return make
