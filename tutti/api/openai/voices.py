"""`GET /v1/audio/voices` and `GET /v1/audio/models`: who speaks, in the form that Open WebUI reads."""

from __future__ import annotations

from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.openai.job import json_response


async def list_voices(call: Call) -> ASGIApp:
    """Every voice of every model that speaks."""
    return json_response(
        {
            "voices": [
                {"id": voice, "name": voice, "model": model.name}
                for model in await call.gateway.cards()
                for voice in model.voices
            ]
        }
    )


async def list_speaking_models(call: Call) -> ASGIApp:
    """Every model that speaks."""
    speaking = [model.name for model in await call.gateway.cards() if "audio" in model.outputs]
    return json_response({"models": [{"id": name, "name": name} for name in speaking]})
