"""What the painter and the talker take of the thinker's rows: the bridges behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tutti.errors import CheckpointError
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import Chunk, Nothing
from tutti.models.drawing.denoiser import Bridge, Conditions
from tutti.models.pico.config import drawing_config
from tutti.models.processor.tokenizer import load_tokenizer
from tutti.models.qwen2_5_omni import talker
from tutti.request import Request


def speak(source: Checkpoint, destination: talker.Talker) -> Bridge:
    """The bridge to the talker: Qwen2.5-Omni's, of the half of the rows that is for it."""
    follow = talker.follow(source, destination)

    def bridge(chunk: Chunk, state: dict[str, Any]) -> Chunk | None:
        rows = chunk.payload.rows
        if rows is None:
            return follow(chunk, state)
        half = rows[:, rows.shape[1] // 2 :]
        return follow(replace(chunk, payload=replace(chunk.payload, rows=half)), state)

    return bridge


def condition(source: Checkpoint, destination: None) -> Bridge:
    """The bridge to the painter: the hidden states of the answer's tokens before the sign, once that is written.

    An answer without the sign, or with nothing before it, brings nothing. Guidance leads away from one row of zeros.
    """
    settings = drawing_config(source.config)
    sign = load_tokenizer(source.path).token_id(settings.sign)
    if sign is None:
        raise CheckpointError(f"{source.path}: the tokenizer has no {settings.sign!r}, the sign of a picture")

    def bridge(chunk: Chunk, state: dict[str, Any]) -> Chunk | None:
        if state.get("ended"):
            return None
        output = chunk.payload
        tokens: list[int] = state.setdefault("tokens", [])
        rows: list[Tensor] = state.setdefault("rows", [])
        if output.rows is not None and tokens:  # rows that come before the first token are the prompt's
            rows += output.rows[:, : output.rows.shape[1] // 2].clone()  # not to keep the whole step's
        tokens += output.tokens
        place = tokens.index(sign) if sign in tokens else None
        if place and len(rows) >= place:
            state["ended"] = True
            caption = torch.stack(rows[: min(place, settings.rows)])
            return Chunk(chunk.request, chunk.stage, _conditions(state["request"], caption), final=True)
        if chunk.final:
            return Chunk(chunk.request, chunk.stage, Nothing(), final=True)
        return None

    return bridge


def _conditions(request: Request, caption: Tensor) -> Conditions:
    drawing = request.drawing
    guided = drawing is not None and (drawing.guidance or 0.0) > 0
    return Conditions((caption,), (torch.zeros_like(caption[:1]),) if guided else None)
