"""Whole models in one file, as SDXL and SD3 were published: the UNet, VAEs and CLIPs under their authors' names."""

from __future__ import annotations

import re
from typing import Any

import torch

from tests.models.original_files import State, joined, renamed, sd3

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}


def _within(state: State, old: str, new: str) -> State:
    """What is behind the beginning `old` (a pattern), behind `new`; a resnet's layers by their places."""
    found = {}
    for name, tensor in state.items():
        match = re.match(rf"{old}\.(.+)", name)
        if match:
            layer, dot, rest = match[1].partition(".")
            found[f"{new}.{_RESNET.get(layer, layer)}{dot}{rest}"] = tensor
    return found


def unet(state: State) -> State:
    """The UNet of `pipelines.sdxl`: two levels with one layer each, attention on the second."""
    found = renamed(
        {name: one for name, one in state.items() if re.match("time_|add_|conv_", name)},
        {
            r"time_embedding\.linear_1": "time_embed.0",
            r"time_embedding\.linear_2": "time_embed.2",
            r"add_embedding\.linear_1": "label_emb.0.0",
            r"add_embedding\.linear_2": "label_emb.0.2",
            "conv_in": "input_blocks.0.0",
            "conv_norm_out": "out.0",
            "conv_out": "out.2",
        },
    )
    for old, new in (
        (r"down_blocks\.0\.resnets\.0", "input_blocks.1.0"),
        (r"down_blocks\.0\.downsamplers\.0\.conv", "input_blocks.2.0.op"),
        (r"down_blocks\.1\.resnets\.0", "input_blocks.3.0"),
        (r"down_blocks\.1\.attentions\.0", "input_blocks.3.1"),
        (r"mid_block\.resnets\.0", "middle_block.0"),
        (r"mid_block\.attentions\.0", "middle_block.1"),
        (r"mid_block\.resnets\.1", "middle_block.2"),
        (r"up_blocks\.0\.resnets\.0", "output_blocks.0.0"),
        (r"up_blocks\.0\.attentions\.0", "output_blocks.0.1"),
        (r"up_blocks\.0\.resnets\.1", "output_blocks.1.0"),
        (r"up_blocks\.0\.attentions\.1", "output_blocks.1.1"),
        (r"up_blocks\.0\.upsamplers\.0\.conv", "output_blocks.1.2.conv"),
        (r"up_blocks\.1\.resnets\.0", "output_blocks.2.0"),
        (r"up_blocks\.1\.resnets\.1", "output_blocks.3.0"),
    ):
        found |= _within(state, old, new)
    assert len(found) == len(state)
    return found


def vae(state: State) -> State:
    """A VAE of two levels. The layers of its attention were convolutions."""
    found = {}
    for name, tensor in state.items():
        name = re.sub(r"(encoder|decoder)\.conv_norm_out", r"\1.norm_out", name)
        name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.", r"encoder.down.\1.block.", name)
        name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
        up = re.match(r"decoder\.up_blocks\.(\d)\.(.+)", name)
        if up:
            rest = up[2].replace("resnets", "block").replace("upsamplers.0", "upsample")
            name = f"decoder.up.{1 - int(up[1])}.{rest}"
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda one: f"mid.block_{int(one[1]) + 1}", name)
        attention = re.sub(r"mid_block\.attentions\.0\.", "mid.attn_1.", name)
        if attention != name:
            name = re.sub(r"attn_1\.to_(q|k|v)\.", r"attn_1.\1.", attention)
            name = name.replace("to_out.0", "proj_out").replace("group_norm", "norm")
            tensor = tensor[:, :, None, None] if tensor.dim() == 2 else tensor
        found[name.replace("conv_shortcut", "nin_shortcut")] = tensor
    return found


def clip(state: State) -> State:
    """A CLIP as transformers had it: within a `text_model`."""
    return {
        name if name.startswith(("text_model.", "text_projection")) else f"text_model.{name}": tensor
        for name, tensor in state.items()
    }


def open_clip(state: State) -> State:
    """A CLIP with a projection as OpenCLIP has it."""
    state = clip(state)
    layers = {match[1] for match in (re.match(r"(.+\.self_attn)\.", name) for name in state) if match}
    for layer in layers:
        state = joined(state, [f"{layer}.{one}_proj" for one in "qkv"], f"{layer}.in_proj")
    block = r"text_model\.encoder\.layers\.(\d+)\."
    found = renamed(
        state,
        {
            rf"{block}self_attn\.in_proj\.": r"transformer.resblocks.\1.attn.in_proj_",
            rf"{block}self_attn\.": r"transformer.resblocks.\1.attn.",
            rf"{block}layer_norm": r"transformer.resblocks.\1.ln_",
            rf"{block}mlp\.fc1": r"transformer.resblocks.\1.mlp.c_fc",
            rf"{block}mlp\.fc2": r"transformer.resblocks.\1.mlp.c_proj",
            r"text_model\.final_layer_norm": "ln_final",
            r"text_model\.embeddings\.token_embedding": "token_embedding",
            r"text_model\.embeddings\.position_embedding\.weight": "positional_embedding",
            r"text_projection\.weight": "text_projection",
        },
    )
    return found | {"text_projection": found["text_projection"].T, "logit_scale": torch.tensor(4.6)}


def _behind(beginning: str, state: State) -> State:
    return {f"{beginning}{name}": tensor for name, tensor in state.items()}


def sdxl_file(pipe: Any) -> State:
    """All of Stable Diffusion XL."""
    positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    return (
        _behind("model.diffusion_model.", unet(pipe.unet.state_dict()))
        | _behind("first_stage_model.", vae(pipe.vae.state_dict()))
        | _behind("conditioner.embedders.0.transformer.", clip(pipe.text_encoder.state_dict()) | positions)
        | _behind("conditioner.embedders.1.model.", open_clip(pipe.text_encoder_2.state_dict()))
        | {"denoiser.sigmas": torch.ones(3)}
    )


def sd3_file(pipe: Any) -> State:
    """All of Stable Diffusion 3. The first CLIP projects nothing, and the file does not say so."""
    first = clip(pipe.text_encoder.state_dict())
    del first["text_projection.weight"]
    return (
        _behind("model.diffusion_model.", sd3(pipe.transformer.state_dict()))
        | _behind("first_stage_model.", vae(pipe.vae.state_dict()))
        | _behind("text_encoders.clip_l.transformer.", first)
        | _behind("text_encoders.clip_g.transformer.", clip(pipe.text_encoder_2.state_dict()))
        | _behind("text_encoders.t5xxl.transformer.", _t5(pipe.text_encoder_3.state_dict()))
    )


def _t5(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if name != "encoder.embed_tokens.weight"}
