"""One session: its settings, its conversation, the sound that comes in and the answers that go out.

Events of the client are followed one after the other; answers and transcripts are tasks beside them. What cannot be
done is told in an `error` event, and the session goes on. Sockets are not known here.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import assert_never

import msgspec

from tutti.api.openai.parse import convert, parse
from tutti.api.realtime.buffer import Began, InputBuffer, Turn
from tutti.api.realtime.capable import check, first_settings
from tutti.api.realtime.conversation import Conversation
from tutti.api.realtime.errors import Refusal, error_detail
from tutti.api.realtime.fields import (
    OF_ANSWERS,
    OF_SESSIONS,
    AnswerFields,
    AnyClientEvent,
    AudioAppend,
    AudioClear,
    AudioCommit,
    Envelope,
    ItemCreate,
    ItemDelete,
    ItemRetrieve,
    ItemTruncate,
    ReferenceFields,
    ResponseCancel,
    ResponseCreate,
    SessionUpdate,
)
from tutti.api.realtime.items import HeardPart, Item, Message, new_id
from tutti.api.realtime.limits import RealtimeLimits
from tutti.api.realtime.outbox import Outbox
from tutti.api.realtime.reading import read_item
from tutti.api.realtime.response import Response, Wish
from tutti.api.realtime.sound import Sound
from tutti.api.realtime.transcripts import Scribe
from tutti.errors import TuttiError
from tutti.gateway.backend import BackendModel
from tutti.gateway.gateway import Gateway
from tutti.gateway.keys import Caller
from tutti.media.fetch import FetchLimits
from tutti.models.processor import Processor

_LIFE = 3600  # seconds of a session that clients are told; it may live longer


class Session:
    """What stands behind one socket."""

    def __init__(
        self,
        gateway: Gateway,
        caller: Caller,
        outbox: Outbox,
        limits: RealtimeLimits,
        fetching: FetchLimits,
        *,
        model: BackendModel,
        processor: Processor,
        transcribes: bool,
    ) -> None:
        """Begins with the model's settings. The model is in memory while it answers, not longer."""
        self._gateway = gateway
        self._caller = caller
        self._outbox = outbox
        self._limits = limits
        self._fetching = fetching
        self._id = new_id("sess")
        self._expires = int(time.time()) + _LIFE
        self._config = first_settings(model, processor, transcribes=transcribes)
        self._check = partial(check, gateway=gateway, model=model, processor=processor)
        self._takes = processor.modalities
        self._conversation = Conversation(limits)
        self._buffer = InputBuffer(self._config.audio.input.format, limits.buffered)
        self._coming = new_id("item")  # the id of the message that the waiting sound will be
        self._responses: dict[str, Response] = {}
        self._active: Response | None = None  # the one that is part of the conversation
        self._scribe = Scribe(gateway, caller, outbox, asyncio.Semaphore(limits.transcriptions))
        self._transcripts: set[asyncio.Task[None]] = set()
        self._spoke = False  # whether an answer was heard: its voice then stays
        self._listen()
        outbox.put("session.created", session=self._shown())

    async def follow(self, frame: str | bytes) -> None:
        """Do what an event of the client asks; what is wrong with it is told. Waits while the client reads slowly."""
        event_id: str | None = None
        try:
            data = frame.encode() if isinstance(frame, str) else frame
            try:
                event: AnyClientEvent = parse(data, AnyClientEvent)  # type: ignore[arg-type]
            except TuttiError:
                event_id = _sender(data)
                raise
            event_id = event.event_id
            await self._follow(event)
        except TuttiError as error:
            self._tell_error(error, event_id)
        await self._outbox.room()

    async def close(self) -> None:
        """End everything that is under way."""
        for response in list(self._responses.values()):
            await response.cancel("client_cancelled")
        for task in self._transcripts:
            task.cancel()
        await asyncio.gather(*self._transcripts, return_exceptions=True)

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self._responses or self._transcripts)

    async def _follow(self, event: AnyClientEvent) -> None:
        match event:
            case SessionUpdate():
                await self._update(event)
            case AudioAppend():
                await self._append(event)
            case AudioCommit():
                self._commit(self._buffer.commit())
            case AudioClear():
                self._buffer.clear()
                self._outbox.put("input_audio_buffer.cleared")
            case ItemCreate():
                await self._create_item(event)
            case ItemRetrieve():
                item = self._conversation.get(event.item_id)
                shown = item.shown(self._config.audio.input.format)
                self._outbox.put("conversation.item.retrieved", item=shown)
            case ItemDelete():
                self._conversation.delete(event.item_id)
                self._outbox.put("conversation.item.deleted", item_id=event.item_id)
            case ItemTruncate():
                await self._truncate(event)
            case ResponseCreate():
                await self._create_response(event)
            case ResponseCancel():
                await self._cancel_response(event.response_id)
            case _:
                assert_never(event)

    def _tell_error(self, error: TuttiError, event_id: str | None) -> None:
        self._outbox.put("error", error=error_detail(error, event_id))

    # Settings

    async def _update(self, event: SessionUpdate) -> None:
        config = self._config.updated(event.session)
        await self._check(config)
        before, after = self._config.audio.output.speaker, config.audio.output.speaker
        if self._spoke and before != after:
            raise Refusal(
                "cannot_update_voice",
                "the voice stays the same once it was heard",
                "session.audio.output.voice",
            )
        before_input, self._config = self._config.audio.input, config
        if (before_input.format, before_input.turn_detection) != (
            config.audio.input.format,
            config.audio.input.turn_detection,
        ):
            self._listen()
        self._outbox.put("session.updated", session=self._shown())

    def _listen(self) -> None:
        heard = self._config.audio.input
        self._buffer.configure(heard.format, heard.turn_detection)

    def _shown(self) -> dict[str, object]:
        return self._config.shown(self._id) | {"expires_at": self._expires}

    # Sound

    async def _append(self, event: AudioAppend) -> None:
        if self._config.type == "realtime" and "audio" not in self._takes:
            raise Refusal("invalid_value", "this model does not take audio", "audio")
        async for found in self._buffer.append(event.audio):
            try:
                await (self._begin_turn(found) if isinstance(found, Began) else self._end_turn(found))
            except TuttiError as error:  # the rest of the sound is still to be heard
                self._tell_error(error, event.event_id)
        detection = self._config.audio.input.turn_detection
        if detection is not None and detection.idle_timeout_ms is not None and self._active is None:
            silence = self._buffer.silence(detection.idle_timeout_ms / 1000)
            if silence is not None:
                times = {"audio_start_ms": silence.start, "audio_end_ms": silence.end}
                self._outbox.put("input_audio_buffer.timeout_triggered", **times, item_id=self._coming)
                self._commit(silence.sound)
                self._respond(Wish(self._config))

    async def _begin_turn(self, found: Began) -> None:
        self._outbox.put(
            "input_audio_buffer.speech_started", audio_start_ms=found.start, item_id=self._coming
        )
        detection = self._config.audio.input.turn_detection
        if self._active is not None and detection is not None and detection.interrupt_response:
            await self._active.cancel("turn_detected")

    async def _end_turn(self, turn: Turn) -> None:
        self._outbox.put("input_audio_buffer.speech_stopped", audio_end_ms=turn.end, item_id=self._coming)
        self._commit(turn.sound)
        detection = self._config.audio.input.turn_detection
        if self._config.type == "realtime" and detection is not None and detection.create_response:
            self._respond(Wish(self._config))

    def _commit(self, sound: Sound) -> None:
        """Make a message of sound, and have it written down if the client wants that."""
        part = HeardPart(sound)
        item = Message("user", [part], id=self._coming)
        previous = self._conversation.last()
        self._conversation.add(item)
        self._coming = new_id("item")
        self._outbox.put("input_audio_buffer.committed", item_id=item.id, previous_item_id=previous)
        self._tell_new(item, previous)
        settings = self._config.audio.input.transcription
        if settings is not None:
            task = asyncio.create_task(self._scribe.write(item.id, part, self._config.model, settings))
            self._transcripts.add(task)
            task.add_done_callback(self._transcripts.discard)

    # Items

    async def _create_item(self, event: ItemCreate) -> None:
        item = await read_item(event.item, self._config.audio.input.format, self._takes, self._fetching)
        self._tell_new(item, self._conversation.add(item, event.previous_item_id))

    def _tell_new(self, item: Item, previous: str | None) -> None:
        for kind in ("conversation.item.added", "conversation.item.done"):
            self._outbox.put(kind, previous_item_id=previous, item=item.shown())

    async def _truncate(self, event: ItemTruncate) -> None:
        if self._active is not None and self._active.is_saying(event.item_id):
            await self._active.cancel("client_cancelled")
        self._conversation.truncate(event.item_id, event.content_index, event.audio_end_ms)
        self._outbox.put(
            "conversation.item.truncated",
            item_id=event.item_id,
            content_index=event.content_index,
            audio_end_ms=event.audio_end_ms,
        )

    # Answers

    async def _create_response(self, event: ResponseCreate) -> None:
        if self._config.type != "realtime":
            raise Refusal("invalid_event", "a session of type transcription gives no answers", "type")
        given = event.response or {}
        unknown = given.keys() - OF_ANSWERS - OF_SESSIONS
        if unknown:
            name = f"response.{min(unknown)}"
            raise Refusal("unknown_parameter", f"The field '{name}' is not known.", name)
        fields = convert({name: given[name] for name in OF_ANSWERS & given.keys()}, AnswerFields, "response")
        changes = {name: given[name] for name in OF_SESSIONS & given.keys()}
        config = self._config.updated(changes, "response")
        await self._check(config, within="response")
        apart = fields.conversation == "none"
        items = None if fields.input is None else await self._read_input(fields)
        self._respond(Wish(config, items, apart, fields.metadata))

    async def _read_input(self, fields: AnswerFields) -> tuple[Item, ...]:
        found: list[Item] = []
        for index, one in enumerate(fields.input or ()):
            at = f"response.input[{index}]"
            if isinstance(one, ReferenceFields):
                found.append(self._conversation.get(one.id, f"{at}.id"))
            else:
                heard = self._config.audio.input.format
                found.append(await read_item(one, heard, self._takes, self._fetching, at))
        return tuple(found)

    def _respond(self, wish: Wish) -> None:
        if self._active is not None and not wish.apart:
            raise Refusal(
                "conversation_already_has_active_response",
                f"the conversation already has an active response in progress: {self._active.id}. "
                "Wait until it is done, or cancel it, before creating another",
            )
        if len(self._responses) >= self._limits.responses:
            raise Refusal("too_many_responses", f"{self._limits.responses} responses are under way already")
        self._buffer.unwatch()
        response = Response(
            wish, self._conversation, self._gateway, self._caller, self._outbox, self._responded
        )
        self._responses[response.id] = response
        if not wish.apart:
            self._active = response

    def _responded(self, response: Response) -> None:
        del self._responses[response.id]
        self._spoke = self._spoke or response.seconds > 0
        if response is self._active:
            self._active = None
            self._buffer.watch(response.seconds)

    async def _cancel_response(self, response_id: str | None) -> None:
        response = self._active if response_id is None else self._responses.get(response_id)
        if response is None:
            raise Refusal(
                "response_cancel_not_active", "there is no such response in progress", "response_id"
            )
        await response.cancel("client_cancelled")


def _sender(data: bytes) -> str | None:
    """The event_id of an event that could not be read, if at least that can be."""
    try:
        found = msgspec.json.decode(data, type=Envelope).event_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, str) else None
