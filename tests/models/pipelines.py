"""Tiny random pipelines in diffusers' format, one for each family that draws."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers

_KEPT: list[tempfile.TemporaryDirectory[str]] = []
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def shaken(module: torch.nn.Module, seed: int) -> Any:
    """`module` with every parameter random, so that no bias is 0 and no norm 1; ready for inference."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            fan = parameter[0].numel()
            parameter.data = noise * fan**-0.5
        else:
            parameter.data = 0.1 * noise + (parameter.data if parameter.data.isfinite().all() else 0.0)
    return module.eval()


def qwen_tokenizer() -> transformers.PreTrainedTokenizerBase:
    """Bytes, and the tokens of the chat format."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(models.BPE(vocab={sign: k for k, sign in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=4096
    )
    made.add_tokens(["<|im_start|>"], special_tokens=True)
    made.chat_template = CHAT
    return made


def plain_vae(latent: int = 4) -> Any:
    """A VAE whose latents are two pixels wide."""
    return shaken(
        diffusers.AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            latent_channels=latent,
            norm_num_groups=4,
            sample_size=64,
            scaling_factor=0.36,
            shift_factor=0.11,
            use_quant_conv=False,
            use_post_quant_conv=False,
            mid_block_add_attention=False,
        ),
        1,
    )


def z_image() -> diffusers.DiffusionPipeline:
    """Z-Image, with two layers of each kind."""
    tokenizer = qwen_tokenizer()
    encoder = transformers.Qwen3Model(
        transformers.Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=24,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=12,
        )
    )
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=24,
        axes_dims=[4, 6, 6],
        axes_lens=[256, 64, 64],
    )
    return diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=plain_vae(),
        text_encoder=shaken(encoder, 2),
        tokenizer=tokenizer,
        transformer=shaken(transformer, 3),
    )


MAKERS: dict[str, Callable[[], diffusers.DiffusionPipeline]] = {"z_image": z_image}


@functools.cache
def pipeline(family: str) -> tuple[Any, Path]:
    """The pipeline of a family, and the folder that it was saved to."""
    folder = tempfile.TemporaryDirectory(prefix=f"tutti-{family}-")
    _KEPT.append(folder)
    made = MAKERS[family]()
    made.save_pretrained(folder.name)
    made.set_progress_bar_config(disable=True)
    return made, Path(folder.name)
