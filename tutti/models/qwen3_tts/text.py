"""The text as the talker takes it: embedded, and brought to the talker's width. And the bridge to the talker."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions, Chunk
from tutti.layers.embedding import Embedding
from tutti.layers.parameters import LoadOptions, Named, prefixed
from tutti.models.protocols import Rows
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen3_omni.talker import Projection
from tutti.models.qwen3_tts.config import text_width
from tutti.models.qwen3_tts.prompt import SIGNS
from tutti.models.qwen3_tts.talker import Talker
from tutti.models.reading import require
from tutti.models.weights import PlainSource, load
from tutti.request import Tokens

OTHERS = (r"talker\.(?!model\.text_embedding|text_projection).*", r"speaker_encoder\..*")
_TABLE = {
    "embed": "talker.model.text_embedding",
    "project.up": "talker.text_projection.linear_fc1",
    "project.down": "talker.text_projection.linear_fc2",
}


class Text:
    """Implements `models.protocols.OnceModel`; an item is a text's tokens, int64 [tokens]."""

    def __init__(self, embed: Embedding, project: Projection, signs: list[int], device: torch.device) -> None:
        """`signs` are the tokens whose rows follow every text's."""
        self.embed = embed
        self.project = project
        self.signs = signs
        self.device = device

    def parameters(self) -> Named:
        """`embed` and `project.*`."""
        yield "embed", self.embed
        yield from prefixed("project", self.project.parameters())

    def take(self, part: Tokens) -> Tensor:
        """See `OnceModel.take`."""
        return torch.tensor([*part.ids, *self.signs])

    def cost(self, item: Tensor) -> int:
        """See `OnceModel.cost`: tokens."""
        return len(item)

    def bucket(self, item: Tensor) -> Hashable:
        """See `OnceModel.bucket`: texts of all lengths are computed together."""
        return None

    def run(self, items: list[Tensor]) -> list[Tensor]:
        """Rows [tokens + signs, talker's width] per item."""
        rows = self.project(self.embed(torch.cat(items).to(self.device)))
        return list(rows.split([len(item) for item in items]))


def follow(checkpoint: Checkpoint, talker: Talker) -> Callable[[Chunk, dict[str, Any]], Chunk | None]:
    """The bridge: all rows at once, since the whole text is known."""

    def bridge(chunk: Chunk, state: dict[str, Any]) -> Chunk | None:
        rows, last = talker.prompts.rows(state["request"], chunk.payload)
        return Chunk(chunk.request, chunk.stage, Rows(rows, last), chunk.final)

    return bridge


@torch.inference_mode()
def build(checkpoint: Checkpoint, options: BuildOptions) -> Text:
    """The model with its weights."""
    config = checkpoint.config
    section = part(config, "talker_config")
    width, device = text_width(config), torch.device(options.device)
    shape = {
        "intermediate_size": width,
        "hidden_size": require(section, "hidden_size"),
        "hidden_act": section.get("hidden_act", "silu"),
    }
    embed = Embedding(int(section.get("text_vocab_size", 151936)), width)
    signs = [int(require(config, f"tts_{name}_token_id")) for name in SIGNS]
    text = Text(embed, Projection(width, shape), signs, device)
    loading = LoadOptions(device, getattr(torch, options.dtype))
    load(text.parameters(), _TABLE, PlainSource(checkpoint), loading, OTHERS)
    return text
