"""Tiny checkpoints of every family, made by transformers, for the whole project's tests.

`make(name, folder)` writes one; `cached(name)` writes it once per test session. Every parameter is drawn anew
(matrices N(0, .15), norms N(1, .15), biases N(0, .15)): with transformers' own initialization norms are 1, biases 0 and
the best token's margin next to nothing, which hides bugs. Vocabularies match `tokenizer_json`'s byte-level tokenizer,
so a checkpoint can be served with text.

One module for each kind of model; a new family is a function with `@recipe(name, ...)` there.
"""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from tests.models.checkpoints import hearing, mllama, omni, omni3, sight, text
from tests.models.checkpoints.base import (
    AUDIO,
    BASE,
    BOS,
    CHAT_TEMPLATE,
    END,
    EOS,
    IDS,
    IMAGE,
    PAD,
    PICTURES,
    RECIPES,
    SPECIALS,
    START,
    VIDEO,
    VOCAB,
    WINDOW,
    Recipe,
    add_tokenizer,
    byte_characters,
    randomize,
    recipe,
    tokenizer_json,
)
from tests.models.checkpoints.hearing import WHISPER, WHISPER_TIMES

__all__ = [
    "AUDIO",
    "BASE",
    "BOS",
    "CHAT_TEMPLATE",
    "END",
    "EOS",
    "IDS",
    "IMAGE",
    "PAD",
    "PICTURES",
    "RECIPES",
    "SPECIALS",
    "START",
    "VIDEO",
    "VOCAB",
    "WHISPER",
    "WHISPER_TIMES",
    "WINDOW",
    "Recipe",
    "add_tokenizer",
    "byte_characters",
    "cached",
    "make",
    "names",
    "randomize",
    "recipe",
    "reference",
    "tokenizer_json",
]

KINDS = (text, sight, mllama, hearing, omni, omni3)  # importing them registered their recipes


def names(kind: str) -> tuple[str, ...]:
    """The checkpoints of a kind: "text", "sight", "beside" (sees beside its prompt), "hearing" or "omni"."""
    return tuple(name for name, made in RECIPES.items() if made.kind == kind)


def make(name: str, folder: Path, *, dtype: torch.dtype = torch.float32, **save: Any) -> Path:
    """Writes the family's checkpoint, with a tokenizer, to `folder`; `save` goes to save_pretrained (shard size)."""
    made = RECIPES[name]
    model = randomize(made.build()).to(dtype).eval()
    model.generation_config = made.generation()
    model.save_pretrained(folder, **save)
    add_tokenizer(folder, made.specials)
    if made.preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(made.preprocessor))
    made.finish(folder)
    return folder


@functools.cache
def _root() -> Path:
    """The session's folder; it goes with the process's temporary files."""
    folder = tempfile.TemporaryDirectory(prefix="tutti-checkpoints-")
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


@functools.cache
def cached(name: str) -> Path:
    """The family's float32 checkpoint, made once per test session."""
    return make(name, _root() / name)


@functools.cache
def reference(name: str) -> PreTrainedModel:
    """transformers' model of `cached(name)`, with eager attention (the one that heeds soft caps and sinks)."""
    auto = RECIPES[name].auto
    return auto.from_pretrained(cached(name), dtype=torch.float32, attn_implementation="eager").eval()
