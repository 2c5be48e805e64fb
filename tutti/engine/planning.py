"""The memory plan of a model on the devices that it is to run on: what the arithmetic (`engine.plan`) is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from tutti.engine.machine import available_memory, usable_cores
from tutti.engine.picture_plan import SharedNetwork, make_picture_plan, room_beside
from tutti.engine.placement import elsewhere, encoders_of, followers_of, main_stage, of_kind, painter_of
from tutti.engine.plan import Beside, MemoryPlan, Row, compute_dtype, make_plan, require
from tutti.errors import ConfigError
from tutti.formats.checkpoint import Checkpoint, open_checkpoint
from tutti.graph import Graph, Kind, resolve
from tutti.models.drawing.parallel import shared_layers
from tutti.models.drawing.parts import NETWORKS
from tutti.settings import EngineOptions, read_settings


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" is a GPU if there is one. Raises ConfigError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device {name}: {error}", param="device") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"--device {name}: torch finds no CUDA GPU here; see `tutti doctor`", param="device"
        )
    return device


def plan_for(
    checkpoint: Checkpoint, graph: Graph, options: EngineOptions, device: torch.device, **wishes: Any
) -> MemoryPlan:
    """The memory plan, refused when it does not fit. `wishes` go to `make_plan`."""
    return require(sketch_plan(checkpoint, graph, options, device, **wishes))


def sketch_plan(
    checkpoint: Checkpoint,
    graph: Graph,
    options: EngineOptions,
    device: torch.device,
    *,
    available: int | None = None,
    beside: Sequence[Beside] | None = None,
    **wishes: Any,
) -> MemoryPlan:
    """The memory plan, whether it fits or not. `available` bytes stand for another machine than this one."""
    main = main_stage(graph)
    if main.kind is Kind.DENOISE:
        return _sketch_drawing(checkpoint, graph, options, device, available)
    if options.degrees.ranks > 1:
        raise ConfigError(
            "several ranks compute models that do nothing but draw or film, and this one writes: serve it by one",
            param="cfg_parallel_size",
        )
    shape = resolve(main.describe)(checkpoint.config)
    away = {stage for stages in elsewhere(graph, options.placement, str(device)).values() for stage in stages}
    encoders = [
        resolve(stage.describe)(checkpoint.config) for stage in encoders_of(graph) if stage not in away
    ]
    followers = {
        stage.name: resolve(stage.describe)(checkpoint.config)
        for stage in followers_of(graph)
        if stage not in away
    }
    if options.max_model_len is not None and options.max_model_len > shape.context:
        raise ConfigError(
            f"--max-model-len {options.max_model_len}: this model's context is {shape.context} tokens",
            param="max_model_len",
        )
    folders = sum(open_checkpoint(checkpoint.path / folder).nbytes for folder in graph.folders)
    more = [Row("more weights", folders, "in folders beside the others")] if folders else []
    if available is None:
        available = available_bytes(device)
    if beside is None:
        beside = devices_beside(checkpoint, graph, options, device)
    make = partial(
        make_plan,
        checkpoint,
        shape,
        options,
        device=device.type,
        dtype=_dtype(options, checkpoint, device),
        available=available,
        encoders=encoders,
        followers=followers,
        beside=beside,
        **wishes,
    )
    plan = make(more=more)
    painter = painter_of(graph)
    if painter is None:
        return plan
    draws = resolve(painter.describe)(checkpoint.config)
    left = plan.budget - plan.fixed
    room, rows = room_beside(draws, options, left, device=device.type, dtype=plan.dtype)
    return replace(make(more=[*more, *rows]), drawing=room)


def _sketch_drawing(
    checkpoint: Checkpoint, graph: Graph, options: EngineOptions, device: torch.device, available: int | None
) -> MemoryPlan:
    """The same of a graph that draws."""
    elsewhere(graph, options.placement, str(device))  # refuses what it cannot place
    shapes = [resolve(stage.describe)(checkpoint.config) for stage in of_kind(graph, Kind.ONCE)]
    return make_picture_plan(
        checkpoint,
        resolve(main_stage(graph).describe)(checkpoint.config),
        shapes,
        options,
        device=device.type,
        dtype=_dtype(options, checkpoint, device),
        available=available_bytes(device) if available is None else available,
        ranks=_ranks(checkpoint, options, device, available),
    )


def _ranks(
    checkpoint: Checkpoint, options: EngineOptions, device: torch.device, available: int | None
) -> SharedNetwork | None:
    """How the denoiser is spread over ranks: on a CPU all share its memory, of GPUs each has one, beginning here.

    Raises ConfigError when there are too few GPUs.
    """
    degrees = options.degrees
    if degrees.ranks == 1:
        return None
    networks = tuple(name for name in NETWORKS if name.rstrip(".") in checkpoint.config.get("components", {}))
    layers = shared_layers(checkpoint, networks) if degrees.tensor > 1 else ()
    if device.type == "cpu":
        return SharedNetwork(
            degrees, networks, layers, tuple(f"cpu (rank {k})" for k in range(1, degrees.ranks))
        )
    first = device.index or 0
    if available is None and torch.cuda.device_count() < first + degrees.ranks:
        raise ConfigError(
            f"{degrees.ranks} ranks take a GPU each, from cuda:{first} on; there are {torch.cuda.device_count()}",
            param="cfg_parallel_size",
        )
    names = tuple(f"{device.type}:{first + k}" for k in range(1, degrees.ranks))
    rooms = [available_bytes(torch.device(name)) if available is None else available for name in names]
    return SharedNetwork(degrees, networks, layers, names, tuple(rooms))


def devices_beside(
    checkpoint: Checkpoint, graph: Graph, options: EngineOptions, device: torch.device
) -> list[Beside]:
    """The devices beside `device` that stages are placed on; CPU devices share the memory of a main one that is."""
    away = elsewhere(graph, options.placement, str(device))
    caches = sum(bool(stage.inputs) for stage in of_kind(graph, Kind.ONCE))
    processors = sum(name.startswith("cpu") for name in away)
    found = []
    for name, stages in away.items():
        place = choose_device(name)
        available = None if place.type == device.type == "cpu" else available_bytes(place)
        if available is not None and place.type == "cpu":
            available //= processors
        shapes = {stage.name: resolve(stage.describe)(checkpoint.config) for stage in stages}
        found.append(
            Beside(
                name,
                _dtype(options, checkpoint, place),
                tuple(prefix for stage in stages for prefix in stage.weights),
                tuple(shapes[stage.name] for stage in stages if stage.kind is Kind.ONCE),
                {stage.name: shapes[stage.name] for stage in stages if stage.kind is Kind.AUTOREGRESS},
                sum(bool(stage.inputs) for stage in stages) / max(caches, 1),
                available,
            )
        )
    return found


def threads_each(options: EngineOptions, devices: Sequence[str]) -> int:
    """The threads of each CPU device: as asked, else an even share of the cores."""
    asked = options.threads or read_settings().threads
    return asked or max(1, usable_cores() // max(1, sum(name.startswith("cpu") for name in devices)))


def _dtype(options: EngineOptions, checkpoint: Checkpoint, device: torch.device) -> str:
    native = device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return compute_dtype(options.dtype, checkpoint.config, device.type, native)


def available_bytes(device: torch.device) -> int:
    """Bytes of the device's memory that are free now."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else available_memory()
