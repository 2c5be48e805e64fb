"""The Python door for models that see, hear and speak: `Omni`.

    omni = Omni("path")
    answer = omni.generate(text="What is this?", images=["cat.png"], modalities=["text", "audio"])
    answer.text, answer.audio, answer.rate
    Omni("a-model-that-draws").generate(text="a red circle", size="512x512", seed=1).images[0].save("circle.png")
    Omni("a-model-that-draws").generate(text="make it blue", images=["circle.png"]).images[0].save("blue.png")
    Omni("a-model-that-films").generate(text="a cat walks", frames=17, fps=8, seed=1).videos[0].save("cat.mp4")
    Omni("a-model-that-films").generate(text="it walks away", images=["cat.png"]).videos[0].save("cat.mp4")
    Omni("a-model-that-makes-sounds").generate(text="rain on a roof", seconds=5, seed=1).audio
    Omni("pico").generate(text="draw a red circle", modalities=["text", "image"], seed=1).images[0].show()
    speech = omni.speak("Good morning!", voice=omni.voices[0])

The engine runs in the caller's own thread, as `LLM`'s does; the models of a graph by file (`Omni("assistant.yaml")`)
run in processes of their own. For many callers at once use `tutti.AsyncLLM` or a server.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tutti.errors import InvalidRequest
from tutti.events import AudioDelta, Done, Event, ImageDone, TextDelta, Usage, VideoDelta
from tutti.hub.composition import is_composition
from tutti.llm.answerers import Alone, Answerer, Composed
from tutti.llm.options import engine_options
from tutti.llm.prompts import mask_of, media_of
from tutti.media.audio_writer import samples_of
from tutti.media.film import joined as frames_of
from tutti.media.film import write_film
from tutti.media.image import as_pillow
from tutti.media.spoken import check_speed, joined
from tutti.models.processor.drawer import DrawingProcessor, drawing_request, parse_sides
from tutti.request import Chat, Drawing, Part, Request, SamplingParams, Script, Text

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class Speech:
    """A text that was read aloud: `audio` float32 [samples] in [-1, 1] at `rate` Hz."""

    audio: np.ndarray
    rate: int


@dataclass(frozen=True, slots=True)
class Video:
    """A film: `frames` uint8 [frames, height, width, 3], `fps` of them a second; `note` says how it was made."""

    frames: np.ndarray
    fps: float
    note: str = ""

    def save(self, path: str | Path) -> None:
        """Write it as an MP4 file. Raises OSError."""
        Path(path).write_bytes(write_film(self.frames, self.fps, self.note))


@dataclass(frozen=True, slots=True)
class OmniOutput:
    """An answer. `audio` float32 [samples] in [-1, 1] at `rate` Hz, None where none was asked for.

    A sound of several channels is [samples, channels].

    `images` are those that the model drew, as Pillow has them; `info` of each says how it was made (see `media.image`).
    `videos` are its films.
    """

    text: str
    token_ids: list[int]
    audio: np.ndarray | None
    rate: int
    finish_reason: str
    usage: Usage | None
    images: list[Image.Image] = field(default_factory=list)
    videos: list[Video] = field(default_factory=list)


class Omni:
    """A model in this process; `model` and `options` as for `LLM`. Raises what loading raises."""

    def __init__(self, model: str, **options: Any) -> None:
        self.options = engine_options(model, options)
        self._answerer: Answerer = Composed(self.options) if is_composition(model) else Alone(self.options)
        self.processor = self._answerer.processor
        self._numbers = itertools.count()

    @property
    def voices(self) -> tuple[str, ...]:
        """Who can speak; empty for a model that does not."""
        return self._answerer.voices

    def close(self) -> None:
        """End the processes beside this one: of a graph by file, of stages that were placed on other devices."""
        self._answerer.close()

    def __enter__(self) -> Omni:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def generate(self, **prompt: Any) -> OmniOutput:
        """The whole answer; parameters as for `stream`. Raises the request's error."""
        text = ""
        tokens: list[int] = []
        sounds: list[AudioDelta] = []
        images: list[Image.Image] = []
        pieces: list[VideoDelta] = []
        usage: Usage | None = None
        reason = "stop"
        for event in self.stream(live=False, **prompt):
            match event:
                case TextDelta():
                    text += event.text
                    tokens += event.tokens
                case AudioDelta():
                    sounds.append(event)
                case ImageDone(preview=False):
                    images.append(as_pillow(event.png))
                case VideoDelta():
                    pieces.append(event)
                case Usage():
                    usage = event
                case Done():
                    reason = event.reason
        rate = sounds[0].rate if sounds else 0
        audio = None
        if sounds or "audio" in prompt.get("modalities", ()):
            audio = samples_of(sounds)
        videos = [Video(frames_of(pieces), pieces[0].rate, pieces[0].note)] if pieces else []
        return OmniOutput(text, tokens, audio, rate, reason, usage, images, videos)

    def speak(self, text: str, *, speed: float = 1.0, **manner: Any) -> Speech:
        """`text` read aloud; `manner` as for `stream_speech`. `speed` 2 halves the duration, at the same pitch.

        Raises the request's error.
        """
        check_speed(speed)
        return Speech(*joined(list(self.stream_speech(text, live=False, **manner)), speed))

    def stream_speech(
        self,
        text: str,
        *,
        voice: str | None = None,
        instructions: str = "",
        language: str | None = None,
        stage_sampling: Mapping[str, SamplingParams] | None = None,
        live: bool = True,
    ) -> Iterator[AudioDelta]:
        """The sound of `text` being read aloud, as it comes; a long text is read piece by piece.

        `instructions` say how, where the model heeds them. Leaving the iteration cancels the rest.
        """
        request = Request(
            id=f"speech-{next(self._numbers)}",
            parts=(Script(text, instructions),),
            sampling=SamplingParams(max_tokens=None),
            stage_sampling=dict(stage_sampling or {}),
            modalities=("audio",),
            live=live,
            voice=voice,
            language=language,
            arrival=time.time(),
        )
        for reading in self.processor.readings(request, self._answerer.context):
            for event in self._answerer.events(reading):
                if isinstance(event, AudioDelta):
                    yield event

    def stream(
        self,
        *,
        text: str = "",
        images: Sequence[Any] = (),
        audio: Any = None,
        videos: Sequence[Any] = (),
        messages: Sequence[Mapping[str, Any]] | None = None,
        system: str = "",
        modalities: Sequence[str] = ("text",),
        voice: str | None = None,
        sampling: SamplingParams | None = None,
        stage_sampling: Mapping[str, SamplingParams] | None = None,
        use_audio_in_video: bool = False,
        live: bool = True,
        **drawing: Any,
    ) -> Iterator[Event]:
        """The events of an answer as they come: `TextDelta`, `AudioDelta`, `ImageDone`, `VideoDelta`, `Progress` ...

        `images`, `audio` (one or a list) and `videos` are what `prompts.media_of` takes, shown before `text`;
        `use_audio_in_video` hears the videos' sound with them. `messages` are earlier turns. `live`: sound comes in
        pieces, the first as soon as may be. A model that draws takes `text`, `images` and what `_drawing` has; one that
        also writes draws where `modalities` have "image", and takes what `_sheet` has and a `seed`. Leaving the
        iteration cancels the request. Raises the request's error.
        """
        if isinstance(self.processor, DrawingProcessor):
            return self._answerer.events(self._drawing(text, images, **drawing))
        illustrated = "image" in modalities
        if (drawing or illustrated) and self.processor.drawer is None:
            raise InvalidRequest(f"{', '.join(drawing) or 'modalities'}: this model does not draw")
        if drawing and not illustrated:
            raise InvalidRequest(f'{", ".join(drawing)}: ask for a picture with modalities=["text", "image"]')
        recordings = audio if isinstance(audio, list) else [] if audio is None else [audio]
        media = media_of(
            {"image": list(images), "audio": recordings, "video": list(videos)},
            soundtracks=use_audio_in_video,
        )
        sampling = sampling or SamplingParams(**{"max_tokens": None, **self.processor.generation_defaults})
        if (seed := drawing.pop("seed", None)) is not None:
            sampling = msgspec.structs.replace(sampling, seed=seed)
        drawn = (self._sheet(**drawing),) if illustrated else ()
        return self._answerer.events(
            Request(
                id=f"omni-{next(self._numbers)}",
                parts=(self._prompt(text, media, messages or (), system), *media, *drawn),
                sampling=_bounded(sampling),
                stage_sampling=dict(stage_sampling or {}),
                modalities=tuple(modalities),
                live=live,
                voice=voice,
                arrival=time.time(),
            )
        )

    def _drawing(
        self,
        text: str,
        images: Sequence[Any],
        *,
        mask: Any = None,
        negative: str | None = None,
        seed: int | None = None,
        **sheet: Any,
    ) -> Request:
        """The request for a picture or a film of `text`, drawn from `images` if there are any; `sheet` as for `_sheet`.

        A film begins with the first of them, and ends with the second. What is transparent in the `mask`, or white, is
        drawn anew.
        """
        media = media_of({"image": list(images)})
        if mask is not None:
            media.append(mask_of(mask))
        return drawing_request(
            text, negative, self._sheet(**sheet), id=f"image-{next(self._numbers)}", seed=seed, media=media
        )

    def _sheet(
        self,
        *,
        strength: float | None = None,
        size: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        true_guidance: float | None = None,
        previews: int = 0,
        frames: int | None = None,
        fps: float | None = None,
        guidance_2: float | None = None,
        seconds: float | None = None,
        seconds_start: float | None = None,
        cache: str | None = None,
        cache_threshold: float | None = None,
        lora: str | None = None,
        lora_scale: float = 1.0,
    ) -> Drawing:
        """How a picture is drawn. None is the model's own habit; `strength` is how much of a picture is changed."""
        width, height = parse_sides(size)
        return Drawing(
            width=width,
            height=height,
            steps=steps,
            guidance=guidance,
            true_guidance=true_guidance,
            previews=previews,
            strength=strength,
            frames=frames,
            fps=fps,
            guidance_2=guidance_2,
            seconds=seconds,
            seconds_start=seconds_start,
            cache=cache,
            cache_threshold=cache_threshold,
            lora=lora,
            lora_scale=lora_scale,
        )

    def _prompt(
        self, text: str, media: Sequence[Any], messages: Sequence[Mapping[str, Any]], system: str
    ) -> Part:
        if not self.processor.has_chat_template:
            if media or messages or system:
                raise InvalidRequest("this model has no chat template: give it text alone")
            return Text(text)
        content: Any = (
            [*({"type": one.modality} for one in media), {"type": "text", "text": text}] if media else text
        )
        opening = [{"role": "system", "content": system}] if system else []
        return Chat((*opening, *map(dict, messages), {"role": "user", "content": content}))


def _bounded(sampling: SamplingParams) -> SamplingParams:
    if sampling.n != 1:
        raise InvalidRequest("Omni gives one answer at a time: n must be 1", param="n")
    return sampling
