"""Small tokenizers of every kind that language models use, trained here and saved as checkpoint folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

CORPUS = [
    "The quick brown fox jumps over the lazy dog. It isn't far, they're here!",
    "def main(x):\n    return x + 1\n\n\nprint(main(41))",
    "红色的圆在蓝色的方块左边。你好,世界!",
    "Größe, naïve café, Ελλάδα, Привет, مرحبا, こんにちは, 안녕하세요",
    "1 + 2 = 3; 10 20 300 4000; a  b   c    d",
    "user assistant system tool the a of and to in is you that it",
] * 4
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level() -> tuple[Tokenizer, dict[str, Any]]:
    """As Qwen: byte-level BPE, NFC, no begin token, chat marks."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    made.add_tokens(
        [AddedToken(name, normalized=False) for name in ("<tool_call>", "</tool_call>", "<think>")]
    )
    return made, {
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "bos_token": None,
        "add_bos_token": False,
    }


def byte_level_with_begin() -> tuple[Tokenizer, dict[str, Any]]:
    """As Llama 3: byte-level BPE whose post-processor writes a begin token."""
    made, _ = byte_level()
    made.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
    begin = made.token_to_id("<|begin_of_text|>")
    made.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A",
                pair="<|begin_of_text|> $A <|begin_of_text|> $B",
                special_tokens=[("<|begin_of_text|>", begin)],
            ),
        ]
    )
    return made, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}


def _with_bytes(made: Tokenizer, special: list[str]) -> Tokenizer:
    """Trains `made` on the corpus's ASCII lines, so that other signs fall back to byte tokens."""
    names = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=names, show_progress=False)
    made.train_from_iterator([line for line in CORPUS if line.isascii()], trainer)
    state = json.loads(made.to_str())
    state["model"]["byte_fallback"] = True
    state["added_tokens"] = [
        token for token in state["added_tokens"] if not token["content"].startswith("<0x")
    ]
    return Tokenizer.from_str(json.dumps(state))


def byte_fallback() -> tuple[Tokenizer, dict[str, Any]]:
    """As Llama 2: SentencePiece BPE with byte fallback; the text's first space is the tokenizer's own."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    made = _with_bytes(made, ["<unk>", "<s>", "</s>"])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return made, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}


def byte_fallback_by_normalizer() -> tuple[Tokenizer, dict[str, Any]]:
    """As Gemma: byte fallback, spaces by a normalizer, no space of the tokenizer's own."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made = _with_bytes(made, special)
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 2)]
    )
    names = {
        "bos": "bos_token",
        "eos": "eos_token",
        "pad": "pad_token",
        "unk": "unk_token",
        "mask": "mask_token",
    }
    return made, {value: f"<{key}>" for key, value in names.items()}


def word_piece() -> tuple[Tokenizer, dict[str, Any]]:
    """As BERT: words in pieces, lower case, marks at both ends."""
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    made.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return made, {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}


def unigram() -> tuple[Tokenizer, dict[str, Any]]:
    """As T5: SentencePiece unigram with Metaspace, an end token behind the text."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(
            vocab_size=300, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
        ),
    )
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return made, {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


KINDS = {
    "byte_level": byte_level,
    "byte_level_with_begin": byte_level_with_begin,
    "byte_fallback": byte_fallback,
    "byte_fallback_by_normalizer": byte_fallback_by_normalizer,
    "word_piece": word_piece,
    "unigram": unigram,
}


def save(folder: Path, kind: str, **config: Any) -> Path:
    """Writes the tokenizer of `kind` with its tokenizer_config.json into `folder`."""
    made, special = KINDS[kind]()
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    write(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"} | special | config)
    return folder


def write(path: Path, value: Any) -> None:
    """`value` as JSON in `path`."""
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
