"""Tiny checkpoints for conversations: one that has room for them, and one that calls a function whatever is said."""

from __future__ import annotations

import functools
import itertools
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.models import checkpoints
from tests.models.checkpoints.base import byte_characters

CONTEXT = 1024
CALL = ("<tool_call>\n", '{"name": "weather"', ', "arguments": {"place": "Rome"}}', "\n</tool_call>")
_FREE = 0xF8  # bytes from here on stand in no text, so their tokens may be others'


@functools.cache
def roomy() -> Path:
    """The tiny model that hears, sees, writes and speaks, with a context of 1,024 tokens."""
    path = checkpoints.cached("qwen2_5_omni").with_name("omni-of-conversations")
    shutil.copytree(checkpoints.cached("qwen2_5_omni"), path)
    config = json.loads((path / "config.json").read_text())
    for section in (config["thinker_config"]["text_config"], config["talker_config"]):
        section["max_position_embeddings"] = CONTEXT
    (path / "config.json").write_text(json.dumps(config))
    return path


@functools.cache
def calling() -> Path:
    """The same, but the thinker's next token is decided by the last one alone: behind a line's end comes `CALL`.

    Its layers add nothing to the embeddings, the pieces of the call are tokens, and the head knows which follows which.
    """
    path = roomy().with_name("omni-that-calls")
    shutil.copytree(roomy(), path)
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    letters = byte_characters()
    vocabulary = tokenizer["model"]["vocab"]
    for number, piece in enumerate(CALL):
        del vocabulary[letters[_FREE + number]]
        vocabulary["".join(letters[byte] for byte in piece.encode())] = _FREE + number
    (path / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    (file,) = path.glob("*.safetensors")
    tensors = load_file(file)
    for name, tensor in tensors.items():
        if name.startswith("thinker.model.layers.") and (".o_proj." in name or ".down_proj." in name):
            tensor.zero_()
    tensors["thinker.model.norm.weight"].fill_(1)
    embedding, head = tensors["thinker.model.embed_tokens.weight"], tensors["thinker.lm_head.weight"]
    head.zero_()
    chain = [ord("\n"), *range(_FREE, _FREE + len(CALL)), checkpoints.EOS]
    for before, after in itertools.pairwise(chain):
        head[after] = 10 * torch.nn.functional.normalize(embedding[before], dim=0)
    save_file(tensors, file, {"format": "pt"})
    return path
