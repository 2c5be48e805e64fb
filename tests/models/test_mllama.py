"""Llama 3.2 Vision answers about pictures as transformers' does: alone, in batches, in chunks, cached or not."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from PIL import Image
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.mllama.processing_mllama import (
    convert_sparse_cross_attention_mask_to_dense,
    get_cross_attention_token_mask,
)

from tests.models import checkpoints
from tests.models.checkpoints import IMAGE
from tests.models.checkpoints.mllama import TILE
from tests.models.test_sight import GREEDY, NEW, WAYS, make, picture, png, tokens, words
from tutti.errors import InvalidRequest
from tutti.llm.outputs import RequestOutput
from tutti.models.mllama.config import MOST_PICTURES, TileConfig
from tutti.models.mllama.media import Reader, looked_at
from tutti.models.processor.media import unpack
from tutti.request import Media

NAME = "mllama"
SMALL, WIDE, TALL, LARGE = picture(1, 12, 9), picture(2, 70, 25), picture(3, 17, 60), picture(4, 120, 100)
PROMPTS: list[tuple[list[int], list[Image.Image]]] = [
    (words(1, 12), []),
    ([*words(2, 3), IMAGE, *words(3, 5)], [SMALL]),
    ([IMAGE, *words(4, 9)], [WIDE]),
    ([*words(5, 20), IMAGE, *words(6, 4), IMAGE, *words(7, 6)], [TALL, SMALL]),
    ([*words(8, 4), IMAGE, IMAGE, *words(9, 3), IMAGE, *words(10, 12)], [SMALL, LARGE, WIDE]),
    ([*words(11, 9), IMAGE, IMAGE], [WIDE, TALL]),
]


def processor() -> MllamaImageProcessorPil:
    settings = dict(checkpoints.RECIPES[NAME].preprocessor)
    settings.pop("image_processor_type")
    return MllamaImageProcessorPil(**settings)


@functools.cache
def theirs() -> list[list[int]]:
    """transformers' greedy tokens, one prompt at a time."""
    return [generate(ids, pictures) for ids, pictures in PROMPTS]


def generate(ids: list[int], pictures: list[Image.Image]) -> list[int]:
    model: Any = checkpoints.reference(NAME)
    inputs: dict[str, Any] = {}
    if pictures:
        inputs = dict(processor()([pictures], return_tensors="pt"))
        mask = convert_sparse_cross_attention_mask_to_dense(
            [get_cross_attention_token_mask(ids, IMAGE)], inputs.pop("num_tiles"), 4, len(ids)
        )
        inputs["cross_attention_mask"] = torch.from_numpy(mask)
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


def prompts() -> list[dict[str, Any]]:
    return [
        {"prompt_token_ids": ids, "multi_modal_data": {"image": [png(image) for image in pictures]}}
        for ids, pictures in PROMPTS
    ]


@pytest.mark.parametrize("way", WAYS)
def test_answers_about_pictures_are_those_of_transformers(way: str) -> None:
    llm = make(NAME, **WAYS[way])
    assert tokens(llm.generate(prompts(), GREEDY)) == theirs()
    llm.engine.runner.cache.check()
    assert llm.engine.runner.cache.usage == 0


def test_pictures_change_the_answer() -> None:
    ids = [*words(2, 3), IMAGE, *words(3, 5)]
    assert generate(ids, [SMALL]) != generate(ids, [WIDE])


def test_a_picture_seen_before_costs_nothing_and_changes_no_answer() -> None:
    llm = make(NAME)
    llm.generate(prompts(), GREEDY)
    computed = llm.engine.encoders[0].items
    again = llm.generate(prompts(), GREEDY)
    assert tokens(again) == theirs()
    assert llm.engine.encoders[0].items == computed == 4
    assert sum(output.num_cached_tokens for output in again) > 0


def test_another_picture_in_the_same_words_finds_no_cached_prefix() -> None:
    llm = make(NAME)
    ids = [*words(2, 30), IMAGE, *words(3, 30)]

    def ask(seed: int) -> RequestOutput:
        image = picture(seed, 30, 20)
        return llm.generate([{"prompt_token_ids": ids, "multi_modal_data": {"image": image}}], GREEDY)[0]

    first, other = ask(1), ask(9)
    assert other.num_cached_tokens == 0  # words before a picture look at it, too
    assert ask(1).num_cached_tokens > 0
    assert first.outputs[0].token_ids == generate(ids, [picture(1, 30, 20)])
    assert other.outputs[0].token_ids == generate(ids, [picture(9, 30, 20)])


def test_no_more_requests_run_at_once_than_the_plan_has_memories_for() -> None:
    plan = make(NAME, max_model_len=96).engine.plan
    (memories,) = (row.bytes for row in plan.rows if row.name == "memories")
    assert plan.memories is not None
    one = memories // plan.memories + plan.bytes_per_token * (plan.context + 2 * plan.block_size)
    tight = make(NAME, max_model_len=96, kv_cache_memory_bytes=2 * one)
    assert tight.engine.runner.scheduler.max_sequences == 2
    assert tokens(tight.generate(prompts(), GREEDY)) == theirs()


@pytest.mark.parametrize("width", [1, 9, 16, 17, 33, 48, 70, 200])
@pytest.mark.parametrize("height", [1, 11, 16, 31, 32, 65, 300])
def test_tiles_are_those_of_transformers(width: int, height: int) -> None:
    image = picture(5, width, height)
    wanted = processor()([[image]], return_tensors="np")
    reader = Reader(TileConfig(TILE, 4, 17), IMAGE)
    _, (found,) = reader.insert([IMAGE], [reader.read(Media("image", png(image)))])
    tiles = unpack(found.arrays["tiles"])
    assert wanted["aspect_ratio_ids"].item() == unpack(found.arrays["arrangement"])[0]
    assert wanted["num_tiles"] == [[len(tiles)]]
    values = (tiles / 255 - 0.5) / 0.4
    assert abs(values.transpose(0, 3, 1, 2) - wanted["pixel_values"][0, 0, : len(tiles)]).max() < 1e-6


@pytest.mark.parametrize("places", [[3], [0, 7], [4, 5, 9], [2, 4, 5, 6], [7, 8, 9]])
def test_tokens_look_at_the_pictures_that_transformers_says(places: list[int]) -> None:
    ids = [IMAGE if place in places else 1 for place in range(10)]
    mask = convert_sparse_cross_attention_mask_to_dense(
        [get_cross_attention_token_mask(ids, IMAGE)], [[1] * len(places)], 1, len(ids)
    )
    seen = [[start <= token < stop for start, stop in looked_at(places)] for token in range(10)]
    assert mask[0, :, :, 0].astype(bool).tolist() == seen


def test_more_pictures_than_the_plan_counts_are_refused() -> None:
    many = {"prompt_token_ids": [IMAGE] * 5, "multi_modal_data": {"image": [png(SMALL)] * 5}}
    with pytest.raises(InvalidRequest, match=f"takes {MOST_PICTURES} pictures"):
        make(NAME).generate([many], GREEDY)
