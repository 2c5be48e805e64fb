"""A GGUF file's tokenizer gives the ids of the tokenizer that it was made of."""

from __future__ import annotations

import inspect
import itertools
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX as QWEN2
from transformers.models.qwen3_5.tokenization_qwen3_5 import PRETOKENIZE_REGEX as QWEN35

from tests.gguf_files import finish
from tests.processor.small_tokenizers import CORPUS
from tutti.errors import CheckpointError
from tutti.formats.gguf.folder import read_inside
from tutti.formats.gguf.splitting import WAYS
from tutti.models.processor import load_processor, load_tokenizer
from tutti.request import Chat

# As in the tokenizer.json of published models.
LLAMA3 = inspect.signature(TikTokenConverter.__init__).parameters["pattern"].default
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK3 = (
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
)


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def words(*, regex: bool) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)


PUBLISHED: dict[str, list[Any]] = {
    "gpt-2": [words(regex=True)],
    "llama-bpe": [split(LLAMA3), words(regex=False)],
    "qwen2": [split(QWEN2), words(regex=False)],
    "qwen35": [split(QWEN35), words(regex=False)],
    "gpt-4o": [split(GPT4O), words(regex=False)],
    "tekken": [split(TEKKEN), words(regex=False)],
    "deepseek-v3": [split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK3), words(regex=False)],
    "deepseek-coder": [
        *map(split, ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+")),
        pre_tokenizers.Digits(individual_digits=True),
        words(regex=False),
    ],
    "falcon": [
        pre_tokenizers.Punctuation("contiguous"),
        words(regex=True),
        pre_tokenizers.Digits(individual_digits=False),
        split("[0-9][0-9][0-9]"),
    ],
    "starcoder": [pre_tokenizers.Digits(individual_digits=True), words(regex=True)],
}
NASTY = [
    *CORPUS[:6],
    "",
    " ",
    "   leading and trailing   ",
    "\n\n\t x\r\n\r\n  y\u00a0z\u2003\u200b",
    "don't DON'T I'LL we've 'S  a  b   c    d",
    "CamelCaseWord HTTPServer iPhone x=3.14159/2**3 !!!???...---",
    "1234567890 12 007 ١٢٣ ⅷ ½",
    "日本語のテキスト、漢字。한국어 텍스트 हिन्दी ภาษาไทย עברית ქართული Հայերեն",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea",
    "e\u0301 vs é, ﬁ ligature Ａｂｃ \U0001d400 𐐀 \ufffd\ufeff ▁under▁",
    "def f(x):\n    return x**2  # ok\n",
    "<|im_start|>user\nhi<|im_end|>\n<tool_call>{}</tool_call><|endoftext|>",
    "<s>[INST] hi [/INST] there</s>\n\n<pad>",
    "\0\x01\x07" + "\n" * 20 + " " * 33 + "0" * 25,
]


def noise(count: int) -> list[str]:
    """Texts of letters, signs and spaces of every kind."""
    draw = random.Random(0)
    ranges = [
        (32, 127),
        (32, 127),
        (0xA0, 0x600),
        (0x600, 0x3000),
        (0x3000, 0xD7FF),
        (0xE000, 0x2FFFF),
        (9, 14),
    ]
    return [
        "".join(chr(draw.randrange(*draw.choice(ranges))) for _ in range(draw.randrange(1, 30)))
        for _ in range(count)
    ]


@cache
def byte_level(way: str) -> Tokenizer:
    """A byte-level BPE that splits in this way, trained on the corpora, with special and added tokens."""
    made = Tokenizer(models.BPE(ignore_merges=way in ("llama-bpe", "gpt-4o", "tekken")))
    if way.startswith("qwen"):
        made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(PUBLISHED[way])
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator([*CORPUS, *NASTY], trainer)
    made.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>"])
    made.add_tokens([AddedToken(name, normalized=False) for name in ("<tool_call>", "</tool_call>")])
    return made


def start(path: Path, model: str, tokens: list[str], kinds: list[int]) -> GGUFWriter:
    """A writer of a file with this vocabulary, and no more of a model than a file must have."""
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(4)
    writer.add_head_count(1)

    writer.add_tensor("token_embd.weight", np.zeros((len(tokens), 4), np.float32))
    writer.add_tensor("blk.0.attn_norm.weight", np.zeros(4, np.float32))
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    return writer


@cache
def as_gguf(path: Path, way: str) -> Path:
    """The tokenizer of `byte_level` in a file."""

    made = byte_level(way)
    state = json.loads(made.to_str())
    tokens = [made.id_to_token(token) for token in range(made.get_vocab_size())]
    added = {token["id"]: 3 if token["special"] else 4 for token in state["added_tokens"]}
    writer = start(
        path / f"{way}.gguf", "gpt2", tokens, [added.get(token, 1) for token in range(len(tokens))]
    )
    writer.add_tokenizer_pre(way)
    writer.add_token_merges([" ".join(merge) for merge in state["model"]["merges"]])
    writer.add_eos_token_id(made.token_to_id("<|im_end|>"))
    writer.add_add_bos_token(False)
    finish(writer)
    return path / f"{way}.gguf"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf-tokenizers")


@pytest.mark.parametrize("way", PUBLISHED)
def test_byte_level_ids_and_texts_equal_the_original(folder: Path, way: str) -> None:
    ours, theirs = load_tokenizer(as_gguf(folder, way)), byte_level(way)
    for text in [*NASTY, *noise(300)]:
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, add_special_tokens=False) == ids, text
        for skip in (True, False):
            assert ours.decode(ids, skip) == theirs.decode(ids, skip_special_tokens=skip)


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_has_the_ids_of_the_original(folder: Path, text: str) -> None:
    for way in ("qwen2", "llama-bpe"):
        ours = load_tokenizer(as_gguf(folder, way))
        assert ours.encode(text, False) == byte_level(way).encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_split_keeps_every_byte(tmp_path: Path, way: str) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    writer = start(tmp_path / "x.gguf", "gpt2", alphabet, [1] * 256)
    writer.add_tokenizer_pre(way)
    writer.add_add_bos_token(False)
    finish(writer)
    loaded = load_tokenizer(tmp_path / "x.gguf")
    for text in NASTY:
        kept = text if loaded.backend.normalizer is None else loaded.backend.normalizer.normalize_str(text)
        assert loaded.decode(loaded.encode(text)) == kept


# SentencePiece.

SPECIAL = ["<unk>", "<s>", "</s>"]
PIECES = [
    *(
        "▁t",
        "he",
        "▁the",
        "in",
        "er",
        "▁a",
        "on",
        "▁is",
        "ing",
        "▁qu",
        "ick",
        "▁quick",
        "▁▁",
        "▁▁▁▁",
        "th",
        "ck",
        "ic",
    ),
    *(
        "▁br",
        "own",
        "▁brown",
        "▁f",
        "ox",
        "▁fox",
        "红",
        "色",
        "红色",
        "é",
        "ï",
        "ve",
        "na",
        "▁na",
        "naïve",
        "00",
        "000",
    ),
]


def sentence_piece() -> tuple[list[str], list[float], list[int]]:
    """Tokens, scores and kinds as SentencePiece trains them: marks, bytes, joined pieces by rank, single signs."""
    signs = sorted(
        {sign for piece in PIECES for sign in piece} | set("abcdefghijklmnopqrstuvwxyz.,!?0123 ▁") - {" "}
    )
    joined = [piece for piece in PIECES if len(piece) > 1]
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *joined, *signs]
    scores = [0.0] * 259 + [-float(rank) for rank in range(len(joined) + len(signs))]
    kinds = [2, 3, 3] + [6] * 256 + [1] * (len(joined) + len(signs))
    return tokens, scores, kinds


def joined_by_score(text: str) -> list[int]:
    """SentencePiece's way: the best pair of neighbours that make a token is joined, of equals the leftmost."""
    tokens, scores, _ = sentence_piece()
    ids = {token: number for number, token in enumerate(tokens)}
    parts = list(text.replace(" ", "▁"))
    while True:
        pairs = [
            (scores[ids[a + b]], -at)
            for at, (a, b) in enumerate(itertools.pairwise(parts))
            if ids.get(a + b, 0) > 258
        ]
        if not pairs:
            break
        at = -max(pairs)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    found: list[int] = []
    for part in parts:
        found += [ids[part]] if part in ids else [ids[f"<0x{byte:02X}>"] for byte in part.encode()]
    return found


def write_sentence_piece(path: Path, *, prefix: bool) -> Path:
    tokens, scores, kinds = sentence_piece()
    writer = start(path, "llama", tokens, kinds)
    writer.add_token_scores(scores)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_space_prefix(prefix)
    finish(writer)
    return path


@pytest.mark.parametrize("prefix", [True, False])
def test_sentence_piece_joins_by_score_and_falls_back_to_bytes(tmp_path: Path, prefix: bool) -> None:
    loaded = load_tokenizer(write_sentence_piece(tmp_path / "x.gguf", prefix=prefix))
    for text in [
        *(text for text in NASTY if "<s>" not in text),
        *noise(200),
        "the quick brown fox naïve red 红色 0000000",
    ]:
        wanted = joined_by_score(" " + text if prefix and text else text)
        assert loaded.encode(text, add_special_tokens=False) == wanted, text
        assert loaded.encode(text) == [1, *wanted]
        assert loaded.decode(wanted) == text.replace("▁", " ")


def test_a_space_comes_before_what_follows_a_mark_too(tmp_path: Path) -> None:
    loaded = load_tokenizer(write_sentence_piece(tmp_path / "x.gguf", prefix=True))
    assert loaded.encode("<s>the</s>in", False) == [1, *joined_by_score(" the"), 2, *joined_by_score(" in")]


# What else the file says.


def test_the_chat_template_the_ends_and_the_sampling_are_the_files(tmp_path: Path) -> None:
    tokens = ["a", "<|im_end|>", "<|endoftext|>", "<|im_start|>", "Ċ", "b"]
    writer = start(tmp_path / "x.gguf", "gpt2", tokens, [1, 3, 3, 3, 1, 1])
    writer.add_tokenizer_pre("qwen2")
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_chat_template(
        [
            {"name": "default", "template": "{{ bos_token }}{{ messages[0].content }}"},
            {"name": "tool_use", "template": "tools"},
        ]
    )
    writer.add_float32("general.sampling.temp", 0.5)
    writer.add_int32("general.sampling.top_k", 20)
    finish(writer)
    processor = load_processor(tmp_path / "x.gguf")
    assert processor.tokenizer.eos_ids == {1, 2}
    assert processor.tokenizer.encode("ab") == [2, 0, 5]
    assert processor.templates.render(Chat(messages=({"role": "user", "content": "a"},))) == "<|endoftext|>a"
    assert set(processor.templates.named) == {"default", "tool_use"}
    assert processor.generation_defaults == {"temperature": 0.5, "top_k": 20}


def test_a_turn_goes_on_after_a_message_where_the_vocabulary_tells_them_apart(tmp_path: Path) -> None:
    tokens = ["a", "<|return|>", "<|call|>", "<|end|>"]
    writer = start(tmp_path / "x.gguf", "gpt2", tokens, [1, 3, 3, 3])
    writer.add_tokenizer_pre("gpt-4o")
    writer.add_eos_token_id(1)
    finish(writer)
    assert load_tokenizer(tmp_path / "x.gguf").eos_ids == {1, 2}


@pytest.mark.parametrize(
    ("model", "way", "says"), [("gpt2", "klingon", "'klingon'"), ("rwkv", "x", "'rwkv'")]
)
def test_what_is_not_known_is_named(tmp_path: Path, model: str, way: str, says: str) -> None:
    writer = start(tmp_path / "x.gguf", model, ["a"], [1])
    writer.add_tokenizer_pre(way)
    finish(writer)
    with pytest.raises(CheckpointError, match=f"{says}.*not (known|supported)"):
        load_tokenizer(tmp_path / "x.gguf")
    assert read_inside(tmp_path / "x.gguf", "preprocessor_config.json") is None
