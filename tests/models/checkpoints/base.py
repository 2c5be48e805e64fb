"""What all makers of tiny checkpoints share: the vocabulary, the sizes, the tokenizer, and their register."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

VOCAB = 264  # 256 bytes and the special tokens below
PAD, BOS, EOS, START, END = 256, 257, 258, 259, 260
IMAGE, VIDEO, AUDIO = 261, 262, 263  # placeholders of media
SPECIALS = {
    "<pad>": PAD,
    "<s>": BOS,
    "</s>": EOS,
    "<|im_start|>": START,
    "<|im_end|>": END,
    "<|image|>": IMAGE,
    "<|video|>": VIDEO,
    "<|audio|>": AUDIO,
}
IDS = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
BASE = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    **IDS,
}
WINDOW = 9  # shorter than the tests' sequences
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% else %}<|{{ part.type }}|>{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

PICTURES = {"min_pixels": 16 * 16, "max_pixels": 48 * 48}  # how towers of patches of 4 pixels take them

Build = Callable[[], PreTrainedModel]


def _finished(folder: Path) -> None:
    """Nothing more to write."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a tiny checkpoint is made and loaded.

    `kind` is "text", "sight", "hearing" or "omni"; `auto` the class of transformers that loads it; `preprocessor` its
    preprocessor_config.json; `generation` makes its generation_config.json; `specials` are its special tokens; `finish`
    writes what else belongs into the folder.
    """

    build: Build
    kind: str = "text"
    auto: Any = transformers.AutoModelForCausalLM
    preprocessor: dict[str, Any] | None = None
    generation: Callable[[], transformers.GenerationConfig] = lambda: transformers.GenerationConfig(**IDS)
    specials: tuple[str, ...] = tuple(SPECIALS)
    finish: Callable[[Path], None] = _finished


RECIPES: dict[str, Recipe] = {}


def recipe(name: str, **more: Any) -> Callable[[Build], Build]:
    """Registers a function that builds a model with random weights; `more` are fields of its `Recipe`."""

    def register(build: Build) -> Build:
        RECIPES[name] = Recipe(build, **more)
        return build

    return register


def randomize(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Draws every parameter anew; norms that add one to their weight (initialized to 0) stay around 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean = 1.0 if parameter.ndim == 1 and not name.endswith("bias") and parameter.mean() == 1 else 0.0
            parameter.copy_(torch.normal(mean, 0.15, parameter.shape, generator=generator))
    return model


def tokenizer_json(specials: tuple[str, ...] = tuple(SPECIALS)) -> dict[str, Any]:
    """A byte-level BPE without merges: token i is byte i; the special tokens follow."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {character: byte for byte, character in byte_characters().items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(specials))
    value: dict[str, Any] = json.loads(tokenizer.to_str())
    return value


def byte_characters() -> dict[int, str]:
    """The printable character that stands for each byte in byte-level BPE (GPT-2's bytes_to_unicode)."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def add_tokenizer(folder: Path, specials: tuple[str, ...] = tuple(SPECIALS)) -> None:
    """Writes tokenizer.json and tokenizer_config.json (with a chat template) into `folder`."""
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(specials), ensure_ascii=False))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
