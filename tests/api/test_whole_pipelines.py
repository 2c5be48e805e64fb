"""`/v1/images/generations` with a pipeline that no family serves, run whole."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from tests.api.serving import Serving, serving, until
from tests.models.test_whole_pipelines import reference
from tests.models.whole_pipelines import whole_pipeline

ASKED: dict[str, Any] = {"size": "16x24", "num_inference_steps": 3, "guidance_scale": 3.0, "seed": 5}


@pytest.fixture(scope="module")
def studio() -> Iterator[Serving]:
    model = str(whole_pipeline("stable_diffusion")[1])
    with serving(model=model, memory=3_000_000_000, kv_cache_memory_bytes=None) as served:
        yield served


def pixels(answer: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json)))).astype(int)


def test_several_callers_get_the_pipelines_pictures(studio: Serving) -> None:
    def ask(prompt: str) -> np.ndarray:
        with studio.client() as client:
            return pixels(client.images.generate(model="tiny", prompt=prompt, extra_body=ASKED))

    prompts = ["a red circle", "a cat", "a dog"]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(ask, prompts))
    for prompt, picture in zip(prompts, found, strict=True):
        assert np.abs(picture - reference("stable_diffusion", prompt, guidance_scale=3.0)).max() <= 1
    studio.everything_is_returned()


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"true_cfg_scale": 2.0}, "true_cfg_scale", "takes no true_cfg_scale"),
        ({"cache": "teacache"}, "cache", "must be one of none"),
        ({"size": "18x24"}, None, "divisible by 8"),
        ({"num_inference_steps": 0}, "num_inference_steps", "from 1 to"),
    ],
)
def test_what_the_pipeline_does_not_take_is_an_error_400(
    studio: Serving, fields: dict[str, Any], param: str | None, message: str
) -> None:
    with studio.client() as client, pytest.raises(openai.BadRequestError, match=message) as caught:
        client.images.generate(model="tiny", prompt="a cat", extra_body=ASKED | fields)
    assert caught.value.param == param
    studio.everything_is_returned()


def test_steps_are_told_and_who_leaves_stops_the_work(studio: Serving) -> None:
    url = f"{studio.url}/v1/images/generations"
    body = {"prompt": "a cat", "stream": True, **ASKED}
    lines = httpx.post(url, json=body, timeout=60).text.splitlines()
    # Stable Diffusion's usual scheduler takes its second step twice.
    assert [line for line in lines if line.startswith(":")] == [f": step {k} of 4" for k in (1, 2, 3, 4)]
    body["num_inference_steps"] = 900
    with httpx.stream("POST", url, json=body, timeout=60) as answer:
        next(answer.iter_bytes())
    until(lambda: studio.gateway.served[0].admission.inside == 0)
    studio.everything_is_returned()
