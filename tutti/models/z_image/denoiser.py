"""Z-Image's transformer over packed rows: pictures of any sizes in one batch, with nothing padded to the longest.

diffusers' transformer takes rows of different lengths, and pads them. Here the rows of a batch are laid end to end; all
that its blocks do is per token, but for the attention, in which each row looks at itself alone. What the blocks make of
a caption does not depend on the time, so it is computed once a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.blocks import Groups, Turns, pack_linears, turns_of
from tutti.models.drawing.denoiser import Canvas, Condition, Denoiser, Row
from tutti.models.drawing.describe import vae_pixels
from tutti.models.drawing.flow import FlowMatching, flow_matching
from tutti.models.drawing.parts import component, load_module
from tutti.models.z_image.blocks import through
from tutti.models.z_image.config import PATCH
from tutti.request import Drawing

_PATCHES = f"{PATCH}-1"  # the name of the layers for patches of two by two, in one frame


@dataclass(frozen=True, slots=True, eq=False)
class Caption:
    """A caption after its own blocks: `tokens` [length, width], and their places."""

    tokens: Tensor
    turns: Turns


class ZImageDenoiser(Denoiser):
    """See the module."""

    adapts = True

    def __init__(self, transformer: Any, sampler: FlowMatching, *, pixels: int, device: str) -> None:
        super().__init__(sampler, channels=transformer.in_channels, pixels=pixels, device=device)
        self.net = transformer
        pack_linears((*transformer.noise_refiner, *transformer.context_refiner, *transformer.layers))

    def prepare(self, condition: Condition) -> Caption:
        """See `Denoiser.prepare`."""
        net, caption = self.net, condition[0].to(self.net.dtype)
        whole = len(caption) + (-len(caption)) % 32
        padded, places, blank, _, _ = net._pad_with_ids(caption, (whole, 1, 1), (1, 0, 0), self.device)
        tokens = torch.where(blank[:, None], net.cap_pad_token, net.cap_embedder(padded))
        turns = self._turns(places[:whole])
        groups = Groups([whole], self.device)
        for block in net.context_refiner:
            tokens = through(block, tokens, groups, [whole], turns)
        return Caption(tokens, turns)

    def width(self, prepared: Caption) -> int:
        """See `Denoiser.width`."""
        return len(prepared.tokens)

    def key(self, state: Canvas) -> Hashable:
        """Any pictures share a batch."""
        return None

    def signal(self, block: Any, hidden: Tensor, temb: Tensor) -> Tensor:
        """See `Denoiser.signal`."""
        scale = 1.0 + block.adaLN_modulation(temb)[:, None].chunk(4, dim=-1)[0]
        found: Tensor = block.attention_norm1(hidden) * scale
        return found

    def feature_bytes(self) -> int:
        """See `Denoiser.feature_bytes`."""
        return int(self.net.dim) * int(self.net.dtype.itemsize)

    def combine(self, positive: Tensor, negative: Tensor, drawing: Drawing) -> Tensor:
        """Guidance, counted from the prompt's own velocity: 0 is none."""
        return positive + (drawing.guidance or 0.0) * (positive - negative)

    def predict(self, rows: list[Row]) -> list[Tensor]:
        """See `Denoiser.predict`."""
        net = self.net
        captions: list[Caption] = [row.prepared for row in rows]
        patches, sizes, turns = self._patches(rows)
        time = 1 - torch.stack([row.level for row in rows])
        moment = net.t_embedder(time * net.t_scale).to(net.dtype)
        found = self._through(net.noise_refiner, patches, turns, moment, range(len(rows)))
        joined = [torch.cat([one, caption.tokens]) for one, caption in zip(found, captions, strict=True)]
        both = [
            (torch.cat([one[0], caption.turns[0]]), torch.cat([one[1], caption.turns[1]]))
            for one, caption in zip(turns, captions, strict=True)
        ]
        found = self._layers(joined, both, moment, [len(one) for one in patches])
        found = self._each(lambda one, time: net.all_final_layer[_PATCHES](one, c=time), found, moment)
        velocities = net.unpatchify(found, sizes, PATCH, 1)
        return [-one[:, 0].float() for one in velocities]

    def _layers(
        self, rows: list[Tensor], turns: list[Turns], moment: Tensor, lengths: list[int]
    ) -> list[Tensor]:
        """`rows` through the network's layers, with the feature caches; their pictures' tokens, the first `lengths`."""
        first, *others = self.net.layers
        passing = self.gate.current
        if passing is None:
            found = self._through((first, *others), rows, turns, moment, range(len(rows)))
            return [one[:length] for one, length in zip(found, lengths, strict=True)]

        def pictures(rows: list[Tensor]) -> list[Tensor]:
            return [one[: lengths[row]] for one, row in zip(rows, passing.left, strict=True)]

        signals = pictures(rows)
        if passing.early:
            signals = self._each(partial(self.signal, first), signals, moment)
        passing.enter(pictures(rows), signals)
        entered, places = passing.left, [turns[row] for row in passing.left]
        before = [rows[row] for row in entered]
        after = self._through((first,), before, places, moment[entered], entered)
        passing.look(pictures(before), pictures(after))
        kept = [number for number, row in enumerate(entered) if row in passing.left]
        after = [after[number] for number in kept]
        places = [places[number] for number in kept]
        after = self._through(others, after, places, moment[passing.left], passing.left)
        return passing.end(pictures(after))

    def _each(
        self, function: Callable[[Tensor, Tensor], Tensor], rows: list[Tensor], moment: Tensor
    ) -> list[Tensor]:
        """What `function` makes of each of all rows, and of its time, as a batch of one."""
        found = []
        for number, row in enumerate(rows):
            with self.adapters.at((number,)):
                found.append(function(row[None], moment[number : number + 1])[0])
        return found

    def _turns(self, places: Tensor) -> Turns:
        turns = self.net.rope_embedder(places)
        return turns_of(turns.real, turns.imag)

    def _patches(self, rows: list[Row]) -> tuple[list[Tensor], list[Any], list[Turns]]:
        """Of each row: the embedded patches [patches, width], the latents' size, the patches' rotations."""
        net = self.net
        found, sizes, places, blanks = [], [], [], []
        for row in rows:
            latents = row.latents[:, None].to(net.dtype)
            patches, size, grid = net._patchify_image(latents, PATCH, 1)
            start = (len(row.prepared.tokens) + 1, 0, 0)
            padded, place, blank, _, _ = net._pad_with_ids(patches, grid, start, self.device)
            found.append(padded)
            sizes.append(size)
            places.append(place)
            blanks.append(blank)
        lengths = [len(one) for one in found]
        with self.adapters.at(range(len(rows)), lengths):
            embedded = net.all_x_embedder[_PATCHES](torch.cat(found))
        embedded = torch.where(torch.cat(blanks)[:, None], net.x_pad_token, embedded)
        cosines, sines = (one.split(lengths) for one in self._turns(torch.cat(places)))
        return list(embedded.split(lengths)), sizes, list(zip(cosines, sines, strict=True))

    def _through(
        self,
        blocks: Any,
        rows: list[Tensor],
        turns: list[Turns],
        moment: Tensor,
        who: Sequence[int],
    ) -> list[Tensor]:
        """`rows` [tokens, width] of any lengths through `blocks`; they are the rows `who` of the batch.

        `moment` [rows, width] is what the network made of each row's time.
        """
        if not rows:
            return rows
        lengths = [len(row) for row in rows]
        tokens, groups = torch.cat(rows), Groups(lengths, self.device)
        cosines, sines = zip(*turns, strict=True)
        places = torch.cat(cosines), torch.cat(sines)
        with self.adapters.at(who, lengths):
            for block in blocks:
                tokens = through(block, tokens, groups, lengths, places, moment)
        return list(tokens.split(lengths))


def build(checkpoint: Checkpoint, options: BuildOptions) -> ZImageDenoiser:
    """The stage's model."""
    return ZImageDenoiser(
        load_module(checkpoint, "transformer", options),
        flow_matching(component(checkpoint.config, "scheduler")),
        pixels=vae_pixels(checkpoint.config),
        device=options.device,
    )
