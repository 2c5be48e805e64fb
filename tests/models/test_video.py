"""Models that watch videos, with their sound or without, answer as transformers' do to the same frames."""

from __future__ import annotations

import functools
import types
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2_5OmniProcessor, Qwen3OmniMoeProcessor, WhisperFeatureExtractor

from tests.media import files
from tests.models import checkpoints
from tests.models.checkpoints import AUDIO, BOS, END, EOS, START, VIDEO
from tests.models.test_sight import make, words
from tutti import LLM, Omni, SamplingParams
from tutti.errors import InvalidMedia, InvalidRequest
from tutti.llm.prompts import prompt_parts
from tutti.media.pcm import from_pcm16
from tutti.models.processor.files import CLIP_DEVIATION, CLIP_MEAN
from tutti.models.processor.media import unpack
from tutti.request import Media, MediaInput, Request, Tokens

NEW, FRAMES = 8, 8
RATE = 16_000
SILENT = files.video(33, 10, height=40, width=56)
SOUND = files.tone(3.3) * np.linspace(0.2, 1.0, 52_800, dtype=np.float32)
HEARD = files.video(33, 10, height=40, width=56, sound=SOUND)
GREEDY = SamplingParams(temperature=0.0, max_tokens=NEW, ignore_eos=True)


def patches(frames: np.ndarray, patch: int = 4, merge: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """pixel_values_videos and video_grid_thw, as transformers' video processors make them (they need torchvision)."""
    mean, deviation = torch.tensor(CLIP_MEAN)[:, None, None], torch.tensor(CLIP_DEVIATION)[:, None, None]
    pixels = (torch.from_numpy(frames.copy()).permute(0, 3, 1, 2).float() / 255 - mean) / deviation
    pixels = torch.cat([pixels, pixels[-1:]]) if len(pixels) % 2 else pixels
    count, channels, height, width = pixels.shape
    grid = (count // 2, height // patch, width // patch)
    sides = (grid[1] // merge, merge, patch, grid[2] // merge, merge, patch)
    cut = pixels.view(1, grid[0], 2, channels, *sides).permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9)
    return cut.reshape(grid[0] * grid[1] * grid[2], -1), torch.tensor([grid])


def prepared(processor: Any, ids: list[int], *media: Media, **more: Any) -> tuple[Request, list[MediaInput]]:
    request = processor.prepare(
        Request(id="video", parts=(Tokens(tuple(ids)), *media), sampling=GREEDY, **more)
    )
    return request, [part for part in request.parts if isinstance(part, MediaInput)]


# --- frames with their times between ----------------------------------------------------------------------------------


@functools.cache
def film(name: str) -> LLM:
    return make(name)


@pytest.mark.parametrize("name", ["qwen3_vl", "qwen3_vl_moe"])
@pytest.mark.parametrize("marked", [True, False])
def test_answers_about_videos_are_those_of_transformers(name: str, marked: bool) -> None:
    llm = film(name)
    ids = [*words(1, 4), *([START, VIDEO, END] if marked else [VIDEO]), *words(2, 6)]
    request, (seen,) = prepared(llm.processor, ids, Media("video", SILENT))
    (prompt,) = (part.ids for part in request.parts if isinstance(part, Tokens))
    values, grid = patches(unpack(seen.arrays["frames"]))
    size = int(grid[0, 1:].prod()) // 4
    frames = "".join(f"<{time:.1f} seconds>" + "|" * size for time in (0.25, 1.35, 2.4, 3.2))
    written = [*words(1, 4)]
    for piece in frames.split("<")[1:]:
        time, _, _ = piece.partition("|")
        written += [*f"<{time}".encode(), START, *[VIDEO] * size, END]
    assert list(prompt) == [*written, *words(2, 6)]
    model: Any = checkpoints.reference(name)
    asked = torch.tensor([prompt])
    out = model.generate(
        asked,
        attention_mask=torch.ones_like(asked),
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=None,
        pixel_values_videos=values,
        video_grid_thw=grid,
        mm_token_type_ids=2 * (asked == VIDEO).int(),
    )
    multi_modal = {"prompt_token_ids": ids, "multi_modal_data": {"video": SILENT}}
    for _ in range(2):  # the second time it has been seen already
        (answer,) = llm.generate([multi_modal], GREEDY)
        assert answer.outputs[0].token_ids == out[0, len(prompt) :].tolist()
    assert answer.num_cached_tokens > 0


# --- frames and sound -------------------------------------------------------------------------------------------------

FAMILIES = {
    "qwen2_5_omni": (Qwen2_5OmniProcessor, 25, START, END),
    "qwen3_omni": (Qwen3OmniMoeProcessor, 13, END, EOS),
}


@functools.cache
def omni(name: str) -> Omni:
    options = {"dtype": "float32", "device": "cpu", "memory": "2GB", "block_size": 8, "threads": 1}
    return Omni(str(checkpoints.cached(name)), **options)


def asked_of(name: str) -> list[int]:
    """Without the marks of sound, which transformers counts."""
    about = [*words(3, 4), BOS, VIDEO, EOS, *words(4, 5)]
    return about if name == "qwen2_5_omni" else [START, *b"user\n", *about, EOS, START, *b"assistant\n"]


def expected_ids(name: str, grid: torch.Tensor, seconds: float, sounds: int | None) -> list[int]:
    """The prompt as transformers' processor writes it."""
    processor, per_second, begin, end = FAMILIES[name]
    names = {token: name for name, token in checkpoints.SPECIALS.items()}
    merging = types.SimpleNamespace(merge_size=2)
    own = types.SimpleNamespace(
        image_processor=merging,
        video_processor=merging,
        audio_token=names[AUDIO],
        image_token="<|image|>",
        video_token=names[VIDEO],
        vision_bos_token=names[BOS],
        vision_eos_token=names[EOS],
        audio_bos_token=names[begin],
        audio_eos_token=names[end],
    )
    own.get_chunked_index = types.MethodType(processor.get_chunked_index, own)
    (text,) = processor.replace_multimodal_special_tokens(
        own,
        [f"{names[BOS]}{names[VIDEO]}{names[EOS]}"],
        iter([] if sounds is None else [sounds]),
        iter(()),
        iter(grid.numpy()),
        video_second_per_grid=iter([seconds]),
        use_audio_in_video=sounds is not None,
        position_id_per_seconds=per_second,
        seconds_per_chunk=2.0,
    )
    written = omni(name).processor.tokenizer.encode(text, False)
    ids = asked_of(name)
    place = ids.index(VIDEO)
    return [*ids[: place - 1], *written, *ids[place + 2 :]]


def theirs(name: str, prompt: list[int], inputs: dict[str, Any]) -> tuple[list[int], np.ndarray]:
    model: Any = checkpoints.reference(name)
    if name == "qwen3_omni":
        model.talker.config.audio_config = model.thinker.config.audio_config  # 5.17 looks for it there
    asked = torch.tensor([prompt])
    torch.manual_seed(0)
    text, speech = model.generate(
        input_ids=asked,
        attention_mask=torch.ones_like(asked),
        speaker="Ada",
        thinker_max_new_tokens=NEW,
        thinker_do_sample=False,
        thinker_eos_token_id=None,
        talker_max_new_tokens=FRAMES + (name == "qwen3_omni"),
        talker_do_sample=False,
        **inputs,
    )
    return text[0, len(prompt) :].tolist(), speech.flatten().numpy()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("heard", [False, True])
def test_what_is_said_of_videos_with_and_without_their_sound_is_what_transformers_says(
    name: str, heard: bool
) -> None:
    door = omni(name)
    request, (seen, *tracks) = prepared(door.processor, asked_of(name), Media("video", HEARD, sound=heard))
    (prompt,) = (list(part.ids) for part in request.parts if isinstance(part, Tokens))
    values, grid = patches(unpack(seen.arrays["frames"]))
    assert grid.tolist() == [[4, 4, 8]]
    seconds = 2 / (7 / 3.3)
    inputs: dict[str, Any] = {
        "thinker_pixel_values_videos" if name == "qwen2_5_omni" else "pixel_values_videos": values,
        "video_grid_thw": grid,
        "video_second_per_grid": torch.tensor([seconds]),
        "use_audio_in_video": heard,
    }
    if heard:
        samples = unpack(tracks[0].arrays["samples"])
        extractor = WhisperFeatureExtractor(feature_size=16)
        padding = "max_length" if name == "qwen2_5_omni" else True
        mel = extractor(
            samples, sampling_rate=RATE, return_attention_mask=True, padding=padding, return_tensors="pt"
        )
        inputs |= {"input_features": mel["input_features"], "feature_attention_mask": mel["attention_mask"]}
    assert prompt == expected_ids(name, grid, seconds, tracks[0].rows if heard else None)
    codes = {"talker": SamplingParams(temperature=0.0, repetition_penalty=1.05, max_tokens=FRAMES)}
    with_speech = {"modalities": ("text", "audio"), "stage_sampling": codes, "voice": "Ada"}
    request, _ = prepared(door.processor, asked_of(name), Media("video", HEARD, sound=heard), **with_speech)
    tokens, samples = answered(door, request)
    their_tokens, their_samples = theirs(name, prompt, inputs)
    assert tokens == their_tokens
    assert samples.shape == their_samples.shape
    np.testing.assert_allclose(samples, their_samples.clip(-1, 1), atol=2e-3)


def answered(door: Omni, request: Request) -> tuple[list[int], np.ndarray]:
    from tutti.events import AudioDelta, TextDelta

    events = list(door._answerer.events(request))
    tokens = [token for event in events if isinstance(event, TextDelta) for token in event.tokens]
    pcm = b"".join(event.pcm for event in events if isinstance(event, AudioDelta))
    return tokens, from_pcm16(pcm)


def test_the_python_doors_hear_a_video_when_they_are_asked_to() -> None:
    door = omni("qwen3_omni")
    seen, heard = (
        door.generate(text="hi", videos=[HEARD], use_audio_in_video=wanted, sampling=GREEDY)
        for wanted in (False, True)
    )
    assert seen.usage is not None and heard.usage is not None
    assert heard.usage.prompt_tokens == seen.usage.prompt_tokens + 45
    prompt = {"prompt_token_ids": asked_of("qwen3_omni"), "multi_modal_data": {"video": HEARD}}
    (video,) = (part for part in prompt_parts(prompt) if isinstance(part, Media))
    assert not video.sound
    (video,) = (
        part
        for part in prompt_parts(prompt | {"mm_processor_kwargs": {"use_audio_in_video": True}})
        if isinstance(part, Media)
    )
    assert video.sound
    with pytest.raises(InvalidRequest, match="mm_processor_kwargs has fps"):
        prompt_parts(prompt | {"mm_processor_kwargs": {"fps": 2}})


@pytest.mark.parametrize("name", FAMILIES)
def test_a_video_without_a_sound_track_cannot_be_heard(name: str) -> None:
    with pytest.raises(InvalidMedia, match="no sound track"):
        prepared(omni(name).processor, asked_of(name), Media("video", SILENT, sound=True))


def test_a_model_without_ears_takes_no_video_with_its_sound() -> None:
    with pytest.raises(InvalidRequest, match="does not hear"):
        prepared(film("qwen3_vl").processor, [VIDEO, 7], Media("video", HEARD, sound=True))
