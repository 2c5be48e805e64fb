"""torch's modules without their first weights, for networks whose weights a checkpoint brings.

Drawing weights that are replaced at once costs seconds. On torch's meta device nothing would be drawn either, but what
that imports (torch._dynamo, sympy) takes longer than a small model takes to load.
"""

from __future__ import annotations

from torch import nn


class _Unfilled:
    def reset_parameters(self) -> None:
        """Weights stay untouched memory."""


class Linear(_Unfilled, nn.Linear):
    """See `nn.Linear`."""


class Conv1d(_Unfilled, nn.Conv1d):
    """See `nn.Conv1d`."""


class Conv3d(_Unfilled, nn.Conv3d):
    """See `nn.Conv3d`."""


class ConvTranspose1d(_Unfilled, nn.ConvTranspose1d):
    """See `nn.ConvTranspose1d`."""


class Embedding(_Unfilled, nn.Embedding):
    """See `nn.Embedding`."""


class LayerNorm(_Unfilled, nn.LayerNorm):
    """See `nn.LayerNorm`."""
