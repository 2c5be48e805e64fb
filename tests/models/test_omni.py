"""A model that sees, hears, writes and speaks does all of it as transformers' does."""

from __future__ import annotations

import functools
import io
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile
import torch
from transformers import WhisperFeatureExtractor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tests.models import checkpoints
from tests.models.checkpoints import AUDIO, BOS, END, EOS, IMAGE, PICTURES, START
from tests.models.test_sight import SMALL, TALL, png, words
from tutti import Omni
from tutti.engine.core import Engine
from tutti.events import AudioDelta, Done, Event, Failed, TextDelta
from tutti.media.pcm import from_pcm16
from tutti.models.mel import log_mel
from tutti.models.processor import load_processor
from tutti.models.qwen2_5_omni.media import audio_tokens
from tutti.request import Media, Part, Request, SamplingParams, Tokens
from tutti.settings import EngineOptions
from tutti.trace import Trace

NAME = "qwen2_5_omni"
NEW, CODES = 8, 20
RATE = 16_000
TONE = (0.3 * np.sin(np.arange(9_000) * 0.2) + 0.1 * np.sin(np.arange(9_000) * 0.031)).astype(np.float32)
NOISE = (0.1 * np.random.default_rng(5).standard_normal(5_000)).astype(np.float32)

PROMPTS: dict[str, list[int | tuple[str, Any]]] = {
    "text": words(1, 12),
    "a picture": [*words(2, 3), BOS, ("image", SMALL), EOS, *words(3, 5)],
    "a recording": [*words(4, 2), START, ("audio", TONE), END, *words(5, 6)],
    "both, twice": [
        START, ("audio", NOISE), END, *words(6, 3), BOS, ("image", TALL), EOS,
        BOS, ("image", SMALL), EOS, *words(7, 9), START, ("audio", TONE), END, 7,
    ],
}  # fmt: skip


def wav(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


@functools.cache
def theirs(name: str) -> tuple[list[int], np.ndarray]:
    """transformers' greedy text and speech."""
    model: Any = checkpoints.reference(NAME)
    thinker = model.config.thinker_config
    pictures = [value for kind, value in media(name) if kind == "image"]
    sounds = [value for kind, value in media(name) if kind == "audio"]
    inputs: dict[str, Any] = {}
    image_counts = iter(())
    if pictures:
        features = Qwen2VLImageProcessorPil(patch_size=4, **PICTURES)(pictures, return_tensors="pt")
        grid = features["image_grid_thw"]
        inputs |= {"thinker_pixel_values": features["pixel_values"], "image_grid_thw": grid}
        image_counts = iter((grid.prod(-1) // 4).tolist())
    sound_counts = iter(())
    if sounds:
        extractor = WhisperFeatureExtractor(feature_size=thinker.audio_config.num_mel_bins)
        mel = extractor(
            sounds, sampling_rate=RATE, return_attention_mask=True, padding="max_length", return_tensors="pt"
        )
        inputs |= {"input_features": mel["input_features"], "feature_attention_mask": mel["attention_mask"]}
        lengths = mel["attention_mask"].sum(-1)
        sound_counts = iter((((lengths - 1) // 2 + 1 - 2) // 2 + 1).tolist())
    ids: list[int] = []
    for one in PROMPTS[name]:
        if isinstance(one, int):
            ids.append(one)
        else:
            ids += [IMAGE] * next(image_counts) if one[0] == "image" else [AUDIO] * next(sound_counts)
    prompt = torch.tensor([ids])
    torch.manual_seed(0)
    text, speech = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        speaker="Ada",
        thinker_max_new_tokens=NEW,
        thinker_do_sample=False,
        thinker_eos_token_id=None,
        talker_max_new_tokens=CODES,
        talker_do_sample=False,
        talker_eos_token_id=[64, 66],
        **inputs,
    )
    return text[0, len(ids) :].tolist(), speech.numpy()


def media(name: str) -> list[tuple[str, Any]]:
    return [one for one in PROMPTS[name] if isinstance(one, tuple)]


class Served:
    """An engine in this thread, and what it answers."""

    def __init__(self, **options: Any) -> None:
        self.events: list[Event] = []
        path = str(checkpoints.cached(NAME))
        defaults = {"dtype": "float32", "device": "cpu", "memory": 2 * 10**9, "block_size": 8, "threads": 1}
        self.traces: list[Trace] = []
        chosen = EngineOptions(model=path, **(defaults | options))
        self.engine = Engine(chosen, self.events.extend, traced=self.traces.append)
        self.processor = load_processor(path)

    def ask(
        self, *names: str, modalities: tuple[str, ...] = ("text", "audio")
    ) -> list[tuple[list[int], np.ndarray]]:
        return self.run(*(self.processor.prepare(self.request(name, modalities)) for name in names))

    def run(self, *requests: Request) -> list[tuple[list[int], np.ndarray]]:
        for request in requests:
            self.engine.loop.submit(request)
        self.engine.loop.run_until(lambda: len(self.ended()) == len(requests))
        answers = [self.answer(request.id) for request in requests]
        self.events.clear()
        return answers

    def request(self, name: str, modalities: tuple[str, ...]) -> Request:
        kinds = {"image": IMAGE, "audio": AUDIO}
        ids = tuple(one if isinstance(one, int) else kinds[one[0]] for one in PROMPTS[name])
        files = [Media(kind, png(value) if kind == "image" else wav(value)) for kind, value in media(name)]
        parts: tuple[Part, ...] = (Tokens(ids), *files)
        greedy = SamplingParams(temperature=0.0, max_tokens=NEW, ignore_eos=True)
        codes = SamplingParams(temperature=0.0, repetition_penalty=1.05, max_tokens=CODES)
        return Request(
            id=name, parts=parts, sampling=greedy, stage_sampling={"talker": codes}, modalities=modalities
        )

    def ended(self) -> list[Event]:
        return [event for event in self.events if isinstance(event, Done | Failed)]

    def answer(self, name: str) -> tuple[list[int], np.ndarray]:
        mine = [event for event in self.events if event.request == name]
        assert not [event for event in mine if isinstance(event, Failed)], mine
        tokens = [token for event in mine if isinstance(event, TextDelta) for token in event.tokens]
        pcm = b"".join(event.pcm for event in mine if isinstance(event, AudioDelta))
        return tokens, from_pcm16(pcm)


WAYS: dict[str, dict[str, Any]] = {"as it comes": {}, "chunks of 7": {"max_num_batched_tokens": 7}}


@pytest.fixture(scope="module", params=WAYS)
def served(request: pytest.FixtureRequest) -> Served:
    return Served(**WAYS[request.param])


@pytest.mark.parametrize("name", PROMPTS)
def test_text_and_speech_are_those_of_transformers(served: Served, name: str) -> None:
    ((tokens, samples),) = served.ask(name)
    their_tokens, their_samples = theirs(name)
    assert tokens == their_tokens
    assert samples.shape == their_samples.shape
    np.testing.assert_allclose(samples, their_samples.clip(-1, 1), atol=2e-3)


def test_requests_together_get_the_same_answers_as_alone(served: Served) -> None:
    for name, (tokens, samples) in zip(PROMPTS, served.ask(*PROMPTS), strict=True):
        their_tokens, their_samples = theirs(name)
        assert tokens == their_tokens
        np.testing.assert_allclose(samples, their_samples.clip(-1, 1), atol=2e-3)


def test_a_listener_hears_the_beginning_before_the_end_is_spoken(served: Served) -> None:
    request = served.processor.prepare(served.request("text", ("text", "audio")))
    longer = SamplingParams(
        temperature=0.0, max_tokens=150, allowed_token_ids=tuple(range(64))
    )  # never an end
    request = msgspec.structs.replace(request, stage_sampling={"talker": longer})
    (whole,) = served.run(request)
    served.engine.loop.submit(msgspec.structs.replace(request, id="live", live=True))
    talker = served.engine.followers[0]
    while not any(isinstance(event, AudioDelta) for event in served.events):
        assert served.engine.loop.turn()
    assert talker.scheduler.running  # still speaking
    assert served.engine.players.deadline("live") is not None
    served.engine.loop.run_until(lambda: bool(served.ended()))
    pieces = [event for event in served.events if isinstance(event, AudioDelta)]
    assert len(pieces) >= 3
    assert served.engine.players.deadline("live") is None
    _, samples = served.answer("live")
    served.events.clear()
    assert samples.shape == whole[1].shape
    heard = slice(0, 24 * 480 // 2)  # far from any window's edge
    np.testing.assert_allclose(samples[heard], whole[1][heard], atol=0.1)


@pytest.mark.parametrize("turns", [1, 5, 12, 40, 60])
def test_a_listener_who_leaves_leaves_nothing_behind(served: Served, turns: int) -> None:
    request = served.processor.prepare(served.request("both, twice", ("text", "audio")))
    served.engine.loop.submit(msgspec.structs.replace(request, live=True))
    for _ in range(turns):
        served.engine.loop.turn()
    served.engine.loop.cancel(request.id)
    served.events.clear()
    assert not served.engine.loop.turn()
    for runner in (served.engine.runner, *served.engine.followers):
        assert runner.cache.usage == 0


def test_the_python_door_answers_the_same_whole_and_as_a_stream() -> None:
    omni = Omni(str(checkpoints.cached(NAME)), dtype="float32", device="cpu", memory="2GB", threads=1)
    greedy = SamplingParams(temperature=0.0, max_tokens=NEW, ignore_eos=True)
    codes = {"talker": SamplingParams(temperature=0.0, max_tokens=30)}
    asked: dict[str, Any] = {"text": "hi", "images": [SMALL], "audio": (TONE, RATE), "sampling": greedy}
    asked |= {"modalities": ["text", "audio"], "voice": "Ada", "stage_sampling": codes}
    assert omni.voices == ("Ada",)
    whole = omni.generate(**asked)
    assert whole.finish_reason == "length" and len(whole.token_ids) == NEW
    assert whole.rate == 24_000 and whole.audio is not None and whole.audio.dtype == np.float32
    events = list(omni.stream(**asked))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == whole.text
    assert sum(len(event.pcm) for event in events if isinstance(event, AudioDelta)) == 2 * len(whole.audio)
    assert isinstance(events[-1], Done)
    assert omni.generate(text="hi", sampling=greedy).audio is None


def test_who_wants_text_alone_gets_it_without_the_talker(served: Served) -> None:
    steps = served.engine.followers[0].generation_tokens
    ((tokens, samples),) = served.ask("a recording", modalities=("text",))
    assert tokens == theirs("a recording")[0]
    assert len(samples) == 0
    assert served.engine.followers[0].generation_tokens == steps


def test_a_voice_that_is_not_there_is_refused_and_the_others_are_named(served: Served) -> None:
    request = served.processor.prepare(served.request("text", ("audio",)))
    served.engine.loop.submit(msgspec.structs.replace(request, voice="Nobody"))
    (failed,) = served.events
    served.events.clear()
    assert isinstance(failed, Failed)
    assert failed.error.kind == "InvalidRequest" and "this model has Ada" in failed.error.message


def test_everything_is_given_back(served: Served) -> None:
    served.ask("both, twice")
    for runner in (served.engine.runner, *served.engine.followers):
        runner.cache.check()
        assert runner.cache.usage == 0


@pytest.mark.parametrize(("bands", "hop"), [(16, 160), (80, 160), (128, 160), (64, 320)])
def test_log_mel_spectrograms_are_those_of_whispers_feature_extractor(bands: int, hop: int) -> None:
    extractor = WhisperFeatureExtractor(feature_size=bands, hop_length=hop)
    theirs = extractor(TONE, sampling_rate=RATE, return_attention_mask=True, return_tensors="pt")
    mine = log_mel(torch.from_numpy(TONE), bands, hop)
    assert mine.shape[1] == theirs["attention_mask"].sum()
    assert ((mine.shape[1] - 1) // 2 + 1 - 2) // 2 + 1 == audio_tokens(len(TONE), hop)
    torch.testing.assert_close(mine, theirs["input_features"][0, :, : mine.shape[1]], atol=1e-4, rtol=1e-4)
