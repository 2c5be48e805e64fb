"""Tiny random checkpoints that read texts aloud."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path

from tests.models import checkpoints

_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


@functools.cache
def roomy_omni(talker: int = 1200) -> Path:
    """The tiny Qwen2.5-Omni with a context of 600 tokens: room for its system message and fifty more bytes.

    The context of its talker is `talker`: random weights seldom end their speech before it does.
    """
    folder = tempfile.TemporaryDirectory(prefix="tutti-speech-")
    _KEPT.append(folder)
    path = Path(folder.name) / "omni"
    shutil.copytree(checkpoints.cached("qwen2_5_omni"), path)
    config = json.loads((path / "config.json").read_text())
    config["thinker_config"]["text_config"]["max_position_embeddings"] = 600
    config["talker_config"]["max_position_embeddings"] = talker
    (path / "config.json").write_text(json.dumps(config))
    return path
