"""The reference of Qwen3-TTS, the package qwen-tts 0.1.1, beside transformers 5, for which it was not written.

It is installed without what it depends on (`pip install --no-deps qwen-tts==0.1.1`; see the Makefile). Only its two
networks are imported; what they miss is put in the places where they look for it while they are imported:

- `librosa`, which only recordings of voices need;
- rotary embeddings without scaling, which transformers 5 lists no more;
- masks, whose functions have renamed an argument and dropped another;
- `cache_position`, which `generate` passes no more.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch
from transformers import masking_utils, modeling_rope_utils
from transformers.utils import generic

_ROOT = "qwen_tts"
_PACKAGES = ("", ".core", ".core.models", ".core.tokenizer_12hz", ".inference")


@functools.cache
def modules() -> tuple[Any, Any, Any, Any]:
    """The configuration and the network of the talker, and those of the codec. Skips the test where it is not there."""
    spec = importlib.util.find_spec(_ROOT)
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("the package qwen-tts is not installed")
    home = next(iter(spec.submodule_search_locations))
    stubs: dict[str, types.ModuleType] = {}
    for name in _PACKAGES:
        package = types.ModuleType(_ROOT + name)
        package.__path__ = [home + name.replace(".", "/")]  # its own __init__ would import the whole of it
        stubs[_ROOT + name] = package
    for name, content in (
        ("librosa", {}),
        ("librosa.filters", {"mel": None}),
        (f"{_ROOT}.inference.qwen3_tts_tokenizer", {"Qwen3TTSTokenizer": None}),
    ):
        stubs[name] = types.ModuleType(name)
        stubs[name].__dict__.update(content)
    with (
        patch.dict(sys.modules, stubs),
        patch.dict(modeling_rope_utils.ROPE_INIT_FUNCTIONS, {"default": _plain_rope}),
        patch.object(generic, "check_model_inputs", _unchecked),
        patch.object(masking_utils, "create_causal_mask", _renamed(masking_utils.create_causal_mask)),
        patch.object(
            masking_utils,
            "create_sliding_window_causal_mask",
            _renamed(masking_utils.create_sliding_window_causal_mask),
        ),
    ):
        talker = importlib.import_module(f"{_ROOT}.core.models.modeling_qwen3_tts")
        talker_config = importlib.import_module(f"{_ROOT}.core.models.configuration_qwen3_tts")
        codec = importlib.import_module(f"{_ROOT}.core.tokenizer_12hz.modeling_qwen3_tts_tokenizer_v2")
        codec_config = importlib.import_module(
            f"{_ROOT}.core.tokenizer_12hz.configuration_qwen3_tts_tokenizer_v2"
        )
    for module in (talker, codec):
        module.ROPE_INIT_FUNCTIONS = {**modeling_rope_utils.ROPE_INIT_FUNCTIONS, "default": _plain_rope}
    kind = talker.Qwen3TTSTalkerForConditionalGeneration
    kind.forward = _counting(kind.forward)
    return talker_config, talker, codec_config, codec


def _plain_rope(config: Any, device: Any = None, **_: Any) -> tuple[torch.Tensor, float]:
    """Inverse frequencies and the scale of attention."""
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    theta = getattr(config, "rope_theta", None) or config.rope_parameters["rope_theta"]
    return 1.0 / theta ** (torch.arange(0, dim, 2).float() / dim), 1.0


def _unchecked(function: Any = None) -> Any:
    return (lambda one: one) if function is None else function


def _renamed(function: Callable[..., Any]) -> Callable[..., Any]:
    def mask(**given: Any) -> Any:
        given["inputs_embeds"] = given.pop("input_embeds")
        given.pop("cache_position", None)
        return function(**given)

    return mask


def _counting(forward: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(forward)  # `generate` asks it what it takes
    def counted(self: Any, *given: Any, **named: Any) -> Any:
        past, embeds = named.get("past_key_values"), named.get("inputs_embeds")
        start = 0 if past is None else past.get_seq_length()
        count = 1 if embeds is None else embeds.shape[1]
        named["cache_position"] = torch.arange(start, start + count)
        return forward(self, *given, **named)

    return counted
