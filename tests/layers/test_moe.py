"""A token's experts and what they make of it do not depend on the other tokens of the batch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tutti.kernels.weights import Dense
from tutti.layers.config import FeedForwardConfig, MixtureConfig, RouterConfig
from tutti.layers.moe import Mixture, Router
from tutti.layers.parameters import LoadOptions

HIDDEN, WIDTH, EXPERTS = 16, 24, 6
OPTIONS = LoadOptions(torch.device("cpu"), torch.float32)


def mixture(
    config: RouterConfig, *, shared: bool = False, fused: bool = False
) -> tuple[Mixture, dict[str, torch.Tensor]]:
    """A mixture with random weights, and the weights by name. `fused`: its experts in one call, where they can be."""
    expert = FeedForwardConfig(WIDTH, "silu")
    made = Mixture(HIDDEN, MixtureConfig(config, expert, expert if shared else None))
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, parameter in made.parameters():
        weights[name] = torch.randn(parameter.specs[0].shape, generator=generator) * 0.3
        parameter.load({"weight": Dense(weights[name])}, OPTIONS)
    if fused:
        made.fuse()
    return made, weights


def one_by_one(x: torch.Tensor, config: RouterConfig, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """The mixture's meaning, token by token."""

    def apply(name: str, row: torch.Tensor) -> torch.Tensor:
        gate, up = (weights[f"{name}.up"] @ row).chunk(2)
        return weights[f"{name}.down"] @ (F.silu(gate) * up)

    rows = []
    for row in x:
        scores = (weights["router"] @ row).softmax(0)
        chosen = scores.topk(config.active).indices.tolist()
        total = scores[chosen].sum() if config.normalize else 1.0
        mixed = sum(apply(f"experts.{e}", row) * scores[e] / total * config.scale for e in chosen)
        rows.append(mixed + (apply("shared", row) if "shared.up" in weights else 0))
    return torch.stack(rows)


@settings(deadline=None, max_examples=30)
@given(
    tokens=st.integers(1, 40),
    active=st.integers(1, EXPERTS),
    normalize=st.booleans(),
    scale=st.sampled_from([1.0, 2.5]),
    shared=st.booleans(),
    fused=st.booleans(),
)
def test_a_mixture_is_the_weighted_sum_of_its_chosen_experts(
    tokens: int, active: int, normalize: bool, scale: float, shared: bool, fused: bool
) -> None:
    config = RouterConfig(EXPERTS, active, normalize, scale)
    made, weights = mixture(config, shared=shared, fused=fused)
    x = torch.randn(tokens, HIDDEN, generator=torch.Generator().manual_seed(tokens))
    torch.testing.assert_close(made(x), one_by_one(x, config, weights), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_a_token_gets_the_same_alone_and_in_any_batch(fused: bool) -> None:
    made, _ = mixture(RouterConfig(EXPERTS, 2, normalize=True), fused=fused)
    x = torch.randn(33, HIDDEN, generator=torch.Generator().manual_seed(1))
    together, backwards = made(x), made(x.flip(0)).flip(0)
    torch.testing.assert_close(together, backwards, atol=1e-6, rtol=1e-6)
    alone = torch.cat([made(row[None]) for row in x])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("fused", [False, True])
def test_no_tokens_give_no_rows(fused: bool) -> None:
    made, _ = mixture(RouterConfig(EXPERTS, 2), fused=fused)
    assert made(torch.zeros(0, HIDDEN)).shape == (0, HIDDEN)


def test_only_the_best_groups_are_eligible() -> None:
    router = Router(HIDDEN, RouterConfig(6, 3, groups=3, active_groups=2))
    router.weight = torch.zeros(6, HIDDEN)
    router.weight[:, 0] = torch.tensor([5.0, 0.0, 4.0, 1.0, 3.0, 3.5])  # groups by best: 5, 4, 3.5
    experts, weights = router(F.one_hot(torch.tensor([0]), HIDDEN).float())
    assert experts.tolist() == [[0, 2, 3]]
    expected = router.weight[:, 0].softmax(0)[[0, 2, 3]]
    torch.testing.assert_close(weights[0], expected)
