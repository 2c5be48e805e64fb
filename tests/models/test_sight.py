"""Models that see answer as transformers' do: pictures and videos, alone and in batches, cached or not."""

from __future__ import annotations

import functools
import io
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.models import checkpoints
from tests.models.checkpoints import END, IMAGE, VIDEO
from tutti import LLM, SamplingParams
from tutti.errors import InvalidRequest
from tutti.llm.outputs import RequestOutput
from tutti.models.gemma3_vl.media import Newlines, Reader
from tutti.models.processor.tokenizer import load_tokenizer
from tutti.request import Media

NEW = 10
GREEDY = SamplingParams(temperature=0.0, max_tokens=NEW, ignore_eos=True)
NAMES = checkpoints.names("sight")


def picture(seed: int, width: int, height: int) -> Image.Image:
    """Large soft blobs of random colours."""
    values = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def words(seed: int, count: int) -> list[int]:
    return random.Random(seed).choices(range(256), k=count)


SMALL, WIDE, TALL = picture(1, 30, 20), picture(2, 90, 30), picture(3, 17, 60)
PROMPTS: list[tuple[list[int], list[Image.Image]]] = [
    (words(1, 12), []),
    ([*words(2, 3), IMAGE, *words(3, 5)], [SMALL]),
    ([IMAGE, *words(4, 9)], [WIDE]),
    ([*words(5, 20), IMAGE, *words(6, 4), IMAGE, *words(7, 6)], [TALL, SMALL]),
]


@functools.cache
def theirs(name: str) -> list[list[int]]:
    """transformers' greedy tokens, one prompt at a time."""
    return [generate(name, ids, pictures) for ids, pictures in PROMPTS]


def generate(name: str, ids: list[int], pictures: list[Image.Image]) -> list[int]:
    model: Any = checkpoints.reference(name)
    inputs: dict[str, Any] = {}
    if pictures:
        inputs = dict(image_processor(name)(pictures, return_tensors="pt"))
        inputs.pop("num_crops", None)  # which no model takes
        rows = model.get_image_features(**inputs, return_dict=True).pooler_output
        counts = iter([len(one) for one in rows])
        ids = [token for t in ids for token in (grown(model, next(counts)) if t == IMAGE else [t])]
        if model.config.model_type == "gemma3":
            inputs["token_type_ids"] = torch.tensor([[int(token == VIDEO) for token in ids]])
        if "image_grid_thw" in inputs:  # families whose positions have axes tell text and pictures apart
            inputs["mm_token_type_ids"] = torch.tensor([[int(token == IMAGE) for token in ids]])
    prompt = torch.tensor([ids])
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=None,
        **inputs,
    )
    return out[0, len(ids) :].tolist()


def grown(model: Any, count: int) -> list[int]:
    """The tokens of a picture of `count` rows: what its placeholder becomes."""
    if model.config.model_type == "gemma3":
        paragraph = [ord("\n")] * 2
        return [*paragraph, IMAGE, *[VIDEO] * count, END, *paragraph]
    return [IMAGE] * count


def image_processor(name: str) -> Any:
    """transformers' own, of the kind that needs no torchvision."""
    settings = dict(checkpoints.RECIPES[name].preprocessor)
    return getattr(transformers, f"{settings.pop('image_processor_type')}Pil")(**settings)


def make(name: str, folder: Path | None = None, **options: Any) -> LLM:
    defaults = {"dtype": "float32", "device": "cpu", "memory": "2GB", "block_size": 8, "threads": 1}
    return LLM(str(folder or checkpoints.cached(name)), **(defaults | options))


def prompts() -> list[dict[str, Any]]:
    return [
        {"prompt_token_ids": ids, "multi_modal_data": {"image": [png(image) for image in pictures]}}
        for ids, pictures in PROMPTS
    ]


def tokens(outputs: list[RequestOutput]) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in outputs]


WAYS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "chunks of 7": {"max_num_batched_tokens": 7},
    "one at a time": {"max_num_seqs": 1},
    "no prefix cache": {"enable_prefix_caching": False},
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", WAYS)
def test_answers_about_pictures_are_those_of_transformers(name: str, way: str) -> None:
    llm = make(name, **WAYS[way])
    assert tokens(llm.generate(prompts(), GREEDY)) == theirs(name)
    llm.engine.runner.cache.check()
    assert llm.engine.runner.cache.usage == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_seen_before_costs_nothing_and_changes_no_answer(name: str) -> None:
    llm = make(name)
    llm.generate(prompts(), GREEDY)
    computed = llm.engine.encoders[0].items
    again = llm.generate(prompts(), GREEDY)
    assert tokens(again) == theirs(name)
    assert llm.engine.encoders[0].items == computed == 3
    assert sum(output.num_cached_tokens for output in again) > 0


def test_another_picture_in_the_same_words_finds_no_cached_prefix() -> None:
    llm = make(NAMES[0])
    ids = [*words(2, 3), IMAGE, *words(3, 30)]

    def ask(seed: int) -> RequestOutput:
        image = picture(seed, 30, 20)
        return llm.generate([{"prompt_token_ids": ids, "multi_modal_data": {"image": image}}], GREEDY)[0]

    first, other = ask(1), ask(9)
    assert other.num_cached_tokens == 0
    assert ask(1).num_cached_tokens > 0
    assert first.outputs[0].token_ids == generate(NAMES[0], ids, [picture(1, 30, 20)])
    assert other.outputs[0].token_ids == generate(NAMES[0], ids, [picture(9, 30, 20)])


def test_experts_may_be_stored_with_columns_first(tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoints.cached("qwen3_vl_moe"), tmp_path / "published")
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if ".mlp.experts." in name:
            tensors[name] = tensor.transpose(1, 2).contiguous()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert tokens(make("qwen3_vl_moe", folder).generate(prompts(), GREEDY)) == theirs("qwen3_vl_moe")


def test_what_a_model_cannot_see_is_refused_by_name() -> None:
    video = {"prompt_token_ids": [1, VIDEO], "multi_modal_data": {"video": b"..."}}
    with pytest.raises(InvalidRequest, match=r"video in it.* takes text, image only"):
        make("llava").generate([video], GREEDY)


def test_a_picture_longer_than_a_step_is_refused_where_its_tokens_see_each_other() -> None:
    with pytest.raises(InvalidRequest, match="max-num-batched-tokens"):
        make("gemma3-vision", max_num_batched_tokens=3).generate(prompts()[1:2], GREEDY)


def test_a_paragraph_of_a_picture_is_tokenized_with_the_newlines_beside_it(tmp_path: Path) -> None:
    value = checkpoints.tokenizer_json()
    newline = checkpoints.byte_characters()[ord("\n")]
    for count in range(2, 6):
        value["model"]["vocab"][newline * count] = 400 + count
        value["model"]["merges"].append([newline * (count - 1), newline])
    (tmp_path / "tokenizer.json").write_text(json.dumps(value))
    encode = load_tokenizer(tmp_path).encode
    begin, end, seen = encode("<|image|><|im_end|><|video|>", False)
    reader = Reader(16, (begin, end), seen, 3, Newlines(tmp_path))
    text = "a\n<|image|>\nb<|image|><|image|>\n\n<|image|>c\n\n\nd<|image|>"
    grown, inputs = reader.insert(list(encode(text, False)), [reader.read(Media("image", png(SMALL)))] * 5)
    paragraph = "\n\n<|image|><|video|><|video|><|video|><|im_end|>\n\n"
    assert grown == list(encode(text.replace("<|image|>", paragraph), False))
    assert [grown[start : start + length] for one in inputs for start, length in one.spans] == [
        [seen] * 3
    ] * 5


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen3_vl", "gemma3-vision"])
def test_a_preempted_request_with_a_picture_gives_the_same_answer(name: str) -> None:
    long = SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True)
    roomy = make(name, max_model_len=96)
    plan = roomy.engine.plan
    tight = make(
        name,
        max_model_len=96,
        kv_cache_memory_bytes=plan.bytes_per_token * (plan.context + 2 * plan.block_size),
    )
    asked = prompts()[:3]
    assert tokens(tight.generate(asked, long)) == tokens(roomy.generate(asked, long))
    assert tight.engine.stats().preemptions > 0
