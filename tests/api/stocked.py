"""A store with small models that really answer: a GGUF file and folders of safetensors, and some that cannot."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

from tests.gguf_files import write_gguf
from tests.models.checkpoints import cached
from tutti.formats.gguf.convert import convert
from tutti.formats.gguf.header import describe
from tutti.formats.gguf.mixes import find_mix
from tutti.hub.create import create
from tutti.hub.modelfile import read_modelfile
from tutti.hub.store import Store

CONTEXT = 4096  # of every model


def stock(folder: Path) -> Store:
    """The store: `small` (safetensors), `packed` (GGUF), `other` (another family); `broken` is no model."""
    store = Store(folder / "models")
    small = _longer(cached("qwen3"), folder / "small")
    add(store, "small", f"FROM {small}\nPARAMETER temperature 0.5\nSYSTEM Be brief.\n")
    file = folder / "packed.gguf"
    convert(small, file, find_mix("q8_0"))
    add(store, "packed", f"FROM {file}\nLICENSE Free.\n")
    add(store, "other", f"FROM {_longer(cached('llama'), folder / 'other')}\n")
    add(store, "broken", f"FROM {write_gguf(folder / 'broken.gguf')}\n")
    return store


def add(store: Store, name: str, modelfile: str) -> None:
    """Create a model."""

    async def work() -> None:
        async for _ in create(store, name, read_modelfile(modelfile), describe, folder=Path()):
            pass

    asyncio.run(work())


def _longer(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint, with room for more tokens than its own few."""
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": CONTEXT}))
    return folder
