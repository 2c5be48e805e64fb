"""From options to a backend that serves: an engine is started, and the processor is read beside it."""

from __future__ import annotations

import asyncio
from typing import Any

from tutti.engine.client import EngineClient
from tutti.engine.local import LocalEngine
from tutti.engine.process import ProcessEngine
from tutti.gateway.local import LocalBackend
from tutti.hub.model import StoredModel
from tutti.hub.resolve import stored_model
from tutti.models.processor import Processor, load_processor
from tutti.settings import EngineOptions


async def open_local(options: EngineOptions, *, in_process: bool = False) -> LocalBackend:
    """The model of `options`, once it serves; `in_process`: in a thread instead of a process.

    Raises what keeps it from loading.
    """
    engine = start_engine(options, in_process=in_process)
    try:
        processor = await asyncio.to_thread(processor_of, options)  # while the engine starts
        return await LocalBackend.open(processor, engine, options.served_model_name, preset=options.preset)
    except BaseException:
        await engine.close()
        raise


def stored_options(model: str) -> dict[str, Any]:
    """What a model of the store brings along of `EngineOptions`. Empty for a model of another kind."""
    stored = stored_model(model)
    return {} if stored is None else brought(stored)


def brought(stored: StoredModel) -> dict[str, Any]:
    """What a stored model's Modelfile says of `EngineOptions`."""
    return {
        "template": stored.prompt_template,
        "adapters": tuple(map(str, stored.adapters)),
        "preset": stored.preset,
    }


def start_engine(options: EngineOptions, *, in_process: bool) -> EngineClient:
    """An engine that begins to load."""
    return LocalEngine(options) if in_process else ProcessEngine(options)


def processor_of(options: EngineOptions) -> Processor:
    """The processor of a model. Works long: not for an event loop. Raises CheckpointError, ConfigError."""
    return load_processor(
        options.tokenizer or options.model,
        chat_template=options.chat_template,
        template=options.template,
        tool_call_parser=options.tool_call_parser,
        reasoning_parser=options.reasoning_parser,
        generation_config=options.generation_config,
        names=options.served_model_name,
    )
