"""The shipped tokenizer: any text comes back, digits and Chinese characters stand alone, transformers agrees."""

from __future__ import annotations

import json
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from pico.evaluate import SHIPPED
from pico.tokenizer import MEDIA_TOKENS, SPECIAL_TOKENS, encode_chats, render, render_prompt
from pico.world import stream

NFC = normalizers.NFC()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))


@pytest.fixture(scope="module")
def automatic() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(SHIPPED)


@given(text=st.text())
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    if not any(token in text for token in SPECIAL_TOKENS):
        assert tokenizer.decode(tokenizer.encode(text).ids) == NFC.normalize_str(text)


def test_special_tokens_are_single_and_come_first(tokenizer: Tokenizer) -> None:
    assert [tokenizer.encode(token).ids for token in SPECIAL_TOKENS] == [
        [i] for i in range(len(SPECIAL_TOKENS))
    ]


@pytest.mark.parametrize("text", ["2026", "十二加三", "红色圆形"])
def test_digits_and_chinese_characters_stand_alone(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text).ids
    assert [tokenizer.decode([i]) for i in ids] == list(text)


def test_transformers_loads_it_and_agrees(tokenizer: Tokenizer, automatic: PreTrainedTokenizerBase) -> None:
    for chat in islice(stream(11, "heldout"), 50):
        text = render(chat.messages)
        assert automatic(text).input_ids == tokenizer.encode(text).ids
    assert automatic.eos_token == "<|im_end|>"
    assert automatic.image_token == MEDIA_TOKENS["image_token"]


def test_the_chat_template_renders_what_training_saw(automatic: PreTrainedTokenizerBase) -> None:
    for chat in islice(stream(12, "heldout"), 50):
        messages = [{"role": m.role, "content": m.content} for m in chat.prompt]
        rendered = automatic.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert rendered == render_prompt(chat.prompt)


def test_the_chat_template_takes_lists_of_parts(automatic: PreTrainedTokenizerBase) -> None:
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image"}]
    rendered = automatic.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)
    assert rendered == "<|im_start|>user\nWhat is this?<|vision_bos|><|IMAGE|><|vision_eos|><|im_end|>\n"


def test_only_answers_and_their_end_are_learned(tokenizer: Tokenizer) -> None:
    for chat, (ids, learned) in zip(
        chats := list(islice(stream(13, "train"), 50)), encode_chats(tokenizer, chats), strict=True
    ):
        kept = tokenizer.decode(
            [i for i, m in zip(ids, learned, strict=True) if m], skip_special_tokens=False
        )
        answers = [m.content for m in chat.messages if m.role == "assistant"]
        assert kept == "".join(answer + "<|im_end|>" for answer in answers)


def test_the_configuration_names_the_context(automatic: PreTrainedTokenizerBase) -> None:
    config = json.loads((SHIPPED / "config.json").read_text())["thinker_config"]["text_config"]
    assert automatic.model_max_length == config["max_position_embeddings"] == 2048
