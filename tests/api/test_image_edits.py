"""`/v1/images/edits` and `/v1/images/variations`, driven by the official client."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from tests.api.serving import Serving, serving
from tests.models.pipelines import pipeline
from tests.models.test_drawing_pictures import file, mask, picture

MANNER = {"num_inference_steps": 4, "guidance_scale": 2.0, "seed": 3}


@pytest.fixture(scope="module")
def studio() -> Iterator[Serving]:
    """A server with a tiny random model that draws."""
    with serving(
        model=str(pipeline("z_image")[1]), memory=3_000_000_000, kv_cache_memory_bytes=None
    ) as served:
        yield served


@pytest.fixture
def client(studio: Serving) -> Iterator[openai.OpenAI]:
    with studio.client() as made:
        yield made


def pixels(data: str | None) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data or "")))).astype(int)


def transparent(white: Image.Image) -> bytes:
    """The same mask as OpenAI has it: what is drawn anew is transparent."""
    alpha = Image.fromarray(255 - np.asarray(white))
    return file(Image.merge("RGBA", (*picture(*white.size).split(), alpha)))


def uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def test_a_picture_is_edited_and_has_its_size(client: openai.OpenAI, studio: Serving) -> None:
    source = file(picture())
    answer = client.images.edit(
        model="tiny",
        image=("cat.png", source),
        prompt="make it blue",
        n=2,
        extra_body=MANNER | {"strength": 0.5},
    )
    assert answer.size == "16x24" and answer.data is not None
    found = [pixels(one.b64_json) for one in answer.data]
    assert [one.shape for one in found] == [(24, 16, 3)] * 2 and np.abs(found[0] - found[1]).max() > 8
    larger = client.images.edit(image=source, prompt="make it blue", size="32x32", extra_body=MANNER)
    assert larger.data is not None and pixels(larger.data[0].b64_json).shape == (32, 32, 3)
    studio.everything_is_returned()


def test_how_much_is_changed_is_the_strength(client: openai.OpenAI) -> None:
    def edited(**more: Any) -> np.ndarray:
        answer = client.images.edit(image=file(picture()), prompt="blue", extra_body=MANNER | more)
        assert answer.data is not None
        return pixels(answer.data[0].b64_json)

    assert np.array_equal(edited(), edited(strength=0.6))
    assert not np.array_equal(edited(), edited(strength=0.9))


def test_what_is_transparent_in_a_mask_is_what_is_white_in_one_without(client: openai.OpenAI) -> None:
    found = []
    for one in (transparent(mask()), file(mask()), None):
        more: dict[str, Any] = {} if one is None else {"mask": one}
        answer = client.images.edit(image=[file(picture())], prompt="a hat", extra_body=MANNER, **more)
        assert answer.data is not None
        found.append(pixels(answer.data[0].b64_json))
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


def test_an_edit_comes_with_previews(client: openai.OpenAI, studio: Serving) -> None:
    events = list(
        client.images.edit(
            image=file(picture()),
            prompt="a hat",
            stream=True,
            partial_images=2,
            output_format="webp",
            extra_body=MANNER | {"strength": 1.0, "num_inference_steps": 6},
        )
    )
    assert [event.type for event in events] == ["image_edit.partial_image"] * 2 + ["image_edit.completed"]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]  # type: ignore[union-attr]
    assert all(pixels(event.b64_json).shape == (24, 16, 3) for event in events)
    assert {event.size for event in events} == {"16x24"} and events[-1].output_format == "webp"
    studio.everything_is_returned()


def test_a_variation_is_another_picture_like_it(client: openai.OpenAI) -> None:
    answer = client.images.create_variation(
        image=file(picture()), n=2, response_format="b64_json", extra_body=MANNER
    )
    assert answer.data is not None
    assert [pixels(one.b64_json).shape for one in answer.data] == [(24, 16, 3)] * 2


def test_json_with_data_uris_is_the_form(client: openai.OpenAI, studio: Serving) -> None:
    source, shape = file(picture()), file(mask())
    answer = client.images.edit(image=source, mask=shape, prompt="a hat", extra_body=MANNER)
    assert answer.data is not None
    expected = answer.data[0].b64_json
    for sent in (
        {"images": [{"image_url": uri(source)}], "mask": {"image_url": uri(shape)}},
        {"image": uri(source), "mask": uri(shape)},
        {"url": [uri(source)], "mask": uri(shape)},
    ):
        body = {"prompt": "a hat", **MANNER, **sent}
        found = httpx.post(f"{studio.url}/v1/images/edits", json=body, timeout=60)
        assert found.status_code == 200, found.text
        assert found.json()["data"][0]["b64_json"] == expected
    form = {"prompt": "a hat", "image": uri(source), "mask": uri(shape), **MANNER}
    found = httpx.post(
        f"{studio.url}/v1/images/edits",
        files={name: (None, str(value)) for name, value in form.items()},
        timeout=60,
    )
    assert found.json()["data"][0]["b64_json"] == expected


@pytest.mark.parametrize(
    ("files", "fields", "param"),
    [
        ({}, {}, "image"),
        ({"image": file(picture())}, {"prompt": " "}, "prompt"),
        ({"image": b"no picture"}, {}, None),
        ({"image": b""}, {}, None),
        ({"image": file(picture()), "mask": file(mask(8, 8))}, {}, "mask"),
        ({"image": file(picture()), "mask": b"no picture"}, {}, None),
        ({"image": file(Image.new("1", (9000, 9000)))}, {}, None),
        ({"image": file(picture())}, {"strength": "2"}, "strength"),
        ({"image": file(picture())}, {"strength": "much"}, "strength"),
        ({"image": file(picture())}, {"n": "11"}, "n"),
        ({"image": file(picture())}, {"size": "17x16"}, "size"),
        ({"image": file(picture())}, {"background": "transparent"}, "background"),
        ({"image": file(picture())}, {"output_format": "gif"}, "output_format"),
        ({"image": file(picture())}, {"response_format": "url"}, "response_format"),
        ({"image": file(picture()), "image[]": file(picture())}, {}, "image"),
    ],
)
def test_what_makes_no_sense_is_refused_in_openais_shape(
    studio: Serving, files: dict[str, bytes], fields: dict[str, str], param: str | None
) -> None:
    data = {"prompt": "a cat", **fields}
    sent = {name: (f"{name}.png", value) for name, value in files.items()} or {"x": (None, "y")}
    answer = httpx.post(f"{studio.url}/v1/images/edits", data=data, files=sent, timeout=60)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    studio.everything_is_returned()


@pytest.mark.parametrize("image", [7, {"file_id": "file-1"}, "ftp://x/y.png", "data:image/png;base64,AAAA"])
def test_a_picture_that_cannot_be_had_is_refused(studio: Serving, image: object) -> None:
    answer = httpx.post(f"{studio.url}/v1/images/edits", json={"prompt": "a", "image": image}, timeout=60)
    assert answer.status_code == 400, answer.text


def test_strength_without_a_picture_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="send one"):
        client.images.generate(prompt="a cat", extra_body={"strength": 0.5})


def test_a_model_that_writes_does_not_edit(server: Serving) -> None:
    with server.client() as writer, pytest.raises(openai.BadRequestError, match="does not draw"):
        writer.images.edit(image=file(picture()), prompt="a cat")


def test_a_model_that_edits_looks_at_the_picture() -> None:
    with (
        serving(
            model=str(pipeline("qwen_image_edit_plus")[1]), memory=4_000_000_000, kv_cache_memory_bytes=None
        ) as served,
        served.client() as client,
    ):
        with pytest.raises(openai.BadRequestError, match="edits pictures: send one"):
            client.images.generate(prompt="a cat")
        with pytest.raises(openai.BadRequestError, match="takes no mask"):
            client.images.edit(image=file(picture()), mask=file(mask()), prompt="a cat")
        with pytest.raises(openai.BadRequestError, match="looks at 4 pictures at most"):
            client.images.edit(image=[file(picture())] * 5, prompt="a cat")
