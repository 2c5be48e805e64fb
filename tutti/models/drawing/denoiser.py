"""The denoising of latents: what every family's denoiser shares. A family adds its network (`predict`).

A request's canvas is its float32 latents and where its sampler stands. In a step the rows of all canvases (two of each
that is guided, one without) go through the network together; then each takes its own step by its own noise levels. The
noise comes from a generator of the request's own, on the CPU, so that a seed gives one picture on every machine and in
every batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tutti.errors import ConfigError, InvalidRequest
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import Chunk
from tutti.models.drawing.adapters import Adapters, Applied
from tutti.models.drawing.cache import Memory, Pass, cache_of
from tutti.models.drawing.flow import Sampler
from tutti.models.drawing.gate import Gate
from tutti.models.drawing.note import note_of
from tutti.models.processor.media import unpack
from tutti.request import Drawing, MediaInput, Request, Text

if TYPE_CHECKING:
    from tutti.models.drawing.parallel import Team

Condition = tuple[Tensor, ...]  # what a family's text stage makes of a prompt
Moments = tuple[Tensor, Tensor]  # what a VAE makes of a picture: its latents' mean and deviation
Sight = tuple[Tensor, ...]  # what a stage makes of a picture: `Moments`, mostly


@dataclass(frozen=True, slots=True, eq=False)
class Conditions:
    """What edges bring to a denoiser: of the prompt, of the text to be avoided, and of the pictures.

    Moments are float32 [channels, rows, columns].
    """

    prompt: Condition
    negative: Condition | None = None
    pictures: tuple[Sight, ...] = ()

    def to(self, device: torch.device) -> Conditions:
        """The same on a device."""
        negative = None if self.negative is None else _moved(self.negative, device)
        pictures = tuple(_moved(one, device) for one in self.pictures)
        return Conditions(_moved(self.prompt, device), negative, pictures)


@dataclass(frozen=True, slots=True, eq=False)
class Latents:
    """What a denoiser gives: float32 [channels, rows, columns], of a film [channels, frames, rows, columns].

    `noise` of the same shape is for a VAE that takes some. A `sketch` is a preview that no VAE decodes.
    """

    latents: Tensor
    preview: bool = False
    sketch: bool = False
    noise: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """What stays of the picture that a request begins from: its `latents`, where `mask` [rows, columns] is 0.

    `noise` is what they are mixed with until the last step, so that both parts of the picture are equally far.
    """

    mask: Tensor
    latents: Tensor
    noise: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """A request between two steps. `levels` float32 [steps + 1]; `velocity` is that of the last step.

    `prepared` is what the network made of the conditions once, the prompt's first; `memories` is what the feature cache
    keeps of each of them. A picture that is begun from takes the last levels only; a mask keeps a `frame` of it. The
    latents of pictures that are looked at stand `beside`. `history` is the sampler's. `chance` is how the request's
    generator goes on, for those who draw by chance again. `skipped` counts the steps that a cache spared all rows.
    """

    drawing: Drawing
    latents: Tensor
    levels: Tensor
    prepared: tuple[Any, ...]
    done: int = 0
    velocity: Tensor | None = None
    history: Any = None
    chance: Tensor | None = None
    frame: Frame | None = None
    beside: tuple[Tensor, ...] = ()
    memories: tuple[Memory | None, ...] = ()
    skipped: int = 0
    adapter: Applied | None = None

    @property
    def steps(self) -> int:
        """How many there are in all."""
        return len(self.levels) - 1

    @property
    def tokens(self) -> tuple[int, int]:
        """The latents' rows and columns in patches of two by two."""
        return patches_of(self.latents)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row of a step's batch: `latents` float32 as `Latents` has them, `level` float32 [], after `done` steps.

    `beside` as in `Canvas`.
    """

    latents: Tensor
    level: Tensor
    prepared: Any
    drawing: Drawing
    done: int
    beside: tuple[Tensor, ...] = ()


def _moved(condition: tuple[Tensor, ...], device: torch.device) -> Condition:
    return tuple(one.to(device) for one in condition)


def patches_of(latents: Tensor) -> tuple[int, int]:
    """The rows and columns of `latents` [..., rows, columns] in patches of two by two."""
    return latents.shape[-2] // 2, latents.shape[-1] // 2


class Denoiser(ABC):
    """See `models.protocols.DenoiseModel`. A network that feature caches reach into guards its blocks with `gate`."""

    net: Any  # diffusers' network
    adapts: bool = False  # whether it takes LoRA adapters
    parts: bool = False  # whether ranks can share its tokens, as diffusers' `_cp_plan` has it
    curve: tuple[float, ...] = (1.0, 0.0)  # TeaCache's

    def __init__(
        self, sampler: Sampler, *, channels: int, pixels: int, device: str, looks: bool = False
    ) -> None:
        """`channels` of the latents; a latent is so many `pixels` wide and high.

        `looks`: pictures of a request are looked at beside the latents; otherwise the drawing begins from one.
        """
        self.adapters = Adapters()
        self.gate = Gate(self.signal, self.adapters)
        self.looks = looks
        self.sampler = sampler
        self.channels = channels
        self.pixels = pixels
        self.device = torch.device(device)
        self.team: Team | None = None  # who computes the network together

    @property
    def networks(self) -> tuple[Any, ...]:
        """diffusers' networks: one, unless a family has more."""
        return (self.net,)

    def prepare(self, condition: Condition) -> Any:
        """What the network needs of a condition in every step, computed once: the condition itself."""
        return condition

    def width(self, prepared: Any) -> int:
        """The tokens of a condition in a row."""
        return len(prepared[0])

    def key(self, state: Canvas) -> Hashable:
        """See `DenoiseModel.key`: pictures of a size share a batch, if what they look at is of a size, too."""
        return state.tokens, *map(patches_of, state.beside)

    def signal(self, block: Any, hidden: Tensor, temb: Tensor) -> Tensor:
        """What the first `block` makes of `hidden` [rows, tokens, width] by the time `temb`, before it attends."""
        raise NotImplementedError  # a family that guards blocks knows

    def feature_bytes(self) -> int:
        """Bytes of a token's hidden state, which feature caches keep; 0 where there are none."""
        return 0

    @abstractmethod
    def predict(self, rows: list[Row]) -> list[Tensor]:
        """The velocity of each row, float32, of its latents' shape."""

    def shape(self, drawing: Drawing) -> tuple[int, ...]:
        """The latents' of a picture whose size is known."""
        return self.channels, (drawing.height or 0) // self.pixels, (drawing.width or 0) // self.pixels

    def tokens(self, shape: tuple[int, ...]) -> int:
        """How many tokens latents of this shape are."""
        return (shape[-2] // 2) * (shape[-1] // 2)

    def look(
        self, pictures: Sequence[Sight], shape: tuple[int, ...], generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """What of the `pictures` stands beside latents of this shape; what is random comes before their noise."""
        return tuple(picture[0] for picture in pictures)

    def manner(self, state: Canvas) -> Drawing:
        """How the next step of a state is drawn: as was asked."""
        return state.drawing

    def combine(self, positive: Tensor, negative: Tensor, drawing: Drawing) -> Tensor:
        """The velocity away from the negative text (classifier-free guidance: Ho and Salimans 2022)."""
        return negative + (drawing.true_guidance or 0.0) * (positive - negative)

    def gather(self, request: Request, brought: Sequence[Chunk]) -> Conditions | None:
        """See `models.protocols.Gathers`: the texts' conditions come as one, each picture for itself."""
        texts = [chunk.payload for chunk in brought if isinstance(chunk.payload, Conditions)]
        pictures = {chunk.part: chunk.payload for chunk in brought if isinstance(chunk.payload, tuple)}
        wanted = [number for number, part in enumerate(request.parts) if isinstance(part, MediaInput)]
        if not texts or len(pictures) < len(wanted):
            return None
        return replace(texts[0], pictures=tuple(pictures[number] for number in wanted))

    @torch.inference_mode()
    def start(self, request: Request, condition: Conditions) -> Canvas:
        """See `DenoiseModel.start`."""
        drawing = request.drawing
        assert drawing is not None
        if not (drawing.width and drawing.height and drawing.steps and request.sampling.seed is not None):
            raise InvalidRequest("the picture's size, steps and seed must be given", param="size")
        adapter = None if drawing.lora is None else self.adapters.use(drawing.lora, drawing.lora_scale)
        shape = self.shape(drawing)
        generator = torch.Generator("cpu").manual_seed(request.sampling.seed)
        levels = self.sampler.levels(drawing.steps, self.tokens(shape))
        both = [one for one in (condition.prompt, condition.negative) if one is not None]
        prepared = self._prepared(both, adapter)
        if self.team is not None:
            self.team.check(drawing, min(map(self.width, prepared)))
        if self.looks or not condition.pictures:
            beside = self.look(condition.pictures, shape, generator)
            noise = self._random(shape, generator)
            latents = self.sampler.opened(noise, levels)
            levels = levels.to(self.device)
            chance, history = generator.get_state(), self.sampler.begun(generator)
            return Canvas(
                drawing,
                latents,
                levels,
                prepared,
                history=history,
                chance=chance,
                beside=beside,
                adapter=adapter,
            )
        mean, deviation = condition.pictures[0]
        origin = mean + deviation * self._random(shape, generator)
        noise = self._random(shape, generator)
        levels = self.sampler.rest(levels, drawing.strength or 0.0).to(self.device)
        latents = self.sampler.noised(origin, noise, levels[0])
        history = self.sampler.begun(generator)
        if drawing.mask is None:
            return Canvas(drawing, latents, levels, prepared, history=history, adapter=adapter)
        if drawing.strength == 1:
            latents = self.sampler.opened(noise, levels)
        mask = torch.from_numpy(unpack(drawing.mask)[:: self.pixels, :: self.pixels].astype(np.float32))
        frame = Frame(mask.to(self.device), origin, noise)
        return Canvas(drawing, latents, levels, prepared, history=history, frame=frame, adapter=adapter)

    def _random(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float32).to(self.device)

    def serve_adapters(self, checkpoint: Checkpoint, paths: Mapping[str, Path], room: int) -> None:
        """See `models.protocols.NamesAdapters`."""
        if not self.adapts:
            raise ConfigError("this model takes no LoRA adapters", param="lora_modules")
        if self.team is not None and self.team.degrees.tensor > 1:
            raise ConfigError(
                "--lora-modules: no adapters are added to layers that ranks share (--tensor-parallel-size)",
                param="lora_modules",
            )
        self.adapters.serve(checkpoint, self.net, paths, room)

    def _prepared(self, conditions: list[Condition], adapter: Applied | None) -> tuple[Any, ...]:
        with self.adapters.over((adapter,)):
            return tuple(self.prepare(one) for one in conditions)

    def cost(self, state: Canvas) -> int:
        """See `DenoiseModel.cost`."""
        tokens = sum(math.prod(patches_of(one)) for one in (state.latents, *state.beside))
        return sum(tokens + self.width(one) for one in state.prepared)

    def own_tokens(self, row: Row) -> int:
        """The tokens of a row besides its text's."""
        beside = sum(math.prod(patches_of(one)) for one in row.beside)
        return self.tokens(tuple(row.latents.shape)) + beside

    def share(self, team: Team) -> None:
        """See `models.protocols.Shares`."""
        team.adopt(self)
        self.team = team

    def step(self, states: list[Canvas]) -> list[Canvas]:
        """See `DenoiseModel.step`."""
        rows = [
            Row(state.latents, state.levels[state.done], prepared, state.drawing, state.done, state.beside)
            for state in states
            for prepared in state.prepared
        ]
        passing = self._pass(states)
        adapters = [state.adapter for state in states for _ in state.prepared]
        with self.gate.open(passing):
            found = iter(self._predicted(rows, adapters))
        kept = iter(passing.memories)
        return [
            self._advanced(
                state, [next(found) for _ in state.prepared], tuple(next(kept) for _ in state.prepared)
            )
            for state in states
        ]

    def _predicted(self, rows: list[Row], adapters: list[Applied | None]) -> list[Tensor]:
        """The velocities of `rows`, by this rank alone or by all of them."""
        if self.team is not None:
            return self.team.predict(self, rows, adapters)
        with self.adapters.over(adapters):
            return self.predict(rows)

    def kept(self, state: Canvas) -> int:
        """See `DenoiseModel.kept`: of every token, what was seen and what was added."""
        return 0 if state.drawing.cache is None else 2 * self.cost(state) * self.feature_bytes()

    def skipped(self, state: Canvas) -> int:
        """See `DenoiseModel.skipped`."""
        return state.skipped

    def _pass(self, states: list[Canvas]) -> Pass:
        """What the rows of `states` bring to a pass of the network."""
        per_row = [
            (cache, memory, state.done + 1 == state.steps)
            for state in states
            for cache in (cache_of(state.drawing, self.curve),)
            for memory in (state.memories or (None,) * len(state.prepared))
        ]
        caches, memories, last = zip(*per_row, strict=True)
        return Pass(caches, memories, last)

    def _advanced(
        self, state: Canvas, velocities: list[Tensor], memories: tuple[Memory | None, ...]
    ) -> Canvas:
        velocity = velocities[0]
        if len(velocities) == 2:
            velocity = self.combine(velocities[0], velocities[1], self.manner(state))
        latents, history = self.sampler.step(state.latents, velocity, state.levels, state.done, state.history)
        if (frame := state.frame) is not None:
            kept = self.sampler.noised(frame.latents, frame.noise, state.levels[state.done + 1])
            latents = (1 - frame.mask) * kept + frame.mask * latents
        spared = all(memory is not None and memory.skipped for memory in memories)
        return replace(
            state,
            latents=latents,
            velocity=velocity,
            history=history,
            done=state.done + 1,
            memories=memories,
            skipped=state.skipped + spared,
        )

    def fault(self, state: Canvas) -> str | None:
        """See `DenoiseModel.fault`."""
        if torch.isfinite(state.latents).all():
            return None
        return (
            f"the latents are no numbers any more after step {state.done} of {state.steps}; "
            "try less guidance, or another --dtype (bfloat16, float32)"
        )

    def progress(self, state: Canvas) -> tuple[int, int]:
        """See `DenoiseModel.progress`."""
        return state.done, state.steps

    def preview(self, state: Canvas) -> Latents | None:
        """See `DenoiseModel.preview`: where the picture would be if the last velocity led all the way."""
        count, steps = state.drawing.previews, state.steps
        if state.velocity is None or state.done not in {
            round(steps * k / (count + 1)) for k in range(1, count + 1)
        }:
            return None
        latents = state.latents - state.levels[state.done] * state.velocity
        return Latents(latents, preview=True, sketch=not state.drawing.decoded)

    def result(self, state: Canvas) -> Latents:
        """See `DenoiseModel.result`."""
        return Latents(state.latents)


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What a VAE's stage takes: latents, and the note that its picture will carry; of a film, its frames a second."""

    latents: Latents
    note: str
    rate: float = 0.0


Bridge = Callable[[Chunk, dict[str, Any]], Chunk | None]


def condition(checkpoint: Checkpoint, model: Denoiser) -> Bridge:
    """The bridge from a text stage to a denoiser: one chunk, when all texts of the request have come."""

    def bridge(chunk: Chunk, state: dict[str, Any]) -> Chunk | None:
        request: Request = state["request"]
        texts = [number for number, part in enumerate(request.parts) if isinstance(part, Text)]
        found = state.setdefault("conditions", {})
        found[chunk.part] = chunk.payload
        if len(found) < len(texts):
            return None
        return Chunk(chunk.request, chunk.stage, Conditions(*(found[number] for number in texts)), final=True)

    return bridge


def finished(checkpoint: Checkpoint, model: Any) -> Bridge:
    """The bridge from a denoiser to a VAE."""

    def bridge(chunk: Chunk, state: dict[str, Any]) -> Chunk:
        request: Request = state["request"]
        drawing = request.drawing
        assert drawing is not None
        return replace(chunk, payload=Decoded(chunk.payload, note_of(request), drawing.fps or 0.0))

    return bridge
