"""The frozen thinker as the talker hears it: for every token, its last hidden state plus its embedding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2Config, Qwen2Model

from pico.tokenizer import render_prompt
from pico.values import Chat

PREFIXES = ("thinker.model.", "model.")
TEXT_FIELDS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "max_position_embeddings", "rms_norm_eps",
)  # fmt: skip
BATCH = 32


@dataclass(frozen=True, slots=True)
class Told:
    """A prompt and its answer to the talker: rows [tokens, width], of which the first `prompt` are the prompt's, and
    for each token of the answer the character with which it begins."""

    rows: Tensor
    prompt: int
    begins: tuple[int, ...]


class Thinker:
    """Reads text alone, where Qwen2.5-Omni's thinker computes what Qwen2 does."""

    def __init__(self, model: Qwen2Model, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer

    @classmethod
    def load(cls, folder: Path, tokenizer: Path | None = None) -> Thinker:
        """From a folder of Qwen2 or of Qwen2.5-Omni (or its thinker alone)."""
        config = json.loads((folder / "config.json").read_text())
        config = config.get("thinker_config", config)
        config = config.get("text_config", config)
        rope = {"rope_type": "default", "rope_theta": config["rope_parameters"]["rope_theta"]}
        model = Qwen2Model(Qwen2Config(**{name: config[name] for name in TEXT_FIELDS}, rope_parameters=rope))
        stored = {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}
        prefix = next(one for one in PREFIXES if any(name.startswith(one) for name in stored))
        names = {name: prefix + name for name in model.state_dict()}
        model.load_state_dict({name: stored[theirs].float() for name, theirs in names.items()})
        return cls(model, Tokenizer.from_file(str((tokenizer or folder) / "tokenizer.json")))

    def row(self, token: str) -> Tensor:
        """The embedding of a special token, [width]."""
        return self.model.embed_tokens.weight[self.tokenizer.token_to_id(token)].detach()

    @torch.inference_mode()
    def tell(self, chats: Sequence[Chat]) -> list[Told]:
        """What the talker hears of each chat. The mark that ends an answer is never read, and has no row."""
        read = [self._encode(chat) for chat in chats]
        told: list[Told | None] = [None] * len(chats)
        order = sorted(range(len(chats)), key=lambda index: len(read[index][0]))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            ids = pad_sequence([torch.tensor(read[index][0]) for index in chosen], batch_first=True)
            hidden = self.model(ids, use_cache=False).last_hidden_state  # padding is behind: it is not seen
            rows = hidden + self.model.embed_tokens(ids)
            for row, index in zip(rows, chosen, strict=True):
                tokens, prompt, begins = read[index]
                told[index] = Told(row[: len(tokens)].bfloat16(), prompt, begins)
        return [one for one in told if one is not None]

    def _encode(self, chat: Chat) -> tuple[list[int], int, tuple[int, ...]]:
        prompt = self.tokenizer.encode(render_prompt(chat.prompt)).ids
        answer = self.tokenizer.encode(chat.answer)
        return [*prompt, *answer.ids], len(prompt), tuple(begin for begin, _ in answer.offsets)
