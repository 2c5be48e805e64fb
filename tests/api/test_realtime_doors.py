"""Who may open a conversation, with which model, how it ends, and what other models do in it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soxr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.api.conversing import RATE, Talk, as_json, quiet, speech, talking
from tests.api.serving import Serving, serving
from tests.models import checkpoints
from tests.models.talking_checkpoints import roomy
from tests.models.test_hearing import sound
from tutti.api.realtime.limits import RealtimeLimits
from tutti.media.audio import write_audio
from tutti.media.pcm import from_pcm16, to_pcm16

LIMITS = RealtimeLimits(
    sessions=3, items=6, buffered=2.0, outgoing=2_000_000, calm=500_000, stall=0.5, idle=2.0
)

WRITTEN = "conversation.item.input_audio_transcription"
TONE = from_pcm16(to_pcm16(soxr.resample(np.concatenate([sound(4, 4.0), quiet(0.5, 16_000)]), 16_000, RATE)))


@pytest.fixture(scope="module")
def served() -> Iterator[Serving]:
    """A model of text, with small limits and a key."""
    with serving(keys=("sesame",), realtime=LIMITS) as server:
        yield server
        server.everything_is_returned()


@pytest.fixture(scope="module")
def hearing() -> Iterator[Serving]:
    """A model that speaks, and beside it one that writes down what is said."""
    with serving(model=str(roomy()), beside={"scribe": str(checkpoints.cached("whisper"))}) as server:
        yield server


@asynccontextmanager
async def plain(served: Serving, query: str = "", **options: Any) -> AsyncIterator[ClientConnection]:
    """A bare socket."""
    headers = {"Authorization": "Bearer sesame"}
    url = f"{served.url.replace('http', 'ws')}/v1/realtime{query}"
    async with connect(url, **({"additional_headers": headers} | options)) as socket:
        yield socket


async def event(socket: ClientConnection) -> dict[str, Any]:
    return json.loads(await asyncio.wait_for(socket.recv(), 20))


@pytest.mark.parametrize(
    ("query", "options", "status"),
    [
        ("", {"additional_headers": {}}, 401),
        ("", {"additional_headers": {"Authorization": "Bearer wrong"}}, 401),
        ("", {"additional_headers": {}, "subprotocols": ["realtime", "openai-insecure-api-key.wrong"]}, 401),
        ("?model=other", {}, 404),
    ],
)
async def test_who_is_refused_gets_the_status_that_fits(
    served: Serving, query: str, options: dict[str, Any], status: int
) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with plain(served, query, **options):
            pass
    assert caught.value.response.status_code == status
    assert json.loads(caught.value.response.body)["error"]["message"]


async def test_a_browser_brings_its_key_as_a_protocol(served: Serving) -> None:
    protocols = ["realtime", "openai-insecure-api-key.sesame"]
    async with plain(served, "?model=alias", additional_headers={}, subprotocols=protocols) as socket:
        assert socket.subprotocol == "realtime"
        session = (await event(socket))["session"]
        assert session["model"] == "alias" and session["output_modalities"] == ["text"]


async def test_openais_client_is_told_that_its_key_is_wrong(served: Serving) -> None:
    client: openai.AsyncOpenAI
    async with served.async_client(api_key="wrong") as client:
        with pytest.raises(InvalidStatus):
            async with client.realtime.connect(model="tiny"):
                pass


async def test_a_page_of_another_site_is_turned_away(served: Serving, hearing: Serving) -> None:
    elsewhere = {"additional_headers": {"Origin": "https://evil.example"}}
    with_key = ["realtime", "openai-insecure-api-key.sesame"]
    for server, protocols in ((hearing, ["realtime"]), (served, with_key)):
        with pytest.raises(InvalidStatus) as caught:
            async with plain(server, subprotocols=protocols, **elsewhere):
                pass
        assert caught.value.response.status_code == 403
    for origin in ("http://localhost:5173", hearing.url):
        async with plain(hearing, additional_headers={"Origin": origin}) as socket:
            assert (await event(socket))["type"] == "session.created"


async def test_only_so_many_sessions_are_open(served: Serving) -> None:
    async with plain(served), plain(served), plain(served):
        with pytest.raises(InvalidStatus) as caught:
            async with plain(served):
                pass
        assert caught.value.response.status_code == 503
        assert caught.value.response.headers["Retry-After"]
    deadline = asyncio.get_running_loop().time() + 10
    while True:  # places are free again when the server has seen them leave
        try:
            async with plain(served) as socket:
                assert (await event(socket))["type"] == "session.created"
                return
        except InvalidStatus:
            assert asyncio.get_running_loop().time() < deadline


async def test_a_frame_too_large_closes_the_socket(served: Serving) -> None:
    async with plain(served, max_size=None) as socket:
        await event(socket)
        with pytest.raises(ConnectionClosed) as caught:  # noqa: PT012
            await socket.send("x" * (16 * 1024 * 1024 + 1))
            await socket.recv()  # the socket may be closed already
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1009


async def test_who_says_nothing_is_sent_away(served: Serving) -> None:
    async with plain(served) as socket:
        await event(socket)
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(socket.recv(), 20)
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1000, "nothing was said for 2 seconds")


async def test_who_does_not_read_is_sent_away_and_others_are_served(served: Serving) -> None:
    item = {"type": "message", "id": "long", "role": "user"}
    item |= {"content": [{"type": "input_text", "text": "x" * 1_000_000}]}
    async with plain(served, max_queue=1) as deaf:
        await deaf.send(json.dumps({"type": "conversation.item.create", "item": item}))
        ask = json.dumps({"type": "conversation.item.retrieve", "item_id": "long"})

        async def flood() -> None:
            while True:
                await deaf.send(ask)
                await asyncio.sleep(0)

        flooding = asyncio.create_task(flood())
        async with plain(served) as socket:
            assert (await event(socket))["type"] == "session.created"
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(flooding, 60)


async def test_a_conversation_holds_so_many_items(served: Serving) -> None:
    async with (
        served.async_client(api_key="sesame") as client,
        client.realtime.connect(model="tiny") as connection,
    ):
        talk = Talk(connection)
        for number in range(6):
            await talk.say(str(number))
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
        assert (await talk.refused("conversation.item.create", item=item)).code == "conversation_full"
        sound = base64.b64encode(bytes(4800)).decode()
        assert "audio" in (await talk.refused("input_audio_buffer.append", audio=sound)).message
        spoken = await talk.refused("response.create", response={"output_modalities": ["audio"]})
        assert spoken.param == "response.output_modalities"


async def test_a_server_that_ends_says_so() -> None:
    served = serving()
    server = await asyncio.to_thread(served.__enter__)
    async with plain(server) as socket:
        await event(socket)
        await asyncio.to_thread(served.__exit__, None, None, None)
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1012  # service restart


def test_it_is_no_path_of_http(served: Serving) -> None:
    assert httpx.get(f"{served.url}/v1/realtime").status_code == 404


async def test_too_much_sound_is_refused_until_it_is_cleared() -> None:
    limits = RealtimeLimits(buffered=2.0)
    with serving(model=str(checkpoints.cached("whisper")), realtime=limits) as server:
        async with server.async_client() as client, client.realtime.connect(model="tiny") as connection:
            talk = Talk(connection)
            assert (await talk.next()).session.type == "transcription"  # it can do nothing else
            await talk.update(
                type="transcription", audio={"input": {"turn_detection": None, "transcription": None}}
            )
            await talk.hear(quiet(2.0))
            sound = base64.b64encode(bytes(4800)).decode()
            assert (
                await talk.refused("input_audio_buffer.append", audio=sound)
            ).code == "input_audio_buffer_full"
            await talk.ask("input_audio_buffer.clear", "input_audio_buffer.cleared")
            turns = {"input": {"turn_detection": {"type": "server_vad"}}}
            await talk.update(type="transcription", audio=turns)
            await talk.hear(speech(2.5))  # a turn that grows too long is ended
            stopped = await talk.until("input_audio_buffer.speech_stopped")
            assert (
                2000
                <= stopped.audio_end_ms - talk.of("input_audio_buffer.speech_started")[0].audio_start_ms
                <= 2300
            )


async def test_what_is_said_is_written_down_beside_the_answer(hearing: Serving) -> None:
    with hearing.client() as client:
        file = ("tone.wav", write_audio(TONE, RATE, "wav"))
        expected = client.audio.transcriptions.create(model="scribe", file=file, language="fr").text
    audio = {"input": {"transcription": {"model": "scribe", "language": "fr"}, "turn_detection": None}}
    async with talking(hearing, codes=4, audio=audio) as talk:
        await talk.hear(TONE)
        await talk.send("input_audio_buffer.commit")
        await talk.send("response.create")
        waiting = {"response.done", f"{WRITTEN}.completed"}
        while waiting:
            waiting -= {(await talk.next()).type}
        (done,) = talk.of(f"{WRITTEN}.completed")
        written = "".join(event.delta for event in talk.of(f"{WRITTEN}.delta"))
        assert done.transcript == written.strip() == expected != ""
        assert (done.usage.type, done.usage.seconds) == ("duration", pytest.approx(4.5))
        assert done.item_id == talk.of("input_audio_buffer.committed")[0].item_id
        assert as_json(await talk.retrieve(done.item_id))["content"][0]["transcript"] == expected


async def test_a_model_that_hears_writes_down_what_it_heard_if_no_other_does(hearing: Serving) -> None:
    audio = {
        "input": {"transcription": {}, "turn_detection": {"type": "server_vad", "create_response": False}}
    }
    async with talking(hearing, audio=audio) as talk:
        await talk.hear(speech(0.4), quiet(0.8))
        done = await talk.until(f"{WRITTEN}.completed")
        assert done.transcript and done.usage.type == "tokens"


async def test_a_session_of_transcription_writes_and_does_not_answer(hearing: Serving) -> None:
    async with (
        hearing.async_client() as client,
        client.realtime.connect(model="scribe", extra_query={"intent": "transcription"}) as connection,
    ):
        talk = Talk(connection)
        session = (await talk.next()).session
        assert session.type == "transcription" and session.audio.input.transcription.model == "scribe"
        shown = await talk.update(
            type="transcription", audio={"input": {"transcription": {"language": "fr"}}}
        )
        assert shown.audio.input.transcription.model == "scribe"
        await talk.hear(speech(0.8), quiet(0.8), speech(0.8, 1), quiet(0.8))
        for _ in range(2):
            assert (await talk.until(f"{WRITTEN}.completed")).usage.seconds > 1
        assert len(talk.of("input_audio_buffer.committed")) == 2
        assert "response.created" not in talk.kinds()
        assert (await talk.refused("response.create")).code == "invalid_event"
        wrong = {"type": "transcription", "audio": {"input": {"transcription": {"language": "tlh"}}}}
        await talk.ask("session.update", "session.updated", session=wrong)
        await talk.hear(speech(0.8), quiet(0.8))
        failed = await talk.until(f"{WRITTEN}.failed")
        assert "tlh" in failed.error.message
