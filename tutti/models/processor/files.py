"""Reads the small JSON files beside a checkpoint's weights, or in the GGUF file that has everything in one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutti.errors import CheckpointError
from tutti.formats.gguf.folder import read_inside
from tutti.hub.gguf import is_gguf


def read_text(path: Path) -> str | None:
    """The text of `path`, or None when there is no such file. Raises CheckpointError when it cannot be read.

    A GGUF file counts as the folder that it stands for.
    """
    if is_gguf(path.parent):
        return read_inside(path.parent, path.name)
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


CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class Colours:
    """A value v of a channel becomes (v * scale - mean) / deviation."""

    scale: float
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


def colours(
    settings: Mapping[str, Any],
    mean: tuple[float, float, float] = CLIP_MEAN,
    deviation: tuple[float, float, float] = CLIP_DEVIATION,
) -> Colours:
    """As a preprocessor's settings say, else `mean` and `deviation`."""
    return Colours(
        scale=settings.get("rescale_factor") or 1 / 255,
        mean=tuple(settings.get("image_mean") or mean),
        deviation=tuple(settings.get("image_std") or deviation),
    )


def image_settings(folder: Path) -> dict[str, Any]:
    """How pictures are prepared: preprocessor_config.json or, from transformers 5, a section of processor_config.json.

    Empty when the checkpoint does not say.
    """
    return _settings(folder, "image_processor")


def eos_ids(folder: Path, config: Mapping[str, Any]) -> frozenset[int]:
    """The ids that end an answer: by generation_config.json, else by `config` or its section of the text model."""
    generation = read_json(folder / "generation_config.json")
    for source in (generation, config, config.get("text_config") or {}):
        value = source.get("eos_token_id")
        if value is not None:
            ids = value if isinstance(value, list) else [value]
            return frozenset(token for token in ids if isinstance(token, int) and token >= 0)
    return frozenset()


def sound_settings(folder: Path) -> dict[str, Any]:
    """The same of recordings."""
    return _settings(folder, "feature_extractor")


def _settings(folder: Path, section: str) -> dict[str, Any]:
    settings = read_json(folder / "preprocessor_config.json")
    return settings or read_json(folder / "processor_config.json").get(section) or {}
