"""The engine of one model on one device: everything put together, ready to be driven.

It runs in a process of its own (`engine.worker`), in a thread (`engine.local`) or in the caller's own (`tutti.LLM`):
the same code in all three.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch

from tutti.engine.autoregress import Autoregress
from tutti.engine.bridges import bridges_to
from tutti.engine.kv.cache import KVCache
from tutti.engine.loop import Loop
from tutti.engine.machine import available_memory, peak_memory, usable_cores
from tutti.engine.measure import peak_activations
from tutti.engine.once import Once
from tutti.engine.plan import MemoryPlan, compute_dtype, default_token_budget, make_plan, require
from tutti.engine.players import Players
from tutti.engine.scheduler import Scheduler
from tutti.engine.stage import Runner
from tutti.engine.vocabulary import Vocabulary
from tutti.engine.wire import Call, EngineInfo, EngineStats, Reply, StageStats, Wake
from tutti.errors import ConfigError, TuttiError
from tutti.events import ErrorValue, Event
from tutti.formats.checkpoint import Checkpoint, open_checkpoint, read_json
from tutti.graph import BuildOptions, Graph, Kind, Stage, resolve
from tutti.models.protocols import CausalModel, FollowsRows
from tutti.models.registry import find_graph
from tutti.settings import EngineOptions, read_settings
from tutti.trace import Trace

log = logging.getLogger(__name__)


class Engine:
    """A loaded model and its loop.

    Raises, before anything is loaded, CheckpointError, ModelNotFound, ConfigError or OutOfMemory.
    """

    def __init__(
        self,
        options: EngineOptions,
        emit: Callable[[list[Event]], None],
        reply: Callable[[Reply], None] = lambda reply: None,
        traced: Callable[[Trace], None] | None = None,
    ) -> None:
        """`traced` takes the trace of each request that ends; without it none is made."""
        start = time.monotonic()
        self.options = options
        self.device = choose_device(options.device)
        if self.device.type == "cpu":
            torch.set_num_threads(options.threads or read_settings().threads or usable_cores())
        if options.trust_remote_code:
            log.warning("trust_remote_code has no effect: code that comes with a model is never run")
        self.checkpoint = open_checkpoint(options.model)
        self.graph = find_graph(self.checkpoint.config)
        self.players = Players(options.player_clock)
        self.plan = plan_for(self.checkpoint, self.graph, options, self.device)
        log.info("%s", self.plan.text())
        self.runner = self._build(language_stage(self.graph))
        self.followers = [self._build_follower(stage) for stage in _followers(self.graph)]
        self.encoders = [self._build_once(stage) for stage in _of_kind(self.graph, Kind.ONCE)]
        stages: tuple[Runner, ...] = (self.runner, *self.followers, *self.encoders)
        runners = {runner.name: runner for runner in stages}
        models = {name: runner.model for name, runner in runners.items()}
        bridges = bridges_to(models, self.graph, self.checkpoint)
        self.loop = Loop(self.graph, runners, bridges, emit, self._answer, self.players, traced)
        self._reply = reply
        self.load_time = time.monotonic() - start

    @property
    def info(self) -> EngineInfo:
        """What is being served."""
        names = self.options.served_model_name or (Path(self.options.model).name,)
        return EngineInfo(
            model=names[0],
            architectures=tuple(self.checkpoint.config.get("architectures") or ()),
            inputs=tuple(sorted(self.graph.inputs)),
            outputs=tuple(sorted(self.graph.outputs)),
            voices=tuple(
                voice
                for runner in (self.runner, *self.followers)
                if isinstance(runner.model, FollowsRows)
                for voice in runner.model.voices
            ),
            context=self.plan.context,
            vocab_size=self.runner.model.vocab_size,
            dtype=self.plan.dtype,
            device=str(self.device),
            max_num_seqs=self.runner.scheduler.max_sequences,
            max_num_batched_tokens=self.runner.scheduler.token_budget,
            block_size=self.plan.block_size,
            kv_tokens=self.plan.kv_tokens,
            plan=self.plan.text(),
            load_time=self.load_time,
            pid=os.getpid(),
        )

    def stats(self) -> EngineStats:
        """Gauges of now and counters since the start."""
        runner, loop = self.runner, self.loop.stats
        running = {one.id for each in (runner, *self.followers) for one in each.scheduler.running}
        pools = [group.pool for each in (runner, *self.followers) for group in each.cache.groups]
        return EngineStats(
            running=len(running),
            waiting=runner.scheduler.waiting,
            kv_usage=runner.cache.usage,
            blocks_total=sum(pool.usable for pool in pools),
            blocks_free=sum(pool.available for pool in pools),
            prefix_queries=runner.cache.stats.queries,
            prefix_hits=runner.cache.stats.hits,
            preemptions=runner.scheduler.preemptions,
            prompt_tokens=runner.prompt_tokens,
            generation_tokens=runner.generation_tokens,
            steps=sum(steps.count for steps in loop.steps.values()),
            step_time=sum(steps.time for steps in loop.steps.values()),
            requests=loop.requests,
            failures=loop.failures,
            media_items=sum(once.kept.queries for once in self.encoders),
            media_hits=sum(once.kept.hits for once in self.encoders),
            underruns=self.players.underruns,
            seconds_dry=self.players.seconds_dry,
            memory_peak=peak_memory(),
            stages=tuple(
                StageStats(
                    stage.name,
                    str(stage.kind),
                    self.loop.runners[stage.name].waiting,
                    loop.steps[stage.name].count,
                    loop.steps[stage.name].items,
                    loop.steps[stage.name].time,
                )
                for stage in self.graph.stages
            ),
        )

    def reset_caches(self) -> None:
        """Forget every prefix, and what encoders made of media."""
        for runner in (self.runner, *self.followers):
            runner.cache.reset()
        for once in self.encoders:
            once.kept.clear()

    def _build_once(self, stage: Stage) -> Once:
        """A stage of one pass; its budget is what the plan counted on. Encoders are never quantized."""
        shape = resolve(stage.describe)(self.checkpoint.config)
        with torch.inference_mode():
            model = resolve(stage.build)(self.checkpoint, BuildOptions(str(self.device), self.plan.dtype))
        cached = [one for one in self.graph.stages if one.kind is Kind.ONCE and one.inputs]
        room = self.options.encoder_cache_memory_bytes // len(cached) if stage.inputs else 0
        return Once(
            stage.name, model, budget=shape.rows, inputs=stage.inputs, keep_bytes=room, players=self.players
        )

    def _build(self, stage: Stage) -> Autoregress:
        """The main stage, and with it the memory plan of all."""
        available = available_bytes(self.device)  # before the weights take their share
        model = self._load(stage, self.plan.context)
        if self.device.type == "cuda" and not isinstance(model, FollowsRows):
            self.plan = self._measured_plan(model, available)
            log.info("%s", self.plan.text())
        most = self.plan.memories or self.options.max_num_seqs
        return self._autoregress(stage, model, self.plan.context, self.plan.blocks, most)

    def _build_follower(self, stage: Stage) -> Autoregress:
        """An autoregressive stage behind that one."""
        pool = self.plan.followers[stage.name]
        return self._autoregress(stage, self._load(stage, pool.context), pool.context, pool.blocks)

    def _load(self, stage: Stage, context: int) -> CausalModel:
        options = BuildOptions(str(self.device), self.plan.dtype, self.options.quantization, context=context)
        with torch.inference_mode():
            model: CausalModel = resolve(stage.build)(self.checkpoint, options)
        return model

    def _autoregress(
        self,
        stage: Stage,
        model: CausalModel,
        context: int,
        blocks: tuple[int, ...],
        most: int | None = None,
    ) -> Autoregress:
        """`most` requests run at once."""
        cache = KVCache(
            model.groups,
            blocks,
            self.plan.block_size,
            dtype=getattr(torch, self.plan.dtype),
            device=self.device,
            prefix_caching=self.options.enable_prefix_caching,
        )
        scheduler = Scheduler(
            cache,
            max_sequences=min(most or self.options.max_num_seqs, self.options.max_num_seqs),
            token_budget=self.options.max_num_batched_tokens or default_token_budget(self.device.type),
        )
        eos = model.eos_ids if isinstance(model, FollowsRows) else eos_ids(self.checkpoint)
        return Autoregress(
            stage.name,
            model,
            cache,
            scheduler,
            Vocabulary(Path(self.options.tokenizer or self.checkpoint.path), model.vocab_size, eos),
            context=context,
            device=self.device,
            seed=self.options.seed,
            feeds=self.graph.made_of(stage.name),
            players=self.players,
            wake=lambda: self.loop.inbox.put(Wake()),
        )

    def _measured_plan(self, model: CausalModel, available: int) -> MemoryPlan:
        """The plan with the activations measured; the context stays, since the model was built for it."""
        measured = peak_activations(
            model,
            tokens=self.options.max_num_batched_tokens or default_token_budget(self.device.type),
            rows=self.options.max_num_seqs,
            block_size=self.plan.block_size,
            dtype=getattr(torch, self.plan.dtype),
            device=self.device,
        )
        torch.cuda.empty_cache()
        options = msgspec.structs.replace(self.options, max_model_len=self.plan.context)
        return plan_for(
            self.checkpoint, self.graph, options, self.device, available=available, activations=measured
        )

    def _answer(self, call: Call) -> None:
        try:
            if call.what == "reset_prefix_cache":
                self.reset_caches()
            elif call.what != "stats":
                raise ConfigError(f"the engine does not know {call.what!r}")
            self._reply(Reply(call.number, self.stats()))
        except TuttiError as error:
            self._reply(Reply(call.number, error=ErrorValue.of(error)))


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
    **wishes: Any,
) -> MemoryPlan:
    """The memory plan, whether it fits or not. `available` bytes stand for another machine than this one."""
    shape = resolve(language_stage(graph).describe)(checkpoint.config)
    encoders = [resolve(stage.describe)(checkpoint.config) for stage in _of_kind(graph, Kind.ONCE)]
    followers = {stage.name: resolve(stage.describe)(checkpoint.config) for stage in _followers(graph)}
    if options.max_model_len is not None and options.max_model_len > shape.context:
        raise ConfigError(
            f"--max-model-len {options.max_model_len}: this model's context is {shape.context} tokens",
            param="max_model_len",
        )
    beside = sum(open_checkpoint(checkpoint.path / folder).nbytes for folder in graph.folders)
    if available is None:
        available = available_bytes(device)
    native = device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    dtype = compute_dtype(options.dtype, checkpoint.config, device.type, native)
    return make_plan(
        checkpoint,
        shape,
        options,
        device=device.type,
        dtype=dtype,
        available=available,
        encoders=encoders,
        followers=followers,
        beside=beside,
        **wishes,
    )


def available_bytes(device: torch.device) -> int:
    """Bytes of the device's memory that are free now."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else available_memory()


def eos_ids(checkpoint: Checkpoint) -> frozenset[int]:
    """The ids that end an output, from generation_config.json, else config.json."""
    file = checkpoint.path / "generation_config.json"
    generation = read_json(file) if file.exists() else {}
    found = generation.get("eos_token_id", checkpoint.config.get("eos_token_id"))
    if found is None:
        return frozenset()
    return frozenset([found] if isinstance(found, int) else found)


def language_stage(graph: Graph) -> Stage:
    """The main stage: the autoregressive one that takes text, or the only one there is.

    Raises ConfigError when the graph is not of a kind that is served.
    """
    steps = _of_kind(graph, Kind.AUTOREGRESS)
    found = [stage for stage in steps if "text" in stage.inputs] or steps
    if len(found) != 1 or _of_kind(graph, Kind.DENOISE):
        raise ConfigError(f"graph {graph.name}: only graphs around one language model are served yet")
    return found[0]


def _followers(graph: Graph) -> list[Stage]:
    main = language_stage(graph)
    return [stage for stage in _of_kind(graph, Kind.AUTOREGRESS) if stage is not main]


def _of_kind(graph: Graph, kind: Kind) -> list[Stage]:
    return [stage for stage in graph.stages if stage.kind is kind]
