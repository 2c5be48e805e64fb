"""`GET /v1/models` and `GET /v1/models/{id}`."""

from __future__ import annotations

from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.openai import answers
from tutti.api.openai.job import json_response
from tutti.gateway.cards import Card


async def list_models(call: Call) -> ASGIApp:
    """Every model that can be served, in memory or not."""
    return json_response(answers.ModelList([_card(card) for card in await call.gateway.cards()]))


async def get_model(call: Call) -> ASGIApp:
    """One of them. Raises ModelNotFound."""
    return json_response(_card(await call.gateway.card(call.path["model"])))


def _card(card: Card) -> answers.Model:
    created = int(card.created)
    permission = answers.ModelPermission(f"modelperm-{card.name}", created)
    return answers.Model(card.name, created, card.root, card.context or None, [permission])
