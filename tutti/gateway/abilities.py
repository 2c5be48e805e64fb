"""What a model can do, in Ollama's words, and the refusal of what it cannot."""

from __future__ import annotations

from tutti.errors import InvalidRequest
from tutti.gateway.backend import Backend, BackendModel
from tutti.models.parsers.choose import NONE

COMPLETION, TOOLS, THINKING, VISION, AUDIO = "completion", "tools", "thinking", "vision", "audio"
EMBEDDING, INSERT = "embedding", "insert"
IMAGE, VIDEO, SOUND = "image", "video", "sound"  # it draws, it films, it makes sounds
_SENSES = {"image": VISION, "video": VISION, "audio": AUDIO}


def capabilities(backend: Backend, model: BackendModel) -> list[str]:
    """What `model` can do here: its own template presents tools, its own syntax tells thoughts."""
    processor = backend.processor
    found = []
    if "text" in model.outputs and (processor.converses or processor.transcriber is None):
        found.append(COMPLETION)
    found += [word for word in (EMBEDDING, IMAGE, VIDEO, SOUND) if word in model.outputs]
    found += [sense for sense in (VISION, AUDIO) if sense in map(_SENSES.get, processor.modalities)]
    if COMPLETION in found and processor.inserts:
        found.append(INSERT)
    if processor.converses and processor.parsers.tool != NONE and processor.templates.knows_tools:
        found.append(TOOLS)
    if processor.converses and processor.parsers.reasoning != NONE:
        found.append(THINKING)
    return found


def sense_for(modality: str) -> str:
    """The capability that takes media of `modality`."""
    return _SENSES[modality]


def lacking(name: str, what: str) -> InvalidRequest:
    """The error for a model called `name` that cannot do `what`."""
    return InvalidRequest(f'"{name}" does not support {what}', param="model")
