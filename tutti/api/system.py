"""What operators, probes and load balancers ask: health, version, metrics, the prefix cache."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.types import ASGIApp

import tutti
from tutti.api import prometheus
from tutti.api.endpoint import Call
from tutti.api.openai.job import json_response
from tutti.errors import Busy, TuttiError
from tutti.gateway.gateway import Gateway

if TYPE_CHECKING:
    from tutti.engine.client import EngineStats

_PATIENCE = 5.0  # seconds an engine may take to answer; a step in progress answers first


async def health(call: Call) -> ASGIApp:
    """200 while every engine answers. Raises Busy while one does not."""
    try:
        await asyncio.wait_for(call.gateway.stats(), _PATIENCE)
    except TimeoutError as error:
        raise Busy(f"The engine has not answered for {_PATIENCE:.0f} s.", retry_after=_PATIENCE) from error
    except TuttiError as error:
        raise Busy(f"The engine does not answer: {error.message}", retry_after=_PATIENCE) from error
    return Response(status_code=200)


async def ping(call: Call) -> ASGIApp:
    """200 while the front is up."""
    return Response(status_code=200)


async def version(call: Call) -> ASGIApp:
    """Which Tutti this is."""
    return json_response({"version": tutti.__version__})


async def metrics(call: Call) -> ASGIApp:
    """The metrics; those of an engine that does not answer are left out."""
    text = prometheus.render(call.gateway, await _stats(call.gateway))
    return Response(text, media_type=None, headers={"content-type": prometheus.CONTENT_TYPE})


async def reset_prefix_cache(call: Call) -> ASGIApp:
    """Forget cached prefixes."""
    await call.gateway.reset_prefix_cache()
    return Response(status_code=200)


async def _stats(gateway: Gateway) -> dict[str, EngineStats | None]:
    found: dict[str, EngineStats | None] = {}
    for served in gateway.served:
        try:
            found[served.name] = await asyncio.wait_for(served.backend.stats(), _PATIENCE)
        except (TuttiError, TimeoutError):
            found[served.name] = None
    return found
