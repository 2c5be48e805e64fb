"""Qwen-Image's blocks of two streams, in few passes over memory (see `drawing.blocks`)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tutti.models.drawing.blocks import Groups, Places, joint, replace_forward, turns_of


def fuse(net: Any) -> None:
    """Have diffusers' transformer `net` compute its blocks so."""
    net.pos_embed = QwenImagePlaces(net.pos_embed)
    replace_forward(net.transformer_blocks.children(), forward)


class QwenImagePlaces(Places):
    """The network's positions, as cosines and sines instead of complex numbers."""

    def forward(self, *given: Any, **more: Any) -> Any:
        """See `turns_of`: of the picture's tokens, and of the text's."""
        return tuple(turns_of(one.real, one.imag) for one in self.places(*given, **more))


def forward(
    block: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    encoder_hidden_states_mask: Tensor | None,
    temb: Tensor,
    image_rotary_emb: Any,
    joint_attention_kwargs: Any = None,
    modulate_index: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(text, picture) after diffusers' `block`, given as its class takes them."""
    hidden, text = hidden_states, encoder_hidden_states
    rows = len(hidden)
    seen, read = _seen(hidden, modulate_index), Groups.of(text)
    see = block.img_mod(temb)
    if modulate_index is not None:  # the time's row and the one of what is looked at, row by row
        see = see.unflatten(0, (2, rows)).transpose(0, 1).flatten(0, 1)
    (shift, scale, gate), (shift_2, scale_2, gate_2) = (half.chunk(3, -1) for half in see.chunk(2, -1))
    told = block.txt_mod(temb[:rows]).chunk(6, -1)
    lengths = None if encoder_hidden_states_mask is None else encoder_hidden_states_mask.sum(1).tolist()
    mixed, mixed_text = joint(
        block.attn,
        seen.norm(hidden, scale, shift, block.img_norm1.eps),
        read.norm(text, told[1], told[0], block.txt_norm1.eps),
        image_rotary_emb,
        lengths,
    )
    return (
        read.end(text, mixed_text, told[2:], block.txt_norm2, block.txt_mlp),
        seen.end(hidden, mixed, (gate, shift_2, scale_2, gate_2), block.img_norm2, block.img_mlp),
    )


def _seen(hidden: Tensor, index: Tensor | None) -> Groups:
    """The groups of a picture's tokens; with an `index`, those that are drawn and those that are looked at apart."""
    if index is None:
        return Groups.of(hidden)
    drawn = int((index[0] == 0).sum())
    return Groups([drawn, hidden.shape[1] - drawn] * len(hidden), hidden.device)
