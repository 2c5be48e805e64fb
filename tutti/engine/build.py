"""From the stages of a graph to their runners on one device, as the memory plan says."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tutti.engine.autoregress import Autoregress
from tutti.engine.denoise import Denoise
from tutti.engine.kv.cache import KVCache
from tutti.engine.later import Later
from tutti.engine.once import Once
from tutti.engine.placement import main_stage
from tutti.engine.plan import MemoryPlan, default_token_budget
from tutti.engine.players import Players
from tutti.engine.ranks import Led, Ranks
from tutti.engine.scheduler import Scheduler
from tutti.engine.vocabulary import Vocabulary
from tutti.errors import ConfigError
from tutti.formats.checkpoint import Checkpoint
from tutti.formats.lora import named_adapters, open_adapter
from tutti.graph import BuildOptions, Graph, Kind, Stage, resolve
from tutti.layers.parameters import LoadOptions
from tutti.models.drawing.parallel import Team
from tutti.models.encoders.pooling import Embedder
from tutti.models.processor.files import eos_ids
from tutti.models.processor.pooling import read_pooling
from tutti.models.protocols import CausalModel, FollowsRows, NamesAdapters, Shares, TakesAdapters
from tutti.settings import EngineOptions


class Builder:
    """Makes the runners of one device."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        graph: Graph,
        options: EngineOptions,
        plan: MemoryPlan,
        device: torch.device,
        players: Players,
        wake: Callable[[], None],
    ) -> None:
        """`plan` is the device's; `wake` has its loop look again, from any thread."""
        self.checkpoint = checkpoint
        self.graph = graph
        self.options = options
        self.plan = plan
        self.device = device
        self._players = players
        self._wake = wake
        self.ranks: Ranks | None = None  # the other ranks of the stage of denoising, if there are any

    @functools.cached_property
    def later(self) -> Later:
        """The models of the late stages."""
        late = [stage for stage in self.graph.stages if stage.late]
        return Later(lambda: {stage.name: self._beside(stage) for stage in late}, self._wake)

    def _beside(self, stage: Stage) -> Any:
        """The model of a stage of one pass, or of one that draws beside the main one.

        Quantized are those of a model that does nothing but draw.
        """
        draws = main_stage(self.graph).kind is Kind.DENOISE
        model = self.load(stage, None, self.options.quantization if draws else None)
        if stage.kind is Kind.DENOISE and self.plan.drawing is not None:
            self._name_adapters(model, self.plan.drawing.adapters)
        return model

    def once(self, stage: Stage) -> Once:
        """A stage of one pass beside the main one; its budget is what the plan counted on."""
        shape = resolve(stage.describe)(self.checkpoint.config)
        model = self.later if stage.late else self._beside(stage)
        cached = [one for one in self.graph.stages if one.kind is Kind.ONCE and one.inputs]
        room = self.options.encoder_cache_memory_bytes // len(cached) if stage.inputs else 0
        return Once(
            stage.name,
            model,
            budget=shape.rows,
            inputs=stage.inputs,
            output=stage.output,
            keep_bytes=room,
            players=self._players,
        )

    def denoise(self, stage: Stage) -> Denoise:
        """A stage of denoising, with the room that the plan gives it; where another writes, it may bring nothing."""
        room = self.plan.drawing
        assert room is not None
        beside = "text" in self.graph.outputs
        model: Any
        if stage.late:
            model = self.later
        elif beside:
            model = self._beside(stage)
        else:
            model = self.network(stage, None if self.ranks is None else self.ranks.team)
            model = model if self.ranks is None else Led(model, self.ranks)
        fed = any(edge.destination == stage.name for edge in self.graph.edges)
        return Denoise(
            stage.name,
            model,
            budget=room.tokens,
            largest=room.largest,
            max_requests=room.requests,
            pool=room.features,
            fed=fed,
            patient=beside,
        )

    def network(self, stage: Stage, team: Team | None) -> Any:
        """The model of a stage of denoising, which the `team` computes together, if there is one."""
        room = self.plan.drawing
        assert room is not None
        share = None if team is None else team.share_layers
        model = self.load(stage, None, self.options.quantization, share)
        if team is not None:
            if not isinstance(model, Shares):
                raise ConfigError("this model cannot be computed by several ranks", param="cfg_parallel_size")
            model.share(team)
        self._name_adapters(model, room.adapters)
        return model

    def pooler(self, stage: Stage) -> Once:
        """The main stage of a model that makes vectors of text; a step computes as many tokens as one of text would."""
        model = self.load(stage, self.plan.context, self.options.quantization)
        return Once(stage.name, model, budget=self.token_budget, inputs=stage.inputs, players=self._players)

    @property
    def token_budget(self) -> int:
        """The most tokens of a step."""
        return self.options.max_num_batched_tokens or default_token_budget(self.device.type)

    def follower(self, stage: Stage) -> Autoregress:
        """An autoregressive stage behind the one that takes text."""
        pool = self.plan.followers[stage.name]
        model = self.load(stage, pool.context, self.options.quantization)
        return self.autoregress(stage, model, pool.context, pool.blocks)

    def load(
        self,
        stage: Stage,
        context: int | None,
        quantization: str | None,
        share: Callable[[str, Any], None] | None = None,
    ) -> Any:
        """A stage's model with its weights; `context` is what one that reads tokens serves."""
        options = BuildOptions(str(self.device), self.plan.dtype, quantization, context=context, share=share)
        with torch.inference_mode():
            model = resolve(stage.build)(self.checkpoint, options)
            if stage.output == "text":
                self._adapt(model)
        return model

    def _name_adapters(self, model: Any, room: int) -> None:
        """Has a model that draws keep the adapters that requests may name at hand."""
        if self.options.adapters and "text" not in self.graph.outputs:
            raise ConfigError(
                "--adapter: of a model that draws, requests name theirs: --lora-modules NAME=PATH",
                param="adapters",
            )
        if not self.options.lora_modules:
            return
        if not isinstance(model, NamesAdapters):
            raise ConfigError("this model takes no LoRA adapters", param="lora_modules")
        with torch.inference_mode():
            model.serve_adapters(self.checkpoint, named_adapters(self.options.lora_modules), room)

    def _adapt(self, model: Any) -> None:
        """Adds the adapters that the model is served with, to the stage that answers."""
        if self.options.lora_modules and not any(stage.kind is Kind.DENOISE for stage in self.graph.stages):
            raise ConfigError(
                "--lora-modules: this model does not draw; --adapter adds an adapter for every request",
                param="lora_modules",
            )
        for path in self.options.adapters:
            if not isinstance(model, TakesAdapters):
                raise ConfigError("this model takes no LoRA adapters", param="adapters")
            adapter = open_adapter(Path(path), self.checkpoint.config)
            model.adapt(adapter, getattr(torch, self.plan.dtype))

    def autoregress(
        self,
        stage: Stage,
        model: CausalModel,
        context: int,
        blocks: tuple[int, ...],
        most: int | None = None,
    ) -> Autoregress:
        """An autoregressive stage, of which `most` requests run at once."""
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
            token_budget=self.token_budget,
        )
        eos = (
            model.eos_ids
            if isinstance(model, FollowsRows)
            else eos_ids(self.checkpoint.path, self.checkpoint.config)
        )
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
            feeds_prompts=self.graph.made_of(stage.name, prompt=True),
            players=self._players,
            wake=self._wake,
            maker=self._maker(stage),
        )

    def _maker(self, stage: Stage) -> Embedder | None:
        """What makes vectors of the prompts that the stage reads, if it is the one that does."""
        if stage != self.graph.reader:
            return None
        pooling = read_pooling(self.checkpoint.path, self.checkpoint.config)
        hidden = resolve(stage.describe)(self.checkpoint.config).hidden
        return Embedder(pooling, hidden, LoadOptions(self.device, getattr(torch, self.plan.dtype), None))


def voices_of(runners: list[Autoregress]) -> tuple[str, ...]:
    """The voices that the models of `runners` speak with."""
    return tuple(
        voice for runner in runners if isinstance(runner.model, FollowsRows) for voice in runner.model.voices
    )
