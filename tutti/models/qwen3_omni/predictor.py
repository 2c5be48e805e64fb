"""The code predictor: a small decoder that makes the further codes of a frame, one codebook after the other.

It begins every frame anew, from the talker's hidden state and the frame's first code. Its keys and values live for one
frame only: each row of the batch has one block of a cache of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tutti.kernels import argmax
from tutti.kernels.paged import LayerCache, PagedBatch
from tutti.layers.candidates import Filters, draw_filtered
from tutti.layers.embedding import Embedding
from tutti.layers.linear import Linear
from tutti.layers.parameters import Named, prefixed
from tutti.models.config import DecoderConfig
from tutti.models.decoder import Decoder
from tutti.models.protocols import ForwardInputs


@dataclass(frozen=True, slots=True)
class Drawing:
    """How codes are drawn; a temperature of 0 takes the likeliest ones always."""

    top_k: int = 50
    top_p: float = 0.8
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of a frame: where the tokens of all rows stand."""

    positions: Tensor  # int64 [tokens]
    batch: PagedBatch


class CodePredictor(Decoder):
    """A decoder with a head and an embedding for each of the `further` codes of a frame."""

    def __init__(
        self,
        config: DecoderConfig,
        further: int,
        device: torch.device,
        width: int | None = None,
        drawing: Drawing | None = None,
    ) -> None:
        """`width` is that of the talker, in which codes are embedded, where it is another."""
        super().__init__(config, device, further + 1)
        self.further = further
        self.device = device
        self.drawing = drawing or Drawing()
        width = width or config.hidden
        self.project = Linear(width, config.hidden, bias=True) if width != config.hidden else None
        self.heads = [Linear(config.hidden, config.vocab) for _ in range(further)]
        self.tables = [Embedding(config.vocab, width) for _ in range(further)]
        self._caches: list[LayerCache] = []
        self._steps: dict[int, list[_Step]] = {}  # by rows

    def parameters(self) -> Named:
        """`layers.N.*`, `norm`, `project`, `heads.N.linear` and `tables.N.rows`."""
        for name, parameter in super().parameters():
            if name not in ("embed", "head"):
                yield name, parameter
        if self.project is not None:
            yield "project", self.project
        for number, (head, table) in enumerate(zip(self.heads, self.tables, strict=True)):
            yield from prefixed(f"heads.{number}", iter([("linear", head)]))
            yield from prefixed(f"tables.{number}", iter([("rows", table)]))

    def begin(self, inputs: ForwardInputs) -> Tensor:
        """The first layer's input: what was embedded already, in the predictor's own width."""
        assert inputs.embeds is not None
        return inputs.embeds if self.project is None else self.project(inputs.embeds)

    @torch.inference_mode()
    def predict(self, hidden: Tensor, first: Tensor, uniforms: Tensor) -> Tensor:
        """The further codes int64 [rows, further] of frames whose first code is embedded as `first` [rows, hidden].

        `uniforms` as in `CompletesTokens.complete`.
        """
        rows = len(hidden)
        caches, steps = self._places(rows, hidden.dtype)
        x = torch.stack([hidden, first.to(hidden.dtype)], dim=1).flatten(0, 1)
        draws = bool(self.drawing.temperature) and not bool(uniforms.isnan().all())
        codes = []
        for number, step in enumerate(steps):
            inputs = ForwardInputs(step.positions, step.positions, (step.batch,) * len(self.groups), x)
            state = self.run(inputs, caches)[0].view(rows, -1, self.config.hidden)[:, -1]
            logits = self.heads[number](state.contiguous(), torch.float32)
            chosen = choose(logits, uniforms[:, number], self.drawing) if draws else argmax(logits)
            codes.append(chosen)
            x = self.tables[number](chosen)
        return torch.stack(codes, dim=1)

    def embed_codes(self, codes: Tensor) -> Tensor:
        """The sum of the embeddings [rows, hidden] of further codes [rows, further]."""
        total = self.tables[0](codes[:, 0])
        for number in range(1, self.further):
            total = total + self.tables[number](codes[:, number])
        return total

    def _places(self, rows: int, dtype: torch.dtype) -> tuple[list[LayerCache], list[_Step]]:
        """Caches with a block for each of `rows` rows (block 0 is nobody's), and the steps of a frame."""
        if not self._caches or len(self._caches[0].key) <= rows:
            attention = [self.groups[index] for index in self._group_of]
            self._caches = [
                LayerCache(
                    *(self._block(rows, one.kv_heads, width, dtype) for width in (one.key_dim, one.value_dim))
                )
                for one in attention
            ]
        if rows not in self._steps:
            self._steps[rows] = [self._step(rows, number) for number in range(self.further)]
        return self._caches, self._steps[rows]

    def _block(self, rows: int, heads: int, width: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(rows + 1, heads, self.further + 1, width, dtype=dtype, device=self.device)

    def _step(self, rows: int, number: int) -> _Step:
        """The first step takes two tokens of each row, the others one."""
        places = torch.arange(2) if number == 0 else torch.tensor([number + 1])
        count, size = len(places), self.further + 1
        blocks = torch.arange(1, rows + 1)
        batch = PagedBatch(
            torch.arange(0, rows * count + 1, count, dtype=torch.int32),
            torch.full((rows,), int(places[-1]) + 1, dtype=torch.int32),
            blocks[:, None].int(),
            (blocks[:, None] * size + places).flatten(),
            count,
            int(places[-1]) + 1,
        )
        return _Step(places.repeat(rows).to(self.device), batch.to(self.device))


def choose(logits: Tensor, uniforms: Tensor, drawing: Drawing) -> Tensor:
    """A code int64 [rows] by float32 `logits` [rows, codes]: drawn by `uniforms` [rows], the likeliest where NaN."""
    likeliest = argmax(logits)
    drawn = ~uniforms.isnan()
    shifted = (logits[drawn] - logits[drawn].amax(-1, keepdim=True)) / drawing.temperature
    likeliest[drawn] = draw_filtered(shifted, _filters(shifted, drawing), uniforms[drawn])
    return likeliest


def _filters(logits: Tensor, drawing: Drawing) -> Filters:
    rows, vocab = logits.shape
    return Filters(
        torch.full((rows,), min(drawing.top_k or vocab, vocab), device=logits.device),
        torch.full((rows,), drawing.top_p, dtype=torch.float64, device=logits.device),
        torch.zeros(rows, dtype=torch.float64, device=logits.device),
    )
