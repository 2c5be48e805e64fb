"""Mixture of experts: a router chooses a few feed-forward layers for each token (Shazeer et al. 2017).

A step sorts its tokens by expert and multiplies each active expert once, by the rows of its tokens. What a token gets
depends on its own row alone: its experts' results are summed in the order of their numbers, whatever the batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from tutti.kernels import fuse_experts
from tutti.kernels.fused import FusedExperts
from tutti.kernels.weights import Weight, dequantize
from tutti.layers.config import MixtureConfig, RouterConfig
from tutti.layers.feed_forward import FeedForward
from tutti.layers.linear import Linear
from tutti.layers.parameters import LoadOptions, Named, TensorSpec, prefixed


class Router:
    """Chooses experts. Its weight and its arithmetic are float32 in every model: a rounding may change the choice."""

    def __init__(self, hidden: int, config: RouterConfig) -> None:
        self.config = config
        self.weight = torch.empty(0)
        self.bias: Tensor | None = None
        weight = TensorSpec("weight", (config.experts, hidden))
        self.specs = (weight, TensorSpec("bias", (config.experts,))) if config.bias else (weight,)

    @property
    def nbytes(self) -> int:
        """See `Parameter.nbytes`."""
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def load(self, tensors: Mapping[str, Weight], options: LoadOptions) -> None:
        """See `Parameter.load`."""
        wide = {name: dequantize(weight).to(options.device, copy=True) for name, weight in tensors.items()}
        self.weight, self.bias = wide["weight"], wide.get("bias")

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`x` [tokens, hidden] -> (experts int64 [tokens, active] in ascending order, their weights float32)."""
        scores = F.linear(x.float(), self.weight, self.bias).softmax(-1)
        if self.config.groups > 1:
            scores = self._eligible(scores)
        experts = scores.topk(self.config.active, sorted=False).indices.sort().values
        weights = scores.gather(-1, experts)
        if self.config.normalize:
            weights = weights / weights.sum(-1, keepdim=True)
        return experts, weights * self.config.scale

    def _eligible(self, scores: Tensor) -> Tensor:
        """The scores [tokens, experts], 0 outside the best groups (DeepSeek-AI 2024, section 2.2.2)."""
        grouped = scores.unflatten(-1, (self.config.groups, -1))
        best = grouped.amax(-1).topk(self.config.active_groups, sorted=False).indices
        kept = torch.zeros_like(grouped[..., 0], dtype=torch.bool).scatter_(-1, best, True)
        return grouped.masked_fill(~kept[..., None], 0.0).flatten(-2)


class Mixture:
    """sum over a token's experts of weight * expert(x), and the shared expert's result on top."""

    def __init__(self, hidden: int, config: MixtureConfig) -> None:
        self.router = Router(hidden, config.router)
        self.experts = [FeedForward(hidden, config.expert) for _ in range(config.router.experts)]
        self.shared = None if config.shared is None else FeedForward(hidden, config.shared)
        self.shared_gate = Linear(hidden, 1, quantize=False) if config.shared_gate else None
        self.fused: FusedExperts | None = None

    def parameters(self) -> Named:
        """`router`, `experts.N.up`, `experts.N.down` and, where they are, `shared.up`, `shared.down`, `shared_gate`."""
        yield "router", self.router
        for index, expert in enumerate(self.experts):
            yield from prefixed(f"experts.{index}", expert.parameters())
        if self.shared is not None:
            yield from prefixed("shared", self.shared.parameters())
        if self.shared_gate is not None:
            yield "shared_gate", self.shared_gate

    def __call__(self, x: Tensor) -> Tensor:
        """`x` [tokens, hidden] -> [tokens, hidden]."""
        experts, weights = self.router(x)
        mixed = self._mix(x, experts, weights) if self.fused is None else self.fused(x, experts, weights)
        if self.shared is None:
            return mixed
        shared = self.shared(x)
        return mixed + (shared if self.shared_gate is None else self.shared_gate(x).sigmoid() * shared)

    def fuse(self) -> None:
        """Joins the experts where the device has a kernel for all of them at once."""
        parts = [expert.parts() for expert in self.experts]
        known = [one for one in parts if one is not None]
        self.fused = fuse_experts(known) if len(known) == len(parts) else None

    def _mix(self, x: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        results = self._expert_results(x, experts)
        total = results[:, 0].float() * weights[:, :1]
        for place in range(1, experts.shape[1]):
            total.addcmul_(results[:, place].float(), weights[:, place : place + 1])
        return total.to(x.dtype)

    def _expert_results(self, x: Tensor, experts: Tensor) -> Tensor:
        """What each of its `experts` [tokens, active] makes of a token: [tokens, active, hidden].

        | rows of expert 0 | rows of expert 2 | ...  (token after token within an expert)
        """
        active = experts.shape[1]
        chosen = experts.flatten()
        order = chosen.argsort(stable=True)
        counts = torch.bincount(chosen, minlength=len(self.experts)).tolist()
        results = x.new_empty(chosen.shape[0], x.shape[1])
        start = 0
        for expert, count in zip(self.experts, counts, strict=True):
            if count:
                places = order[start : start + count]
                results[places] = expert(x[places // active])
                start += count
        return results.view(-1, active, x.shape[1])
