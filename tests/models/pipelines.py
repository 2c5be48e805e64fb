"""Tiny random pipelines in diffusers' format, one for each family that draws."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import decoders, models, pre_tokenizers

_KEPT: list[tempfile.TemporaryDirectory[str]] = []
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def shaken(module: torch.nn.Module, seed: int) -> Any:
    """`module` with every parameter random, so that no bias is 0 and no norm 1; ready for inference.

    What was in a parameter before does not matter: of some it is whatever lay in memory.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            fan = parameter[0].numel()
            parameter.data = noise * fan**-0.5
        else:
            parameter.data = 0.1 * noise + (0.0 if name.endswith("bias") else 1.0)
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


def plain_vae(latent: int = 4, shift: float | None = 0.11) -> Any:
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
            shift_factor=shift,
            use_quant_conv=False,
            use_post_quant_conv=False,
            mid_block_add_attention=False,
        ),
        1,
    )


def z_image_transformer(caption: int) -> diffusers.ZImageTransformer2DModel:
    """Z-Image's network for rows of `caption` columns."""
    network = diffusers.ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=caption,
        axes_dims=[4, 6, 6],
        axes_lens=[256, 64, 64],
    )
    return shaken(network, 3)


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
    return diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=plain_vae(),
        text_encoder=shaken(encoder, 2),
        tokenizer=tokenizer,
        transformer=z_image_transformer(24),
    )


def clip_tokenizer() -> transformers.PreTrainedTokenizerBase:
    """Bytes, each also at a word's end, as CLIP's tokenizer has them."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    signs = [*letters, *(f"{sign}</w>" for sign in letters), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(
        vocab={sign: number for number, sign in enumerate(signs)}, merges=[], model_max_length=77
    )


def flux(told: bool) -> diffusers.DiffusionPipeline:
    """FLUX.1 with one layer of each kind: dev, which is told its guidance, or schnell."""
    words = clip_tokenizer()
    letters = qwen_tokenizer()
    clip = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=len(words) - 2,
            eos_token_id=len(words) - 1,
        )
    )
    t5 = transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=len(letters), d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    )
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        guidance_embeds=told,
        axes_dims_rope=(4, 6, 6),
    )
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=told, shift=3.0 if told else 1.0
        ),
        vae=plain_vae(),
        text_encoder=shaken(clip, 4),
        tokenizer=words,
        text_encoder_2=shaken(t5, 5),
        tokenizer_2=letters,
        transformer=shaken(transformer, 6),
    )


def qwen_image_edit(several: bool) -> diffusers.DiffusionPipeline:
    """Qwen-Image-Edit: the same, and a processor of pictures. `several` of them: Qwen-Image-Edit-Plus."""
    parts = qwen_image().components
    tokenizer = parts["tokenizer"]
    pictures = transformers.Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=28 * 28 * 4)
    # Its constructor wants a processor of videos, which needs torchvision.
    processor = object.__new__(transformers.Qwen2VLProcessor)
    processor.image_processor, processor.tokenizer, processor.video_processor = pictures, tokenizer, None
    processor.image_token, processor.video_token = "<|image_pad|>", "<|video_pad|>"
    processor.image_token_id = tokenizer.convert_tokens_to_ids(processor.image_token)
    processor.video_token_id = tokenizer.convert_tokens_to_ids(processor.video_token)
    processor.save_pretrained = lambda folder, **_: pictures.save_pretrained(folder)
    kind = diffusers.QwenImageEditPlusPipeline if several else diffusers.QwenImageEditPipeline
    return kind(**parts, processor=processor)


def qwen_image() -> diffusers.DiffusionPipeline:
    """Qwen-Image with two layers."""
    tokenizer = qwen_tokenizer()
    tokenizer.add_tokens(
        ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"], special_tokens=True
    )
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 2, 2], "rope_theta": 10000.0},
    }
    sight = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 24,
        "fullatt_block_indexes": [0],
    }
    encoder = transformers.Qwen2_5_VLForConditionalGeneration(
        transformers.Qwen2_5_VLConfig(
            text_config=text,
            vision_config=sight,
            vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
            image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
            video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        )
    )
    transformer = diffusers.QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        axes_dims_rope=(4, 6, 6),
    )
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.1, 0.9, 1.2, 1.0],
    )
    return diffusers.QwenImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, shift_terminal=0.02, max_shift=0.9, max_image_seq_len=8192
        ),
        vae=shaken(vae, 7),
        text_encoder=shaken(encoder, 8),
        tokenizer=tokenizer,
        transformer=shaken(transformer, 9),
    )


def clip(width: int) -> transformers.CLIPTextConfig:
    """A CLIP of three layers."""
    words = clip_tokenizer()
    return transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
    )


def sdxl_with(kind: type[Any], **settings: Any) -> diffusers.DiffusionPipeline:
    """The same with a scheduler of another kind, and with other settings."""
    made = sdxl()
    made.scheduler = kind.from_config(made.scheduler.config, **settings)
    return made


def sdxl() -> diffusers.DiffusionPipeline:
    """Stable Diffusion XL with two levels."""
    words = clip_tokenizer()
    unet = diffusers.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        cross_attention_dim=24,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 8,
        norm_num_groups=4,
    )
    return diffusers.StableDiffusionXLPipeline(
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        ),
        vae=plain_vae(shift=None),
        text_encoder=shaken(transformers.CLIPTextModel(clip(16)), 14),
        tokenizer=words,
        text_encoder_2=shaken(transformers.CLIPTextModelWithProjection(clip(8)), 15),
        tokenizer_2=words,
        unet=shaken(unet, 16),
    )


def sd3(t5: bool) -> diffusers.DiffusionPipeline:
    """Stable Diffusion 3 (3.5's kind of blocks) with two layers, with its third text encoder or without."""
    words, letters = clip_tokenizer(), qwen_tokenizer()
    large = transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=len(letters), d_model=32, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    )
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=16,
        in_channels=16,  # diffusers' inpainting takes no others
        out_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=24,
        pos_embed_max_size=24,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    return diffusers.StableDiffusion3Pipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=plain_vae(16),
        text_encoder=shaken(transformers.CLIPTextModelWithProjection(clip(16)), 10),
        tokenizer=words,
        text_encoder_2=shaken(transformers.CLIPTextModelWithProjection(clip(8)), 11),
        tokenizer_2=words,
        text_encoder_3=shaken(large, 12) if t5 else None,
        tokenizer_3=letters if t5 else None,
        transformer=shaken(transformer, 13),
    )


MAKERS: dict[str, Callable[[], diffusers.DiffusionPipeline]] = {
    "z_image": z_image,
    "flux_dev": functools.partial(flux, True),
    "flux_schnell": functools.partial(flux, False),
    "qwen_image": qwen_image,
    "sd3": functools.partial(sd3, True),
    "sd3_small": functools.partial(sd3, False),
    "sdxl": sdxl,
    "sdxl_turbo": lambda: sdxl_with(
        diffusers.EulerAncestralDiscreteScheduler, timestep_spacing="trailing", steps_offset=0
    ),
    "sdxl_v": lambda: sdxl_with(
        diffusers.EulerDiscreteScheduler,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    ),
}


# Those that look at pictures.
EDITORS: dict[str, Callable[[], diffusers.DiffusionPipeline]] = {
    "flux_kontext": lambda: diffusers.FluxKontextPipeline(**flux(True).components),
    "qwen_image_edit": functools.partial(qwen_image_edit, False),
    "qwen_image_edit_plus": functools.partial(qwen_image_edit, True),
}


@functools.cache
def pipeline(family: str) -> tuple[Any, Path]:
    """The pipeline of a family, and the folder that it was saved to."""
    folder = tempfile.TemporaryDirectory(prefix=f"tutti-{family}-")
    _KEPT.append(folder)
    made = (MAKERS | EDITORS)[family]()
    made.save_pretrained(folder.name)
    made.set_progress_bar_config(disable=True)
    return made, Path(folder.name)


def network(family: str) -> Any:
    """The network of a family's pipeline that draws."""
    parts = pipeline(family)[0].components
    return parts.get("transformer", parts.get("unet"))


def matrices(net: torch.nn.Module, seed: int, own: str = "transformer") -> dict[str, torch.Tensor]:
    """Two matrices of rank 2 for every linear layer of a network."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, layer in net.named_modules():
        if isinstance(layer, torch.nn.Linear):
            a = torch.randn(2, layer.in_features, generator=generator) * layer.in_features**-0.5
            b = torch.randn(layer.out_features, 2, generator=generator) * 0.3
            found |= {f"{own}.{name}.lora_A.weight": a, f"{own}.{name}.lora_B.weight": b}
    return found


def adapter_file(family: str, folder: Path, seed: int, alpha: int | None = None, net: Any = None) -> Path:
    """An adapter in diffusers' format, for `net` (the family's); with `alpha`, its metadata say that and the rank."""
    path = folder / f"{family}-{seed}.safetensors"
    own = "unet" if family.startswith("sdxl") else "transformer"
    state = matrices(network(family) if net is None else net, seed, own)
    layers = [name[len(f"{own}.") : -len(".lora_A.weight")] for name in state if "lora_A" in name]
    settings = {"r": 2, "lora_alpha": alpha, "target_modules": layers}
    about = json.dumps({f"{own}.{name}": value for name, value in settings.items()})
    save_file(state, path, {"format": "pt"} | ({} if alpha is None else {"lora_adapter_metadata": about}))
    return path
