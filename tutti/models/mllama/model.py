"""Llama 3.2 Vision's language model: Llama's decoder, with gated layers between that look at pictures.

The keys and values of the pictures are computed when a request begins to run, and stay until it ends. Where no picture
is, the layers between are left out, and the model is Llama.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.kernels.paged import LayerCache
from tutti.layers.embedding import Embedding
from tutti.layers.parameters import Named, prefixed
from tutti.models import decoder
from tutti.models.block import Block
from tutti.models.config import DecoderConfig
from tutti.models.mllama.config import EXTRA_TOKENS, SightConfig, decoder_config, sight_config, tile_config
from tutti.models.mllama.looking import KeyValue, Look, PictureLayer, Place, looks
from tutti.models.protocols import ForwardInputs
from tutti.models.standard import TABLE
from tutti.models.weights import Table, renamed
from tutti.request import MediaInput

_LAYER = "model.layers.{}"
_TABLE: dict[str, str | tuple[str, ...]] = TABLE | {
    "layers.{}.pictures.query": f"{_LAYER}.cross_attn.q_proj",
    "layers.{}.pictures.key_value": (f"{_LAYER}.cross_attn.k_proj", f"{_LAYER}.cross_attn.v_proj"),
    "layers.{}.pictures.out": f"{_LAYER}.cross_attn.o_proj",
    "layers.{}.pictures.q_norm": f"{_LAYER}.cross_attn.q_norm",
    "layers.{}.pictures.k_norm": f"{_LAYER}.cross_attn.k_norm",
    "layers.{}.pictures_gate": f"{_LAYER}.cross_attn_attn_gate",
    "layers.{}.feed_forward_gate": f"{_LAYER}.cross_attn_mlp_gate",
}
# Where the language model's layers and its head lie, in checkpoints of either generation of transformers.
_PLACES = {"language_model.model.": "language_model.lm_head", "model.language_model.": "lm_head"}
_VISION = (r"(model\.)?(vision_model|multi_modal_projector)\..*",)


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a request keeps of its pictures: keys and values of each layer, and who looks at which rows."""

    layers: tuple[KeyValue, ...]
    places: tuple[Place, ...]


class PictureDecoder(decoder.Decoder):
    """Implements `models.protocols.CausalModel` and `Remembers`."""

    def __init__(
        self, config: DecoderConfig, sight: SightConfig, rows: int, device: torch.device, context: int | None
    ) -> None:
        """`config` is of Llama's own layers, `sight` of those between; `rows` are those of a tile."""
        super().__init__(config, device, context)
        self.rows = rows
        self.vocab_size = config.vocab + EXTRA_TOKENS
        self.embed = Embedding(self.vocab_size, config.hidden, config.embed_scale)
        own = iter(self.blocks)
        count = len(self.blocks) + len(sight.layers)
        self.layers: list[Block | PictureLayer] = [
            PictureLayer(config, sight) if number in sight.layers else next(own) for number in range(count)
        ]

    def parameters(self) -> Named:
        """As `Decoder.parameters`, layers numbered among all; those between have `pictures.*` and gates."""
        yield "embed", self.embed
        yield "head", self.head
        for number, layer in enumerate(self.layers):
            yield from prefixed(f"layers.{number}", layer.parameters())
        yield "norm", self.norm

    @torch.inference_mode()
    def remember(self, media: Sequence[tuple[MediaInput, Tensor]]) -> Pictures:
        """See `Remembers.remember`: the pictures' keys and values, one picture after the other."""
        if not media:
            return Pictures((), ())
        places, first = [], 0
        for picture, rows in media:
            seen = first + int(picture.attributes["tiles"]) * self.rows
            places.append(Place(picture.attributes["start"], picture.attributes["stop"], first, seen))
            first += len(rows)
        everything = torch.cat([rows for _, rows in media])
        return Pictures(
            tuple(layer.pictures.remember(everything) for layer in self._between()), tuple(places)
        )

    @torch.inference_mode()
    def forward(self, inputs: ForwardInputs, caches: Sequence[LayerCache]) -> Tensor:
        """See `CausalModel.forward`; without memories (when its memory is measured) nothing is seen."""
        (batch,) = inputs.batches
        rotation = self.ropes[0](inputs.positions)
        memories: Sequence[Pictures] = inputs.memories or ()
        starts = batch.query_starts.tolist()
        looking = [
            (memory, first, last)
            for memory, first, last in zip(memories, starts[:-1], starts[1:], strict=False)
            if memory.places
        ]
        tokens = torch.cat([torch.arange(0), *(torch.arange(first, last) for _, first, last in looking)])
        tokens = tokens.to(inputs.tokens.device)
        views = self._views(looking, inputs.positions)
        x = self.begin(inputs)
        residual: Tensor | None = None
        cache, between = iter(caches), itertools.count()
        for layer in self.layers:
            if not isinstance(layer, PictureLayer):
                x, residual = layer(x, residual, rotation, batch, next(cache))
            elif looking:
                number = next(between)
                x, residual = x if residual is None else x + residual, None
                kept = [memory.layers[number] for memory, _, _ in looking]
                x = x.index_copy(0, tokens, layer(x[tokens], views, kept))
        return self.norm.add(x, residual)[0]

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """See `CausalModel.logits`; the tokens beyond the vocabulary are never said."""
        return torch.nn.functional.pad(super().logits(hidden), (0, EXTRA_TOKENS), value=-torch.inf)

    def _between(self) -> Iterator[PictureLayer]:
        return (layer for layer in self.layers if isinstance(layer, PictureLayer))

    def _views(self, looking: list[tuple[Pictures, int, int]], positions: Tensor) -> list[Look]:
        """Who looks at what, tokens counted among those of the requests with pictures."""
        found: list[Look] = []
        offset = 0
        for number, (memory, first, last) in enumerate(looking):
            begin = int(positions[first])
            found += looks(number, memory.places, begin, begin + last - first, offset - begin)
            offset += last - first
        return found


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights."""
    config = checkpoint.config
    sight, rows = sight_config(config), tile_config(config).rows

    def make(own: DecoderConfig, device: torch.device, context: int | None) -> PictureDecoder:
        return PictureDecoder(own, sight, rows, device, context)

    return decoder.build(checkpoint, options, decoder_config(config), _table(checkpoint), _VISION, kind=make)


def _table(checkpoint: Checkpoint) -> Table:
    for prefix, head in _PLACES.items():
        if f"{prefix}embed_tokens.weight" in checkpoint.tensors:
            return renamed(_TABLE, "model.", prefix) | {"head": head}
    return _TABLE
