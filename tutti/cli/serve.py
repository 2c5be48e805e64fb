"""`tutti serve`: engines in processes of their own, the APIs in this one. Flags are vLLM's.

With a model, that one is served, at our own address; without, every model of the store, on demand, at Ollama's.
"""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

import tutti
from tutti.cli.flags import EngineFlags, with_engine_flags
from tutti.cli.vllm_flags import translate
from tutti.errors import ConfigError, InvalidRequest
from tutti.settings import publish_settings, read_settings

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from tutti.gateway.gateway import Gateway
    from tutti.gateway.spans import SpanExport
    from tutti.settings import EngineOptions, Settings


class ServeCommand(TyperCommand):
    """Takes vLLM's command lines: see `vllm_flags`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click."""
        return super().parse_args(ctx, translate(args, lambda note: print(f"note: {note}", file=sys.stderr)))


@with_engine_flags
def serve(
    engine: EngineFlags,
    model_tag: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="pico, a directory, a Hugging Face id, or a YAML file; without: every model of the store, on demand.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The same, as a flag.", hidden=True)] = None,
    served_model_name: Annotated[
        list[str] | None,
        typer.Option(help="What clients call the model; may be repeated.", show_default=False),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Where to listen.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Where to listen.")] = None,
    api_key: Annotated[list[str] | None, typer.Option(help="Ask for this key; may be repeated.")] = None,
    allowed_local_media_path: Annotated[
        list[str] | None, typer.Option(help="A folder whose files requests may name; may be repeated.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option("--log-level", "--uvicorn-log-level", help="debug, info, warning, error.")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
    traces: Annotated[
        int | None, typer.Option(min=0, help="Keep the traces of so many requests (see tutti trace).")
    ] = None,
    otlp_endpoint: Annotated[
        str | None,
        typer.Option(
            "--otlp-endpoint",
            "--otlp-traces-endpoint",
            help="Send them as OpenTelemetry's spans to this URL.",
        ),
    ] = None,
) -> None:
    """Serve a model, or every model, over HTTP, to any program written for OpenAI's, Anthropic's or Ollama's API."""
    import asyncio

    from tutti import logs

    settings = read_settings()
    name = model_tag or model
    level, form = log_level or settings.log_level, log_format or settings.log_format
    logs.configure(level, form)
    publish_settings(log_level=level, log_format=form)  # the engine's process logs alike
    if traces is not None:
        publish_settings(traces=str(traces))
    if allowed_local_media_path:
        publish_settings(media_local_paths=os.pathsep.join(allowed_local_media_path))
    keys = list(api_key or ([settings.api_key] if settings.api_key else []))
    spans = _span_export(otlp_endpoint)
    try:
        if name is None:
            if served_model_name:
                raise ConfigError("--served-model-name is for one model: say which, tutti serve MODEL")
            usual = settings.server_address
            place = Place(host or usual.host, usual.port if port is None else port, keys, spans)
            asyncio.run(_serve_store(engine.for_every_model(), settings, place))
        else:
            place = Place(host or settings.host, settings.port if port is None else port, keys, spans)
            asyncio.run(_serve_model(engine.options(name, tuple(served_model_name or ())), place))
    finally:
        if spans is not None:
            spans.close()


def _span_export(flag: str | None) -> SpanExport | None:
    """Where spans go, if anywhere. A variable may be meant for other programs: without the extra it warns."""
    from tutti.gateway.spans import SpanExport

    settings = read_settings()
    endpoint = flag or settings.otlp_endpoint
    if endpoint is None:
        return None
    if flag is not None and not settings.traces:
        raise ConfigError("--otlp-endpoint: there is nothing to send with --traces 0", param="otlp_endpoint")
    try:
        return SpanExport(endpoint)
    except ConfigError as error:
        if flag is not None:
            raise
        log.warning("no spans are sent to %s: %s", endpoint, error.message)
        return None


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen, to whom, and where spans go, if anywhere."""

    host: str
    port: int
    keys: list[str]
    spans: SpanExport | None


async def _serve_model(options: EngineOptions, place: Place) -> None:
    """Start the engine, then listen, until the process is told to end."""
    from tutti.api.server import bind
    from tutti.cli.local import open_llm
    from tutti.cli.session import spinner
    from tutti.gateway.gateway import Gateway
    from tutti.gateway.keys import ApiKeys
    from tutti.gateway.limits import Limits

    start = time.monotonic()
    # What is wrong with these, or a port that is taken, is told before a model is loaded.
    _, address = read_settings().allowed_origins, bind(place.host, place.port)
    with spinner(f"loading {options.served_model_name[0]}"):
        llm = await open_llm(options, in_process=False)
    async with llm:
        if place.spans is not None:
            for traces in llm.backend.all_traces:
                traces.exporter = place.spans.put
        limits = Limits(options.max_num_seqs, options.max_queue)
        gateway = Gateway([llm.backend], ApiKeys(place.keys), limits)
        await _listen(gateway, address, options.served_model_name[0], start)


async def _serve_store(options: EngineOptions, settings: Settings, place: Place) -> None:
    """Listen, and load models when somebody asks for them, until the process is told to end."""
    from tutti.api.server import bind
    from tutti.gateway.catalog import Catalog
    from tutti.gateway.gateway import Gateway
    from tutti.gateway.keys import ApiKeys
    from tutti.gateway.manager import Manager, Policy
    from tutti.hub.store import open_store

    start = time.monotonic()
    _, address = settings.allowed_origins, bind(place.host, place.port)
    policy = Policy(
        stays=_seconds(settings.keep_alive, "keep_alive"),
        patience=_seconds(settings.load_timeout, "load_timeout") or math.inf,
        most=settings.max_loaded_models,
        waiting=settings.max_queue,
        context=options.max_model_len or settings.context_length,
    )
    export = None if place.spans is None else place.spans.put
    manager = Manager(Catalog(open_store(settings)), options, policy, export=export)
    await _listen(Gateway(manager, ApiKeys(place.keys)), address, "every model of the store", start)


async def _listen(gateway: Gateway, address: socket.socket, what: str, start: float) -> None:
    """Answer at `address`, until the process is told to end."""
    from tutti.api.app import create_app
    from tutti.api.server import make_server
    from tutti.hub.store import open_store
    from tutti.media.fetch import FetchLimits

    settings = read_settings()
    with _signals_are_the_servers():
        app = create_app(
            gateway,
            fetching=FetchLimits.of(settings),
            store=open_store(settings),
            origins=settings.allowed_origins,
            videos=settings.videos_path,
        )
        server = make_server(app, ready=lambda url: _announce(url, what, start))
        await server.serve([address])


def _seconds(text: str, setting: str) -> float:
    """The seconds of a setting: a duration, or a number. Raises ConfigError."""
    from tutti.api.ollama.duration import seconds

    try:
        return seconds(float(text) if re.fullmatch(r"[+-]?\d+", text) else text)
    except InvalidRequest as error:
        raise ConfigError(
            f"TUTTI_{setting.upper()}: {error.message}; write for instance 5m", param=setting
        ) from error


@contextmanager
def _signals_are_the_servers() -> Iterator[None]:
    """The server ends gracefully on SIGINT and SIGTERM, then raises them anew for whoever had them before.

    That is nobody: when it has ended, so have we, with exit code 0.
    """
    before = {sign: signal.signal(sign, lambda *_: None) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def _announce(url: str, what: str, start: float) -> None:
    """The line that says that clients may come."""
    took = time.monotonic() - start
    print(f"Tutti {tutti.__version__} serves {what} at {url}/v1 (ready in {took:.1f} s)", flush=True)
