"""The operations on the native kernels: tensors to addresses, shapes and types checked here.

Each method equals the function of the same name in `reference` or `reference_attention`, which also serve what the
kernels do not take (an odd key width in bfloat16, other dtypes of the cache).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from tutti.kernels import reference, reference_attention
from tutti.kernels.paged import LayerCache, PagedBatch

TYPES = {torch.float32: 0, torch.bfloat16: 1}  # enum Type of vector.h
ACTIVATIONS = {
    name: index
    for index, name in enumerate(
        (
            "silu",
            "gelu",
            "gelu_tanh",
            "quick_gelu",
            "relu",
            "relu2",
            "swiglu_clamped",
        )  # enum Activation of pointwise.h
    )
}
_NOTHING = (0, 0, 0)
_SNAKE_TAPS = 12  # TAPS of snake.h


class NativeOperations:
    """The operations of `module`, for float32 and bfloat16 tensors on the CPU."""

    def __init__(self, module: ModuleType) -> None:
        self._paged_attention = module.paged_attention
        self._attends_densely = module.attends_densely
        self._dense_attention = module.dense_attention
        self._rms_norm = module.rms_norm
        self._modulated_norm = module.modulated_norm
        self._gated_sum = module.gated_sum
        self._rope = module.rope
        self._activate = module.activate
        self._quantize_rows = module.quantize_rows
        self._argmax = module.argmax
        self._snake = module.snake

    def attention(self, q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], scale: float) -> Tensor:
        """See `reference.attention`. In tiles, where the processor has them."""
        tokens, heads, dim = q.shape
        if q.dtype != torch.bfloat16 or not self._attends_densely(dim):
            return reference.attention(q, k, v, lengths, scale)
        q, k, v = _rows(q), _rows(k.to(q.dtype)), _rows(v.to(q.dtype))
        starts = torch.tensor([0, *lengths]).cumsum(0).int()
        out = torch.empty(tokens, heads, dim, dtype=q.dtype)
        self._dense_attention(
            q.data_ptr(), *q.stride()[:2], k.data_ptr(), *k.stride()[:2], v.data_ptr(), *v.stride()[:2],
            out.data_ptr(), *out.stride()[:2], heads, dim, starts.data_ptr(), len(lengths), scale,
            torch.get_num_threads(),
        )  # fmt: skip
        return out

    def rms_norm(self, x: Tensor, weight: Tensor | None, eps: float, offset: float = 0.0) -> Tensor:
        """See `reference.rms_norm`."""
        if not 2 <= x.dim() <= 3 or not _is_plain(weight):
            return reference.rms_norm(x, weight, eps, offset)
        x = _rows(x)
        out = torch.empty_like(x)
        x_outer, x_inner, outer, inner = _grid(x)
        out_outer, out_inner, _, _ = _grid(out)
        address, weight_type = _weight(weight)
        self._rms_norm(
            x.data_ptr(), x_outer, x_inner, 0, 0, 0, 0, 0, 0, out.data_ptr(), out_outer, out_inner,
            TYPES[x.dtype], outer, inner, x.shape[-1], address, weight_type,
            eps, offset, offset == 0.0, torch.get_num_threads(),
        )  # fmt: skip
        return out

    def add_rms_norm(
        self, x: Tensor, residual: Tensor, weight: Tensor | None, eps: float, offset: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See `reference.add_rms_norm`."""
        if residual.dtype != x.dtype or x.dim() != 2 or not _is_plain(weight):
            return reference.add_rms_norm(x, residual, weight, eps, offset)
        x, residual = _rows(x), _rows(residual)
        (rows, width), x_stride, residual_stride = x.shape, x.stride(0), residual.stride(0)
        out, total = torch.empty(rows, width, dtype=x.dtype), torch.empty(rows, width, dtype=x.dtype)
        address, weight_type = _weight(weight)
        self._rms_norm(
            x.data_ptr(), x_stride, 0, residual.data_ptr(), residual_stride, 0,
            total.data_ptr(), width, 0, out.data_ptr(), width, 0,
            TYPES[x.dtype], rows, 1, width, address, weight_type,
            eps, offset, offset == 0.0, torch.get_num_threads(),
        )  # fmt: skip
        return out, total

    def apply_rope(
        self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False
    ) -> tuple[Tensor, Tensor]:
        """See `reference.apply_rope`; turns q and k where they are."""
        in_place = q.stride(-1) == 1 == k.stride(-1) and 0 not in q.stride() and 0 not in k.stride()
        if not in_place or k.dtype != q.dtype:
            return reference.apply_rope(q, k, cos, sin, interleaved)
        if cos.dtype != torch.float32 or not (cos.is_contiguous() and sin.is_contiguous()):
            cos, sin = cos.float().contiguous(), sin.float().contiguous()
        half, threads, kind = cos.shape[-1], torch.get_num_threads(), TYPES[q.dtype]
        turn = (cos.data_ptr(), sin.data_ptr(), half, interleaved, threads)
        for x in (q, k):
            tokens, heads, _ = x.shape
            self._rope(x.data_ptr(), x.stride(0), x.stride(1), kind, tokens, heads, *turn)
        return q, k

    def modulated_norm(
        self,
        x: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        starts: Tensor,
        eps: float,
        weight: Tensor | None,
        centered: bool,
    ) -> Tensor:
        """See `reference.modulated_norm`."""
        groups = _groups(x, starts, scale, shift)
        if groups is None or not _is_plain(weight):
            return reference.modulated_norm(x, scale, shift, starts, eps, weight, centered)
        x = x.contiguous()
        out = torch.empty_like(x)
        self._modulated_norm(
            x.data_ptr(), _address(scale), _address(shift), out.data_ptr(), TYPES[x.dtype], *x.shape,
            *groups, *_weight(weight), eps, centered, torch.get_num_threads(),
        )  # fmt: skip
        return out

    def gated_sum(
        self, x: Tensor, y: Tensor, gate: Tensor | None, starts: Tensor, weight: Tensor | None, eps: float
    ) -> Tensor:
        """See `reference.gated_sum`."""
        groups = _groups(x, starts, gate)
        if groups is None or y.dtype != x.dtype or not _is_plain(weight):
            return reference.gated_sum(x, y, gate, starts, weight, eps)
        x, y = x.contiguous(), y.contiguous()
        out = torch.empty_like(x)
        self._gated_sum(
            x.data_ptr(), y.data_ptr(), _address(gate), out.data_ptr(), TYPES[x.dtype], *x.shape,
            *groups, *_weight(weight), eps, torch.get_num_threads(),
        )  # fmt: skip
        return out

    def activate(self, x: Tensor, activation: str) -> Tensor:
        """See `reference.activate`."""
        if activation == "swiglu_clamped":
            return reference.activate(x, activation)  # which raises
        return self._activation(x, None, activation)

    def gated(self, x: Tensor, activation: str, up: Tensor | None = None) -> Tensor:
        """See `reference.gated`."""
        if up is None:
            x, up = x.contiguous().chunk(2, dim=-1)
        return self._activation(x, up, activation)

    def _activation(self, x: Tensor, up: Tensor | None, activation: str) -> Tensor:
        if activation not in ACTIVATIONS:
            return reference.activate(x, activation)  # which raises
        if up is not None and (up.dtype != x.dtype or up.stride() != x.stride() or not _is_rows(x)):
            x, up = x.contiguous(), up.to(x.dtype).contiguous()
        elif up is None:
            x = x.contiguous()
        out = torch.empty(x.shape, dtype=x.dtype)
        if out.numel():
            width = x.shape[-1]
            self._activate(
                x.data_ptr(), _address(up), width if x.dim() == 1 else x.stride(-2), out.data_ptr(),
                TYPES[x.dtype], out.numel() // width, width, ACTIVATIONS[activation], torch.get_num_threads(),
            )  # fmt: skip
        return out

    def quantize_rows(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `reference.quantize_rows`."""
        rows, width = x.shape
        x = _rows(x)
        codes = torch.empty(rows, width, dtype=torch.int8)
        scale = torch.empty(rows)
        self._quantize_rows(
            x.data_ptr(), TYPES[x.dtype], x.stride(0), rows, width,
            codes.data_ptr(), scale.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return codes, scale

    def argmax(self, x: Tensor) -> Tensor:
        """See `reference.argmax`."""
        rows, width = x.shape
        if x.dtype != torch.float32 or width == 0:
            return reference.argmax(x)
        x = _rows(x)
        out = torch.empty(rows, dtype=torch.int64)
        self._argmax(x.data_ptr(), x.stride(0), out.data_ptr(), rows, width, torch.get_num_threads())
        return out

    def snake(self, x: Tensor, speed: Tensor, height: Tensor, taps: Tensor | None = None) -> Tensor:
        """See `reference.snake`."""
        plain = x.dtype == speed.dtype == height.dtype == torch.float32
        if not plain or x.dim() != 3 or (taps is not None and len(taps) != _SNAKE_TAPS):
            return reference.snake(x, speed, height, taps)
        x, speed, height = x.contiguous(), speed.contiguous(), height.contiguous()
        out = torch.empty_like(x)
        if taps is not None:
            taps = taps.float().contiguous()
        self._snake(
            x.data_ptr(), speed.data_ptr(), height.data_ptr(), out.data_ptr(), *x.shape,
            0 if taps is None else taps.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return out

    def paged_attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor | None,
        cache: LayerCache,
        batch: PagedBatch,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """See `tutti.kernels.paged_attention`."""
        keys, values = cache.key, cache.value
        tokens, heads, key_dim = q.shape
        _, kv_heads, block_size, value_dim = values.shape
        odd = key_dim % 2 == 1 and q.dtype == torch.bfloat16
        if keys.dtype not in TYPES or odd or batch.visible is not None:
            return reference_attention.paged_attention(q, k, v, cache, batch, scale, window, softcap, sinks)
        check_batch(batch)
        q, k = _rows(q), _rows(k.to(q.dtype))
        value: tuple[int, ...] = _NOTHING
        if v is not None:
            v = _rows(v.to(q.dtype))
            value = (v.data_ptr(), *v.stride()[:2])
        if sinks is not None:
            sinks = sinks.float().contiguous()
        out = torch.empty(tokens, heads, value_dim, dtype=q.dtype)
        self._paged_attention(
            q.data_ptr(), *q.stride()[:2], k.data_ptr(), *k.stride()[:2], *value,
            out.data_ptr(), heads * value_dim, value_dim, TYPES[q.dtype],
            keys.data_ptr(), *keys.stride()[:3], values.data_ptr(), *values.stride()[:3], TYPES[keys.dtype],
            tokens, heads, kv_heads, key_dim, value_dim, block_size, batch.lengths.shape[0],
            batch.query_starts.data_ptr(), batch.lengths.data_ptr(),
            batch.block_table.data_ptr(), batch.block_table.stride(0), batch.slots.data_ptr(),
            scale, window or 0, softcap or 0.0, 0 if sinks is None else sinks.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return out


def _rows(x: Tensor) -> Tensor:
    """`x` with a contiguous last dimension."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _grid(x: Tensor) -> tuple[int, int, int, int]:
    """(stride of the first dimension, of the second, size of the first, of the second) of the rows of `x`."""
    if x.dim() == 3:
        outer, inner, _ = x.shape
        outer_stride, inner_stride, _ = x.stride()
        return outer_stride, inner_stride, outer, inner
    return x.stride(0), 0, x.shape[0], 1


def _is_rows(x: Tensor) -> bool:
    """Whether `x` is rows that are equally far apart."""
    if x.stride(-1) != 1:
        return False
    return all(x.stride(i) == x.stride(i + 1) * x.shape[i + 1] for i in range(x.dim() - 2))


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _groups(x: Tensor, starts: Tensor, *tensors: Tensor | None) -> tuple[int, int, int] | None:
    """(address of `starts`, how many groups, how far apart rows of `tensors` are); None where no kernel takes them.

    Raises TypeError where the groups are not those of the rows of `x`: a kernel would read nonsense.
    """
    count = len(starts) - 1
    if (
        starts.dtype != torch.int32
        or count < 1
        or not starts.is_contiguous()
        or starts[[0, -1]].tolist() != [0, len(x)]
    ):
        raise TypeError("groups of rows start at int32 [groups + 1], from 0 to the number of rows")
    if any(one is not None and one.shape != (count, x.shape[1]) for one in tensors):
        raise TypeError("what groups of rows have is [groups, width]")
    strides = {one.stride(0) for one in tensors if one is not None}
    plain = all(one is None or (one.dtype == x.dtype and one.stride(1) == 1) for one in tensors)
    return (starts.data_ptr(), count, strides.pop() if strides else 0) if plain and len(strides) < 2 else None


def _is_plain(weight: Tensor | None) -> bool:
    """Whether a norm's weight can be taken as it is."""
    return weight is None or (weight.dtype in TYPES and weight.is_contiguous())


def _weight(weight: Tensor | None) -> tuple[int, int]:
    """(address, type) of a norm's weight."""
    if weight is None:
        return 0, 0
    return weight.data_ptr(), TYPES[weight.dtype]


def check_batch(batch: PagedBatch) -> None:
    """Raises TypeError where an index has another form than `PagedBatch` says: a kernel would read nonsense."""
    wanted = torch.int32
    if (
        batch.query_starts.dtype != wanted
        or batch.lengths.dtype != wanted
        or batch.block_table.dtype != wanted
        or batch.slots.dtype != torch.int64
        or batch.block_table.stride(-1) != 1
    ):
        raise TypeError("paged batch: query_starts, lengths and block_table must be int32 and slots int64")
