"""Conversations by voice and text, through OpenAI's own client."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from openai.types.realtime import ResponseDoneEvent

from tests.api.conversing import CODES, RATE, as_json, quiet, speech, talking
from tests.api.serving import Serving, serving, until_async
from tests.models.talking_checkpoints import CALL, CONTEXT, calling, roomy
from tests.models.test_sight import SMALL, png
from tutti.media.pcm import from_alaw, from_pcm16, from_ulaw, to_alaw, to_ulaw

NO_TURNS = {"input": {"turn_detection": None}}
END = {"258": 100, "125": 100}  # a random model would call and call; this one closes brackets and ends
TOOL = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a place.",
    "parameters": {
        "type": "object",
        "properties": {"place": {"enum": ["Rome"]}},
        "required": ["place"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def served() -> Iterator[Serving]:
    """Hears, sees, writes and speaks."""
    with serving(model=str(roomy())) as server:
        yield server
        server.everything_is_returned()


def vad(**more: Any) -> dict[str, Any]:
    return {"input": {"turn_detection": {"type": "server_vad", **more}}}


def transcript(response: Any) -> str:
    return response.output[0].content[0].transcript


async def test_text_is_answered_in_text_and_in_the_order_of_openais_events(served: Serving) -> None:
    async with talking(served, output_modalities=["text"], audio=NO_TURNS) as talk:
        await talk.say("Hello")
        before = len(talk.seen)
        done = await talk.answer(metadata={"topic": "greeting"})
        kinds = talk.kinds()[before:]
        deltas = [event.delta for event in talk.of("response.output_text.delta")]
        assert [kind for kind in kinds if kind != "response.output_text.delta"] == [
            "response.created",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            "response.output_text.done",
            "response.content_part.done",
            "conversation.item.done",
            "response.output_item.done",
            "response.done",
        ]
        assert (
            talk.of("response.output_text.done")[0].text == "".join(deltas) == done.output[0].content[0].text
        )
        assert (done.status, done.status_details.reason) == ("incomplete", "max_output_tokens")
        assert done.metadata == {"topic": "greeting"}
        usage = done.usage
        assert usage.output_tokens == usage.output_token_details.text_tokens == 6
        assert usage.total_tokens == usage.input_tokens + 6
        assert len({event.event_id for event in talk.seen}) == len(talk.seen)


async def test_an_answer_is_found_in_the_traces_by_its_id(served: Serving) -> None:
    async with talking(served, output_modalities=["text"]) as talk:
        await talk.say("Hello")
        answer = await talk.answer()
    async with httpx.AsyncClient() as client:
        trace = await client.get(f"{served.url}/v1/traces/{answer.id}")
    assert trace.status_code == 200 and "thinker" in trace.text


async def test_speech_is_heard_and_answered_aloud(served: Serving) -> None:
    async with talking(served) as talk:
        await talk.hear(quiet(0.5), speech(0.6), quiet(0.8))
        done = (await talk.until("response.done")).response
        (started,) = talk.of("input_audio_buffer.speech_started")
        (stopped,) = talk.of("input_audio_buffer.speech_stopped")
        (committed,) = talk.of("input_audio_buffer.committed")
        assert 150 <= started.audio_start_ms <= 250  # 300 ms before the speech
        assert 1600 <= stopped.audio_end_ms <= 1800  # 500 ms behind it
        assert started.item_id == stopped.item_id == committed.item_id
        (sent,) = talk.of("response.output_audio_transcript.done")
        assert transcript(done) == sent.transcript != ""
        assert len(talk.sound()) == 2 * 12 * RATE // CODES
        assert done.usage.input_token_details.audio_tokens > 0
        heard = as_json(await talk.retrieve(committed.item_id))["content"][0]["audio"]
        milliseconds = len(base64.b64decode(heard)) / 2 / 24
        assert milliseconds == pytest.approx(stopped.audio_end_ms - started.audio_start_ms, abs=1)


async def test_a_second_turn_finds_what_was_computed_of_the_first(served: Serving) -> None:
    async with talking(served, output_modalities=["text"]) as talk:
        await talk.hear(speech(1.5, 1), quiet(0.8))
        first = (await talk.until("response.done")).response.usage
        before = await asyncio.to_thread(served.stats)
        await talk.hear(speech(0.6, 2), quiet(0.8))
        second = (await talk.until("response.done")).response.usage
        after = await asyncio.to_thread(served.stats)
        assert after.media_items - before.media_items == 2  # both recordings are in the prompt,
        assert after.media_hits - before.media_hits == 1  # and the encoder has heard one of them before
        found = second.input_token_details
        assert found.cached_tokens >= first.input_tokens // 32 * 32 > 0
        assert after.prefix_hits - before.prefix_hits == found.cached_tokens
        kinds = found.cached_tokens_details
        assert kinds.audio_tokens + kinds.text_tokens == found.cached_tokens and kinds.audio_tokens > 0


async def test_without_create_response_speech_waits_for_the_client(served: Serving) -> None:
    async with talking(served, audio=vad(create_response=False), codes=4) as talk:
        await talk.hear(speech(0.6), quiet(0.8))
        await talk.until("conversation.item.done")
        await talk.hear(quiet(0.2))
        await talk.send("input_audio_buffer.clear")
        await talk.until("input_audio_buffer.cleared")
        assert "response.created" not in talk.kinds()
        assert (await talk.answer()).status == "incomplete"


async def test_without_turn_detection_the_client_commits(served: Serving) -> None:
    async with talking(served, audio=NO_TURNS, codes=4) as talk:
        await talk.hear(speech(0.6), quiet(1.0))
        committed = await talk.ask("input_audio_buffer.commit", "input_audio_buffer.committed")
        assert committed.previous_item_id is None
        assert "input_audio_buffer.speech_started" not in talk.kinds()
        heard = as_json(await talk.retrieve(committed.item_id))["content"][0]["audio"]
        assert len(base64.b64decode(heard)) == 2 * int(1.6 * RATE)
        error = await talk.refused("input_audio_buffer.commit")
        assert error.code == "input_audio_buffer_commit_empty"
        assert transcript(await talk.answer())


async def test_a_function_is_called_and_its_output_goes_into_the_next_prompt(served: Serving) -> None:
    options = {"tools": [TOOL], "tool_choice": "required", "max_output_tokens": 120}
    async with talking(served, sampling={"temperature": 0, "logit_bias": END}, **options) as talk:
        await talk.say("How is the weather in Rome?")
        call = (await talk.answer()).output[0]
        assert (call.type, call.name, call.status) == ("function_call", "weather", "completed")
        assert json.loads(call.arguments) == {"place": "Rome"}
        deltas = talk.of("response.function_call_arguments.delta")
        (done,) = talk.of("response.function_call_arguments.done")
        assert "".join(event.delta for event in deltas) == done.arguments == call.arguments
        assert {event.call_id for event in (*deltas, done)} == {call.call_id}
        assert "response.output_audio.delta" not in talk.kinds()
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}
        answer = {"conversation": "none", "tool_choice": "none", "max_output_tokens": 1}
        before = (await talk.answer(**answer)).usage.input_tokens
        await talk.ask("conversation.item.create", "conversation.item.done", item=output)
        assert (await talk.answer(**answer)).usage.input_tokens >= before + len("Sunny.")
        stray = output | {"call_id": "call_nowhere"}
        error = await talk.refused("conversation.item.create", item=stray)
        assert error.param == "item.call_id"


async def test_a_call_of_the_models_own_choice_is_not_spoken() -> None:
    with serving(model=str(calling())) as served:
        sampling = {"temperature": 0}
        async with talking(served, codes=400, tools=[TOOL], max_output_tokens=50, sampling=sampling) as talk:
            await talk.say("How is the weather in Rome?")
            done = await talk.answer()
            (call,) = done.output
            assert (call.type, call.name, call.status) == ("function_call", "weather", "completed")
            assert json.loads(call.arguments) == {"place": "Rome"}
            assert done.status == "completed" and done.usage.output_tokens == len(CALL) + 1
            assert "response.output_audio.delta" not in talk.kinds()
            steps = {stage.name: stage.steps for stage in (await asyncio.to_thread(served.stats)).stages}
            assert steps["talker"] < 50  # of the 400 codes that the call would have been
        served.everything_is_returned()


async def test_speech_interrupts_an_answer_within_a_step(served: Serving) -> None:
    async with talking(served, codes=400, max_output_tokens=40) as talk:
        await talk.say("Tell me a long story")
        await talk.send("response.create")
        await talk.until("response.output_audio.delta")
        await talk.hear(speech(0.3))
        started = await talk.until("input_audio_buffer.speech_started")
        done = (await talk.until("response.done")).response
        assert (done.status, done.status_details.reason) == ("cancelled", "turn_detected")
        assert talk.seen.index(started) < talk.seen.index(talk.of("response.done")[0])
        assert done.output[0].status == "incomplete"
        said = len(talk.sound()) / 2 / RATE
        assert said < 400 / CODES
        await asyncio.to_thread(served.everything_is_returned)

        item = done.output[0].id
        heard = round(1000 * said) // 2
        cut = {"item_id": item, "content_index": 0, "audio_end_ms": heard}
        truncated = await talk.ask("conversation.item.truncate", "conversation.item.truncated", **cut)
        assert truncated.audio_end_ms == heard
        kept = as_json(await talk.retrieve(item))["content"][0]["transcript"]
        assert transcript(done).startswith(kept) and len(kept) < len(transcript(done))

        await talk.hear(quiet(0.8))  # the one who interrupted has spoken
        await talk.until("input_audio_buffer.speech_stopped")
        assert (await talk.until("response.created")).response.status == "in_progress"
        await talk.ask("response.cancel", "response.done")


async def test_without_interrupt_response_an_answer_goes_on(served: Serving) -> None:
    async with talking(served, codes=60, audio=vad(interrupt_response=False)) as talk:
        await talk.say("Go on")
        await talk.send("response.create")
        await talk.until("response.output_audio.delta")
        await talk.hear(speech(0.4))
        done = (await talk.until("response.done")).response
        assert talk.of("input_audio_buffer.speech_started")
        assert done.status == "incomplete"
        assert len(talk.sound()) == 2 * 60 * RATE // CODES


async def test_a_client_cancels(served: Serving) -> None:
    async with talking(served, codes=400) as talk:
        assert (await talk.refused("response.cancel")).code == "response_cancel_not_active"
        await talk.say("Hello")
        await talk.send("response.create")
        await talk.send("response.cancel")  # before anything has come
        done = (await talk.until("response.done")).response
        assert (done.status, done.status_details.reason) == ("cancelled", "client_cancelled")
        await talk.send("response.create")
        created = await talk.until("response.created")
        await talk.until("response.output_audio.delta")
        done = (await talk.ask("response.cancel", "response.done", response_id=created.response.id)).response
        assert done.status == "cancelled"
        assert isinstance(talk.seen[-1], ResponseDoneEvent)
        assert done.usage.input_tokens > 0


async def test_the_conversation_has_one_answer_at_a_time_and_others_beside_it(served: Serving) -> None:
    async with talking(served, codes=60) as talk:
        await talk.say("Hello")
        await talk.send("response.create")
        await talk.until("response.output_audio.delta")
        error = await talk.refused("response.create")
        assert error.code == "conversation_already_has_active_response"
        text = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Classify"}]}
        beside = {
            "conversation": "none",
            "output_modalities": ["text"],
            "input": [text],
            "metadata": {"a": "b"},
        }
        await talk.send("response.create", response=beside)
        ends = [(await talk.until("response.done")).response for _ in range(2)]
        apart = next(end for end in ends if end.metadata)
        assert apart.conversation_id is None and apart.output[0].content[0].text
        added = {event.item.id for event in talk.of("conversation.item.added")}
        assert apart.output[0].id not in added
        (other,) = (end for end in ends if not end.metadata)
        assert other.output[0].id in added and other.status == "incomplete"


async def test_an_answer_may_have_its_own_input_and_instructions(served: Serving) -> None:
    async with talking(served, output_modalities=["text"], instructions="Be brief.") as talk:
        item = await talk.say("Hello")
        reference = {"type": "item_reference", "id": item.id}
        whole = await talk.answer(conversation="none")
        same = await talk.answer(conversation="none", input=[reference])
        without = await talk.answer(conversation="none", input=[reference], instructions="")
        empty = await talk.answer(conversation="none", input=[])
        assert same.output[0].content[0].text == whole.output[0].content[0].text
        tokens = [one.usage.input_tokens for one in (whole, same, without, empty)]
        assert tokens[0] == tokens[1] > tokens[2] > 0 and tokens[3] < tokens[0]
        error = await talk.refused("response.create", response={"input": [reference | {"id": "gone"}]})
        assert error.param == "response.input[0].id"


async def test_items_are_placed_shown_and_deleted(served: Serving) -> None:
    async with talking(served, output_modalities=["text"]) as talk:
        one = await talk.say("One", id="one")
        assert one.id == "one" and one.status == "completed"
        await talk.say("Three", id="three")
        place = {"previous_item_id": "one"}
        item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Two"}]}
        await talk.ask(
            "conversation.item.create", "conversation.item.done", item=item | {"id": "two"}, **place
        )
        assert talk.of("conversation.item.added")[-1].previous_item_id == "one"
        system = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Zero"}]}
        await talk.ask(
            "conversation.item.create", "conversation.item.done", item=system, previous_item_id="root"
        )
        assert talk.of("conversation.item.added")[-1].previous_item_id is None
        assert (await talk.retrieve("two")).content[0].text == "Two"
        full = (await talk.answer(conversation="none")).usage.input_tokens
        deleted = await talk.ask("conversation.item.delete", "conversation.item.deleted", item_id="two")
        assert deleted.item_id == "two"
        assert (await talk.answer(conversation="none")).usage.input_tokens < full
        assert (await talk.refused("conversation.item.retrieve", item_id="two")).code == "item_not_found"
        again = {
            "type": "message",
            "role": "user",
            "id": "one",
            "content": [{"type": "input_text", "text": "x"}],
        }
        assert (await talk.refused("conversation.item.create", item=again)).param == "item.id"


async def test_pictures_and_recordings_are_items_too(served: Serving) -> None:
    async with talking(served, output_modalities=["text"], max_output_tokens=2) as talk:
        url = f"data:image/png;base64,{base64.b64encode(png(SMALL)).decode()}"
        sound = base64.b64encode((speech(0.4) * 32767).astype("<i2").tobytes()).decode()
        content = [
            {"type": "input_image", "image_url": url},
            {"type": "input_audio", "audio": sound},
            {"type": "input_text", "text": "What is it?"},
        ]
        item = {"type": "message", "role": "user", "content": content}
        made = (await talk.ask("conversation.item.create", "conversation.item.done", item=item)).item
        assert [part.type for part in made.content] == ["input_image", "input_audio", "input_text"]
        usage = (await talk.answer()).usage.input_token_details
        assert usage.image_tokens > 0 and usage.audio_tokens > 0
        broken = {
            "type": "input_image",
            "image_url": f"data:image/png;base64,{base64.b64encode(b'no').decode()}",
        }
        error = await talk.refused("conversation.item.create", item=item | {"content": [broken]})
        assert error.param == "item.content[0]" and error.code == "invalid_media"


@pytest.mark.parametrize(
    ("kind", "write", "read"), [("audio/pcmu", to_ulaw, from_ulaw), ("audio/pcma", to_alaw, from_alaw)]
)
async def test_telephones_speak_and_hear_g711(served: Serving, kind: str, write: Any, read: Any) -> None:
    async with talking(served, codes=30) as talk:
        await talk.say("Hello")
        await talk.answer()
        plain = from_pcm16(talk.sound())
        talk.seen.clear()
        shown = await talk.update(
            audio={"input": {"format": {"type": kind}}, "output": {"format": {"type": kind}}}
        )
        assert shown.audio.output.format.type == kind
        samples = np.concatenate([quiet(0.4, 8000), speech(0.6, rate=8000), quiet(0.8, 8000)])
        for start in range(0, len(samples), 160):  # a packet of 20 ms
            data = base64.b64encode(write(samples[start : start + 160])).decode()
            await talk.send("input_audio_buffer.append", audio=data)
        await talk.until("response.done")
        assert talk.of("input_audio_buffer.speech_started")[0].audio_start_ms == pytest.approx(100, abs=50)
        assert len(talk.sound()) == pytest.approx(30 * 8000 // CODES, abs=2)
        assert np.abs(read(talk.sound())).max() > 0.01 and len(plain) == 30 * RATE // CODES
        item = talk.of("input_audio_buffer.committed")[0].item_id
        heard = read(base64.b64decode(as_json(await talk.retrieve(item))["content"][0]["audio"]))
        assert np.abs(heard).max() == pytest.approx(np.abs(samples).max(), rel=0.05)


async def test_speech_may_be_faster(served: Serving) -> None:
    async with talking(served, codes=50, audio={"output": {"speed": 1.25}}) as talk:
        await talk.say("Hello")
        item = (await talk.answer()).output[0].id
        given = len(talk.sound()) / 2 / RATE
        assert given == pytest.approx(1 / 1.25, abs=0.05)
        cut = {"item_id": item, "content_index": 0, "audio_end_ms": int(given * 1000)}
        await talk.ask("conversation.item.truncate", "conversation.item.truncated", **cut)


async def test_silence_behind_an_answer_makes_the_model_speak_again(served: Serving) -> None:
    async with talking(served, codes=10, audio=vad(idle_timeout_ms=1000)) as talk:
        await talk.say("Hello")
        await talk.answer()
        await talk.hear(quiet(1.0))  # the answer's 200 ms are being played
        await talk.hear(quiet(0.3))
        idle = await talk.until("input_audio_buffer.timeout_triggered")
        assert idle.audio_start_ms == 200 and idle.audio_end_ms == 1200
        assert (await talk.until("input_audio_buffer.committed")).item_id == idle.item_id
        assert (await talk.until("response.done")).response.status == "incomplete"


async def test_what_no_longer_fits_the_context_is_left_out(served: Serving) -> None:
    async with talking(
        served, output_modalities=["text"], max_output_tokens="inf", stage_sampling={}
    ) as talk:
        for number in range(8):
            await talk.say(f"{number}: {'x' * 200}")
        kept = (await talk.answer(conversation="none", max_output_tokens=4)).usage.input_tokens
        assert CONTEXT // 4 < kept <= CONTEXT - 4
        assert (await talk.retrieve(talk.of("conversation.item.added")[0].item.id)).content[0].text
        await talk.update(truncation="disabled")
        for number in range(8):
            await talk.say(f"{number}: {'y' * 200}")
        failed = await talk.answer(max_output_tokens=4)
        assert failed.status == "failed"
        assert failed.status_details.error.code == "context_length_exceeded"


WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"audio": {"input": {"turn_detection": {"threshold": 2}}}},
        "session.audio.input.turn_detection.threshold",
    ),
    ({"audio": {"input": {"format": {"type": "audio/mp3"}}}}, "session.audio.input.format.type"),
    ({"audio": {"input": {"format": {"rate": 16000}}}}, "session.audio.input.format"),
    ({"audio": {"output": {"voice": "alloy"}}}, "session.audio.output.voice"),
    ({"audio": {"output": {"speed": 1.6}}}, "session.audio.output.speed"),
    ({"audio": {"input": {"transcription": {"model": "whisper-1"}}}}, "model"),
    ({"output_modalities": ["text", "audio"]}, "session.output_modalities"),
    ({"modalities": ["text"]}, "session.modalities"),
    ({"model": "other"}, "model"),
    ({"model": "alias"}, "session.model"),
    ({"max_output_tokens": 0}, "session.max_output_tokens"),
    ({"tools": [{"type": "mcp", "name": "x"}]}, "session.tools[0].type"),
    ({"tool_choice": {"type": "function", "name": "x"}}, "session.tool_choice"),
    ({"prompt": {"id": "x"}}, "session.prompt"),
    ({"sampling": {"temperature": -1}}, "temperature"),
    ({"sampling": {"heat": 1}}, "session.sampling.heat"),
]


async def test_wrong_settings_are_told_by_name_and_change_nothing(served: Serving) -> None:
    async with talking(served, codes=4) as talk:
        before = as_json(await talk.update())
        for session, param in WRONG:
            error = await talk.refused("session.update", session=session)
            assert (error.type, error.param) in (
                ("invalid_request_error", param),
                ("not_found_error", param),
            ), error
        assert as_json(await talk.update()) == before


async def test_wrong_events_are_told_and_the_session_goes_on(served: Serving) -> None:
    async with talking(served, codes=4) as talk:
        await talk.connection.send_raw("{")
        assert (await talk.next()).error.message.startswith("The body is not valid JSON")
        for event, param in [
            ({"type": "session.dance"}, "type"),
            ({"type": "conversation.item.create"}, "item"),
            ({"type": "input_audio_buffer.append", "audio": "?"}, "audio"),
            ({"type": "input_audio_buffer.append", "audio": base64.b64encode(b"abc").decode()}, None),
            ({"type": "response.create", "response": {"voice": "x"}}, "response.voice"),
            (
                {"type": "response.create", "response": {"output_modalities": []}},
                "response.output_modalities",
            ),
            ({"type": "response.create", "response": {"conversation": "some"}}, "response.conversation"),
            ({"type": "conversation.item.create", "item": {"type": "song"}}, "item.type"),
        ]:
            error = await talk.refused(event.pop("type"), **event)
            assert error.param == param, error
        await talk.say("Hello")
        assert (await talk.answer()).status == "incomplete"
        item = talk.of("response.done")[0].response.output[0].id
        cut = {"item_id": item, "content_index": 0, "audio_end_ms": 81}  # 80 ms were said
        assert (await talk.refused("conversation.item.truncate", **cut)).param == "audio_end_ms"
        cut |= {"content_index": 1, "audio_end_ms": 1}
        assert (await talk.refused("conversation.item.truncate", **cut)).param == "content_index"
        user = talk.of("conversation.item.added")[0].item.id
        cut = {"item_id": user, "content_index": 0, "audio_end_ms": 1}
        assert (await talk.refused("conversation.item.truncate", **cut)).param == "item_id"
        voice = await talk.refused("session.update", session={"audio": {"output": {"voice": "Ada"}}})
        assert voice.code == "cannot_update_voice"


async def test_an_empty_conversation_fails_its_answer_and_nothing_else(served: Serving) -> None:
    async with talking(served, codes=4) as talk:
        failed = await talk.answer()
        assert failed.status == "failed" and failed.status_details.error.type == "invalid_request_error"
        await talk.say("Hello")
        assert transcript(await talk.answer())


async def test_sessions_do_not_hear_each_other(served: Serving) -> None:
    async def converse(text: str) -> str:
        async with talking(served, codes=6) as talk:
            await talk.say(text)
            return transcript(await talk.answer())

    texts = ["Hello", "Goodbye", "Why?"]
    alone = [await converse(text) for text in texts]
    assert await asyncio.gather(*map(converse, texts)) == alone
    assert len(set(alone)) == len(texts)


async def test_a_client_who_leaves_ends_its_answer(served: Serving) -> None:
    async with talking(served, codes=400) as talk:
        await talk.say("Hello")
        await talk.send("response.create")
        await talk.until("response.output_audio.delta")
    await until_async(lambda: served.gateway.served[0].admission.inside == 0)
    await asyncio.to_thread(served.everything_is_returned)


async def test_the_eager_are_answered_sooner(served: Serving) -> None:
    ends = {}
    for eagerness in ("high", "low"):
        detection = {"type": "semantic_vad", "eagerness": eagerness, "create_response": False}
        async with talking(served, audio={"input": {"turn_detection": detection}}) as talk:
            await talk.hear(speech(0.5), quiet(2.0))
            ends[eagerness] = (await talk.until("input_audio_buffer.speech_stopped")).audio_end_ms
    assert ends["low"] - ends["high"] == pytest.approx(1100, abs=20)


async def test_one_append_may_hold_several_turns(served: Serving) -> None:
    async with talking(served, codes=4, audio=vad(create_response=False)) as talk:
        await talk.hear(speech(0.5), quiet(0.8), speech(0.5, 1), quiet(0.8), step=10.0)
        ends = [(await talk.until("input_audio_buffer.speech_stopped")).audio_end_ms for _ in range(2)]
        assert ends[1] - ends[0] == pytest.approx(1300, abs=120)
