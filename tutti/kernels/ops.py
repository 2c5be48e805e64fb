"""The operations models are made of. Each means the same on every device; `choose` picks how it is done.

Results may be new tensors or, where the text says so, the arguments overwritten: use what is returned.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tutti.kernels.choose import chosen, linear_packer
from tutti.kernels.linear import PackedLinear
from tutti.kernels.paged import LayerCache, PagedBatch
from tutti.kernels.weights import Dense, Quantized, Weight, dequantize


def paged_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor | None,
    cache: LayerCache,
    batch: PagedBatch,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Writes this step's keys and values to the cache, then attends over it causally, or as `batch.visible` says.

    `q` [tokens, heads, key_dim], `k` [tokens, kv_heads, key_dim], `v` [tokens, kv_heads, value_dim] or None when
    `cache.value` is a view of `cache.key`; -> [tokens, heads, value_dim] in q's dtype. The cache's dtype may differ
    from q's. Query head h reads KV head h * kv_heads // heads.

    logit = q . k * scale, then softcap * tanh(logit / softcap). With `window` w a query at position p sees the keys in
    (p - w, p]. `sinks` [heads] adds exp(sink) to the softmax's denominator. Rows no request owns come out zero.
    """
    return chosen("paged_attention", q)(q, k, v, cache, batch, scale, window, softcap, sinks)


def attention(
    q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], *, scale: float | None = None
) -> Tensor:
    """softmax(q k^T * scale) v: every token looks at every token of its row, without a cache.

    `q`, `k`, `v` [tokens, heads, dim] of one dtype, rows of `lengths` laid end to end; -> the same shape. `scale` is
    1 / sqrt(dim) unless given. A row's result does not depend on the others. Raises ValueError on other lengths.
    """
    if not (q.shape == k.shape == v.shape and sum(lengths) == len(q)):
        raise ValueError(
            f"there are {len(q)} tokens, in rows of {list(lengths)}; keys and values are as queries are"
        )
    return chosen("attention", q)(q, k, v, lengths, q.shape[-1] ** -0.5 if scale is None else scale)


def rms_norm(x: Tensor, weight: Tensor | None, eps: float, *, offset: float = 0.0) -> Tensor:
    """x / rms(x) * (offset + weight) over the last dimension: `x` [..., width], `weight` [width] or None for ones.

    Computed in float32. With offset 0 the normed value is rounded to x's dtype before the weight multiplies it, else
    everything is rounded once.
    """
    return chosen("rms_norm", x)(x, weight, eps, offset)


def add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor | None, eps: float, *, offset: float = 0.0
) -> tuple[Tensor, Tensor]:
    """(rms_norm(residual + x), residual + x), each [tokens, width] in x's dtype."""
    return chosen("add_rms_norm", x)(x, residual, weight, eps, offset)


def modulated_norm(
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    starts: Tensor,
    eps: float,
    *,
    weight: Tensor | None = None,
    centered: bool = False,
) -> Tensor:
    """norm(x) * weight * (1 + scale) + shift: how a diffusion transformer is told the time (Peebles and Xie 2022).

    `x` [rows, width] in groups: group g has the rows starts[g] to starts[g + 1] (`starts` int32 [groups + 1], of which
    the last is `rows`), and the row g of `scale` and `shift` [groups, width]. `weight` [width]. An RMS norm, or
    `centered` a layer norm. Computed in float32 and rounded once.
    """
    return chosen("modulated_norm", x)(x, scale, shift, starts, eps, weight, centered)


def gated_sum(
    x: Tensor,
    y: Tensor,
    gate: Tensor | None,
    starts: Tensor,
    *,
    weight: Tensor | None = None,
    eps: float = 0.0,
) -> Tensor:
    """x + gate * y of rows in groups, as in `modulated_norm`; with `weight` [width], of the RMS norm of y.

    `gate` [groups, width] or None for ones. Computed in float32 and rounded once.
    """
    return chosen("gated_sum", x)(x, y, gate, starts, weight, eps)


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """(x - mean) / std * weight + bias over the last dimension."""
    return chosen("layer_norm", x)(x, weight, bias, eps)


def apply_rope(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *, interleaved: bool = False
) -> tuple[Tensor, Tensor]:
    """Rotary position embedding of `q` [tokens, heads, dim] and `k` [tokens, kv_heads, dim]. May overwrite them.

    `cos`, `sin` float32 [tokens, rotary_dim / 2]. The first rotary_dim columns turn, the rest pass: column i turns with
    column i + rotary_dim / 2 or, interleaved, column 2i with column 2i + 1.
    """
    return chosen("apply_rope", q)(q, k, cos, sin, interleaved)


def activate(x: Tensor, activation: str) -> Tensor:
    """The activation named "silu", "gelu", "gelu_tanh", "quick_gelu", "relu" or "relu2". Raises ValueError."""
    return chosen("activate", x)(x, activation)


def gated(x: Tensor, activation: str, up: Tensor | None = None) -> Tensor:
    """activate(gate) * up for `x` = gate|up [tokens, 2 * width] -> [tokens, width]; with `up`, `x` is the gate alone.

    Also "swiglu_clamped": g * sigmoid(1.702 g) * (u + 1) with g = min(gate, 7), u = clamp(up, -7, 7).
    """
    return chosen("gated", x)(x, activation, up)


def argmax(x: Tensor) -> Tensor:
    """The index of the first largest number of each row, or of the first NaN: `x` [rows, width] -> int64 [rows]."""
    return chosen("argmax", x)(x)


def snake(x: Tensor, speed: Tensor, height: Tensor, taps: Tensor | None = None) -> Tensor:
    """x + sin^2(speed * x) * height (Ziyin et al. 2020): `x` [rows, channels, samples]; `speed`, `height` [channels].

    With `taps` float32 [even number], a low-pass filter at half the band, the activation is applied at twice the rate,
    between filters (Karras et al. 2021); beyond its ends a row goes on as it begins and ends.
    """
    return chosen("snake", x)(x, speed, height, taps)


def quantize_int8(weight: Dense) -> Quantized:
    """Symmetric int8, one scale per output channel: scale = max|w| / 127, codes in -127..127.

    The largest error is scale / 2 per weight. A row of zeros gets scale 1. Rows are taken in slices, so that what is
    needed besides the result stays small.
    """
    columns = weight.shape[1]
    step = max(1, 2**24 // max(1, columns))
    parts = [chosen("quantize_rows", part)(part) for part in weight.tensor.split(step)]
    codes = torch.cat([codes for codes, _ in parts]) if len(parts) > 1 else parts[0][0]
    scale = torch.cat([scale for _, scale in parts])
    return Quantized(codes, scale[:, None], None, group_size=columns, bits=8)


def quantize_fp8(weight: Dense) -> Quantized:
    """Floats of 8 bits (e4m3), one scale per output channel: scale = max|w| / 448.

    The largest error is 1/16 of a weight, and less than scale / 1000 of very small ones. Slices as in `quantize_int8`.
    """
    columns = weight.shape[1]
    codes = torch.empty(weight.shape, dtype=torch.float8_e4m3fn, device=weight.tensor.device)
    scale = torch.empty(weight.shape[0], 1, device=weight.tensor.device)
    step = max(1, 2**18 // max(1, columns))
    for start in range(0, len(codes), step):
        rows = slice(start, start + step)
        wide = weight.tensor[rows].float()
        largest = wide.abs().amax(1, keepdim=True) / torch.finfo(codes.dtype).max
        scale[rows] = torch.where(largest > 0, largest, 1.0)
        codes[rows] = (wide / scale[rows]).to(codes.dtype)
    return Quantized(codes, scale, None, group_size=columns, bits=8)


def quantize(weight: Weight, form: str) -> Quantized:
    """`weight` in the form "int8" or "fp8"; what has codes of another form is quantized anew."""
    own = isinstance(weight, Quantized) and weight.bits == 8 and weight.per_channel and weight.plain
    if isinstance(weight, Quantized) and own and weight.floats == (form == "fp8"):
        return weight
    dense = weight if isinstance(weight, Dense) else Dense(dequantize(weight))
    return quantize_fp8(dense) if form == "fp8" else quantize_int8(dense)


def pack_linear(
    weight: Weight, bias: Tensor | None, *, device: torch.device | str, dtype: torch.dtype
) -> PackedLinear:
    """Packs `weight` [out, in] and `bias` [out] for `device`; activations will come in `dtype`.

    A `PlainLinear` may share memory with a `Dense` weight; every other form owns a copy, so that a memory-mapped
    weight can be released.
    """
    device = torch.device(device)
    return linear_packer(weight, device, dtype)(weight, bias, device, dtype)
