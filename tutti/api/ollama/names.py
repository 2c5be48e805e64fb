"""Names as Ollama's clients write them: with or without the tag `latest`, in any case."""

from __future__ import annotations

from tutti.errors import ModelNotFound
from tutti.gateway.backend import BackendModel
from tutti.gateway.gateway import Gateway

_LATEST = ":latest"


def find(gateway: Gateway, name: str) -> BackendModel:
    """The served model called `name`. Raises ModelNotFound."""
    models = gateway.models()
    plain = full(name).casefold()
    found = next((model for model in models if model.name == name), None)
    if found is None and name:
        found = next((model for model in models if full(model.name).casefold() == plain), None)
    if found is None:
        raise ModelNotFound(f"model '{name}' not found", param="model")
    return found


def full(name: str) -> str:
    """The name with its tag."""
    return name if ":" in name.rpartition("/")[2] else name + _LATEST
