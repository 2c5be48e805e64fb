"""What is served: `/api/tags`, `/api/show`, `/api/ps`, `/api/version`, and whether anybody is there at all.

One card per model, of what its engine said when it was ready. Nothing is dropped yet, so what runs runs for ever.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

import tutti
from tutti.api.endpoint import Call
from tutti.api.ollama.answers import Details, ListedModel, Models, RunningModel, ShownModel, timestamp
from tutti.api.ollama.capabilities import capabilities
from tutti.api.ollama.duration import FOREVER
from tutti.api.ollama.fields import expiry, read
from tutti.api.ollama.names import find, full
from tutti.api.openai.job import json_response
from tutti.engine.wire import EngineInfo
from tutti.errors import InvalidRequest
from tutti.gateway.backend import BackendModel

_TYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_PARAMETERS = {"repetition_penalty": "repeat_penalty", "max_tokens": "num_predict"}  # by Ollama's names
_SCALES = ((1_000_000_000, "B", 1), (1_000_000, "M", 2), (1000, "K", 0))


class ShowFields(msgspec.Struct, kw_only=True):
    """`POST /api/show`; `name` is the older word for `model`."""

    model: str | None = None
    name: str | None = None


async def running(call: Call) -> ASGIApp:
    """What clients ask first."""
    return PlainTextResponse("Ollama is running")


async def version(call: Call) -> ASGIApp:
    """Which Tutti this is."""
    return json_response({"version": tutti.__version__})


async def tags(call: Call) -> ASGIApp:
    """Every model, the newest first."""
    models = sorted(call.gateway.models(), key=lambda model: -model.created)
    return json_response(Models([_listed(call, model) for model in models]))


async def ps(call: Call) -> ASGIApp:
    """Every model that is in memory."""
    until = timestamp(expiry(FOREVER, time.time()))
    return json_response(Models([_running(call, model, until) for model in call.gateway.models()]))


async def show(call: Call) -> ASGIApp:
    """One of them. Raises InvalidRequest, ModelNotFound."""
    fields = read(call.body, ShowFields)
    name = fields.model or fields.name
    if not name:
        raise InvalidRequest("model is required", param="model")
    model = find(call.gateway, name)
    backend = call.gateway.backend(model.name)
    parameters = _parameters(backend.processor.generation_defaults)
    template = backend.processor.templates.source
    shown = ShownModel(
        modelfile=_modelfile(model, template, parameters),
        parameters="\n".join(f"{key:<30} {value}" for key, value in parameters.items()),
        template=template,
        details=_details(backend.info),
        model_info=_facts(backend.info, model),
        capabilities=capabilities(backend, model),
        modified_at=timestamp(model.created),
    )
    return json_response(shown)


def _listed(call: Call, model: BackendModel) -> ListedModel:
    backend = call.gateway.backend(model.name)
    return ListedModel(
        name=full(model.name),
        model=full(model.name),
        modified_at=timestamp(model.created),
        size=backend.info.size,
        digest=backend.info.fingerprint,
        details=_details(backend.info),
        capabilities=capabilities(backend, model),
    )


def _running(call: Call, model: BackendModel, until: str) -> RunningModel:
    info = call.gateway.backend(model.name).info
    return RunningModel(
        name=full(model.name),
        model=full(model.name),
        size=info.memory,
        digest=info.fingerprint,
        details=_details(info),
        expires_at=until,
        size_vram=0 if info.device.startswith("cpu") else info.memory,
        context_length=model.context,
    )


def _details(info: EngineInfo) -> Details:
    return Details(
        parent_model="",
        format="safetensors",
        family=info.family,
        families=[info.family],
        parameter_size=human(info.parameters),
        quantization_level=_TYPES.get(info.quantization, info.quantization.upper()),
    )


def _facts(info: EngineInfo, model: BackendModel) -> dict[str, Any]:
    """What is known of the model, under GGUF's keys: clients read the context's length here."""
    return {
        "general.architecture": info.family,
        "general.basename": model.name,
        "general.parameter_count": info.parameters,
        f"{info.family}.context_length": model.context,
        f"{info.family}.vocab_size": info.vocab_size,
    }


def _parameters(recommended: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's own sampling, by Ollama's names."""
    return {_PARAMETERS.get(name, name): value for name, value in recommended.items()}


def _modelfile(model: BackendModel, template: str, parameters: dict[str, Any]) -> str:
    lines = [f"FROM {model.root}"]
    if template:
        lines.append(f'TEMPLATE """{template}"""')
    lines += [f"PARAMETER {name} {value}" for name, value in parameters.items()]
    return "\n".join(lines) + "\n"


def human(count: int) -> str:
    """A number as Ollama shows parameters: 8.2B, 494.03M, 7K."""
    for size, unit, digits in _SCALES:
        if count >= size:
            value = count / size
            return f"{value:.0f}{unit}" if value == int(value) else f"{value:.{digits}f}{unit}"
    return str(count)
