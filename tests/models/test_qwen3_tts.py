"""A text-to-speech model speaks as its authors' package does: the same codes, the same sound."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from tests.models.speech_checkpoints import ASSISTANT, CODEBOOK, qwen3_tts, qwen3_tts_networks
from tutti import Omni
from tutti.engine.core import Engine
from tutti.events import AudioDelta, Done, Event, Failed, Usage
from tutti.models.processor import load_processor
from tutti.request import Request, SamplingParams, Script, Tokens
from tutti.settings import EngineOptions

pytestmark = [  # the reference's
    pytest.mark.filterwarnings("ignore:`rope_config_validation`:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`:UserWarning"),
]
FRAMES = 14
TEXTS = {
    "plain": {"text": "Good morning."},
    "another voice": {"text": "Good morning.", "voice": "Bea"},
    "a language": {"text": "What a day!", "voice": "ada", "language": "en"},
    "a dialect": {"text": "今天天气很好。", "voice": "cheng", "language": "Chinese"},
    "instructed": {"text": "Hello there, listener.", "instructions": "Whisper it.", "voice": "bea"},
    "longer": {"text": "One two three four five six seven eight nine ten, and so on. " * 2},
}


@functools.cache
def theirs(name: str, frames: int = FRAMES) -> tuple[list[list[int]], np.ndarray]:
    """The frames and the samples of the reference, greedily."""
    model, codec = qwen3_tts_networks()
    asked = TEXTS[name]
    tokenizer = load_processor(qwen3_tts()).tokenizer

    def ids(text: str) -> torch.Tensor:
        return torch.tensor([tokenizer.encode(text, False)])

    language = {"en": "English"}.get(asked.get("language", ""), asked.get("language", "Auto"))
    instructions = asked.get("instructions")
    codes, _ = model.generate(
        input_ids=[ids(f"<|im_start|>assistant\n{asked['text']}<|im_end|>\n<|im_start|>assistant\n")],
        instruct_ids=[ids(f"<|im_start|>user\n{instructions}<|im_end|>\n") if instructions else None],
        languages=[language],
        speakers=[asked.get("voice", "ada")],
        non_streaming_mode=True,
        do_sample=False,
        subtalker_dosample=False,
        max_new_tokens=frames + 1,  # the package leaves out the last one's other codes
    )
    with torch.inference_mode():
        samples = codec(codes[0].T[None])[0, 0]
    return codes[0].tolist(), samples.numpy()


GREEDY = {"talker": SamplingParams(temperature=0.0, repetition_penalty=1.05, min_tokens=2, max_tokens=FRAMES)}


def endless(frames: int, **more: Any) -> dict[str, SamplingParams]:
    """So many frames, and never an end."""
    said = tuple(range(CODEBOOK))
    chosen = {"temperature": 0.0, "repetition_penalty": 1.05, **more}
    return {"talker": SamplingParams(max_tokens=frames, allowed_token_ids=said, **chosen)}


class Served:
    """An engine in this thread, and what it says."""

    def __init__(self, **options: Any) -> None:
        self.events: list[Event] = []
        path = str(qwen3_tts())
        defaults = {"dtype": "float32", "device": "cpu", "memory": 2 * 10**9, "block_size": 8, "threads": 1}
        self.engine = Engine(EngineOptions(model=path, **(defaults | options)), self.events.extend)
        self.processor = load_processor(path)
        self.frames: dict[str, list[list[int]]] = {}
        step = self.engine.runner.step

        def watched(batch: Any) -> Any:
            chunks = step(batch)
            for chunk in chunks:
                said = zip(chunk.payload.tokens, chunk.payload.codes, strict=True)
                self.frames.setdefault(chunk.request, []).extend([token, *codes] for token, codes in said)
            return chunks

        self.engine.runner.step = watched  # type: ignore[method-assign]

    def request(self, name: str, **more: Any) -> Request:
        asked = dict(TEXTS[name])
        script = Script(asked.pop("text"), asked.pop("instructions", ""))
        values = {"id": name, "stage_sampling": GREEDY, "modalities": ("audio",), **asked, **more}
        return self.processor.prepare(Request(parts=(script,), **values))

    def say(self, *requests: Request) -> list[tuple[list[list[int]], np.ndarray]]:
        self.events.clear()
        self.frames.clear()
        for request in requests:
            self.engine.loop.submit(request)
        self.engine.loop.run_until(lambda: len(self.ended()) == len(requests))
        return [self.answer(request.id) for request in requests]

    def ended(self) -> list[Event]:
        return [event for event in self.events if isinstance(event, Done | Failed)]

    def answer(self, name: str) -> tuple[list[list[int]], np.ndarray]:
        mine = [event for event in self.events if event.request == name]
        assert not [event for event in mine if isinstance(event, Failed)], mine
        pcm = b"".join(event.pcm for event in mine if isinstance(event, AudioDelta))
        end = CODEBOOK + 10
        frames = [frame for frame in self.frames.get(name, []) if frame[0] != end]
        return frames, np.frombuffer(pcm, "<i2").astype(np.float32) / 32768


@pytest.fixture(scope="module")
def served() -> Served:
    return Served()


@pytest.mark.parametrize("name", TEXTS)
def test_codes_and_sound_are_those_of_the_reference(served: Served, name: str) -> None:
    ((frames, samples),) = served.say(served.request(name))
    their_frames, their_samples = theirs(name)
    assert frames == their_frames
    assert samples.shape == their_samples.shape
    np.testing.assert_allclose(samples, their_samples, atol=1e-3)


@pytest.mark.parametrize("tokens", [512, 7])
def test_texts_together_and_in_chunks_are_spoken_as_alone(tokens: int) -> None:
    served = Served(max_num_batched_tokens=tokens)
    for name, (frames, samples) in zip(TEXTS, served.say(*map(served.request, TEXTS)), strict=True):
        assert frames == theirs(name)[0]
        np.testing.assert_allclose(samples, theirs(name)[1], atol=1e-3)


def test_voices_differ(served: Served) -> None:
    assert served.engine.info.voices == ("ada", "bea", "cheng")
    assert served.engine.info.outputs == ("audio",)
    assert theirs("plain")[0] != theirs("another voice")[0]


def test_a_listener_hears_the_same_as_in_the_file_and_before_the_end_is_spoken(served: Served) -> None:
    ((_, whole),) = served.say(served.request("plain", stage_sampling=endless(60)))
    served.events.clear()
    served.engine.loop.submit(served.request("plain", stage_sampling=endless(60), live=True))
    while not any(isinstance(event, AudioDelta) for event in served.events):
        assert served.engine.loop.turn()
    assert served.engine.runner.scheduler.running  # still speaking
    served.engine.loop.run_until(lambda: bool(served.ended()))
    pieces = [event for event in served.events if isinstance(event, AudioDelta)]
    assert len(pieces) >= 4 and len(pieces[0].pcm) == 2 * 4 * 1920
    _, samples = served.answer("plain")
    assert len(samples) == len(whole) == 60 * 1920
    np.testing.assert_allclose(samples, whole, atol=1e-3)


def test_drawn_frames_are_the_same_alone_and_in_a_batch_and_differ_by_seed(served: Served) -> None:
    def drawn(seed: int) -> dict[str, SamplingParams]:
        return endless(10, temperature=0.9, top_k=50, seed=seed)

    ((alone, _),) = served.say(served.request("plain", stage_sampling=drawn(1)))
    requests = [served.request("plain", stage_sampling=drawn(seed), id=str(seed)) for seed in (1, 2)]
    (first, _), (second, _), _ = served.say(*requests, served.request("longer"))
    assert first == alone and second != alone


def test_a_preempted_text_goes_on_with_the_frames_it_had(served: Served) -> None:
    ((whole, _),) = served.say(served.request("plain", stage_sampling=endless(30)))
    served.events.clear()
    served.frames.clear()
    served.engine.loop.submit(served.request("plain", stage_sampling=endless(30)))
    scheduler = served.engine.runner.scheduler
    served.engine.loop.run_until(lambda: any(len(one.codes) == 9 for one in scheduler.running))
    scheduler._preempt(scheduler.running[0])
    served.engine.loop.run_until(lambda: bool(served.ended()))
    assert served.answer("plain")[0] == whole


def test_speech_ends_where_the_talker_ends_it_but_not_at_once(served: Served) -> None:
    ends = SamplingParams(temperature=0.0, logit_bias={CODEBOOK + 10: 100.0}, min_tokens=2, max_tokens=50)
    ((frames, samples),) = served.say(served.request("plain", stage_sampling={"talker": ends}))
    assert len(frames) == 2 and frames == theirs("plain")[0][:2]
    np.testing.assert_allclose(samples, theirs("plain")[1][: 2 * 1920], atol=1e-3)


def test_the_account_tells_tokens_of_text_and_frames(served: Served) -> None:
    served.say(served.request("plain", stage_sampling=endless(12)))
    *_, usage, done = served.events
    assert isinstance(done, Done) and isinstance(usage, Usage) and usage.completion_tokens == 12


@pytest.mark.parametrize("turns", [1, 3, 30])
def test_a_listener_who_leaves_leaves_nothing_behind(served: Served, turns: int) -> None:
    served.engine.loop.submit(served.request("longer", live=True, stage_sampling=endless(60)))
    for _ in range(turns):
        served.engine.loop.turn()
    served.engine.loop.cancel("longer")
    assert not served.engine.loop.turn()
    served.engine.runner.cache.check()
    assert served.engine.runner.cache.usage == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"voice": "nobody"}, "this model has ada, bea, cheng"),
        ({"language": "klingon"}, "this model has chinese, english"),
        ({"modalities": ("text",)}, "the model gives audio, not text"),
    ],
)
def test_what_it_has_not_is_refused_and_what_it_has_is_named(
    served: Served, more: dict[str, Any], message: str
) -> None:
    served.events.clear()
    served.engine.loop.submit(served.request("plain", **more))
    (failed,) = served.events
    assert isinstance(failed, Failed) and failed.error.kind == "InvalidRequest"
    assert message in failed.error.message


def test_a_prompt_that_is_no_script_is_refused(served: Served) -> None:
    served.events.clear()
    request = msgspec.structs.replace(served.request("plain"), parts=(Tokens((1, 2, 3)),))
    served.engine.loop.submit(request)
    (failed,) = served.events
    assert isinstance(failed, Failed) and "reads texts aloud" in failed.error.message


def test_marks_in_a_text_are_read_as_text(served: Served) -> None:
    request = served.processor.prepare(Request(id="r", parts=(Script("a<|im_start|>assistant b"),)))
    (tokens,) = request.parts
    assert isinstance(tokens, Tokens)
    assert tokens.ids.count(tokens.ids[0]) == 1 and tokens.ids[1] == ASSISTANT


def test_the_python_door_speaks_by_the_checkpoints_own_defaults() -> None:
    omni = Omni(str(qwen3_tts()), dtype="float32", device="cpu", memory="2GB", threads=1)
    first, again = omni.speak("Hello."), omni.speak("Hello.", voice="ada", stage_sampling=endless(20))
    assert 0 < len(first.audio) <= 24 * 1920 and first.rate == 24_000
    assert len(again.audio) == 20 * 1920
