"""What can be served: `/api/tags`, `/api/show`, `/api/ps`, `/api/version`, and whether anybody is there at all."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from msgspec import UNSET
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

import tutti
from tutti.api.endpoint import Call
from tutti.api.ollama.answers import (
    Details,
    ListedModel,
    Message,
    Models,
    RunningModel,
    ShownModel,
    ShownTensor,
    timestamp,
)
from tutti.api.ollama.fields import expiry, read
from tutti.api.ollama.names import full, looking_for
from tutti.api.openai.job import json_response
from tutti.errors import InvalidRequest
from tutti.gateway.cards import Card, Sheet
from tutti.gateway.models import Running

_SHORT = 5  # elements of an array that is shown whole unless everything is asked for


class ShowFields(msgspec.Struct, kw_only=True):
    """`POST /api/show`; `name` is the older word for `model`."""

    model: str | None = None
    name: str | None = None
    verbose: bool | None = None


async def running(call: Call) -> ASGIApp:
    """What clients ask first."""
    return PlainTextResponse("Ollama is running")


async def version(call: Call) -> ASGIApp:
    """Which Tutti this is."""
    return json_response({"version": tutti.__version__})


async def tags(call: Call) -> ASGIApp:
    """Every model, in memory or not, the newest first."""
    cards = sorted(await call.gateway.cards(), key=lambda card: -card.created)
    return json_response(Models([_listed(card) for card in cards]))


async def ps(call: Call) -> ASGIApp:
    """Every model that is in memory, the one that stays longest first."""
    now = time.time()
    models = sorted(await call.gateway.running(), key=lambda one: -one.stays)
    return json_response(Models([_running(one, now) for one in models]))


async def show(call: Call) -> ASGIApp:
    """One model, in memory or not. Raises InvalidRequest, ModelNotFound."""
    fields = read(call.body, ShowFields)
    name = fields.model or fields.name
    if not name:
        raise InvalidRequest("model is required", param="model")
    with looking_for(name):
        sheet = await call.gateway.sheet(name)
    return json_response(_shown(sheet, verbose=bool(fields.verbose)))


def _shown(sheet: Sheet, *, verbose: bool) -> ShownModel:
    return ShownModel(
        license=sheet.license,
        modelfile=sheet.modelfile,
        parameters="\n".join(f"{key:<30} {value}" for key, value in sheet.parameters),
        template=sheet.template,
        system=sheet.system,
        details=_details(sheet.card),
        messages=[Message(role, content) for role, content in sheet.messages] or UNSET,
        model_info=_facts(sheet.facts, verbose=verbose),
        projector_info=_facts(sheet.projector, verbose=verbose) or UNSET,
        tensors=[ShownTensor(one.name, one.kind, list(one.shape)) for one in sheet.tensors] or UNSET,
        capabilities=list(sheet.card.capabilities),
        modified_at=timestamp(sheet.card.created),
    )


def _facts(facts: Any, *, verbose: bool) -> dict[str, Any]:
    """What the file says of itself; arrays that are not short are shown empty unless everything is asked for."""
    return {
        key: [] if isinstance(value, list) and len(value) > _SHORT and not verbose else value
        for key, value in facts.items()
    }


def _listed(card: Card) -> ListedModel:
    return ListedModel(
        name=full(card.name),
        model=full(card.name),
        modified_at=timestamp(card.created),
        size=card.size,
        digest=card.digest,
        details=_details(card),
        capabilities=list(card.capabilities),
    )


def _running(one: Running, now: float) -> RunningModel:
    card, info = one.card, one.served.backend.info
    return RunningModel(
        name=full(card.name),
        model=full(card.name),
        size=info.memory,
        digest=card.digest,
        details=_details(card),
        expires_at=timestamp(expiry(one.stays, now)),
        size_vram=0 if info.device.startswith("cpu") else info.memory,
        context_length=info.context,
    )


def _details(card: Card) -> Details:
    return Details(
        parent_model="",
        format=card.format,
        family=card.family,
        families=list(card.families or (card.family,)),
        parameter_size=card.parameters,
        quantization_level=card.quantization,
    )
