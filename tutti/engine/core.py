"""The engine of one model: everything put together, ready to be driven.

It runs in a process of its own (`engine.worker`), in a thread (`engine.local`) or in the caller's own (`tutti.LLM`):
the same code in all three. Stages that are placed on other devices than its own run in processes beside it
(`engine.device`).
"""

from __future__ import annotations

import functools
import logging
import math
import os
import time
import weakref
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from queue import SimpleQueue

import msgspec
import torch

from tutti.engine.autoregress import Autoregress
from tutti.engine.bridges import as_it_is, bridges_to
from tutti.engine.build import Builder, voices_of
from tutti.engine.denoise import Denoise
from tutti.engine.device import Away, Device
from tutti.engine.loop import Loop
from tutti.engine.machine import peak_memory
from tutti.engine.measure import peak_activations
from tutti.engine.once import Once
from tutti.engine.parcels import Begin
from tutti.engine.placement import elsewhere, encoders_of, followers_of, main_stage, painter_of
from tutti.engine.plan import Beside, MemoryPlan
from tutti.engine.planning import (
    available_bytes,
    choose_device,
    devices_beside,
    plan_for,
    threads_each,
)
from tutti.engine.players import Players
from tutti.engine.ranks import Ranks
from tutti.engine.stage import Arrival, Runner
from tutti.engine.stats import stage_stats
from tutti.engine.wire import Call, EngineInfo, EngineStats, Reply, ToEngine, Wake
from tutti.errors import ConfigError, TuttiError
from tutti.events import ErrorValue, Event
from tutti.formats.checkpoint import open_checkpoint
from tutti.formats.shapes import weight_shapes
from tutti.graph import Kind, Stage
from tutti.models.protocols import CausalModel, FollowsRows, Pools
from tutti.models.registry import find_graph
from tutti.settings import EngineOptions
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
        if options.trust_remote_code:
            log.warning("trust_remote_code has no effect: code that comes with a model is never run")
        self.checkpoint = open_checkpoint(options.model, options.components)
        self.graph = find_graph(self.checkpoint.config, self.checkpoint.path)
        if self.graph.remark:
            kind = ", ".join(self.checkpoint.config["architectures"])
            log.info("%s has no family of its own: it is served %s", kind, self.graph.remark)
        away = elsewhere(self.graph, options.placement, str(self.device))
        threads = threads_each(options, [str(self.device)] * options.degrees.ranks + [*away])
        if self.device.type == "cpu":
            torch.set_num_threads(threads)
        beside = devices_beside(self.checkpoint, self.graph, options, self.device)
        self.plan = plan_for(self.checkpoint, self.graph, options, self.device, beside=beside)
        log.info("%s", self.plan.text())
        self._inbox: SimpleQueue[ToEngine | Arrival] = SimpleQueue()
        self.devices = [
            self._device(plan, away[plan.device], threads, traced is not None)
            for plan in self.plan.beside
            if plan.device in away
        ]
        self.runner: Autoregress | Denoise | Once  # the main stage
        self.ranks = self._other_ranks(threads)
        beside_us: list[Device | Ranks] = [*self.devices, *([] if self.ranks is None else [self.ranks])]
        self.close = weakref.finalize(self, _close, beside_us)  # ends the processes
        self.players = Players(options.player_clock)
        self.players.watch = self._heard
        try:
            self._build({stage for stages in away.values() for stage in stages}, beside)
            self._voices = voices_of(self.writers)
            for device in self.devices:
                self._voices += device.ready().voices
            if self.ranks is not None:
                self.ranks.ready()
        except BaseException:
            self.close()
            raise
        self.loop = self._loop(emit, traced)
        for device in self.devices:
            device.watch = self.loop.tracing.passed
        self._reply = reply
        self.load_time = time.monotonic() - start

    def _device(self, plan: MemoryPlan, stages: Sequence[Stage], threads: int, traced: bool) -> Device:
        """The process that runs `stages` by `plan`; it starts now."""
        names = tuple(stage.name for stage in stages)
        begin = Begin(self.options, plan.device, threads, names, plan, traced)
        return Device(begin, stages, self._inbox.put)

    def _other_ranks(self, threads: int) -> Ranks | None:
        """The processes that compute the main stage's network together with this one; they start now."""
        if self.options.degrees.ranks == 1:
            return None
        stage = main_stage(self.graph).name
        return Ranks(self.options, self.plan.beside, stage=stage, device=self.device, threads=threads)

    def _build(self, away: Collection[Stage], beside: Sequence[Beside]) -> None:
        """The stages on this device: all but those `away`."""
        wake = functools.partial(self._inbox.put, Wake())
        self._builder = Builder(
            self.checkpoint, self.graph, self.options, self.plan, self.device, self.players, wake
        )
        self._builder.ranks = self.ranks
        main = main_stage(self.graph)
        self.runner = self._main(main, beside)
        followers = [stage for stage in followers_of(self.graph) if stage not in away]
        self.followers = [self._builder.follower(stage) for stage in followers]
        encoders = [stage for stage in encoders_of(self.graph) if stage not in away]
        self.encoders = [self._builder.once(stage) for stage in encoders]
        painter = painter_of(self.graph)
        self.painter = None if painter is None else self._builder.denoise(painter)

    @property
    def _reader(self) -> CausalModel | Pools | None:
        """The main stage's model, where it reads tokens."""
        if isinstance(self.runner, Autoregress):
            return self.runner.model
        return self.runner.model if isinstance(self.runner.model, Pools) else None

    @property
    def writers(self) -> list[Autoregress]:
        """The autoregressive stages on this device, the main one first."""
        return [one for one in (self.runner, *self.followers) if isinstance(one, Autoregress)]

    @property
    def drawers(self) -> list[Denoise]:
        """The stages of denoising."""
        return [one for one in (self.runner, self.painter) if isinstance(one, Denoise)]

    def _loop(self, emit: Callable[[list[Event]], None], traced: Callable[[Trace], None] | None) -> Loop:
        """The loop over the stages on this device and those away."""
        here: list[Autoregress | Denoise | Once] = [self.runner, *self.followers, *self.encoders]
        here += [] if self.painter is None else [self.painter]
        own: dict[str, Runner] = {runner.name: runner for runner in here}
        away = {name: device for device in self.devices for name in device.stages}
        late = {stage.name for stage in self.graph.stages if stage.late}
        models = {runner.name: None if runner.name in late else runner.model for runner in here}
        bridges = bridges_to(models, self.graph, self.checkpoint)
        for edge in self.graph.edges:
            if edge.destination in away and away.get(edge.source) is not away[edge.destination]:
                bridges[edge.source, edge.destination] = as_it_is  # the edge's own one stands there
        runners = own | {name: Away(name, device) for name, device in away.items()}
        return Loop(
            self.graph,
            runners,
            bridges,
            emit,
            self._answer,
            self.players,
            traced,
            inbox=self._inbox,
            neighbours=self.devices,
        )

    def _heard(self, request_id: str, dry: float) -> None:
        for device in self.devices:
            device.heard(request_id, dry)

    @property
    def info(self) -> EngineInfo:
        """What is being served."""
        names = self.options.served_model_name or (Path(self.options.model).name,)
        reader = self._reader
        return EngineInfo(
            model=names[0],
            architectures=tuple(self.checkpoint.config.get("architectures") or ()),
            inputs=tuple(sorted(self.graph.inputs)),
            outputs=tuple(sorted(self.graph.outputs)),
            embeds=self.graph.reader is not None,
            voices=self._voices,
            context=min(self.plan.context, reader.context) if reader else 0,
            vocab_size=reader.vocab_size if reader else 0,
            dtype=self.plan.dtype,
            device=str(self.device),
            max_num_seqs=self.writers[0].scheduler.max_sequences
            if self.writers
            else self.options.max_num_seqs,
            max_num_batched_tokens=self.runner.budget
            if isinstance(self.runner, Denoise)
            else self._builder.token_budget,
            block_size=self.plan.block_size,
            kv_tokens=self.plan.kv_tokens,
            plan=self.plan.text(),
            load_time=self.load_time,
            pid=os.getpid(),
            family=str(self.checkpoint.config.get("model_type", "")),
            parameters=sum(math.prod(shape) for shape in weight_shapes(self.checkpoint).values()),
            size=self.checkpoint.nbytes,
            memory=self.plan.total,
            quantization=self.options.quantization or self.checkpoint.quantization or self.plan.dtype,
            fingerprint=self.checkpoint.fingerprint,
        )

    def stats(self) -> EngineStats:
        """Gauges of now and counters since the start."""
        loop, writers, main = self.loop.stats, self.writers, self.runner
        running = {one.id for each in writers for one in each.scheduler.running}
        running |= {id for device in self.devices for id in device.requests if id not in writers[0]}
        running |= {id for one in self.drawers for id in one.turning}
        pools = [group.pool for each in writers for group in each.cache.groups]
        caches = [one.cache for one in writers[:1]]
        found = stage_stats(self.graph, self.loop)
        found |= {name: device.stats(name) for device in self.devices for name in device.stages}
        stages = tuple(found[stage.name] for stage in self.graph.stages)
        return EngineStats(
            running=len(running),
            waiting=writers[0].scheduler.waiting if writers else main.waiting,
            kv_usage=sum(cache.usage for cache in caches),
            blocks_total=sum(pool.usable for pool in pools),
            blocks_free=sum(pool.available for pool in pools),
            prefix_queries=sum(cache.stats.queries for cache in caches),
            prefix_hits=sum(cache.stats.hits for cache in caches),
            preemptions=sum(one.scheduler.preemptions for one in writers[:1]),
            prompt_tokens=0 if isinstance(main, Denoise) else main.prompt_tokens,
            generation_tokens=sum(one.generation_tokens for one in writers[:1]),
            steps=sum(steps.count for steps in loop.steps.values()),
            step_time=sum(steps.time for steps in loop.steps.values()),
            requests=loop.requests,
            failures=loop.failures,
            media_items=sum(one.media_items for one in stages),
            media_hits=sum(one.media_hits for one in stages),
            underruns=self.players.underruns,
            seconds_dry=self.players.seconds_dry,
            memory_peak=peak_memory() + sum(device.memory_peak for device in self.devices),
            stages=stages,
        )

    def reset_caches(self) -> None:
        """Forget every prefix, and what encoders made of media."""
        for runner in self.writers:
            runner.cache.reset()
        for once in self.encoders:
            once.kept.clear()
        for device in self.devices:
            device.reset_caches()

    def _main(self, stage: Stage, beside: Sequence[Beside]) -> Autoregress | Denoise | Once:
        """The main stage: it writes, draws or makes vectors."""
        if stage.kind is Kind.DENOISE:
            return self._builder.denoise(stage)
        return self._builder.pooler(stage) if stage.kind is Kind.ONCE else self._language(stage, beside)

    def _language(self, stage: Stage, beside: Sequence[Beside]) -> Autoregress:
        """The main stage; on a GPU, the memory plan is measured with it."""
        available = available_bytes(self.device)  # before the weights take their share
        model = self._builder.load(stage, self.plan.context, self.options.quantization)
        if self.device.type == "cuda" and not isinstance(model, FollowsRows):
            self.plan = self._builder.plan = self._measured_plan(model, available, beside)
            log.info("%s", self.plan.text())
        most = self.plan.memories or self.options.max_num_seqs
        return self._builder.autoregress(stage, model, self.plan.context, self.plan.blocks, most)

    def _measured_plan(self, model: CausalModel, available: int, beside: Sequence[Beside]) -> MemoryPlan:
        """The plan with the activations measured; the context stays, since the model was built for it."""
        measured = peak_activations(
            model,
            tokens=self._builder.token_budget,
            rows=self.options.max_num_seqs,
            block_size=self.plan.block_size,
            dtype=getattr(torch, self.plan.dtype),
            device=self.device,
        )
        torch.cuda.empty_cache()
        options = msgspec.structs.replace(self.options, max_model_len=self.plan.context)
        return plan_for(
            self.checkpoint,
            self.graph,
            options,
            self.device,
            beside=beside,
            available=available,
            activations=measured,
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


def _close(beside: Sequence[Device | Ranks]) -> None:
    for one in beside:
        one.close()
