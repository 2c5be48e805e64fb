"""Compositions of every kind, without HTTP: what goes from part to part, in which order, and at what cost."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from tests.models import checkpoints
from tests.models.composed import CODES, GREEDY, OPTIONS, composed
from tests.models.speech_checkpoints import CODEBOOK, qwen3_tts
from tutti.errors import ConfigError, InvalidRequest, OutOfMemory
from tutti.events import AudioDelta, Done, Event, Failed, TextDelta, Usage
from tutti.gateway.composed.backend import ComposedBackend
from tutti.gateway.composed.mouth import Mouth
from tutti.gateway.composed.opening import open_composition, sketch
from tutti.llm.options import engine_options
from tutti.request import Chat, Media, Request, SamplingParams, Script, StructuredOutputs, Text


@asynccontextmanager
async def opened(file: Path, **options: Any) -> AsyncIterator[ComposedBackend]:
    backend = await open_composition(engine_options(str(file), OPTIONS | options), in_process=True)
    try:
        yield backend
    finally:
        await backend.close()


def chat(content: Any, *media: Media, **more: Any) -> Request:
    parts = (Chat(({"role": "user", "content": content},)), *media)
    return Request(**{"id": "r", "parts": parts, "sampling": GREEDY, **more})


def saying(text: str) -> SamplingParams:
    """Has a model answer with `text`."""
    form = StructuredOutputs(choice=(text,))
    return SamplingParams(temperature=0.0, max_tokens=60, structured_outputs=form)


async def events_of(backend: ComposedBackend, request: Request) -> list[Event]:
    async with aclosing(backend.generate(request)) as events:
        found = [event async for event in events]
    assert not [event for event in found if isinstance(event, Failed)], found
    return found


async def text_of(backend: ComposedBackend, request: Request) -> str:
    events = await events_of(backend, request)
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def picture(colour: str) -> Media:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(file, "PNG")
    return Media("image", file.getvalue())


async def test_texts_go_on_from_model_to_model_and_the_last_ones_sentences_are_said(tmp_path: Path) -> None:
    file = composed(
        tmp_path,
        (
            "request.text -> brain",
            "brain.text -> editor",
            "editor.text -> answer",
            "editor.text -> voice",
            "voice.audio -> answer",
        ),
        editor={"model": str(checkpoints.cached("qwen3")), "prompt": "Say it better:", "system": "You edit."},
    )
    async with opened(file) as backend:
        stages = {"editor": saying("Better. Much better."), **CODES}
        asked = chat(
            "Hello", sampling=saying("It is so."), stage_sampling=stages, modalities=("text", "audio")
        )
        events = await events_of(backend, asked)
        said = "".join(event.text for event in events if isinstance(event, TextDelta))
        assert said == "Better. Much better."
        assert (
            sum(event.seconds for event in events if isinstance(event, AudioDelta)) == 2 * 10 * 480 / 24_000
        )
        *_, usage, done = events
        assert isinstance(usage, Usage) and isinstance(done, Done) and done.reason == "stop"
        assert {event.request for event in events} == {"r"}
        # What the editor was asked is what the file says and what the brain said.
        free = await text_of(
            backend, chat("Hello", sampling=saying("It is so."), stage_sampling={"editor": GREEDY})
        )
        editor = backend.parts["editor"].backend
        messages = (
            {"role": "system", "content": "You edit."},
            {"role": "user", "content": "Say it better:\n\nIt is so."},
        )
        alone = Request(id="alone", parts=(Chat(messages),), sampling=GREEDY)
        async with aclosing(editor.generate(alone)) as answered:
            assert free == "".join([event.text async for event in answered if isinstance(event, TextDelta)])
        with pytest.raises(InvalidRequest, match="no log-probabilities"):
            await events_of(backend, chat("Hello", sampling=SamplingParams(logprobs=1)))


async def test_eyes_describe_a_picture_to_a_brain_that_does_not_see(tmp_path: Path) -> None:
    eyes = {
        "model": str(checkpoints.cached("qwen2_vl")),
        "prompt": "Describe it.",
        "sampling": {"max_tokens": 6, "temperature": 0.0, "ignore_eos": True},
    }
    edges = ("request.image -> eyes", "eyes.text -> brain", "request.text -> brain", "brain.text -> answer")
    async with opened(composed(tmp_path, edges, eyes=eyes)) as backend:
        question = [{"type": "text", "text": "Look:"}, {"type": "image"}, {"type": "text", "text": "What?"}]
        red = await text_of(backend, chat(question, picture("red")))
        request = Request(
            id="alone",
            parts=(
                Chat(
                    (
                        {
                            "role": "user",
                            "content": [{"type": "image"}, {"type": "text", "text": "Describe it."}],
                        },
                    )
                ),
                picture("red"),
            ),
            sampling=SamplingParams(max_tokens=6, temperature=0.0, ignore_eos=True),
        )
        async with aclosing(backend.parts["eyes"].backend.generate(request)) as events:
            seen = "".join([event.text async for event in events if isinstance(event, TextDelta)]).strip()
        told = [question[0], {"type": "text", "text": seen}, question[2]]
        assert red == await text_of(backend, chat(told))
        assert red != await text_of(backend, chat(question, picture("blue")))


async def test_a_brain_that_sees_gets_the_picture_itself_and_speaks_through_another(tmp_path: Path) -> None:
    edges = (
        "request.text -> brain",
        "request.image -> brain",
        "brain.text -> answer",
        "brain.text -> voice",
        "voice.audio -> answer",
    )
    brain = {"model": str(checkpoints.cached("qwen2_vl"))}
    async with opened(composed(tmp_path, edges, brain=brain)) as backend:
        assert backend.processor.modalities == {"image"}
        asked = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
        whole = await text_of(
            backend, chat(asked, picture("red"), modalities=("text", "audio"), stage_sampling=CODES)
        )
        async with aclosing(backend.parts["brain"].backend.generate(chat(asked, picture("red")))) as events:
            assert whole == "".join([event.text async for event in events if isinstance(event, TextDelta)])
        prepared = await backend.prepare(chat(asked, picture("red")))
        assert await text_of(backend, prepared) == whole
        with pytest.raises(InvalidRequest, match="brain: "):
            await events_of(backend, chat([{"type": "video"}], Media("video", b"...")))


async def test_a_model_may_speak_for_itself_and_hear_by_another(tmp_path: Path) -> None:
    edges = (
        "request.text -> voice",
        "request.audio -> ears",
        "ears.text -> voice",
        "voice.text -> answer",
        "voice.audio -> answer",
    )
    async with opened(composed(tmp_path, edges)) as backend:
        request = chat("Hello", modalities=("text", "audio"), stage_sampling=CODES)
        events = await events_of(backend, request)
        assert sum(event.seconds for event in events if isinstance(event, AudioDelta)) == 10 * 480 / 24_000
        assert await text_of(backend, chat("Hello")) == "".join(
            event.text for event in events if isinstance(event, TextDelta)
        )
        assert await text_of(backend, Request(id="raw", parts=(Text("Hello"),), sampling=GREEDY))


async def test_a_model_made_for_speech_is_a_voice(tmp_path: Path) -> None:
    edges = ("request.text -> brain", "brain.text -> answer", "brain.text -> voice", "voice.audio -> answer")
    voice = {"model": str(qwen3_tts()), "voice": None}
    codes = SamplingParams(temperature=0.0, max_tokens=6, allowed_token_ids=tuple(range(CODEBOOK)))
    async with opened(composed(tmp_path, edges, voice=voice)) as backend:
        asked = chat(
            "Hello",
            sampling=saying("Good day. Bye."),
            modalities=("text", "audio"),
            stage_sampling={"voice.talker": codes},
        )
        events = await events_of(backend, asked)
        sounds = [event.seconds for event in events if isinstance(event, AudioDelta)]
        script = msgspec.structs.replace(asked, parts=(Script("Bye."),), modalities=("audio",))
        alone = [event.seconds for event in await events_of(backend, script) if isinstance(event, AudioDelta)]
        assert sum(sounds) == pytest.approx(2 * sum(alone)) and sum(alone) > 0


async def test_who_writes_only_is_not_asked_to_speak(tmp_path: Path) -> None:
    edges = ("request.text -> brain", "brain.text -> answer")
    async with opened(composed(tmp_path, edges)) as backend:
        with pytest.raises(InvalidRequest, match="gives text only"):
            await events_of(backend, chat("Hello", modalities=("text", "audio")))


async def test_sentences_are_due_one_after_the_other(tmp_path: Path) -> None:
    edges = ("request.text -> brain", "brain.text -> answer", "brain.text -> voice", "voice.audio -> answer")
    async with opened(composed(tmp_path, edges)) as backend:
        heard: list[AudioDelta] = []
        request = chat("Hello", modalities=("text", "audio"), live=True, stage_sampling=CODES)
        mouth = Mouth(backend.parts["voice"], request, 0, lambda usage: None, heard.append)
        seen: list[Request] = []
        engine = backend.parts["voice"].backend.engine
        send = engine.generate

        def watched(asked: Request) -> Any:
            seen.append(asked)
            return send(asked)

        engine.generate = watched  # type: ignore[method-assign]
        mouth.push("A first sentence. A second one. And a third. ")
        mouth.finish()
        await asyncio.wait_for(mouth.run(), 60)
        first, second, third = (asked.deadline for asked in seen)
        assert first is None and second is not None and third is not None
        assert 0.5 < third - second < 2
        assert len(heard) >= 3


@pytest.mark.parametrize(
    ("part", "more", "message"),
    [
        ("brain", {"model": "./nowhere"}, r".yaml:9: models.brain: model '.*nowhere' not found"),
        ("brain", {"max_model_len": 10_000_000}, r".yaml:9: models.brain: --max-model-len"),
        ("brain", {"chat_template": "{% if"}, r".yaml:9: models.brain: "),
    ],
)
async def test_what_is_wrong_with_a_part_is_told_with_its_line_before_anything_is_loaded(
    tmp_path: Path, part: str, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        async with opened(composed(tmp_path, **{part: more})):
            pass


async def test_a_voice_that_does_not_speak_is_an_edge_that_does_not_fit(tmp_path: Path) -> None:
    edges = ("request.text -> brain", "brain.text -> answer", "brain.text -> voice", "voice.audio -> answer")
    with pytest.raises(ConfigError, match=r"edge voice.audio -> answer.audio: voice gives text"):
        async with opened(composed(tmp_path, edges, voice={"model": str(checkpoints.cached("qwen3"))})):
            pass


async def test_memory_is_shared_out_and_what_does_not_fit_is_refused_with_the_sum(tmp_path: Path) -> None:
    file = composed(tmp_path, brain={"memory": "700MB"})
    shares = await sketch(engine_options(str(file), {**OPTIONS, "memory": "4GB"}))
    assert shares.fits and [share.name for share in shares.shares] == ["ears", "brain", "voice"]
    assert shares.shares[1].memory == 700_000_000
    assert sum(share.memory for share in shares.shares) <= 4_000_000_000
    assert all(share.total <= share.memory for share in shares.shares)
    with pytest.raises(
        OutOfMemory, match=r"(?s)nothing was loaded.*ears .*brain .*voice .*total .*> +budget 1.5 GB"
    ):
        await open_composition(engine_options(str(file), {**OPTIONS, "memory": "1.5GB"}))
