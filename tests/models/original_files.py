"""Tiny networks under the names that their authors gave the tensors: what diffusers' converters undo, done.

Of each: the tensors of diffusers' network (or transformers'), joined and renamed; and files of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.gguf_files import finish
from tutti.formats.gguf.blocks import kinds
from tutti.formats.gguf.blocks.kinds import BlockType
from tutti.formats.gguf.blocks.quantize import quantize

State = dict[str, Tensor]


def renamed(state: State, rules: Mapping[str, str]) -> State:
    """Every name by the first of the rules (patterns) that it begins with."""
    found = {}
    for name, tensor in state.items():
        for old, new in rules.items():
            if re.match(old, name):
                found[re.sub(old, new, name, count=1)] = tensor
                break
        else:
            raise AssertionError(name)
    return found


def joined(state: State, names: list[str], new: str) -> State:
    """`state` with the weights and biases of some layers as those of one, `new`."""
    rest = dict(state)
    for ending in ("weight", "bias"):
        parts = [rest.pop(f"{name}.{ending}") for name in names if f"{name}.{ending}" in rest]
        if parts:
            rest[f"{new}.{ending}"] = torch.cat(parts)
    return rest


def _swapped(state: State, *stems: str) -> State:
    """The halves of some layers' rows in the other order."""
    names = {f"{stem}.{ending}" for stem in stems for ending in ("weight", "bias")}
    return {
        name: torch.cat(tensor.chunk(2)[::-1]) if name in names else tensor for name, tensor in state.items()
    }


def _blocks(state: State, beginning: str) -> list[str]:
    found = {re.match(rf"{beginning}\.\d+", name) for name in state}
    return sorted(match[0] for match in found if match)


def flux(state: State) -> State:
    """FLUX.1's transformer."""
    state = _swapped(state, "norm_out.linear")
    for block in _blocks(state, "transformer_blocks"):
        for part, names in (
            ("img_attn", ("to_q", "to_k", "to_v")),
            ("txt_attn", ("add_q_proj", "add_k_proj", "add_v_proj")),
        ):
            state = joined(state, [f"{block}.attn.{name}" for name in names], f"{block}.{part}.qkv")
    for block in _blocks(state, "single_transformer_blocks"):
        names = [f"{block}.{name}" for name in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]
        state = joined(state, names, f"{block}.linear1")
    double, single = r"transformer_blocks\.(\d+)\.", r"single_transformer_blocks\.(\d+)\."
    return renamed(
        state,
        {
            rf"{double}norm1\.linear": r"double_blocks.\1.img_mod.lin",
            rf"{double}norm1_context\.linear": r"double_blocks.\1.txt_mod.lin",
            rf"{double}(img|txt)_attn\.qkv": r"double_blocks.\1.\2_attn.qkv",
            rf"{double}attn\.norm_q\.weight": r"double_blocks.\1.img_attn.norm.query_norm.scale",
            rf"{double}attn\.norm_k\.weight": r"double_blocks.\1.img_attn.norm.key_norm.scale",
            rf"{double}attn\.norm_added_q\.weight": r"double_blocks.\1.txt_attn.norm.query_norm.scale",
            rf"{double}attn\.norm_added_k\.weight": r"double_blocks.\1.txt_attn.norm.key_norm.scale",
            rf"{double}attn\.to_out\.0": r"double_blocks.\1.img_attn.proj",
            rf"{double}attn\.to_add_out": r"double_blocks.\1.txt_attn.proj",
            rf"{double}ff\.net\.0\.proj": r"double_blocks.\1.img_mlp.0",
            rf"{double}ff\.net\.2": r"double_blocks.\1.img_mlp.2",
            rf"{double}ff_context\.net\.0\.proj": r"double_blocks.\1.txt_mlp.0",
            rf"{double}ff_context\.net\.2": r"double_blocks.\1.txt_mlp.2",
            rf"{single}norm\.linear": r"single_blocks.\1.modulation.lin",
            rf"{single}linear1": r"single_blocks.\1.linear1",
            rf"{single}proj_out": r"single_blocks.\1.linear2",
            rf"{single}attn\.norm_q\.weight": r"single_blocks.\1.norm.query_norm.scale",
            rf"{single}attn\.norm_k\.weight": r"single_blocks.\1.norm.key_norm.scale",
            r"time_text_embed\.timestep_embedder\.linear_1": "time_in.in_layer",
            r"time_text_embed\.timestep_embedder\.linear_2": "time_in.out_layer",
            r"time_text_embed\.text_embedder\.linear_1": "vector_in.in_layer",
            r"time_text_embed\.text_embedder\.linear_2": "vector_in.out_layer",
            r"time_text_embed\.guidance_embedder\.linear_1": "guidance_in.in_layer",
            r"time_text_embed\.guidance_embedder\.linear_2": "guidance_in.out_layer",
            "context_embedder": "txt_in",
            "x_embedder": "img_in",
            "proj_out": "final_layer.linear",
            r"norm_out\.linear": "final_layer.adaLN_modulation.1",
        },
    )


def sd3(state: State) -> State:
    """Stable Diffusion 3's transformer."""
    last = _blocks(state, "transformer_blocks")[-1]
    state = _swapped(state, "norm_out.linear", f"{last}.norm1_context.linear")
    for block in _blocks(state, "transformer_blocks"):
        for attention in ("attn", "attn2"):
            names = [f"{block}.{attention}.to_{one}" for one in "qkv"]
            state = joined(state, names, f"{block}.x_block.{attention}.qkv")
        names = [f"{block}.attn.add_{one}_proj" for one in "qkv"]
        state = joined(state, names, f"{block}.context_block.attn.qkv")
    block = r"transformer_blocks\.(\d+)\."
    return renamed(
        state,
        {
            rf"{block}(x|context)_block\.": r"joint_blocks.\1.\2_block.",
            rf"{block}attn\.norm_(q|k)\.": r"joint_blocks.\1.x_block.attn.ln_\2.",
            rf"{block}attn\.norm_added_(q|k)\.": r"joint_blocks.\1.context_block.attn.ln_\2.",
            rf"{block}attn2\.norm_(q|k)\.": r"joint_blocks.\1.x_block.attn2.ln_\2.",
            rf"{block}(attn2?)\.to_out\.0": r"joint_blocks.\1.x_block.\2.proj",
            rf"{block}attn\.to_add_out": r"joint_blocks.\1.context_block.attn.proj",
            rf"{block}norm1\.linear": r"joint_blocks.\1.x_block.adaLN_modulation.1",
            rf"{block}norm1_context\.linear": r"joint_blocks.\1.context_block.adaLN_modulation.1",
            rf"{block}ff\.net\.0\.proj": r"joint_blocks.\1.x_block.mlp.fc1",
            rf"{block}ff\.net\.2": r"joint_blocks.\1.x_block.mlp.fc2",
            rf"{block}ff_context\.net\.0\.proj": r"joint_blocks.\1.context_block.mlp.fc1",
            rf"{block}ff_context\.net\.2": r"joint_blocks.\1.context_block.mlp.fc2",
            r"pos_embed\.pos_embed": "pos_embed",
            r"pos_embed\.proj": "x_embedder.proj",
            r"time_text_embed\.timestep_embedder\.linear_1": "t_embedder.mlp.0",
            r"time_text_embed\.timestep_embedder\.linear_2": "t_embedder.mlp.2",
            r"time_text_embed\.text_embedder\.linear_1": "y_embedder.mlp.0",
            r"time_text_embed\.text_embedder\.linear_2": "y_embedder.mlp.2",
            "context_embedder": "context_embedder",
            "proj_out": "final_layer.linear",
            r"norm_out\.linear": "final_layer.adaLN_modulation.1",
        },
    )


def z_image(state: State) -> State:
    """Z-Image's transformer, with the norm that its authors left in and nothing uses."""
    for block in {name.split(".attention.")[0] for name in state if ".attention." in name}:
        state = joined(state, [f"{block}.attention.to_{one}" for one in "qkv"], f"{block}.attention.qkv")
    changes = {
        ".attention.to_out.0.": ".attention.out.",
        ".attention.norm_q.": ".attention.q_norm.",
        ".attention.norm_k.": ".attention.k_norm.",
        "all_final_layer.2-1.": "final_layer.",
        "all_x_embedder.2-1.": "x_embedder.",
    }
    found = {"norm_final.weight": torch.ones(4)}
    for name, tensor in state.items():
        for old, new in changes.items():
            name = name.replace(old, new)
        found[name] = tensor
    return found


def wan(state: State) -> State:
    """Wan's transformer."""
    block = r"blocks\.(\d+)\."
    return renamed(
        state,
        {
            r"condition_embedder\.image_embedder\.norm1": "img_emb.proj.0",
            r"condition_embedder\.image_embedder\.ff\.net\.0\.proj": "img_emb.proj.1",
            r"condition_embedder\.image_embedder\.ff\.net\.2": "img_emb.proj.3",
            r"condition_embedder\.image_embedder\.norm2": "img_emb.proj.4",
            rf"{block}attn2\.add_(k|v)_proj": r"blocks.\1.cross_attn.\2_img",
            rf"{block}attn2\.norm_added_k": r"blocks.\1.cross_attn.norm_k_img",
            rf"{block}attn1\.to_out\.0": r"blocks.\1.self_attn.o",
            rf"{block}attn2\.to_out\.0": r"blocks.\1.cross_attn.o",
            rf"{block}attn1\.to_": r"blocks.\1.self_attn.",
            rf"{block}attn2\.to_": r"blocks.\1.cross_attn.",
            rf"{block}attn1\.": r"blocks.\1.self_attn.",
            rf"{block}attn2\.": r"blocks.\1.cross_attn.",
            rf"{block}ffn\.net\.0\.proj": r"blocks.\1.ffn.0",
            rf"{block}ffn\.net\.2": r"blocks.\1.ffn.2",
            rf"{block}norm2": r"blocks.\1.norm3",
            rf"{block}scale_shift_table": r"blocks.\1.modulation",
            r"condition_embedder\.time_embedder\.linear_1": "time_embedding.0",
            r"condition_embedder\.time_embedder\.linear_2": "time_embedding.2",
            r"condition_embedder\.text_embedder\.linear_1": "text_embedding.0",
            r"condition_embedder\.text_embedder\.linear_2": "text_embedding.2",
            r"condition_embedder\.time_proj": "time_projection.1",
            "scale_shift_table": "head.modulation",
            "proj_out": "head.head",
            "patch_embedding": "patch_embedding",
        },
    )


def ltx(state: State) -> State:
    """LTX-Video's transformer."""
    changes = {
        r"^proj_in\.": "patchify_proj.",
        r"^time_embed\.": "adaln_single.",
        r"\.norm_(q|k)\.": r".\1_norm.",
    }
    found = {}
    for name, tensor in state.items():
        for old, new in changes.items():
            name = re.sub(old, new, name)
        found[name] = tensor
    return found


def _unchanged(state: State) -> State:
    return state


NETWORKS: dict[str, tuple[str, Callable[[State], State]]] = {
    "flux_dev": ("flux", flux),
    "flux_schnell": ("flux", flux),
    "sd3": ("sd3", sd3),
    "z_image": ("lumina2", z_image),
    "qwen_image": ("qwen_image", _unchanged),
    "wan": ("wan", wan),
    "wan_two": ("wan", wan),
    "wan_begun": ("wan", wan),
    "ltx": ("ltxv", ltx),
}
"""By the pipelines' names: the architecture that GGUF files name, and what makes its authors' tensors of diffusers'."""


def fits(kind: BlockType, tensor: Tensor) -> bool:
    """Whether a file has the tensor in this type: matrices of whole blocks are, and the others in float32."""
    return tensor.dim() == 2 and tensor.shape[-1] % kind.elements == 0


def rounded(tensor: Tensor, kind: BlockType) -> Tensor:
    """What the `gguf` package reads of the tensor from such a file."""
    if not fits(kind, tensor):
        return tensor
    values = gguf.quants.dequantize(quantize(tensor, kind).numpy(), gguf.GGMLQuantizationType(kind.id))
    return torch.from_numpy(np.array(values, dtype=np.float32)).view(tensor.shape)


def gguf_file(path: Path, architecture: str, state: State, kind: BlockType) -> Path:
    """A file as ComfyUI-GGUF's converter writes them."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for name, tensor in state.items():
        own = kind if fits(kind, tensor) else kinds.F32
        data = quantize(tensor, own).numpy() if own.quantized or own == kinds.BF16 else tensor.numpy()
        if own == kinds.F16:
            data = tensor.half().numpy()
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType(own.id))
    finish(writer)
    return path


def safetensors_file(path: Path, state: State, beginning: str = "") -> Path:
    """A file of safetensors, every name beginning so."""
    save_file({f"{beginning}{name}": tensor.contiguous() for name, tensor in state.items()}, path)
    return path
