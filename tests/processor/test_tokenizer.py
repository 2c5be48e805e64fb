"""The tokenizer gives transformers' ids, and says clearly what is missing."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.processor.small_tokenizers import CORPUS, KINDS, write
from tutti.errors import CheckpointError, ContextOverflow, InvalidRequest
from tutti.models.processor import Tokenizer, load_tokenizer

TEXTS = [
    *CORPUS[:6],
    "",
    " ",
    "  leading and trailing  ",
    "\n\n\t x",
    "<|im_start|>user\nhi<|im_end|>\n<tool_call>{}</tool_call>",
    "<s>[INST] hi [/INST] there</s>",
    "e\u0301 combining, ﬁ ligature, 한글 \U0001f44b\U0001f3fd",
    "[CLS] word [SEP]",
]


@pytest.fixture(scope="session")
def reference(folders: dict[str, Path]) -> dict[str, object]:
    """transformers' tokenizer of each folder."""
    return {kind: AutoTokenizer.from_pretrained(folder) for kind, folder in folders.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_equal_transformers(kind, loaded, reference):
    for text in TEXTS:
        for special in (True, False):
            theirs = reference[kind](text, add_special_tokens=special).input_ids
            assert loaded[kind].encode(text, special) == theirs, text
            for skip in (True, False):
                assert loaded[kind].decode(theirs, skip) == reference[kind].decode(
                    theirs, skip_special_tokens=skip
                )


@pytest.mark.parametrize(
    ("kind", "tokenizer_class", "model_type"),
    [
        ("byte_level", "Qwen2Tokenizer", "qwen2"),
        ("byte_level", "Qwen2Tokenizer", "qwen3"),
        ("byte_level_with_begin", "PreTrainedTokenizerFast", "llama"),
        ("byte_fallback", "LlamaTokenizer", "llama"),
        ("byte_fallback", "LlamaTokenizerFast", "mistral"),
        ("byte_fallback", "LlamaTokenizer", "phi3"),
        ("byte_fallback_by_normalizer", "GemmaTokenizer", "gemma2"),
        ("byte_fallback_by_normalizer", "GemmaTokenizerFast", "gemma3_text"),
    ],
)
def test_ids_equal_those_of_the_classes_that_checkpoints_name(save, kind, tokenizer_class, model_type):
    folder = save(kind, tokenizer_class=tokenizer_class)
    write(folder / "config.json", {"model_type": model_type})
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert ours.encode(text) == theirs(text).input_ids, text
        assert ours.decode(ours.encode(text)) == theirs.decode(
            theirs(text).input_ids, skip_special_tokens=True
        )


@pytest.mark.parametrize("model_type", ["llama", "mistral"])
def test_an_older_file_is_followed_where_transformers_rebuilds_it(save, model_type):
    """Llama 2's own tokenizer.json puts a space behind special tokens; the class of transformers 5 does not."""
    folder = save("byte_fallback", tokenizer_class="LlamaTokenizer")
    state = json.loads((folder / "tokenizer.json").read_text())
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    state |= {"pre_tokenizer": None, "normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, space,
    ]}}  # fmt: skip
    write(folder / "tokenizer.json", state)
    write(folder / "config.json", {"model_type": model_type})
    ours, theirs = load_tokenizer(folder), PreTrainedTokenizerFast.from_pretrained(folder)
    for text in TEXTS:
        assert ours.encode(text) == theirs(text).input_ids, text


@pytest.mark.parametrize("kind", KINDS)
def test_any_text_gets_the_ids_of_transformers(kind, loaded, reference):
    @settings(max_examples=60, deadline=None)
    @given(st.text(max_size=60))
    def check(text: str) -> None:
        assert loaded[kind].encode(text) == reference[kind](text).input_ids

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_names_and_special_tokens_equal_transformers(kind, loaded, reference):
    ours, theirs = loaded[kind], reference[kind]
    assert ours.special_tokens == theirs.special_tokens_map
    assert ours.vocab_size == len(theirs)
    assert ours.bos_id == theirs.bos_token_id
    assert ours.special_ids == {i for i, t in theirs.added_tokens_decoder.items() if t.special}
    for token in range(ours.vocab_size):
        assert ours.token(token) == theirs.convert_ids_to_tokens(token)


@pytest.mark.parametrize(
    ("config", "map_file"),
    [
        ({"eos_token": "<|im_end|>", "pad_token": "<|pad|>", "extra_special_tokens": ["<|a|>", "<|b|>"]}, None),
        ({"image_token": "<|image|>", "additional_special_tokens": ["<|x|>"]}, None),
        ({}, {"bos_token": {"content": "<|new|>", "lstrip": True, "normalized": False}, "eos_token": "<|im_end|>"}),
        (
            {
                "added_tokens_decoder": {
                    "600": {"content": "<|late|>", "special": True, "normalized": False},
                    "599": {"content": "plainword", "special": False, "normalized": True},
                }
            },
            {"bos_token": "<|ignored|>"},
        ),
    ],
)  # fmt: skip
def test_tokens_named_outside_tokenizer_json_are_added_as_transformers_adds_them(save, config, map_file):
    folder = save("byte_level", **config)
    if map_file:
        write(folder / "special_tokens_map.json", map_file)
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    text = "x <|a|><|b|> <|pad|> <|image|> <|x|> <|new|> <|late|> plainword <|ignored|>"
    assert ours.encode(text) == theirs(text).input_ids
    assert ours.vocab_size == len(theirs)
    assert ours.special_ids == {i for i, t in theirs.added_tokens_decoder.items() if t.special}
    for name, token in ours.special_tokens.items():
        assert theirs.special_tokens_map.get(name) == token


def test_a_file_that_cuts_and_pads_does_neither_here(save):
    folder = save("byte_level")
    state = json.loads((folder / "tokenizer.json").read_text())
    state["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    state["padding"] = {
        "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<|endoftext|>",
    }  # fmt: skip
    write(folder / "tokenizer.json", state)
    text = "The quick brown fox jumps over the lazy dog."
    tokenizer = load_tokenizer(folder)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert 0 not in tokenizer.encode(text)


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback", "unigram"])
def test_token_bytes_joined_are_the_text(kind, loaded):
    tokenizer: Tokenizer = loaded[kind]
    text = "The naïve café: 红色的圆, it is!"
    ids = tokenizer.encode(text, add_special_tokens=False)
    joined = b"".join(tokenizer.token_bytes(token) for token in ids).decode()
    assert joined.removeprefix(" ") == text
    assert (
        "".join(tokenizer.token_text(token) for token in tokenizer.encode("a dog", False)).strip() == "a dog"
    )


def test_part_of_a_character_has_its_bytes_and_shows_as_the_replacement_sign(loaded):
    tokenizer = loaded["byte_fallback"]
    ids = tokenizer.encode("ø", add_special_tokens=False)[-2:]
    assert [tokenizer.token_bytes(token) for token in ids] == [b"\xc3", b"\xb8"]
    assert tokenizer.token_text(ids[0]) == "\ufffd"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"generation_config.json": {"eos_token_id": [1, 7]}, "config.json": {"eos_token_id": 5}}, {1, 7, 2}),
        ({"config.json": {"eos_token_id": 5}}, {5, 2}),
        ({"config.json": {"text_config": {"eos_token_id": 6}}}, {6, 2}),
        ({}, {2}),
    ],
)
def test_answers_end_at_the_tokens_of_generation_config_and_tokenizer(save, files, expected):
    folder = save("byte_level")
    for name, value in files.items():
        write(folder / name, value)
    assert load_tokenizer(folder).eos_ids == expected


def test_a_missing_tokenizer_is_told_with_what_to_do(tmp_path):
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing.*--tokenizer"):
        load_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match="not a folder"):
        load_tokenizer(tmp_path / "nowhere")


def test_a_broken_tokenizer_is_told(save):
    folder = save("byte_level")
    (folder / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is not a tokenizer"):
        load_tokenizer(folder)


def test_broken_configuration_beside_the_tokenizer_is_told(save):
    folder = save("byte_level")
    (folder / "tokenizer_config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json must hold a JSON object"):
        load_tokenizer(folder)


def test_a_sentencepiece_file_that_cannot_be_converted_is_told(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x0bnot a model")
    write(tmp_path / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer"})
    with pytest.raises(CheckpointError, match=r"tokenizer\.model but no tokenizer\.json.*sentencepiece"):
        load_tokenizer(tmp_path)


def test_older_files_are_converted_by_transformers(tmp_path, folders):
    model = json.loads((folders["byte_level"] / "tokenizer.json").read_text())["model"]
    write(tmp_path / "vocab.json", model["vocab"])
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    write(tmp_path / "config.json", {"model_type": "gpt2"})
    write(tmp_path / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"})
    text = "The quick brown fox"
    assert load_tokenizer(tmp_path).encode(text) == AutoTokenizer.from_pretrained(tmp_path)(text).input_ids


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback", "byte_fallback_by_normalizer"])
def test_text_beyond_any_context_is_refused_at_once(kind, loaded):
    started = time.monotonic()
    with pytest.raises(ContextOverflow, match=r"10,000,000 bytes.*at least [\d,]+ tokens.*2,048 tokens"):
        loaded[kind].check_length("word " * 2_000_000, 2048)
    assert time.monotonic() - started < 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_that_fits_is_refused(kind, loaded):
    @settings(max_examples=60, deadline=None)
    @given(st.one_of(st.text(max_size=200), st.sampled_from(TEXTS).map(lambda text: text * 20)))
    def check(text: str) -> None:
        ids = loaded[kind].encode(text, add_special_tokens=False)
        loaded[kind].check_length(text, max(1, len(ids)))

    check()


def test_half_a_surrogate_pair_is_the_callers_fault(loaded):
    with pytest.raises(InvalidRequest, match="not valid Unicode"):
        loaded["byte_level"].encode("bad \ud800 text")


def test_ids_outside_the_vocabulary_decode_to_nothing(loaded: dict[str, Tokenizer]):
    tokenizer = loaded["byte_level"]
    assert (
        tokenizer.decode([10**6]) == ""
        and tokenizer.token(10**6) == ""
        and tokenizer.token_bytes(10**6) == b""
    )
    with pytest.raises(InvalidRequest):
        tokenizer.decode([-1])
