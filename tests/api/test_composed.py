"""A voice assistant by file (ears, a brain, a voice) behind the doors of any other model, through OpenAI's client."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import numpy as np
import openai
import pytest
import soundfile

from tests.api.serving import Serving, serving
from tests.models.composed import CODES, composed
from tests.models.test_hearing import sound
from tutti.gateway.composed.backend import ComposedBackend

STAGES = msgspec.to_builtins(CODES)
SAID = "Good day to you. How are you? I am fine!"
QUESTION = {"type": "text", "text": "What is that?"}
CODE = 480  # samples


def recording(seed: int = 1, seconds: float = 31.0) -> dict[str, Any]:
    data = io.BytesIO()
    soundfile.write(data, sound(seed, seconds), 16_000, format="WAV")
    return {
        "type": "input_audio",
        "input_audio": {"data": base64.b64encode(data.getvalue()).decode(), "format": "wav"},
    }


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    file = composed(tmp_path_factory.mktemp("assistant"), brain={"system": "Be brief."})
    options = {"served_model_name": ("assistant",), "kv_cache_memory_bytes": None, "memory": 6_000_000_000}
    with serving(model=str(file), composed=True, **options) as served:
        yield served
        served.everything_is_returned()


@pytest.fixture
def client(assistant: Serving) -> Iterator[openai.OpenAI]:
    with assistant.client() as made:
        yield made


def backend(assistant: Serving) -> ComposedBackend:
    found = assistant.gateway.served[0].backend
    assert isinstance(found, ComposedBackend)
    return found


def ask(client: openai.OpenAI, *content: dict[str, Any], said: str | None = None, **options: Any) -> Any:
    """A chat; with `said`, which is what the brain answers, it is asked for in sound, too."""
    body: dict[str, Any] = {"ignore_eos": said is None, "stage_sampling": STAGES}
    if said is not None:
        body |= {"structured_outputs": {"choice": [said]}}
        spoken = {"voice": "ada", "format": "pcm16"}
        options = {"modalities": ["text", "audio"], "audio": spoken, "max_tokens": 400} | options
    message = {"role": "user", "content": list(content) or "Hello"}
    return client.chat.completions.create(
        **{
            "model": "assistant",
            "messages": [message],
            "temperature": 0,
            "max_tokens": 12,
            "extra_body": body,
            **options,
        }
    )


def speech(client: openai.OpenAI, text: str) -> bytes:
    """`text` said by the voice alone."""
    answer = client.audio.speech.create(
        model="assistant",
        voice="ada",
        input=text,
        response_format="pcm",
        extra_body={"stage_sampling": STAGES},
    )
    return answer.read()


def test_it_is_one_model(assistant: Serving, client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == "assistant"
    voices = httpx.get(f"{assistant.url}/v1/audio/voices").json()["voices"]
    assert [(one["name"], one["model"]) for one in voices] == [("Ada", "assistant")]
    assert httpx.get(f"{assistant.url}/health").status_code == 200


def test_what_is_heard_stands_in_the_users_message(client: openai.OpenAI) -> None:
    file = ("a.wav", base64.b64decode(recording()["input_audio"]["data"]))
    heard = client.audio.transcriptions.create(
        model="assistant", file=file, language="fr", temperature=0.001
    ).text
    assert heard
    spoken = ask(client, recording(), QUESTION)
    written = ask(client, {"type": "text", "text": heard}, QUESTION)
    assert spoken.choices[0].message.content == written.choices[0].message.content
    other = ask(client, recording(2), QUESTION)
    assert other.choices[0].message.content != written.choices[0].message.content


def test_usage_adds_up_and_what_was_heard_before_costs_nothing(client: openai.OpenAI) -> None:
    first = ask(client, recording(3), QUESTION).usage
    again = ask(client, recording(3), QUESTION).usage
    assert again.completion_tokens == 12 < first.completion_tokens
    assert 0 < again.prompt_tokens < first.prompt_tokens


def test_the_system_message_of_the_file_counts_unless_there_is_another(client: openai.OpenAI) -> None:
    def chat(*before: dict[str, str]) -> str:
        messages = [*before, {"role": "user", "content": "Hello"}]
        return str(ask(client, messages=messages).choices[0].message.content)

    ours = {"role": "system", "content": "Be brief."}
    assert chat() == chat(ours) != chat({"role": "system", "content": "Be long."})


def test_an_answer_is_said_sentence_by_sentence(client: openai.OpenAI) -> None:
    answer = ask(client, said=SAID)
    audio = answer.choices[0].message.audio
    assert audio.transcript == SAID
    sentences = ["Good day to you.", "How are you?", "I am fine!"]
    assert base64.b64decode(audio.data) == b"".join(speech(client, one) for one in sentences)
    assert len(base64.b64decode(audio.data)) == 2 * 3 * 10 * CODE
    assert answer.usage.completion_tokens > len(SAID) + 3 * 10  # the brain's and the talker's


def test_sound_comes_while_text_is_still_written(client: openai.OpenAI) -> None:
    long = f"One. {'and so on ' * 25}"
    order, data, transcript = [], b"", ""
    for chunk in ask(client, recording(), said=long, stream=True):
        audio = chunk.choices[0].delta.audio
        if audio is None:
            continue
        transcript += audio.transcript or ""
        data += base64.b64decode(audio.data or "")
        order += ["text"] if audio.transcript else []
        order += ["sound"] if audio.data else []
    assert transcript == long
    assert "text" in order[order.index("sound") :]
    assert data.startswith(speech(client, "One."))
    assert np.abs(np.frombuffer(data, "<i2")).max() > 0


def test_who_asks_for_text_alone_does_not_wake_the_voice(assistant: Serving, client: openai.OpenAI) -> None:
    def steps() -> dict[str, int]:
        return {stage.name: stage.steps for stage in assistant.stats().stages}

    before = steps()
    assert ask(client).choices[0].message.audio is None
    after = steps()
    assert after["brain.llm"] > before["brain.llm"]
    assert [name for name in after if after[name] != before[name]] == ["brain.llm"]


def test_two_outputs_are_both_said(client: openai.OpenAI) -> None:
    answer = ask(client, said="Yes. No.", n=2)
    sounds = [choice.message.audio.data for choice in answer.choices]
    assert (
        len(sounds) == 2 and sounds[0] == sounds[1] and len(base64.b64decode(sounds[0])) == 2 * 2 * 10 * CODE
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"said": "Yes.", "audio": {"voice": "alloy", "format": "wav"}}, "voice: .*this model has Ada"),
        (
            {"extra_body": {"stage_sampling": {"mouth": {}}}},
            "there is no part 'mouth'; there are ears, brain, voice",
        ),
        ({"extra_body": {"stage_sampling": {"voice.lips": {}}}, "said": None}, None),
        ({"max_tokens": 5000}, "brain: The prompt has .* tokens and max_tokens asks for 5000"),
    ],
)
def test_bad_requests_are_refused_by_the_part_that_knows(
    client: openai.OpenAI, options: dict[str, Any], message: str | None
) -> None:
    if message is None:  # the voice is not asked
        assert ask(client, **options).choices
        return
    with pytest.raises(openai.BadRequestError, match=message):
        ask(client, **options)


def test_media_that_are_broken_or_that_nobody_takes_are_refused(client: openai.OpenAI) -> None:
    broken = {"type": "input_audio", "input_audio": {"data": "UklGRgAA", "format": "wav"}}
    with pytest.raises(openai.BadRequestError, match="ears: "):
        ask(client, broken)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(openai.BadRequestError, match="takes text, audio only"):
        ask(client, picture)


async def test_a_client_that_leaves_stops_every_part(assistant: Serving) -> None:
    async with assistant.async_client() as client:
        stream = await client.chat.completions.create(
            model="assistant",
            messages=[{"role": "user", "content": "Hello"}],
            modalities=["text", "audio"],
            audio={"voice": "ada", "format": "pcm16"},
            max_tokens=1900,
            stream=True,
            extra_body={
                "stage_sampling": {"voice.talker": STAGES["voice.talker"] | {"max_tokens": 1000}},
                "structured_outputs": {"regex": "(One\\. ){2}[a-z ]{1800}"},
            },
        )
        async for chunk in stream:
            if chunk.choices[0].delta.audio is not None and chunk.choices[0].delta.audio.data:
                break
        await stream.close()
    await asyncio.to_thread(assistant.everything_is_returned)
    answers = [task for task in asyncio.all_tasks(assistant.loop) if task.get_name().startswith("answer")]
    assert not answers


def test_many_at_once_get_what_they_would_get_alone(client: openai.OpenAI, assistant: Serving) -> None:
    texts = ["Yes.", "No. Never.", "Maybe so. Who knows? I do not."]
    alone = [ask(client, said=text).choices[0].message.audio.data for text in texts]

    async def all_at_once() -> list[str]:
        async with assistant.async_client() as several:
            answers = [asyncio.create_task(one(several, text)) for text in texts]
            return [await answer for answer in answers]

    async def one(several: openai.AsyncOpenAI, text: str) -> str:
        answer = await several.chat.completions.create(
            model="assistant",
            messages=[{"role": "user", "content": "Hello"}],
            modalities=["text", "audio"],
            audio={"voice": "ada", "format": "pcm16"},
            max_tokens=200,
            temperature=0,
            extra_body={"stage_sampling": STAGES, "structured_outputs": {"choice": [text]}},
        )
        audio = answer.choices[0].message.audio
        assert audio is not None
        return audio.data

    assert asyncio.run(all_at_once()) == alone


def test_a_call_is_traced_through_all_parts(assistant: Serving, client: openai.OpenAI) -> None:
    answer = ask(client, recording(4, 2.0), said="Yes.")
    traced = httpx.get(f"{assistant.url}/v1/traces/{answer.id}").json()["data"]
    assert {trace["model"] for trace in traced} == {"brain", "voice"}
    found = httpx.get(f"{assistant.url}/v1/traces/{traced[0]['call']}").json()["data"]
    assert {trace["model"] for trace in found} == {"ears", "brain", "voice"}


def test_metrics_tell_of_every_part(assistant: Serving) -> None:
    text = httpx.get(f"{assistant.url}/metrics").text
    for stage in ("ears.encoder", "ears.decoder", "brain.llm", "voice.talker"):
        assert f'stage="{stage}"' in text
