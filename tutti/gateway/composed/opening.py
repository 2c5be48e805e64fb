"""From a file to a composition that serves: everything that can be wrong is told before a model is loaded.

First the file, then every part's checkpoint and tokenizer, then the edges between them, then the memory of all
together; then the engines start, all at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from tutti.engine.shares import Question, Refused, Sharer, Shares, require, shares_of
from tutti.errors import ConfigError, TuttiError
from tutti.gateway.composed.backend import ComposedBackend
from tutti.gateway.composed.part import Part, naming
from tutti.gateway.composed.wiring import Abilities, wire
from tutti.gateway.local import LocalBackend
from tutti.gateway.opening import processor_of, start_engine, stored_options
from tutti.hub.composition import Composition, PartSpec, read_composition
from tutti.hub.resolve import outline_model, resolve_model
from tutti.models.processor import Processor
from tutti.models.processor.files import read_json
from tutti.models.registry import find_graph
from tutti.settings import EngineOptions

log = logging.getLogger(__name__)


async def open_composition(options: EngineOptions, *, in_process: bool = False) -> ComposedBackend:
    """The composition in the file `options.model`, once all of its parts serve.

    The other options count for every part that does not say otherwise, but for `memory`, which is for all together.
    `in_process`: engines in threads instead of processes. Raises ConfigError naming file and line, OutOfMemory, and
    what keeps a part from loading.
    """
    composition = read_composition(options.model)
    whole = options.memory if options.memory is not None else composition.memory
    chosen = await asyncio.to_thread(part_options, composition, options)
    planning = asyncio.ensure_future(  # while the processors are read
        shares_of(question(chosen, whole), in_process=in_process)
    )
    try:
        processors = dict(
            zip(
                chosen,
                await asyncio.gather(*(_read(composition, name, one) for name, one in chosen.items())),
                strict=True,
            )
        )
        wiring = wire(composition, {name: abilities(chosen[name], one) for name, one in processors.items()})
        shares = require(_granted(composition, await planning))
    finally:
        planning.cancel()
        await asyncio.gather(planning, return_exceptions=True)
    log.info("%s", shares.text())
    for share in shares.shares:
        chosen[share.name] = msgspec.structs.replace(chosen[share.name], memory=share.memory)
    parts = await _start(composition, chosen, processors, in_process=in_process)
    return ComposedBackend(composition, wiring, parts, options.served_model_name)


async def sketch(options: EngineOptions) -> Shares:
    """The memory plan of the composition in the file `options.model`, whether it fits or not; nothing is loaded.

    With `options.memory` the question is about a machine of that size. Raises ConfigError.
    """
    composition = read_composition(options.model)
    with ExitStack() as outlines:
        chosen = part_options(composition, options, lambda name: outlines.enter_context(outline_model(name)))
        whole = options.memory if options.memory is not None else composition.memory
        return _granted(composition, await shares_of(question(chosen, whole, options.memory)))


def part_options(
    composition: Composition, defaults: EngineOptions, find: Callable[[str], Path] = resolve_model
) -> dict[str, EngineOptions]:
    """How each part is served. Checkpoints are found now, by `find`, or downloaded. Raises ConfigError."""
    found: dict[str, EngineOptions] = {}
    for part in composition.parts:
        try:
            given = dict(part.options)
            if given.get("tokenizer") is not None:
                given["tokenizer"] = str(resolve_model(given["tokenizer"]))
            found[part.name] = msgspec.structs.replace(
                defaults,
                **{"memory": None, **stored_options(part.model), **given, "model": str(find(part.model))},
                served_model_name=(part.name,),
            )
        except TuttiError as error:
            raise _at(composition, part, error) from error
    return found


def question(
    options: Mapping[str, EngineOptions], memory: int | None, available: int | None = None
) -> Question:
    """What the parts' memory plans are asked."""
    return Question(tuple(Sharer(name, one) for name, one in options.items()), memory, available)


def abilities(options: EngineOptions, processor: Processor) -> Abilities:
    """What a part's model can do."""
    graph = find_graph(read_json(Path(options.model) / "config.json"), Path(options.model))
    transcribes = processor.transcriber is not None
    takes = graph.inputs & (processor.modalities | {"text"})
    return Abilities(
        takes=processor.modalities if transcribes else takes,
        gives=graph.outputs,
        converses=processor.converses,
        transcribes=transcribes,
        speaks=processor.narrator is not None,
    )


async def _read(composition: Composition, name: str, options: EngineOptions) -> Processor:
    try:
        return await asyncio.to_thread(processor_of, options)
    except TuttiError as error:
        raise _at(composition, composition.part(name), error) from error


def _granted(composition: Composition, answer: Shares | Refused) -> Shares:
    if isinstance(answer, Refused):
        raise _at(composition, composition.part(answer.name), answer.error.error())
    return answer


async def _start(
    composition: Composition,
    options: Mapping[str, EngineOptions],
    processors: Mapping[str, Processor],
    *,
    in_process: bool,
) -> Sequence[Part]:
    """All parts, loading at the same time. When one fails, none is left running."""
    engines = {name: start_engine(one, in_process=in_process) for name, one in options.items()}

    async def ready(part: PartSpec) -> Part:
        try:
            backend = await LocalBackend.open(processors[part.name], engines[part.name], (part.name,))
        except TuttiError as error:
            raise naming(part.name, error) from error
        return Part(part, backend)

    loading = [asyncio.ensure_future(ready(part)) for part in composition.parts]
    try:
        return await asyncio.gather(*loading)
    except BaseException:
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
        await asyncio.gather(*(engine.close() for engine in engines.values()))
        raise


def _at(composition: Composition, part: PartSpec, error: TuttiError) -> ConfigError:
    """An error of a part's own, where the file names its model."""
    return composition.wrong(part.line, f"models.{part.name}: {error.message}")
