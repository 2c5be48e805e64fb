"""Our paged attention as one of transformers' attention functions.

A step's pages reach the function through a context variable, which has a value only while a model runs: some models
(StableLM, Nemotron) do not hand keyword arguments on to their attention. The mask that transformers would build is
replaced by a note of its window (see `note_window`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from tutti.kernels import paged_attention
from tutti.kernels.paged import LayerCache, PagedBatch

NAME = "tutti"

# Arguments that transformers hands to attention functions and that change nothing here.
HARMLESS = frozenset(
    {
        "position_ids",
        "cache_position",
        "position_embeddings",
        "past_key_values",
        "use_cache",
        "is_causal",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "return_dict",
    }
)


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """What one layer asked of attention: the widths are those of a head, `unknown` are arguments we cannot heed."""

    layer: int
    kv_heads: int
    key_dim: int
    value_dim: int
    window: int | None
    causal: bool
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PagedStep:
    """A step's pages: `batches` by group, `caches` and `windows` by layer. `calls`, if given, records the layers."""

    batches: Sequence[PagedBatch]
    caches: Sequence[LayerCache]
    group_of: Mapping[int, int]
    windows: Sequence[int | None]
    calls: list[AttentionCall] | None = None


_STEP: ContextVar[PagedStep] = ContextVar("step")


@contextmanager
def running(step: PagedStep) -> Iterator[None]:
    """While it lasts, attention functions of this thread read and write the pages of `step`."""
    token = _STEP.set(step)
    try:
        yield
    finally:
        _STEP.reset(token)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: `query` [1, heads, tokens, key_dim] -> [1, tokens, heads, value_dim].

    Raises ValueError when the layer does not know which one it is.
    """
    step, layer = _STEP.get(), module.layer_idx
    if not isinstance(layer, int) or layer not in step.group_of:
        raise ValueError(f"{type(module).__name__} calls itself layer {layer} of {len(step.group_of)}")
    if step.calls is not None:
        unknown = tuple(name for name, other in others.items() if other is not None and name not in HARMLESS)
        window = sliding_window if attention_mask is None else int(attention_mask.flatten()[0])
        causal = others.get("is_causal") is not False and vars(module).get("is_causal") is not False
        shape = (key.shape[1], key.shape[3], value.shape[3])
        step.calls.append(AttentionCall(layer, *shape, window, causal, unknown))
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
    attended = paged_attention(
        q,
        k,
        v,
        step.caches[layer],
        step.batches[step.group_of[layer]],
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=step.windows[layer],
        softcap=softcap,
        sinks=s_aux,
    )
    return attended[None], None


def note_window(
    *, mask_function: Callable[..., Tensor], local_size: int | None = None, **others: Any
) -> Tensor | None:
    """In place of a mask: None for plain causal attention, else the window's width, int64 [1, 1, 1, 1].

    Raises ValueError, while the layers are recorded, when the mask lets a token see the one after it.
    """
    if _STEP.get().calls is not None:
        zero, one = torch.tensor(0), torch.tensor(1)
        if mask_function(zero, zero, zero, one):
            raise ValueError("tokens see those that come after them")
    return None if local_size is None else torch.full((1, 1, 1, 1), local_size)


# The registries are transformers' own; what is entered is the same at every import.
AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, note_window)
