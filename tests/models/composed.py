"""Graphs by file of tiny random checkpoints."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.models import checkpoints
from tests.models.speech_checkpoints import roomy_omni
from tutti.request import SamplingParams

OPTIONS: dict[str, Any] = {"dtype": "float32", "device": "cpu", "threads": 1, "memory": "6GB"}
GREEDY = SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True)
CODES = {  # ten of them, none an end
    "voice.talker": SamplingParams(temperature=0.0, max_tokens=10, allowed_token_ids=tuple(range(64)))
}
EDGES = (
    "request.audio -> ears",
    "request.text -> brain",
    "ears.text -> brain",
    "brain.text -> answer",
    "brain.text -> voice",
    "voice.audio -> answer",
)
_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


@functools.cache
def brain() -> Path:
    """A random language model with a context of 2,048 tokens."""
    folder = tempfile.TemporaryDirectory(prefix="tutti-composed-")
    _KEPT.append(folder)
    path = shutil.copytree(checkpoints.cached("qwen3"), Path(folder.name) / "brain")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    return path


def models() -> dict[str, dict[str, Any]]:
    """Ears, a brain and a voice."""
    return {
        "ears": {  # whatever is doubtful at a temperature of 0 would be tried again, and that is everything
            "model": str(checkpoints.cached("whisper")),
            "language": "fr",
            "sampling": {"temperature": 0.001},
        },
        "brain": {"model": str(brain())},
        "voice": {"model": str(roomy_omni()), "voice": "ada"},
    }


def composed(folder: Path, edges: tuple[str, ...] = EDGES, **parts: dict[str, Any]) -> Path:
    """A file: the usual three models, with what `parts` add to them; those that no edge names are left out."""
    whole = models()
    for name, more in parts.items():
        whole[name] = whole.get(name, {}) | more
    used = {name: part for name, part in whole.items() if any(f"{name}" in edge for edge in edges)}
    path = folder / "assistant.yaml"
    value = {"name": "assistant", "models": used, "edges": list(edges)}
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return path
