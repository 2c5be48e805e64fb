"""FLUX.1's blocks, of two streams and of one, in few passes over memory (see `drawing.blocks`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from tutti.kernels import activate
from tutti.models.drawing.blocks import (
    Groups,
    Places,
    attend,
    heads,
    joint,
    replace_forward,
    turn,
    turns_of,
)


def fuse(net: Any) -> None:
    """Have diffusers' transformer `net` compute its blocks so."""
    net.pos_embed = FluxPlaces(net.pos_embed)
    replace_forward(net.transformer_blocks.children(), double)
    replace_forward(net.single_transformer_blocks.children(), single)


class FluxPlaces(Places):
    """The network's positions, each pair of columns once."""

    def forward(self, ids: Tensor) -> Any:
        """See `turns_of`: of the text's tokens and the picture's behind them."""
        cosines, sines = self.places(ids)
        return turns_of(cosines[:, ::2], sines[:, ::2])


def double(
    block: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    temb: Tensor,
    image_rotary_emb: Any = None,
    joint_attention_kwargs: Any = None,
) -> tuple[Tensor, Tensor]:
    """(text, picture) after diffusers' `FluxTransformerBlock`, given as its class takes them."""
    hidden, text = hidden_states, encoder_hidden_states
    seen, read = Groups.of(hidden), Groups.of(text)
    time = silu(temb)
    see = block.norm1.linear(time).chunk(6, -1)
    told = block.norm1_context.linear(time).chunk(6, -1)
    tokens = text.shape[1]
    cosines, sines = image_rotary_emb
    places = (cosines[tokens:], sines[tokens:]), (cosines[:tokens], sines[:tokens])
    mixed, mixed_text = joint(
        block.attn,
        seen.norm(hidden, see[1], see[0], block.norm1.norm.eps),
        read.norm(text, told[1], told[0], block.norm1_context.norm.eps),
        places,
    )
    return (
        read.end(text, mixed_text, told[2:], block.norm2_context, block.ff_context),
        seen.end(hidden, mixed, see[2:], block.norm2, block.ff),
    )


def single(
    block: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    temb: Tensor,
    image_rotary_emb: Any = None,
    joint_attention_kwargs: Any = None,
) -> tuple[Tensor, Tensor]:
    """(text, picture) after diffusers' `FluxSingleTransformerBlock`, given as its class takes them."""
    tokens = torch.cat([encoder_hidden_states, hidden_states], 1)
    both = Groups.of(tokens)
    shift, scale, gate = block.norm.linear(silu(temb)).chunk(3, -1)
    normed = both.norm(tokens, scale, shift, block.norm.norm.eps)
    attn = block.attn
    query, key = (
        heads(attn.to_q, normed, attn.heads, attn.norm_q),
        heads(attn.to_k, normed, attn.heads, attn.norm_k),
    )
    mixed = attend(*turn(query, key, image_rotary_emb), heads(attn.to_v, normed, attn.heads))
    fed = activate(block.proj_mlp(normed), "gelu_tanh")
    tokens = both.add(tokens, block.proj_out(torch.cat([mixed, fed], -1)), gate)
    length = encoder_hidden_states.shape[1]
    return tokens[:, :length], tokens[:, length:]
