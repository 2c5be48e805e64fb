"""`tutti serve MODEL`: the engine in a process of its own, the OpenAI API in this one. Flags are vLLM's."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

import tutti
from tutti.cli.flags import EngineFlags, with_engine_flags
from tutti.cli.vllm_flags import translate
from tutti.errors import ConfigError
from tutti.settings import publish_settings, read_settings

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from tutti.gateway.spans import SpanExport
    from tutti.settings import EngineOptions


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
            metavar="MODEL", help="pico, a directory, a Hugging Face id, or a YAML file.", show_default=False
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
    """Serve a model over HTTP, to any program written for OpenAI's API."""
    from tutti import logs

    settings = read_settings()
    name = model_tag or model
    if name is None:
        raise ConfigError("which model? tutti serve MODEL, for instance: tutti serve pico", param="model")
    level, form = log_level or settings.log_level, log_format or settings.log_format
    logs.configure(level, form)
    publish_settings(log_level=level, log_format=form)  # the engine's process logs alike
    if traces is not None:
        publish_settings(traces=str(traces))
    if allowed_local_media_path:
        publish_settings(media_local_paths=os.pathsep.join(allowed_local_media_path))
    keys = list(api_key or ([settings.api_key] if settings.api_key else []))
    options = engine.options(name, tuple(served_model_name or ()))
    spans = _span_export(otlp_endpoint)
    at = (host or settings.host, settings.port if port is None else port)
    try:
        asyncio.run(_serve(options, keys, *at, spans))
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


async def _serve(
    options: EngineOptions, keys: list[str], host: str, port: int, spans: SpanExport | None = None
) -> None:
    """Start the engine, then listen, until the process is told to end."""
    from tutti.api.app import create_app
    from tutti.api.server import bind, make_server
    from tutti.cli.local import open_llm
    from tutti.cli.session import spinner
    from tutti.gateway.gateway import Gateway
    from tutti.gateway.keys import ApiKeys
    from tutti.gateway.limits import Limits
    from tutti.hub.store import open_store
    from tutti.media.fetch import FetchLimits

    start, settings = time.monotonic(), read_settings()
    # What is wrong with these, or a port that is taken, is told before a model is loaded.
    origins, address = settings.allowed_origins, bind(host, port)
    with spinner(f"loading {options.served_model_name[0]}"):
        llm = await open_llm(options, in_process=False)
    async with llm:
        if spans is not None:
            for traces in llm.backend.all_traces:
                traces.exporter = spans.put
        gateway = Gateway([llm.backend], ApiKeys(keys), Limits(options.max_num_seqs, options.max_queue))
        with _signals_are_the_servers():
            app = create_app(
                gateway, fetching=FetchLimits.of(settings), store=open_store(settings), origins=origins
            )
            server = make_server(app, ready=lambda url: _announce(url, options, start))
            await server.serve([address])


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


def _announce(url: str, options: EngineOptions, start: float) -> None:
    """The line that says that clients may come."""
    name = options.served_model_name[0]
    took = time.monotonic() - start
    print(f"Tutti {tutti.__version__} serves {name} at {url}/v1 (ready in {took:.1f} s)", flush=True)
