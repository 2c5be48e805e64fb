"""The tokenizer of pico: a byte-level BPE made from the toy world, and how a chat becomes token ids.

Digits and Chinese characters stand alone, so that numbers and combinations are read piece by piece. The special tokens
come first and include those that a later version with ears and eyes needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from .requests import SIGN
from .values import Chat, Message
from .world import stream

VOCABULARY = 1536
CORPUS_CHATS = 60_000
END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
MEDIA_TOKENS = {
    "audio_token": "<|AUDIO|>", "image_token": "<|IMAGE|>", "video_token": "<|VIDEO|>",
    "audio_bos_token": "<|audio_bos|>", "audio_eos_token": "<|audio_eos|>",
    "vision_bos_token": SIGN, "vision_eos_token": "<|vision_eos|>",
}  # fmt: skip
SPECIAL_TOKENS = (
    END_OF_TEXT,
    START,
    END,
    *MEDIA_TOKENS.values(),
    "<|tts_pad|>",
    "<|tts_bos|>",
    "<|tts_eos|>",
)

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.content is string %}{{- message.content }}"
    "{%- else %}{%- for part in message.content or [] %}"
    "{%- if part.type in ('image', 'image_url') %}{{- '<|vision_bos|><|IMAGE|><|vision_eos|>' }}"
    "{%- elif part.type in ('audio', 'input_audio', 'audio_url') %}{{- '<|audio_bos|><|AUDIO|><|audio_eos|>' }}"
    "{%- elif part.type in ('video', 'video_url') %}{{- '<|vision_bos|><|VIDEO|><|vision_eos|>' }}"
    "{%- else %}{{- part.text }}{%- endif %}"
    "{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def build_tokenizer(seed: int) -> Tokenizer:
    """Trains the BPE on the training split of the world."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\p{Han}"), behavior="isolated"),
        pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(seed), trainer)
    return tokenizer


def _corpus(seed: int) -> Iterable[str]:
    for chat in islice(stream(f"{seed}|tokenizer", "train"), CORPUS_CHATS):
        for message in chat.messages:
            yield message.role
            yield message.content.removesuffix(SIGN)


def save_tokenizer(tokenizer: Tokenizer, directory: Path, context: int) -> None:
    """Writes `tokenizer.json` and `tokenizer_config.json`, which transformers' `AutoTokenizer` reads too."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": END_OF_TEXT,
        "bos_token": None,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "extra_special_tokens": MEDIA_TOKENS,
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (directory / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def render(messages: Sequence[Message]) -> str:
    """The chat as text, exactly as the chat template writes it."""
    return "".join(f"{START}{m.role}\n{m.content}{END}\n" for m in messages)


def render_prompt(messages: Sequence[Message]) -> str:
    """The chat and the beginning of the answer."""
    return f"{render(messages)}{START}assistant\n"


def encode_chats(tokenizer: Tokenizer, chats: Sequence[Chat]) -> list[tuple[list[int], list[bool]]]:
    """Token ids of whole chats, and which of them are an answer (its end mark included)."""
    encodings = tokenizer.encode_batch_fast([render(chat.messages) for chat in chats])
    opening = tokenizer.encode(f"{START}assistant\n").ids
    end = tokenizer.encode(END).ids[0]
    return [(encoding.ids, _answers(encoding.ids, opening, end)) for encoding in encodings]


def _answers(ids: list[int], opening: list[int], end: int) -> list[bool]:
    marks = [False] * len(ids)
    inside = False
    for index in range(len(ids)):
        marks[index] = inside
        if inside and ids[index] == end:
            inside = False
        elif not inside and ids[index + 1 - len(opening) : index + 1] == opening:
            inside = True
    return marks
