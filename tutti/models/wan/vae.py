"""Wan's VAE, whose latents are normalized channel by channel; and what it and CLIP make of a film's first picture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.describe import vae_pixels
from tutti.models.drawing.film import FilmDecoder, FilmEncoder, Opening
from tutti.models.drawing.parts import component, load_module
from tutti.models.drawing.vae import load_half
from tutti.models.processor.files import Colours, colours
from tutti.models.towers import normalized
from tutti.models.wan.config import describe_vae, every, is_small, pictures, seen


class WanVae(FilmDecoder):
    """See the module."""

    def decode(self, latents: Tensor) -> Tensor:
        """See `FilmDecoder.decode`."""
        mean, deviation = _normal(self.vae, latents)
        values: Tensor = self.vae.decode(latents / (1.0 / deviation) + mean, return_dict=False)[0]
        return values


class WanEncoder(FilmEncoder):
    """Gives ([channels, 1, rows, columns],) to a model that holds a film's first latent frame.

    To one that is shown a film: ([every + channels, frames, rows, columns], ...), the mask of the frames that are
    there before the latents of a film in which all others are grey; and, with a CLIP, [1 or 2, tokens, width], what it
    makes of the pictures.
    """

    def __init__(self, vae: Any, budget: int, pixels: int, *, every: int | None, clip: Clip | None) -> None:
        """`every` frames are a latent frame of a model that is shown a film; None: the first is held."""
        super().__init__(vae, budget, pixels)
        self.every = every
        self.clip = clip

    def encode(self, openings: list[Opening]) -> list[tuple[Tensor, ...]]:
        """See `FilmEncoder.encode`."""
        found = self._latents(self._film(self.frames(openings), openings[0].frames))
        if self.every is None:
            return [(one,) for one in found]
        mask = self._mask(len(openings[0].pixels), found)
        shown = [torch.cat([mask, one]) for one in found]
        if self.clip is None:
            return [(one,) for one in shown]
        return [(one, self.clip.see(opening)) for one, opening in zip(shown, openings, strict=True)]

    def _film(self, pictures: Tensor, frames: int) -> Tensor:
        """`pictures` [films, 3, 1 or 2, height, width] where they are in the film that the model is shown."""
        if self.every is None:
            return pictures
        first, *last = pictures.split(1, dim=2)
        grey = first.new_zeros(*first.shape[:2], frames - 1 - len(last), *first.shape[3:])
        return torch.cat([first, grey, *last], dim=2)

    def _latents(self, film: Tensor) -> Tensor:
        latents = self.vae.encode(film).latent_dist.mean.float()
        mean, deviation = _normal(self.vae, latents)
        return (latents - mean) * (1.0 / deviation)

    def _mask(self, count: int, latents: Tensor) -> Tensor:
        """1 where one of `count` pictures is, [every, frames, rows, columns]; the first latent frame is one frame."""
        assert self.every is not None
        *_, frames, rows, columns = latents.shape
        mask = latents.new_zeros(frames, self.every)
        mask[0] = 1
        mask[-1, -1] = max(mask[-1, -1].item(), count - 1)
        return mask.T[:, :, None, None].expand(-1, -1, rows, columns)


class Clip:
    """The vision encoder of CLIP."""

    def __init__(self, net: Any, colours: Colours) -> None:
        self.net = net
        self.colours = colours

    def see(self, opening: Opening) -> Tensor:
        """The states before the last layer, [1 or 2, tokens, width]."""
        pixels = normalized(torch.tensor(opening.glances), self.colours).movedim(-1, 1)
        states = self.net(pixels.to(self.net.device, self.net.dtype), output_hidden_states=True).hidden_states
        found: Tensor = states[-2]
        return found


def _normal(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel of the VAE's own latents, [channels, 1, 1, 1]."""
    mean, deviation = (
        torch.tensor(values, device=like.device, dtype=like.dtype)[:, None, None, None]
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return mean, deviation


def build(checkpoint: Checkpoint, options: BuildOptions) -> WanVae:
    """The model of the stage that decodes."""
    return WanVae(load_half(checkpoint, options, "decoder"), describe_vae(checkpoint.config).rows)


def build_encoder(checkpoint: Checkpoint, options: BuildOptions) -> WanEncoder:
    """The model of the stage that encodes pictures; of a model that takes none, it is empty."""
    config = checkpoint.config
    _, most = pictures(config)
    clip = None
    if seen(config) is not None:
        net = load_module(checkpoint, "image_encoder", options)
        clip = Clip(net, colours(component(config, "image_processor")))
    return WanEncoder(
        load_half(checkpoint, options, "encoder") if most else None,
        describe_vae(config).rows,
        vae_pixels(config),
        every=None if is_small(config) else every(config),
        clip=clip,
    )
