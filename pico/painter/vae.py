"""Teaches pico's VAE: `python -m pico.painter.vae`. Pictures of 64 x 64 pixels to latents of 16 x 16 x 4 and back.

diffusers' `AutoencoderKL`; the loss is of pixels alone, with next to no weight on the prior: flow matching does not need it.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from pico.pictures import DRAWN
from pico.training import Losses, Options, learn, options

from .gallery import painted, values, wanted

STEPS, BATCH, PICTURES = 900, 16, 8192
RATE = 2e-3
PRIOR = 1e-6
LATENTS, SIDE = 4, DRAWN // 4
FOLDER = "vae"


def build(seed: int = 0) -> AutoencoderKL:
    """A freshly initialized VAE in float32."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=[16, 32, 64], layers_per_block=1, latent_channels=LATENTS, norm_num_groups=8, sample_size=DRAWN,
        mid_block_add_attention=False, use_quant_conv=False, use_post_quant_conv=False,
    ).to(memory_format=torch.channels_last)  # fmt: skip


def losses(vae: AutoencoderKL, pixels: Tensor) -> Losses:
    """Of pictures [pictures, 3, DRAWN, DRAWN] from -1 to 1, and what their decoded latents differ from them."""
    with torch.autocast("cpu", torch.bfloat16):
        found = vae.encode(pixels).latent_dist
        again = vae.decode(found.sample()).sample
    again = again.float()
    difference = F.l1_loss(again, pixels)
    prior = found.kl().mean()
    return {
        "loss": difference + F.mse_loss(again, pixels) + PRIOR * prior, "difference": difference, "prior": prior,
    }  # fmt: skip


@torch.no_grad()
def latents_of(vae: AutoencoderKL, pixels: Tensor, batch: int = 128) -> Tensor:
    """uint8 [pictures, 3, DRAWN, DRAWN] -> float32 [pictures, LATENTS, SIDE, SIDE], as the encoder's mean gives them."""
    found = []
    for part in pixels.split(batch):
        with torch.autocast("cpu", torch.bfloat16):
            found.append(vae.encode(values(part)).latent_dist.mean.float())
    return torch.cat(found)


def train(chosen: Options) -> None:
    """Leaves the VAE in the work folder's `vae`, with the shift and the scale that make its latents standard."""
    vae = build(chosen.seed)
    rng = Random(f"pico|{chosen.seed}|painter")
    pixels = painted(rng, [wanted(rng, "train") for _ in range(PICTURES)])
    learn(
        "vae", vae, [torch.optim.AdamW(vae.parameters(), RATE, (0.9, 0.98), weight_decay=0.0)], chosen,
        lambda rng: losses(vae, values(pixels[torch.randint(len(pixels), (BATCH,))])),
    )  # fmt: skip
    found = latents_of(vae, pixels[:2048])
    vae.register_to_config(shift_factor=found.mean().item(), scaling_factor=1 / found.std().item())
    vae.save_pretrained(chosen.work / FOLDER)


def load_vae(work: Path) -> AutoencoderKL:
    """The VAE that its stage left in `work`, float32."""
    vae: AutoencoderKL = AutoencoderKL.from_pretrained(work / FOLDER, torch_dtype=torch.float32)
    return vae.eval()


def main() -> None:
    train(options("painter.vae", "Teach pico's VAE.", STEPS))


if __name__ == "__main__":
    main()
