"""Reads the small JSON files beside a checkpoint's weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tutti.errors import CheckpointError


def read_text(path: Path) -> str | None:
    """The text of `path`, or None when there is no such file. Raises CheckpointError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`, or {} when there is no such file. Raises CheckpointError when it is not one."""
    text = read_text(path)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); fetch the file again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object, it holds a {type(value).__name__}")
    return value


def image_settings(folder: Path) -> dict[str, Any]:
    """How pictures are prepared: preprocessor_config.json or, from transformers 5, a section of processor_config.json.

    Empty when the checkpoint does not say.
    """
    settings = read_json(folder / "preprocessor_config.json")
    return settings or read_json(folder / "processor_config.json").get("image_processor") or {}
