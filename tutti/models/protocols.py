"""What the engine asks of a model, by kind of stage.

A family's `build` function returns an object of one of these. The protocols are small on purpose: everything else
(scheduling, memory, sampling) is the engine's.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.formats.lora import Adapter
from tutti.graph import Chunk, KVGroup
from tutti.kernels.paged import LayerCache, PagedBatch
from tutti.request import MediaInput, PoolingParams, Request, SamplingParams

if TYPE_CHECKING:
    from tutti.models.drawing.parallel import Team


@dataclass(frozen=True, slots=True)
class ForwardInputs:
    """The tokens of one step, of all its requests, flattened.

    `tokens` int64 [tokens]; `positions` int64 [tokens], or [axes, tokens] of any number type for a model that places
    tokens (see `PlacesTokens`); `batches` one `PagedBatch` per entry of the model's `groups`; `embeds` [tokens, width]
    are the rows that other stages gave, present where `embed_mask` bool [tokens] is set: an encoder's replace the
    embedding, what a model makes of a language model's is its own matter. `memories`, one per request, are what a model
    that remembers made of its requests' media (see `Remembers`). `codes` int64 [tokens, further] are the codes that go
    with tokens of the output, -1 with those of the prompt, for a model that completes its tokens (`CompletesTokens`).
    """

    tokens: Tensor
    positions: Tensor
    batches: tuple[PagedBatch, ...]
    embeds: Tensor | None = None
    embed_mask: Tensor | None = None
    memories: tuple[Any, ...] | None = None
    codes: Tensor | None = None


class CausalModel(Protocol):
    """An autoregressive stage's model: embeds, runs its layers over the paged cache, projects to logits."""

    groups: tuple[KVGroup, ...]
    vocab_size: int  # rows of the logits; may exceed the tokenizer's
    context: int  # the longest sequence, in tokens

    def forward(self, inputs: ForwardInputs, caches: Sequence[LayerCache]) -> Tensor:
        """Hidden states after the last norm, [tokens, hidden]. `caches` has one entry per layer, by layer index."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Float32 logits [rows, vocab_size] of hidden states [rows, hidden]."""
        ...

    def weight_bytes(self) -> int:
        """Bytes of memory the weights hold, packed copies included."""
        ...


@runtime_checkable
class TakesAdapters(Protocol):
    """A causal model whose linear layers take low-rank additions."""

    def adapt(self, adapter: Adapter, dtype: torch.dtype) -> None:
        """Adds an adapter, computed in `dtype`, for everything that is computed from now on. Raises CheckpointError."""
        ...


@runtime_checkable
class NamesAdapters(Protocol):
    """A model of which each request may have another adapter, by its name."""

    def serve_adapters(self, checkpoint: Checkpoint, paths: Mapping[str, Path], room: int) -> None:
        """Have the adapters at `paths` at hand, in `room` bytes; all are checked now.

        Raises CheckpointError, ConfigError.
        """
        ...


@runtime_checkable
class PlacesTokens(Protocol):
    """A causal model whose tokens have positions on several axes (M-RoPE), which media decide."""

    def positions(self, request: Request) -> np.ndarray:
        """Positions [axes, tokens] of the prompt; what follows goes on from the largest, on all axes.

        int64, or float64 where a video's frames stand between whole positions.
        """
        ...


@runtime_checkable
class Remembers(Protocol):
    """A causal model whose every token looks at all rows of the request's media (cross-attention).

    What it keeps of them is made when a request begins to run, handed back with every step in
    `ForwardInputs.memories`, and let go when the request ends or is preempted; `StageShape.memory` says how much it is.
    """

    def remember(self, media: Sequence[tuple[MediaInput, Tensor]]) -> Any:
        """The memory of these media, in order, each with its rows [rows, width]; never None. Raises InvalidRequest."""
        ...


@runtime_checkable
class ShapesLogits(Protocol):
    """A causal model with rules of its own for what may come next."""

    def shape_logits(self, logits: Tensor, tokens: Sequence[Sequence[int]], prompts: Sequence[int]) -> Tensor:
        """Float32 `logits` [rows, vocab_size], which may be changed in place, after the model's rules.

        Row i continues `tokens[i]`, of which the first `prompts[i]` are the prompt.
        """
        ...


@runtime_checkable
class CompletesTokens(Protocol):
    """A causal model each of whose output tokens stands for several codes: itself and `further` more.

    Codecs with several codebooks need them: the token is the first codebook's code, and what the model embeds in the
    next step is made of all of them (`ForwardInputs.codes`).
    """

    further: int

    def complete(self, hidden: Tensor, tokens: Tensor, uniforms: Tensor) -> Tensor:
        """The codes int64 [rows, further] that go with `tokens` int64 [rows], chosen from `hidden` [rows, hidden].

        All requests that sampled in a step come together. `uniforms` float64 [rows, further] in [0, 1) are what codes
        are drawn by; a row of NaN takes the likeliest ones.
        """
        ...


@runtime_checkable
class EmitsRows(Protocol):
    """A causal model that other stages listen to."""

    def forward_emitting(self, inputs: ForwardInputs, caches: Sequence[LayerCache]) -> tuple[Tensor, Tensor]:
        """What `forward` gives, and the rows [tokens, width] that other stages take of each token."""
        ...


@runtime_checkable
class FollowsRows(Protocol):
    """A causal model that takes no part of the request: every token it computes has a row of another stage.

    `eos_ids` end its output; `sampling` is how its tokens are chosen unless the request says otherwise; `voices` are
    those it speaks with, the first one mainly, if it speaks.
    """

    eos_ids: frozenset[int]
    sampling: SamplingParams
    voices: tuple[str, ...]

    def prompt(self, request: Request) -> list[int]:
        """The tokens it begins with. Raises InvalidRequest, for instance on a voice it does not have."""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """What an edge brings to a model that follows: `rows` [tokens, width] of its next tokens.

    `last` [1, width], when given, is the row of every token after them: nothing more comes.
    """

    rows: Tensor
    last: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Sound:
    """What leaves a graph as audio: `samples` float32 [samples] in [-1, 1] at `rate` Hz.

    Of several channels they are [samples, channels]. `note` says how it was made, as JSON; the file carries it.
    """

    samples: Tensor
    rate: int
    note: str = ""


@runtime_checkable
class Pools(Protocol):
    """A model of one pass that makes one vector of a prompt; `OnceModel.cost` counts the prompt's tokens."""

    context: int  # the longest prompt, in tokens
    vocab_size: int
    width: int  # of a vector

    def finish(self, pooled: Tensor, wishes: PoolingParams) -> Tensor:
        """What the caller gets of the vector that `run` gave, float32 [numbers] on the CPU."""
        ...


@dataclass(frozen=True, slots=True)
class Vector:
    """What leaves a graph as an embedding or a score: `values` float32 [numbers], of a prompt of so many tokens.

    `queue_time` and `time` are the seconds before and in the step that made it.
    """

    values: Tensor
    tokens: int
    queue_time: float
    time: float


class OnceModel(Protocol):
    """The model of a stage of one pass: an encoder, a VAE, a vocoder."""

    def take(self, part: Any) -> Any:
        """A part of a request as the item that is computed. Raises TuttiError on what it cannot read."""
        ...

    def cost(self, item: Any) -> int:
        """The work an item is, in units of the stage's budget (frames, patches)."""
        ...

    def bucket(self, item: Any) -> Hashable:
        """Items are computed together only if these are equal."""
        ...

    def run(self, items: list[Any]) -> list[Any]:
        """One pass; a payload per item."""
        ...


@runtime_checkable
class Splits(Protocol):
    """A model of one pass whose long items can be computed in pieces: no step is long, and no memory large."""

    def split(self, item: Any) -> Sequence[Any]:
        """The pieces of an item, one at least, each of which `cost`, `bucket` and `run` take as an item."""
        ...

    def join(self, payloads: list[Any]) -> Any:
        """The item's payload, of its pieces' in order."""
        ...


@dataclass(frozen=True, slots=True)
class Picture:
    """What leaves a graph as a picture: `pixels` uint8 [height, width, 3].

    `note` says how it was made, as JSON; the file carries it. A `preview` is of a picture that is still being drawn.
    """

    pixels: np.ndarray
    note: str = ""
    preview: bool = False


@runtime_checkable
class Gathers(Protocol):
    """A model of denoising that several edges feed."""

    def gather(self, request: Request, brought: Sequence[Chunk]) -> Any | None:
        """The condition of a request, made of all that the edges `brought` so far; None while something is to come."""
        ...


@runtime_checkable
class Shares(Protocol):
    """A model of denoising whose network several ranks can compute together."""

    team: Team | None

    def share(self, team: Team) -> None:
        """Compute together with the `team`, from now on. Raises ConfigError where that cannot be."""
        ...


@dataclass(frozen=True, slots=True)
class Film:
    """What leaves a graph as a film: `frames` uint8 [frames, height, width, 3], `rate` of them a second.

    `note` says how it was made, as JSON; the file carries it.
    """

    frames: np.ndarray
    rate: float
    note: str = ""


@runtime_checkable
class OneByOne(Protocol):
    """A model of denoising that works on one request until it is done; the others wait."""

    def close(self, state: Any) -> None:
        """A request is over, however it ended: let go of what its state holds."""
        ...


class DenoiseModel(Protocol):
    """The model of a stage of denoising. A state is its own: latents, sampler position, conditions."""

    def start(self, request: Request, condition: Any) -> Any:
        """The state of a request before its first step; `condition` is what the edges brought, or None.

        Raises InvalidRequest on what cannot be drawn.
        """
        ...

    def cost(self, state: Any) -> int:
        """The work of one step, in tokens of all its rows: guidance takes two rows."""
        ...

    def key(self, state: Any) -> Hashable:
        """Requests whose states have the same key may share a batch."""
        ...

    def step(self, states: list[Any]) -> list[Any]:
        """The states one sampler step later. The given states are not changed."""
        ...

    def kept(self, state: Any) -> int:
        """Bytes that a state holds between its steps, once begun, besides its latents and conditions."""
        ...

    def skipped(self, state: Any) -> int:
        """How many of the steps that are done were spared most of their work."""
        ...

    def fault(self, state: Any) -> str | None:
        """What is wrong with a state so that it cannot go on (values that are no numbers), or None."""
        ...

    def progress(self, state: Any) -> tuple[int, int]:
        """How many steps are done, and how many there are in all."""
        ...

    def preview(self, state: Any) -> Any | None:
        """The payload that shows a state on its way, where one was asked for at this step."""
        ...

    def result(self, state: Any) -> Any:
        """The payload of a finished state."""
        ...
