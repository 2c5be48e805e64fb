"""Tutti: one inference system for every modality and every machine.

The Python doors (`LLM`, `SamplingParams`, ...) are imported at the moment of need, so that `import tutti` costs
milliseconds and no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tutti.llm.batch import LLM
    from tutti.llm.omni import Omni
    from tutti.llm.stream import AsyncLLM
    from tutti.request import BeamSearchParams, PoolingParams, SamplingParams, StructuredOutputs

__version__ = "0.1.0"
__all__ = [
    "LLM",
    "AsyncLLM",
    "BeamSearchParams",
    "Omni",
    "PoolingParams",
    "SamplingParams",
    "StructuredOutputs",
    "__version__",
]

_HOME = {
    "LLM": "tutti.llm.batch",
    "AsyncLLM": "tutti.llm.stream",
    "Omni": "tutti.llm.omni",
    "SamplingParams": "tutti.request",
    "BeamSearchParams": "tutti.request",
    "PoolingParams": "tutti.request",
    "StructuredOutputs": "tutti.request",
}


def __getattr__(name: str) -> Any:
    """A public name, from the module where it lives (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'tutti' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
