"""A processor turns requests into tokens, with the limits and defaults of its checkpoint."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processor.small_tokenizers import write
from tutti.errors import ConfigError, ContextOverflow, InvalidRequest
from tutti.models.processor import Processor, load_processor
from tutti.request import Chat, Media, Request, SamplingParams, Text, Tokens

TEMPLATES = Path(__file__).parent / "templates"
HELLO = {"role": "user", "content": "Hello"}


@pytest.fixture
def processor(save) -> Processor:
    """Of a byte-level tokenizer and a ChatML template with tools and thinking."""
    folder = save("byte_level", chat_template=(TEMPLATES / "chatml_tools.jinja").read_text())
    write(folder / "config.json", {"vocab_size": 600, "eos_token_id": 0})
    return load_processor(folder)


def ids(processor: Processor, *parts, **options) -> list[int]:
    """The prompt of a request with these parts."""
    prepared = processor.prepare(Request(id="r", parts=parts, sampling=SamplingParams(seed=3)), **options)
    assert prepared.id == "r" and prepared.sampling.seed == 3
    (tokens,) = prepared.parts
    assert isinstance(tokens, Tokens)
    return list(tokens.ids)


def test_text_becomes_tokens_with_the_models_begin_token(save):
    processor = load_processor(save("byte_level_with_begin"))
    begin = processor.tokenizer.bos_id
    assert ids(processor, Text("Hello")) == [begin, *processor.tokenizer.encode("Hello", False)]
    assert ids(processor, Text("Hello", add_special_tokens=False))[0] != begin


def test_a_conversation_has_the_begin_token_of_its_template_only(save):
    source = (TEMPLATES / "header_ids.jinja").read_text()
    processor = load_processor(save("byte_level_with_begin", chat_template=source))
    assert ids(processor, Chat(messages=(HELLO,))).count(processor.tokenizer.bos_id) == 1


def test_tokens_pass_within_the_models_vocabulary(processor):
    assert ids(processor, Tokens((1, 599))) == [1, 599]
    with pytest.raises(InvalidRequest, match="token id 600 is outside the vocabulary of 600 tokens"):
        ids(processor, Tokens((600,)))


def test_an_empty_prompt_is_refused(processor):
    with pytest.raises(InvalidRequest, match="the prompt is empty"):
        ids(processor, Text(""))


def test_media_is_refused_where_the_model_takes_text_only(processor):
    with pytest.raises(InvalidRequest, match="takes text only"):
        ids(processor, Media("image", b""))


def test_ten_megabytes_are_refused_at_once(processor):
    started = time.monotonic()
    for part in (
        Text("word " * 2_000_000),
        Chat(messages=({"role": "user", "content": "word " * 2_000_000},)),
    ):
        with pytest.raises(ContextOverflow, match=r"10,000,\d{3} bytes.*context length is 4,096 tokens"):
            ids(processor, part, context=4096)
    assert time.monotonic() - started < 2.0


def test_a_base_model_completes_text_and_refuses_conversations(save):
    processor = load_processor(save("byte_level"))
    assert not processor.has_chat_template and ids(processor, Text("Hello"))
    with pytest.raises(InvalidRequest, match="no chat template"):
        ids(processor, Chat(messages=(HELLO,)))
    given = load_processor(save("byte_level"), chat_template="{{ messages[0].content }}")
    assert ids(given, Chat(messages=(HELLO,))) == processor.tokenizer.encode("Hello")


def test_generation_defaults_are_the_checkpoints_unless_turned_off(save):
    folder = save("byte_level")
    recommended = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "max_new_tokens": 64, "do_sample": True}
    write(folder / "generation_config.json", recommended)
    expected = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "max_tokens": 64}
    assert load_processor(folder).generation_defaults == expected
    assert SamplingParams(**expected).top_k == 20
    assert load_processor(folder, generation_config="vllm").generation_defaults == {}
    assert load_processor(folder, generation_config=str(folder)).generation_defaults == expected
    with pytest.raises(ConfigError, match="neither auto, vllm nor a folder"):
        load_processor(folder, generation_config="nowhere")


def test_a_checkpoint_that_says_not_to_sample_is_greedy(save):
    folder = save("byte_level")
    write(folder / "generation_config.json", {"do_sample": False, "top_k": 20})
    assert load_processor(folder).generation_defaults == {"temperature": 0.0, "top_k": 20}


def test_the_tokenizer_can_be_another_folders(save, folders):
    processor = load_processor(save("byte_level"), tokenizer=folders["unigram"])
    assert processor.tokenizer.special_tokens["eos_token"] == "</s>"


def test_parsers_are_told_by_name(processor, save):
    assert processor.kind == {"tool_call_parser": "hermes", "reasoning_parser": "thinking"}
    named = load_processor(save("byte_level"), tool_call_parser="llama3_json", reasoning_parser="none")
    assert named.kind == {"tool_call_parser": "llama3_json", "reasoning_parser": "none"}
    with pytest.raises(ConfigError, match=r"--tool-call-parser: 'x' is not known; choose one of .*hermes"):
        load_processor(save("byte_level"), tool_call_parser="x")


def test_importing_the_processor_takes_no_torch_and_little_time():
    """Processor time, because the machine may be busy with other tests."""
    program = (
        "import sys, time; start = time.process_time(); import tutti.models.processor; "
        "print(time.process_time() - start, sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    runs = [
        subprocess.check_output([sys.executable, "-c", program], text=True).split(" ", 1) for _ in range(3)
    ]
    assert {modules for _, modules in runs} == {"[]\n"}
    assert min(float(seconds) for seconds, _ in runs) < 0.15
