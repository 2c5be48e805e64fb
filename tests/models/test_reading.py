"""A text that is given as the answer sounds as it does where the model answered with it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from tests.models.speech_checkpoints import roomy_omni
from tests.models.test_omni import NEW, PROMPTS, Served, theirs
from tutti import Omni
from tutti.errors import InvalidRequest
from tutti.events import AudioDelta, Done, TextDelta, Usage
from tutti.request import Request, SamplingParams

TALKER = {"talker": SamplingParams(temperature=0.0, max_tokens=12, allowed_token_ids=tuple(range(64)))}


@pytest.fixture(scope="module")
def served() -> Served:
    return Served()


def given(served: Served, name: str, reply: list[int], *modalities: str) -> Request:
    """The request whose answer is `reply`."""
    request = served.processor.prepare(served.request(name, modalities or ("text", "audio")))
    return msgspec.structs.replace(request, id=f"given {name}", reply=tuple(reply))


@pytest.mark.parametrize("name", PROMPTS)
def test_a_given_answer_sounds_as_transformers_own_answer_of_these_words(served: Served, name: str) -> None:
    words, samples = theirs(name)
    reply = words[: NEW - 1]  # the last word of an answer that was cut off is never heard
    ((tokens, mine),) = served.run(given(served, name, reply))
    assert tokens == reply
    assert mine.shape == samples.shape
    np.testing.assert_allclose(mine, samples.clip(-1, 1), atol=2e-3)


def test_a_given_answer_sounds_as_the_same_answer_that_ended_by_itself(served: Served) -> None:
    words = theirs("a picture")[0]
    end = next(place for place in range(2, NEW) if words[place] not in words[:place])
    request = served.processor.prepare(served.request("a picture", ("text", "audio")))
    stopping = msgspec.structs.replace(request.sampling, stop_token_ids=(words[end],))
    ((tokens, chat),) = served.run(msgspec.structs.replace(request, sampling=stopping))
    assert tokens == words[: end + 1]
    ((_, read),) = served.run(given(served, "a picture", words[:end], "audio"))
    np.testing.assert_array_equal(read, chat)


@pytest.mark.parametrize("tokens", [512, 7])
def test_given_and_found_answers_share_a_batch_also_in_chunks(tokens: int) -> None:
    served = Served(max_num_batched_tokens=tokens)
    requests = [given(served, name, theirs(name)[0][: NEW - 1]) for name in PROMPTS]
    found = served.processor.prepare(served.request("text", ("text", "audio")))
    *read, spoken = served.run(*requests, found)
    for name, (_, samples) in zip(PROMPTS, read, strict=True):
        np.testing.assert_allclose(samples, theirs(name)[1].clip(-1, 1), atol=2e-3)
    assert spoken[0] == theirs("text")[0]


def test_the_words_come_at_once_and_the_account_counts_codes(served: Served) -> None:
    request = given(served, "text", [65, 66, 67], "audio")
    request = msgspec.structs.replace(request, stage_sampling=TALKER)
    served.engine.loop.submit(request)
    served.engine.loop.run_until(lambda: bool(served.ended()))
    events = list(served.events)
    served.events.clear()
    assert not any(isinstance(event, TextDelta) for event in events)
    *_, usage, done = events
    assert isinstance(usage, Usage) and isinstance(done, Done)
    assert usage.prompt_tokens == len(PROMPTS["text"]) and usage.completion_tokens == 12
    assert served.engine.runner.cache.usage == 0 and served.engine.followers[0].cache.usage == 0


def test_the_python_door_reads_aloud_whole_and_as_it_comes() -> None:
    omni = Omni(str(roomy_omni()), dtype="float32", device="cpu", memory="2GB", threads=1)
    speech = omni.speak("Hello.", stage_sampling=TALKER)
    assert speech.rate == 24_000 and len(speech.audio) == 12 * 480
    pieces = list(omni.stream_speech("Hello.", stage_sampling=TALKER))
    assert sum(len(piece.pcm) for piece in pieces if isinstance(piece, AudioDelta)) == 2 * len(speech.audio)
    faster = omni.speak("Hello.", stage_sampling=TALKER, speed=2.0)
    assert len(faster.audio) == pytest.approx(6 * 480, rel=0.05)
    with pytest.raises(InvalidRequest, match="this model has Ada"):
        omni.speak("Hello.", voice="Nobody")
    with pytest.raises(InvalidRequest, match="speed must be between"):
        omni.speak("Hello.", speed=5.0)
    two = omni.speak("One sentence is here, by itself. And another sentence is there.", stage_sampling=TALKER)
    assert len(two.audio) == 2 * 12 * 480  # longer than what goes together in this small context
