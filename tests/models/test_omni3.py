"""A model whose talker makes frames of several codes sees, hears, writes and speaks as transformers' does."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperFeatureExtractor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tests.models import checkpoints
from tests.models.checkpoints import AUDIO, BOS, EOS, IMAGE, PICTURES, START, VIDEO
from tests.models.checkpoints.omni3 import CODEBOOK, SOUND
from tests.models.test_omni import NOISE, RATE, TONE, wav
from tests.models.test_sight import SMALL, TALL, WIDE, png, words
from tutti import Omni
from tutti.engine.core import Engine
from tutti.events import AudioDelta, Done, Event, Failed, TextDelta
from tutti.media.pcm import from_pcm16
from tutti.models.processor import load_processor
from tutti.request import Media, Part, Request, SamplingParams, Tokens
from tutti.settings import EngineOptions

NAME = "qwen3_omni"
NEW, FRAMES = 8, 12
LONG = np.concatenate([TONE] * 5)  # longer than what hears itself together

Piece = int | tuple[str, Any]
SYSTEM: list[Piece] = [START, *b"system\n", *words(20, 7), EOS, 10]
REPLY: list[Piece] = [START, *b"assistant\n"]


def user(*pieces: Piece) -> list[Piece]:
    return [START, *b"user\n", *pieces, EOS, 10]


def shown(image: Any) -> list[Piece]:
    return [BOS, ("image", image), EOS]


def played(samples: np.ndarray) -> list[Piece]:
    return [SOUND, ("audio", samples), EOS]


PROMPTS: dict[str, list[Piece]] = {
    "text": [*SYSTEM, *user(*words(1, 12)), *REPLY],
    "a picture": [*user(*words(2, 3), *shown(SMALL), *words(3, 5)), *REPLY],
    "a recording": [*SYSTEM, *user(*words(4, 2), *played(TONE), *words(5, 6)), *REPLY],
    "two turns": [
        *SYSTEM, *user(*played(NOISE), *words(6, 3), *shown(TALL)), *REPLY, *words(8, 5), EOS, 10,
        *user(*shown(WIDE), *words(7, 4), *played(LONG), 7), *REPLY,
    ],
}  # fmt: skip


class Served:
    """An engine in this thread, and what it answers."""

    def __init__(self, folder: Path | None = None, **options: Any) -> None:
        self.events: list[Event] = []
        path = str(folder or checkpoints.cached(NAME))
        defaults = {"dtype": "float32", "device": "cpu", "memory": 2 * 10**9, "block_size": 8, "threads": 1}
        self.engine = Engine(EngineOptions(model=path, **(defaults | options)), self.events.extend)
        self.processor = load_processor(path)

    def prepared(self, name: str, modalities: tuple[str, ...] = ("text", "audio"), **more: Any) -> Request:
        kinds = {"image": IMAGE, "audio": AUDIO, "video": VIDEO}
        ids = tuple(one if isinstance(one, int) else kinds[one[0]] for one in PROMPTS[name])
        files = [Media(kind, png(value) if kind == "image" else wav(value)) for kind, value in media(name)]
        parts: tuple[Part, ...] = (Tokens(ids), *files)
        greedy = SamplingParams(temperature=0.0, max_tokens=NEW, ignore_eos=True)
        codes = SamplingParams(temperature=0.0, repetition_penalty=1.05, max_tokens=FRAMES)
        asked = {"id": name, "parts": parts, "sampling": greedy, "stage_sampling": {"talker": codes}, **more}
        return self.processor.prepare(Request(modalities=modalities, **asked))

    def ask(self, *names: str, **more: Any) -> list[tuple[list[int], np.ndarray]]:
        return self.run(*(self.prepared(name, **more) for name in names))

    def run(self, *requests: Request) -> list[tuple[list[int], np.ndarray]]:
        for request in requests:
            self.engine.loop.submit(request)
        self.engine.loop.run_until(lambda: len(self.ended()) == len(requests))
        answers = [self.answer(request.id) for request in requests]
        self.events.clear()
        return answers

    def ended(self) -> list[Event]:
        return [event for event in self.events if isinstance(event, Done | Failed)]

    def answer(self, name: str) -> tuple[list[int], np.ndarray]:
        mine = [event for event in self.events if event.request == name]
        assert not [event for event in mine if isinstance(event, Failed)], mine
        tokens = [token for event in mine if isinstance(event, TextDelta) for token in event.tokens]
        pcm = b"".join(event.pcm for event in mine if isinstance(event, AudioDelta))
        return tokens, from_pcm16(pcm)


def media(name: str) -> list[tuple[str, Any]]:
    return [one for one in PROMPTS[name] if isinstance(one, tuple)]


@functools.cache
def theirs(name: str, frames: int = FRAMES) -> tuple[list[int], np.ndarray]:
    """transformers' greedy text and speech."""
    model: Any = checkpoints.reference(NAME)
    model.talker.config.audio_config = model.thinker.config.audio_config  # 5.17 looks for it there
    pictures = [value for kind, value in media(name) if kind == "image"]
    sounds = [value for kind, value in media(name) if kind == "audio"]
    inputs: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    if pictures:
        features = Qwen2VLImageProcessorPil(patch_size=4, **PICTURES)(pictures, return_tensors="pt")
        inputs |= dict(features)
        counts["image"] = iter((features["image_grid_thw"].prod(-1) // 4).tolist())
    if sounds:
        extractor = WhisperFeatureExtractor(feature_size=16)
        alone = [extractor(one, sampling_rate=RATE, padding=True, return_tensors="pt") for one in sounds]
        mels = [one["input_features"][0].T for one in alone]
        lengths = [len(one) for one in mels]
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        padded = torch.nn.utils.rnn.pad_sequence(mels, batch_first=True).transpose(1, 2)
        inputs |= {"input_features": padded, "feature_attention_mask": mask.long()}
        counts["audio"] = iter([length // 100 * 13 + -(-(length % 100) // 8) for length in lengths])
    kinds = {"image": IMAGE, "audio": AUDIO}
    ids: list[int] = []
    for one in PROMPTS[name]:
        ids += [one] if isinstance(one, int) else [kinds[one[0]]] * next(counts[one[0]])
    prompt = torch.tensor([ids])
    text, speech = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        speaker="Ada",
        thinker_max_new_tokens=NEW,
        thinker_do_sample=False,
        thinker_eos_token_id=None,
        talker_max_new_tokens=frames + 1,  # the codes that go with the last one are not made
        talker_do_sample=False,
        **inputs,
    )
    return text[0, len(ids) :].tolist(), speech.flatten().numpy()


WAYS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "chunks of 7": {"max_num_batched_tokens": 7},
    "no prefix cache": {"enable_prefix_caching": False},
}


@pytest.fixture(scope="module", params=WAYS)
def served(request: pytest.FixtureRequest) -> Served:
    return Served(**WAYS[request.param])


@pytest.mark.parametrize("name", PROMPTS)
def test_text_and_speech_are_those_of_transformers(served: Served, name: str) -> None:
    ((tokens, samples),) = served.ask(name)
    their_tokens, their_samples = theirs(name)
    assert tokens == their_tokens
    assert samples.shape == their_samples.shape
    np.testing.assert_allclose(samples, their_samples.clip(-1, 1), atol=1e-3)


def test_requests_together_get_the_same_answers_as_alone(served: Served) -> None:
    for name, (tokens, samples) in zip(PROMPTS, served.ask(*PROMPTS), strict=True):
        their_tokens, their_samples = theirs(name)
        assert tokens == their_tokens
        np.testing.assert_allclose(samples, their_samples.clip(-1, 1), atol=1e-3)


def endless(frames: int) -> dict[str, SamplingParams]:
    """Greedy frames, and never an end."""
    said = tuple(range(CODEBOOK))
    return {"talker": SamplingParams(temperature=0.0, max_tokens=frames, allowed_token_ids=said)}


def test_a_listener_hears_the_same_as_in_the_file_and_before_the_end_is_spoken(served: Served) -> None:
    (whole,) = served.ask("text", stage_sampling=endless(60))
    served.engine.loop.submit(served.prepared("text", stage_sampling=endless(60), live=True))
    talker = served.engine.followers[0]
    while not any(isinstance(event, AudioDelta) for event in served.events):
        assert served.engine.loop.turn()
    assert talker.scheduler.running  # still speaking
    served.engine.loop.run_until(lambda: bool(served.ended()))
    pieces = [event for event in served.events if isinstance(event, AudioDelta)]
    assert len(pieces) >= 4
    assert len(pieces[0].pcm) < 2 * 4 * 1920  # a window of four frames, less what overlaps the fifth
    _, samples = served.answer("text")
    served.events.clear()
    assert len(samples) == len(whole[1]) > 59 * 1920
    np.testing.assert_allclose(samples, whole[1], atol=1e-3)


def test_drawn_frames_are_the_same_alone_and_in_a_batch_and_differ_by_seed(served: Served) -> None:
    def drawn(seed: int) -> dict[str, SamplingParams]:
        return {
            "talker": msgspec.structs.replace(endless(10)["talker"], temperature=0.9, top_k=50, seed=seed)
        }

    ((_, alone),) = served.ask("text", stage_sampling=drawn(1))
    requests = [served.prepared("text", stage_sampling=drawn(seed), id=str(seed)) for seed in (1, 2)]
    (_, first), (_, second) = served.run(*requests, served.prepared("a picture"))[:2]
    np.testing.assert_allclose(first, alone, atol=1e-3)
    assert np.abs(second - alone).max() > 0.1


def test_a_preempted_talker_goes_on_with_the_frames_it_had(served: Served) -> None:
    (whole,) = served.ask("text", stage_sampling=endless(30))
    served.engine.loop.submit(served.prepared("text", stage_sampling=endless(30)))
    talker = served.engine.followers[0]
    served.engine.loop.run_until(lambda: any(len(one.codes) == 9 for one in talker.scheduler.running))
    talker.scheduler._preempt(talker.scheduler.running[0])
    served.engine.loop.run_until(lambda: bool(served.ended()))
    _, samples = served.answer("text")
    served.events.clear()
    np.testing.assert_allclose(samples, whole[1], atol=1e-3)


@pytest.mark.parametrize("turns", [1, 5, 12, 40])
def test_a_listener_who_leaves_leaves_nothing_behind(served: Served, turns: int) -> None:
    request = served.prepared("two turns", live=True)
    served.engine.loop.submit(request)
    for _ in range(turns):
        served.engine.loop.turn()
    served.engine.loop.cancel(request.id)
    served.events.clear()
    assert not served.engine.loop.turn()
    for runner in (served.engine.runner, *served.engine.followers):
        runner.cache.check()
        assert runner.cache.usage == 0


def test_who_wants_text_alone_gets_it_without_the_talker(served: Served) -> None:
    steps = served.engine.followers[0].generation_tokens
    ((tokens, samples),) = served.ask("a recording", modalities=("text",))
    assert tokens == theirs("a recording")[0]
    assert len(samples) == 0
    assert served.engine.followers[0].generation_tokens == steps


def test_each_voice_speaks_differently_and_one_that_is_not_there_is_refused(served: Served) -> None:
    assert served.engine.info.voices == ("ada", "bea")
    ((_, ada),), ((_, bea),) = served.ask("text", voice="Ada"), served.ask("text", voice="BEA")
    assert ada.shape != bea.shape or np.abs(ada - bea).max() > 0.1
    error = refusal(served, served.prepared("text", voice="Nobody"))
    assert "this model has ada, bea" in error


def test_speech_without_a_turn_of_the_assistant_is_refused(served: Served) -> None:
    request = served.prepared("text")
    assert "the assistant's" in refusal(served, msgspec.structs.replace(request, parts=(Tokens((1, 2, 3)),)))
    assert "the assistant's" in refusal(
        served, msgspec.structs.replace(request, parts=(Tokens((*request.parts[0].ids, START, ord("u"))),))
    )


def refusal(served: Served, request: Request) -> str:
    served.engine.loop.submit(request)
    (failed,) = served.events
    served.events.clear()
    assert isinstance(failed, Failed) and failed.error.kind == "InvalidRequest"
    return failed.error.message


def test_an_answer_of_one_token_is_silent_or_short_but_ends(served: Served) -> None:
    one = SamplingParams(temperature=0.0, max_tokens=1)
    ((tokens, samples),) = served.ask("text", sampling=one, stage_sampling=endless(5))
    assert len(tokens) == 1 and len(samples) > 4 * 1920


def test_the_python_door_answers_the_same_whole_and_as_a_stream() -> None:
    omni = Omni(str(checkpoints.cached(NAME)), dtype="float32", device="cpu", memory="2GB", threads=1)
    greedy = SamplingParams(temperature=0.0, max_tokens=NEW, ignore_eos=True)
    asked: dict[str, Any] = {"text": "hi", "images": [SMALL], "audio": (TONE, RATE), "sampling": greedy}
    asked |= {"modalities": ["text", "audio"], "voice": "Bea", "stage_sampling": endless(30)}
    assert omni.voices == ("ada", "bea")
    whole = omni.generate(**asked)
    assert whole.finish_reason == "length" and len(whole.token_ids) == NEW
    assert whole.rate == 24_000 and whole.audio is not None and len(whole.audio) > 29 * 1920
    events = list(omni.stream(**asked))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == whole.text
    assert sum(len(event.pcm) for event in events if isinstance(event, AudioDelta)) == 2 * len(whole.audio)
    assert isinstance(events[-1], Done)
    assert omni.generate(text="hi", sampling=greedy).audio is None


def test_stages_in_processes_of_their_own_say_the_same() -> None:
    apart = Served(placement={"talker": "cpu:1", "code2wav": "cpu:2"})
    try:
        for name, (tokens, samples) in zip(PROMPTS, apart.ask(*PROMPTS), strict=True):
            their_tokens, their_samples = theirs(name)
            assert tokens == their_tokens
            np.testing.assert_allclose(samples, their_samples.clip(-1, 1), atol=1e-3)
    finally:
        apart.engine.close()


def test_a_checkpoint_that_does_not_speak_writes(tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoints.cached(NAME), tmp_path / "thinking")
    config = json.loads((folder / "config.json").read_text())
    del config["talker_config"], config["code2wav_config"]
    (folder / "config.json").write_text(json.dumps(config | {"enable_audio_output": False}))
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if name.startswith("thinker.")}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    thinking = Served(folder)
    assert thinking.engine.graph.outputs == {"text"}
    ((tokens, _),) = thinking.ask("a picture", modalities=("text",), stage_sampling={})
    assert tokens == theirs("a picture")[0]
    assert "the model gives text" in refusal(
        thinking, thinking.prepared("text", ("audio",), stage_sampling={})
    )
