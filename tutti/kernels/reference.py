"""Every operation in plain torch: what the other implementations must equal, on any device.

Owns the meaning of the operations. Clarity before speed, yet no loop over requests where tensors do it. The paged
attention is in `reference_attention`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CLAMP_LIMIT = 7.0  # of "swiglu_clamped"
CLAMP_ALPHA = 1.702


def rms_norm(x: Tensor, weight: Tensor | None, eps: float, offset: float = 0.0) -> Tensor:
    """x / rms(x) * (offset + weight) over the last dimension, in float32 (Zhang & Sennrich 2019).

    `x` [..., width]; `weight` [width] or None for ones. With offset 0 the normed value is rounded to x's dtype before
    the weight multiplies it; with another offset everything is rounded once: the two habits of published models.
    """
    wide = x.float()
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    if weight is None:
        return normed.to(x.dtype)
    if offset == 0.0:
        return (weight * normed.to(x.dtype)).to(x.dtype)
    return (normed * (offset + weight.float())).to(x.dtype)


def add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor | None, eps: float, offset: float = 0.0
) -> tuple[Tensor, Tensor]:
    """(rms_norm(residual + x), residual + x), both in x's dtype."""
    total = residual + x
    return rms_norm(total, weight, eps, offset), total


def modulated_norm(
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    starts: Tensor,
    eps: float,
    weight: Tensor | None,
    centered: bool,
) -> Tensor:
    """norm(x) * weight * (1 + scale) + shift of rows in groups, in float32 and rounded once."""
    wide = x.float()
    if centered:
        wide = wide - wide.mean(-1, keepdim=True)
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    if weight is not None:
        normed = normed * weight.float()
    if scale is not None:
        normed = normed * (1 + _of_rows(scale, starts).float())
    if shift is not None:
        normed = normed + _of_rows(shift, starts).float()
    return normed.to(x.dtype)


def gated_sum(
    x: Tensor, y: Tensor, gate: Tensor | None, starts: Tensor, weight: Tensor | None, eps: float
) -> Tensor:
    """x + gate * y of rows in groups, with `weight` of y's RMS norm, in float32 and rounded once."""
    added = y.float()
    if weight is not None:
        added = added * torch.rsqrt(added.square().mean(-1, keepdim=True) + eps) * weight.float()
    if gate is not None:
        added = added * _of_rows(gate, starts).float()
    return (x.float() + added).to(x.dtype)


def _of_rows(tensor: Tensor, starts: Tensor) -> Tensor:
    """What each row has of a tensor of groups."""
    return tensor.repeat_interleave(starts.diff(), dim=0)


def attention(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], scale: float) -> Tensor:
    """softmax(q k^T * scale) v within each row of [tokens, heads, dim], whose tokens lie end to end."""
    if len(set(lengths)) == 1:  # as a batch
        q, k, v = (one.unflatten(0, (len(lengths), -1)).transpose(1, 2) for one in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2).flatten(0, 1)
    rows = zip(*(one.split(list(lengths)) for one in (q, k, v)), strict=True)
    found = [attention(query, key, value, [len(query)], scale) for query, key, value in rows]
    return torch.cat(found) if found else torch.empty_like(q)


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """(x - mean) / std * weight + bias over the last dimension."""
    return F.layer_norm(x, (x.shape[-1],), weight, bias, eps)


def apply_rope(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False
) -> tuple[Tensor, Tensor]:
    """Rotary position embedding (Su et al. 2021) of `q` and `k` [tokens, heads, dim].

    `cos`, `sin` float32 [tokens, rotary_dim / 2]. The first rotary_dim columns turn, the rest pass. Column i turns with
    column i + rotary_dim / 2, or, interleaved, column 2i with column 2i + 1.
    """
    return _rotate(q, cos, sin, interleaved), _rotate(k, cos, sin, interleaved)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    half = cos.shape[-1]
    turned, rest = x[..., : 2 * half].float(), x[..., 2 * half :]
    cos, sin = cos[:, None], sin[:, None]
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        turned = torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)
    else:
        a, b = turned[..., :half], turned[..., half:]
        turned = torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
    return torch.cat((turned.to(x.dtype), rest), dim=-1)


def activate(x: Tensor, activation: str) -> Tensor:
    """The activation function named `activation`, elementwise."""
    match activation:
        case "silu":
            return F.silu(x)
        case "gelu":
            return F.gelu(x)
        case "gelu_tanh":
            return F.gelu(x, approximate="tanh")
        case "quick_gelu":
            return x * torch.sigmoid(1.702 * x)
        case "relu":
            return F.relu(x)
        case "relu2":
            return F.relu(x).square()
    raise ValueError(f"activation {activation!r} is not known; known: {', '.join(ACTIVATIONS)}")


ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "quick_gelu", "relu", "relu2")


def gated(x: Tensor, activation: str, up: Tensor | None = None) -> Tensor:
    """activate(gate) * up for `x` = gate|up [tokens, 2 * width] -> [tokens, width]; with `up`, `x` is the gate.

    "swiglu_clamped" is gate' * sigmoid(1.702 gate') * (up' + 1) with gate' = min(gate, 7), up' = clamp(up, -7, 7).
    """
    gate, up = x.chunk(2, dim=-1) if up is None else (x, up)
    if activation == "swiglu_clamped":
        gate = gate.clamp(max=CLAMP_LIMIT)
        return gate * torch.sigmoid(CLAMP_ALPHA * gate) * (up.clamp(-CLAMP_LIMIT, CLAMP_LIMIT) + 1)
    return activate(gate, activation) * up


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric int8 per row: `x` [rows, width] -> (codes int8 [rows, width], scale float32 [rows]).

    scale = max|x| / 127, so that x ~ codes * scale; 1 for a row of zeros, NaN for a row that is not finite.
    """
    wide = x.float()
    largest = wide.abs().amax(dim=-1)
    scale = torch.where(largest == 0, 1.0, largest / 127)
    scale = torch.where(scale.isfinite(), scale, float("nan"))
    return (wide / scale[:, None]).round_().nan_to_num_(0.0).to(torch.int8), scale


def snake(x: Tensor, speed: Tensor, height: Tensor, taps: Tensor | None = None) -> Tensor:
    """x + sin^2(speed * x) * height for `x` [rows, channels, samples]; with `taps`, at twice the rate, between filters.

    The samples in between and those of before are kept apart as two halves: every other tap of the filter makes each
    from x, and every other tap brings each back, without a zero that is multiplied or a sample that is thrown away.
    """
    if taps is None:
        return torch.addcmul(x, (x * speed[:, None]).sin_().square_(), height[:, None])
    even, odd = taps[0::2].tolist(), taps[1::2].tolist()
    reach = len(even) // 2
    wide = F.pad(x, (reach, reach), mode="replicate")
    first = snake(_filtered(wide[..., :-1], even, 2), speed, height)
    second = snake(_filtered(wide[..., 1:], odd, 2), speed, height)
    start, end = first[..., :1], second[..., -1:]  # the doubled signal goes on so beyond its ends

    def widened(half: Tensor, before: int) -> Tensor:
        behind = 2 * reach - 1 - before
        return torch.cat((start.expand(-1, -1, before), half, end.expand(-1, -1, behind)), dim=2)

    return _filtered(widened(first, reach - 1), odd).add_(_filtered(widened(second, reach), even))


def _filtered(x: Tensor, taps: Sequence[float], gain: float = 1.0) -> Tensor:
    """The sum of x's neighbours times the taps: [..., samples + taps - 1] -> [..., samples].

    As sums of shifted tensors, since convolutions of single channels are slow on CPUs.
    """
    samples = x.shape[-1] - len(taps) + 1
    out = x[..., :samples] * (taps[0] * gain)
    for shift, tap in enumerate(taps[1:], start=1):
        out.add_(x[..., shift : shift + samples], alpha=tap * gain)
    return out


def argmax(x: Tensor) -> Tensor:
    """The index of the first largest number of each row, or of the first NaN: `x` [rows, width] -> int64 [rows]."""
    return x.argmax(-1)
