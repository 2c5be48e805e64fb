"""What a stored model can do, read off its templates, its parts and its file's metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tutti.hub.model import PIPELINE_FORMAT, StoredModel

# Variables of Go templates, and what Jinja templates of models with the ability speak of.
_TOOLS = re.compile(r"\.Tools\b|\btools\b")
_THINKING = re.compile(r"\.Thinking\b|\.Think\b|\benable_thinking\b|\breasoning_content\b|<think>")
_INSERT = re.compile(r"\.Suffix\b")


def capabilities(model: StoredModel, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Ollama's words for it: completion, embedding, image (it draws), insert, tools, thinking, vision.

    `metadata` is that of the model's GGUF file; empty where it has none. A template of the Modelfile counts before the
    one in the file: it is what the model is prompted by.
    """
    if model.config.model_format == PIPELINE_FORMAT:
        return ("image",)
    architecture = metadata.get("general.architecture", "")
    if f"{architecture}.pooling_type" in metadata:
        return ("embedding",)
    template = model.prompt_template or str(metadata.get("tokenizer.chat_template", ""))
    sees = bool(model.projectors) or f"{architecture}.vision.block_count" in metadata
    return capabilities_of(template, ("vision",) if sees else ())


def capabilities_of(template: str, senses: Sequence[str] = ()) -> tuple[str, ...]:
    """The same of a model that answers by `template`, whose senses (vision, audio) are known."""
    found = ["completion", *senses]
    found += [
        word
        for word, sign in (("insert", _INSERT), ("tools", _TOOLS), ("thinking", _THINKING))
        if sign.search(template)
    ]
    return tuple(found)
