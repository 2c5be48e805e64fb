"""How a model is asked where a request says nothing: its Modelfile's word, else its checkpoint's.

Ollama's door puts its own defaults below both (`ollama.options`); the others are neutral there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tutti.api.ollama.options import Options
from tutti.gateway.backend import BackendModel

if TYPE_CHECKING:
    from tutti.models.processor import Processor

_UNSERVED = ("typical_p",)  # what would be refused in a request is passed over in a model


def sampling_defaults(model: BackendModel, processor: Processor) -> dict[str, Any]:
    """Fields of `SamplingParams`, without a length. Raises InvalidRequest where the Modelfile is not well typed."""
    found = {**processor.generation_defaults, **_options(model).values}
    found.pop("max_tokens", None)
    return found


def answer_length(model: BackendModel, said: int | None) -> tuple[int | None, int | None]:
    """How long an answer may be, and the `context` of its request; `said` is the caller's word.

    A length that the model was made with is cut to what fits; one that the caller asks for is refused if it does not.
    """
    if said is not None or not model.preset.parameters:
        return said, None
    return _options(model).answer, model.context


def _options(model: BackendModel) -> Options:
    parameters = model.preset.parameters
    return Options.of({name: value for name, value in parameters.items() if name not in _UNSERVED})
