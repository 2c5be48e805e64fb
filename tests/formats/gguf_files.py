"""Small checkpoints and GGUF files that the tests of the format share."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.models.checkpoints import IDS, add_tokenizer, cached, randomize
from tutti.formats.gguf.blocks.kinds import by_id
from tutti.formats.gguf.convert import convert
from tutti.formats.gguf.mixes import find_mix

TEXT = [
    "The quick brown fox jumps over the lazy dog; 12345 times, isn't it?",
    "Übermäßig schöne Größe – ça va? 你好，世界。 🙂🙂",
    "def f(x):\n    return x ** 2  # squares\n\n\n",
    "the the the then them these those there their they're we'll I'd",
]
NASTY = [
    *TEXT,
    "",
    " ",
    "  two",
    "\n\n\t tab",
    "<|im_start|>user\nhi<|im_end|>",
    "a\u0301 e\u0301 🏳️‍🌈 \u200b x",
]


@functools.cache
def _root() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="tutti-gguf-")
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


@functools.cache
def wide() -> Path:
    """A Qwen3 of eight layers whose rows are super-blocks of 256 (but 96 wide on the way down of none)."""
    config = transformers.Qwen3Config(
        vocab_size=264,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        **IDS,
    )
    folder = _root() / "wide"
    randomize(transformers.Qwen3ForCausalLM(config)).eval().save_pretrained(folder)
    add_tokenizer(folder)
    return folder


@functools.cache
def written(name: str, mix: str) -> Path:
    """The GGUF file of the checkpoint `name` ("wide" or one of the tests' tiny ones) in `mix`."""
    file = _root() / f"{name}-{mix}.gguf"
    convert(wide() if name == "wide" else cached(name), file, find_mix(mix))
    return file


def stored(file: Path) -> dict[str, tuple[int, torch.Tensor]]:
    """What the `gguf` package finds in `file`: the type's number and the values, float32, of every tensor."""
    return {
        tensor.name: (
            int(tensor.tensor_type),
            torch.from_numpy(
                np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
            ).view(*reversed(tensor.shape.tolist())),
        )
        for tensor in gguf.GGUFReader(file).tensors
    }


def types(file: Path) -> dict[str, str]:
    """The name of every tensor's type, by the `gguf` package."""
    return {tensor.name: by_id(int(tensor.tensor_type)).name for tensor in gguf.GGUFReader(file).tensors}


def metadata(file: Path) -> dict[str, Any]:
    """The metadata of `file`, by the `gguf` package."""
    reader = gguf.GGUFReader(file)
    return {
        name: field.contents() if field.data else []
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }


def byte_level(folder: Path, pattern: str | None, *, bos: bool = False) -> Path:
    """A copy of the tests' Llama in `folder`, with a byte-level BPE of real merges; `pattern` None: GPT-2's own."""
    tokenizer = Tokenizer(models.BPE())
    steps: list[Any] = [] if pattern is None else [pre_tokenizers.Split(Regex(pattern), "isolated")]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None))
    tokenizer.pre_tokenizer = steps[0] if pattern is None else pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return _trained(folder, tokenizer, pre_tokenizers.ByteLevel.alphabet(), bos=bos)


def sentencepiece(folder: Path) -> Path:
    """The same with SentencePiece's BPE, as Llama 2 has it: bytes for what it has no piece for."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    specials = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    return _trained(folder, tokenizer, [], bos=True, first=specials)


def _trained(
    folder: Path, tokenizer: Tokenizer, alphabet: list[str], *, bos: bool, first: list[str] | None = None
) -> Path:
    """Trains `tokenizer` on a little text and writes it beside the weights of the tests' Llama."""
    specials = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=640,
        initial_alphabet=alphabet,
        special_tokens=[*(first or []), *specials],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 20, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    value = json.loads(tokenizer.to_str())
    value["added_tokens"] = [
        token for token in value["added_tokens"] if not token["content"].startswith("<0x")
    ]  # bytes are pieces, not added tokens
    size = tokenizer.get_vocab_size() + 8
    config = transformers.LlamaConfig(
        vocab_size=size,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    randomize(transformers.LlamaForCausalLM(config)).eval().save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(value, ensure_ascii=False))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": {"__type": "AddedToken", "content": "<s>", "special": True},
        "eos_token": "</s>",
        "chat_template": "{{ messages[0].content }}",
    } | ({"unk_token": "<unk>"} if first else {})
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 3]}))
    return folder
