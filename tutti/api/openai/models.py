"""`GET /v1/models` and `GET /v1/models/{id}`."""

from __future__ import annotations

from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.openai import answers
from tutti.api.openai.job import json_response
from tutti.gateway.backend import BackendModel


async def list_models(call: Call) -> ASGIApp:
    """Every name that is served."""
    return json_response(answers.ModelList([_card(model) for model in call.gateway.models()]))


async def get_model(call: Call) -> ASGIApp:
    """One of them. Raises ModelNotFound."""
    return json_response(_card(call.gateway.model(call.path["model"])))


def _card(model: BackendModel) -> answers.Model:
    permission = answers.ModelPermission(f"modelperm-{model.name}", model.created)
    return answers.Model(model.name, model.created, model.root, model.context, [permission])
