"""Teaches pico to draw: `python -m pico.painter.denoiser`. A Z-Image transformer that turns noise into latents of pictures.

Flow matching (Lipman et al. 2023), at times whose logit is normal (Esser et al. 2024), shifted as the sampler shifts its
steps. The frozen thinker's states of a caption are the condition; now and then there is none, one row of zeros, which is
what guidance compares with (Ho and Salimans 2022). What is kept is a running mean of the weights.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from random import Random

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImageTransformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from pico.omni import WIDTH
from pico.training import Losses, Options, compiled, learn, make_optimizers, options

from . import vae
from .captions import Captions, kept_captions
from .forward import PATCH, Through, predict, through_block
from .gallery import painted

STEPS, BATCH, CAPTIONS, PAINTED = 3000, 64, 24_576, 1
RATE = 0.5  # of the usual rates of learning
EMPTY, NOISE = 0.1, 0.02  # of the captions; of the rows: the thinker that serves computes with other rounding
SHIFT = 2.0
REMEMBERED = 0.996  # of the running mean, each step
FOLDER, SCHEDULER = "transformer", "scheduler"


def build(seed: int = 0) -> ZImageTransformer2DModel:
    """A freshly initialized transformer in float32."""
    torch.manual_seed(seed)
    net = ZImageTransformer2DModel(
        all_patch_size=(PATCH,), all_f_patch_size=(1,), in_channels=vae.LATENTS, dim=192, n_layers=4, n_refiner_layers=1,
        n_heads=6, n_kv_heads=6, cap_feat_dim=WIDTH, axes_dims=[8, 12, 12], axes_lens=[128, 32, 32],
    )  # fmt: skip
    for token in (net.x_pad_token, net.cap_pad_token):
        nn.init.normal_(token, std=0.02)
    return net


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=SHIFT)


class Learner(nn.Module):
    """The transformer and the running mean of its weights."""

    def __init__(self, net: ZImageTransformer2DModel) -> None:
        super().__init__()
        self.net, self.mean = net, deepcopy(net).requires_grad_(False)
        self.steps = nn.Buffer(torch.zeros(()))

    @torch.no_grad()
    def follow(self) -> None:
        """Takes the weights into the mean; of the first ones little remains."""
        self.steps += 1
        remembered = min(REMEMBERED, self.steps.item() / (self.steps.item() + 10))
        torch._foreach_lerp_(list(self.mean.parameters()), list(self.net.parameters()), 1 - remembered)


def losses(
    net: ZImageTransformer2DModel,
    latents: Tensor,
    rows: Tensor,
    lengths: Tensor,
    through: Through = through_block,
) -> Losses:
    """How far the predicted velocities are from noise minus `latents` [pictures, LATENTS, SIDE, SIDE]."""
    count = len(latents)
    empty = torch.rand(count) < EMPTY
    rows = (rows + NOISE * rows.std() * torch.randn_like(rows)).masked_fill(empty[:, None, None], 0)
    lengths = lengths.masked_fill(empty, 1)
    noise = torch.randn_like(latents)
    level = torch.randn(count).sigmoid()
    level = SHIFT * level / (1 + (SHIFT - 1) * level)
    mixed = torch.lerp(latents, noise, level[:, None, None, None])
    with torch.autocast("cpu", torch.bfloat16):
        found = predict(net, mixed, 1 - level, rows, lengths, through)
    return {"loss": F.mse_loss(-found.float(), noise - latents)}


def optimizers_of(net: ZImageTransformer2DModel) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of attention and of what follows it, AdamW for the rest."""
    matrices = [
        parameter
        for part in (net.layers, net.noise_refiner, net.context_refiner)
        for name, parameter in part.named_parameters()
        if parameter.ndim == 2 and "adaLN" not in name
    ]
    known = {id(p) for p in matrices}
    return make_optimizers(matrices, [p for p in net.parameters() if id(p) not in known], RATE)


def kept_latents(work: Path, seed: int, captions: Captions) -> Tensor:
    """Standard latents float32 [captions, PAINTED, LATENTS, SIDE, SIDE] of pictures of what the captions tell; from the work
    folder if they have been made since the VAE and the captions."""
    path = work / "painter.latents.pt"
    made_of = max(
        (work / name).stat().st_mtime for name in ("painter.captions.pt", f"{vae.FOLDER}/config.json")
    )
    if not path.exists() or path.stat().st_mtime < made_of:
        model = vae.load_vae(work)
        rng = Random(f"pico|{seed}|latents")
        scenes = [scene for scene in captions.scenes for _ in range(PAINTED)]
        parts = [
            vae.latents_of(model, painted(rng, scenes[at : at + 512])) for at in range(0, len(scenes), 512)
        ]
        found = (
            torch.cat(parts).unflatten(0, (-1, PAINTED)) - model.config.shift_factor
        ) * model.config.scaling_factor
        partial = path.with_suffix(".partial")
        torch.save(found.half(), partial)
        partial.replace(path)
    latents: Tensor = torch.load(path, weights_only=True)
    return latents.float()


def train(chosen: Options) -> None:
    """Leaves the transformer and its sampler in the work folder's `transformer` and `scheduler`."""
    captions = kept_captions(chosen.work, chosen.seed, CAPTIONS)
    latents = kept_latents(chosen.work, chosen.seed, captions)
    learner = Learner(build(chosen.seed))
    through = compiled(through_block)

    def step(_rng: Random) -> Losses:
        learner.follow()
        which, picture = torch.randint(len(latents), (BATCH,)), torch.randint(PAINTED, (BATCH,))
        rows, lengths = captions.rows[which].float(), captions.lengths[which]
        return losses(learner.net, latents[which, picture], rows, lengths, through)

    learn("denoiser", learner, optimizers_of(learner.net), chosen, step)
    learner.mean.save_pretrained(chosen.work / FOLDER)
    scheduler().save_pretrained(chosen.work / SCHEDULER)


def main() -> None:
    train(options("painter.denoiser", "Teach pico to draw.", STEPS))


if __name__ == "__main__":
    main()
