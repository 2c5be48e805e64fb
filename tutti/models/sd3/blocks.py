"""Stable Diffusion 3's blocks of two streams, in few passes over memory (see `drawing.blocks`)."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import silu

from tutti.models.drawing.blocks import Groups, attend, feed, heads, joint, replace_forward


def fuse(net: Any) -> None:
    """Have diffusers' transformer `net` compute its blocks so."""
    replace_forward(net.transformer_blocks.children(), forward)


def forward(
    block: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    temb: Tensor,
    joint_attention_kwargs: Any = None,
) -> tuple[Tensor | None, Tensor]:
    """(text, picture) after diffusers' `JointTransformerBlock`, given as its class takes them. The last has no text."""
    hidden, text = hidden_states, encoder_hidden_states
    seen, read = Groups.of(hidden), Groups.of(text)
    time = silu(temb)
    see = block.norm1.linear(time).chunk(9 if block.use_dual_attention else 6, -1)
    told = block.norm1_context.linear(time).chunk(2 if block.context_pre_only else 6, -1)
    eps = block.norm1.norm.eps
    # The last block's text is scaled first and shifted then.
    scale, shift = (told[0], told[1]) if block.context_pre_only else (told[1], told[0])
    mixed, mixed_text = joint(
        block.attn,
        seen.norm(hidden, see[1], see[0], eps),
        read.norm(text, scale, shift, block.norm1_context.norm.eps),
    )
    after = seen.add(hidden, mixed, see[2])
    if block.use_dual_attention:
        after = seen.add(after, _alone(block.attn2, seen.norm(hidden, see[7], see[6], eps)), see[8])
    fed = feed(block.ff, seen.norm(after, see[4], see[3], block.norm2.eps))
    hidden = seen.add(after, fed, see[5])
    if block.context_pre_only:
        return None, hidden
    return read.end(text, mixed_text, told[2:], block.norm2_context, block.ff_context), hidden


def _alone(attn: Any, x: Tensor) -> Tensor:
    """The picture's tokens among themselves."""
    query, key = (
        heads(layer, x, attn.heads, norm)
        for layer, norm in ((attn.to_q, attn.norm_q), (attn.to_k, attn.norm_k))
    )
    found: Tensor = attn.to_out[0](attend(query, key, heads(attn.to_v, x, attn.heads)))
    return found
