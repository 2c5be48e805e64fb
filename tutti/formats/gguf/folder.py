"""A GGUF file as the folder that it stands for: the texts of the small files that would lie beside the weights.

Who reads `model.gguf/config.json` or `model.gguf/tokenizer.json` gets what the file says, in the form of those files.
No torch.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tutti.errors import CheckpointError
from tutti.formats.gguf.keys import Keys
from tutti.formats.gguf.projector import pictures, whole_config
from tutti.formats.gguf.reader import GGUFFile, read_gguf
from tutti.formats.gguf.tokenizer import read_tokenizer
from tutti.formats.gguf.tokens import named_tokens, read_vocabulary

SAMPLING = {"temp": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p"}
TEMPLATE = "tokenizer.chat_template"
NAMES = "tokenizer.chat_templates"
KEPT = 2  # files that stay open between questions


def read_inside(file: Path, name: str) -> str | None:
    """The text of the file `name` in the folder that the GGUF file stands for; None where there would be none.

    Raises CheckpointError.
    """
    make = FILES.get(name)
    if make is None:
        return None
    try:
        status = file.stat()
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
    value = make(_opened(file, status.st_size, status.st_mtime_ns))
    return None if value is None else json.dumps(value, ensure_ascii=False)


@functools.lru_cache(maxsize=KEPT)
def _opened(file: Path, size: int, changed: int) -> GGUFFile:
    """The file as it was when it had that size and time of change."""
    return read_gguf(file)


def _tokenizer(file: GGUFFile) -> dict[str, Any]:
    return read_tokenizer(Keys(file))


def _tokenizer_config(file: GGUFFile) -> dict[str, Any]:
    """The named tokens and the chat templates."""
    keys = Keys(file)
    found: dict[str, Any] = dict(named_tokens(keys, read_vocabulary(keys)))
    default = keys.text(TEMPLATE)
    others = {name: keys.text(f"{TEMPLATE}.{name}") for name in keys.strings(NAMES)}
    templates = {"default": default, **others}
    named = [{"name": name, "template": text} for name, text in templates.items() if text is not None]
    if named:
        found["chat_template"] = default if list(templates) == ["default"] else named
    return found


def _generation_config(file: GGUFFile) -> dict[str, Any] | None:
    """How the file recommends to sample."""
    keys = Keys(file)
    found: dict[str, Any] = {
        theirs: keys.number(f"general.sampling.{ours}")
        for ours, theirs in SAMPLING.items()
        if f"general.sampling.{ours}" in keys
    }
    if "top_k" in found:
        found["top_k"] = keys.whole("general.sampling.top_k")
    return found or None


FILES: dict[str, Callable[[GGUFFile], dict[str, Any] | None]] = {
    "config.json": whole_config,
    "preprocessor_config.json": pictures,
    "tokenizer.json": _tokenizer,
    "tokenizer_config.json": _tokenizer_config,
    "generation_config.json": _generation_config,
}
