"""The dense feed-forward layer, gated or plain."""

from __future__ import annotations

from torch import Tensor

from tutti.kernels import activate, gated
from tutti.kernels.fused import FeedForwardParts
from tutti.layers.config import FeedForwardConfig
from tutti.layers.linear import Linear
from tutti.layers.parameters import Named


class FeedForward:
    """down(act(gate(x)) * up(x)) with gate and up in one product (Shazeer 2020), or down(act(up(x)))."""

    def __init__(self, hidden: int, config: FeedForwardConfig) -> None:
        outs = (config.intermediate,) * (2 if config.gated else 1)
        self.up = Linear(hidden, *outs, bias=config.bias)
        self.down = Linear(config.intermediate, hidden, bias=config.bias)
        self.activation = config.activation
        self.apply = gated if config.gated else activate

    def parameters(self) -> Named:
        """`up` (slots gate, up when gated) and `down`."""
        yield "up", self.up
        yield "down", self.down

    def parts(self) -> FeedForwardParts | None:
        """For a kernel that does more than this; None where an adapter takes part."""
        up, down = self.up.alone, self.down.alone
        if up is None or down is None:
            return None
        return FeedForwardParts(up, down, self.activation, self.apply is gated)

    def __call__(self, x: Tensor) -> Tensor:
        """`x` [tokens, hidden] -> [tokens, hidden]."""
        return self.down(self.apply(self.up(x), self.activation))
