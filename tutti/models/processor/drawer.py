"""What may be asked of a model that draws: sizes, steps, guidance. The doors' side of it; no torch.

A request for a picture has a `Text` (and a second one, of what is to be avoided), a `Drawing`, and the pictures that it
begins from, if any. A `Drawer` fills in the model's habits and refuses what makes no sense, before anything is
computed.

A unified model is told in words what to draw: its pictures are part of conversations, and a request for a picture
becomes one (`Drawer.converse`).
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tutti.errors import InvalidRequest
from tutti.models.processor.filming import Filming, refuse_film, refuse_sound
from tutti.models.processor.pictures import Sources, read_sources, sized_mask, sized_picture
from tutti.models.processor.processor import Processor
from tutti.request import Chat, Drawing, Media, MediaInput, Part, Request, SamplingParams, Text

MOST_STEPS = 1000  # the levels of noise that models are trained with
MOST_PIXELS = 4096 * 4096
MOST_GUIDANCE = 100.0
MOST_PREVIEWS = 3  # that are decoded, as OpenAI has it
MOST_SCALE = 10.0  # of an adapter
MOST_DRIFT = 10.0  # relative change
CACHES = {"first_block": 0.05, "teacache": 0.2}  # and their thresholds, unless others are asked for


@dataclass(frozen=True, slots=True)
class Drawer:
    """One model's habits. Sizes are in pixels.

    Sides are multiples of `multiple`, and at most `longest`. `guides` says that `guidance` is classifier-free guidance,
    away from a second text, unless it is `neutral` or less; otherwise `true_guidance` is, above 1. `avoid` is that
    second text where none is given; None: there is then no such guidance. `caches` are the feature caches it knows.
    `film` has what more is asked of a model that films; None: it draws pictures. `strength` is how much is changed of a
    picture that is begun from, where no mask says which parts. `variation` is the prompt where a picture comes without
    one. `told` makes of a prompt what a unified model is told so that it draws; None: prompts are read by a stage of
    their own, and nothing but pictures is made.
    """

    multiple: int
    longest: int
    steps: int
    guidance: float | None = None
    guides: bool = False
    neutral: float = 0.0
    true_guidance: float | None = None
    avoid: str | None = None
    caches: tuple[str, ...] = tuple(CACHES)
    width: int = 1024
    height: int = 1024
    film: Filming | None = None
    strength: float = 0.6
    variation: str = ""
    told: Callable[[str], str] | None = None

    @property
    def output(self) -> str:
        """What leaves the model: "image" or "video"."""
        return "image" if self.film is None else "video"

    @property
    def door(self) -> tuple[str, str]:
        """What it does, and the path where it is asked to."""
        return ("draws pictures", "images/generations") if self.film is None else ("films", "videos")

    def complete(self, request: Request) -> Request:
        """`request` with everything filled in. Raises InvalidRequest; the message says what would be taken."""
        if any(isinstance(part, MediaInput) for part in request.parts):
            return request  # it was completed before
        texts, media, drawing = self._sorted(request)
        originals = tuple(medium.data for medium in media if medium.modality == "image")
        masks = tuple(medium.data for medium in media if medium.modality == "mask")
        sources = self.read(originals, masks)
        if sources is None and drawing.strength is not None:
            raise InvalidRequest("strength says how much of a picture is changed: send one", param="strength")
        if not texts[0].text.strip():
            if sources is None:
                raise InvalidRequest("the prompt is empty: say what is to be drawn", param="prompt")
            texts[0] = Text(self.variation)
        width, height = (self.width, self.height) if sources is None else self.size_for(sources)
        whole = self._whole(drawing, width, height)
        seed = secrets.randbits(32) if request.sampling.seed is None else request.sampling.seed
        sampling = msgspec.structs.replace(request.sampling, seed=seed)
        avoided = self._avoided(texts, whole)
        if not (self.guides or avoided):
            whole = msgspec.structs.replace(
                whole, true_guidance=None
            )  # there is nothing to be guided away from
        parts: tuple[Part, ...] = (texts[0], *avoided, whole)
        if sources is not None:
            parts = self.begin((texts[0], *avoided), whole, sources)
        return msgspec.structs.replace(request, parts=parts, sampling=sampling, modalities=(self.output,))

    # --- conversations ------------------------------------------------------------------------------------------

    def converse(self, request: Request) -> Request:
        """`request` to a unified model, with everything filled in that a picture in its answer needs.

        A prompt of which a picture is wanted becomes what the model is told; who answers it chooses no words by chance.
        Raises InvalidRequest.
        """
        others = tuple(part for part in request.parts if not isinstance(part, Drawing))
        if "image" not in request.modalities:
            return msgspec.structs.replace(request, parts=others)
        drawing, sampling = request.drawing, request.sampling
        seed = secrets.randbits(32) if sampling.seed is None else sampling.seed
        sampling = msgspec.structs.replace(sampling, seed=seed)
        texts = [part.text for part in others if isinstance(part, Text)]
        if drawing is not None and texts:
            assert self.told is not None
            others = (Chat(({"role": "user", "content": self.told(self._alone(texts, others))},)),)
            sampling = msgspec.structs.replace(sampling, temperature=0.0, max_tokens=None)
            drawing = msgspec.structs.replace(drawing, prompt=texts[0])
            request = msgspec.structs.replace(request, modalities=("text", "image"))
        whole = self._told(drawing or Drawing())
        if whole.prompt is None:
            whole = msgspec.structs.replace(whole, prompt=_last_words(others))
        return msgspec.structs.replace(request, parts=(*others, whole), sampling=sampling)

    def _alone(self, texts: Sequence[str], parts: Sequence[Part]) -> str:
        """The one text of a request for a picture. Raises InvalidRequest on what a unified model cannot be told."""
        if len(texts) > 1:
            raise InvalidRequest(
                "this model is told in words what to draw: say in the prompt what is to be avoided",
                param="negative_prompt",
            )
        if any(isinstance(part, Media) for part in parts):
            raise InvalidRequest("this model draws what it is told: it changes no pictures", param="image")
        if not texts[0].strip():
            raise InvalidRequest("the prompt is empty: say what is to be drawn", param="prompt")
        return texts[0]

    def _told(self, drawing: Drawing) -> Drawing:
        """`drawing`, which begins from nothing, with everything filled in. Raises InvalidRequest."""
        if drawing.strength is not None:
            raise InvalidRequest(
                "strength is for models that change pictures, and this one draws what it is told",
                param="strength",
            )
        return self._whole(drawing, self.width, self.height)

    def _whole(self, drawing: Drawing, width: int, height: int) -> Drawing:
        """`drawing` with everything filled in; of this size unless it has one. Raises InvalidRequest."""
        whole = Drawing(
            width=width if drawing.width is None else drawing.width,
            height=height if drawing.height is None else drawing.height,
            steps=self.steps if drawing.steps is None else drawing.steps,
            guidance=self.guidance if drawing.guidance is None else drawing.guidance,
            true_guidance=self.true_guidance if drawing.true_guidance is None else drawing.true_guidance,
            previews=drawing.previews,
            decoded=drawing.decoded,
            strength=drawing.strength,
            **self._cache(drawing),
            lora=drawing.lora,
            lora_scale=drawing.lora_scale,
            prompt=drawing.prompt,
        )
        self._check_size(whole)
        self._check(whole)
        refuse_sound(drawing)
        if self.film is None:
            refuse_film(drawing)
            return whole
        return self.film.complete(whole, drawing)

    # --- pictures to begin from ---------------------------------------------------------------------------------

    def read(self, originals: Sequence[bytes], masks: Sequence[bytes]) -> Sources | None:
        """The files of pictures and masks. Raises InvalidRequest where this model does not take them, or needs some."""
        if not (originals or masks):
            return None
        if len(originals) != 1:
            raise InvalidRequest(
                f"this model begins from one picture, and the request has {len(originals) or 'a mask alone'}",
                param="image",
            )
        return read_sources(originals, masks)

    def size_for(self, sources: Sources) -> tuple[int, int]:
        """(width, height) of what is drawn unless the request says: the picture's, within what the model is used to."""
        height, width = sources.pictures[0].shape[:2]
        scale = min(
            1.0, math.sqrt(self.width * self.height / (width * height)), self.longest / max(width, height)
        )
        across, down = (
            max(self.multiple, int(side * scale) // self.multiple * self.multiple) for side in (width, height)
        )
        return across, down

    def begin(self, texts: Sequence[Text], drawing: Drawing, sources: Sources) -> tuple[Part, ...]:
        """The parts of a request that begins from a picture, brought to the size of the drawing."""
        picture, mask = sources.pictures[0], sources.mask
        size = drawing.height or 0, drawing.width or 0
        habit = self.strength if mask is None else 1.0
        whole = msgspec.structs.replace(
            drawing,
            strength=habit if drawing.strength is None else drawing.strength,
            mask=None if mask is None else sized_mask(mask, *size),
        )
        return (*texts, sized_picture(picture, *size), whole)

    # --- texts and numbers --------------------------------------------------------------------------------------

    def _sorted(self, request: Request) -> tuple[list[Text], list[Media], Drawing]:
        """The parts of a request by kind. Raises InvalidRequest when it is not one for a picture."""
        texts = [part for part in request.parts if isinstance(part, Text)]
        media = [part for part in request.parts if isinstance(part, Media)]
        drawing = request.drawing
        if (
            drawing is None
            or len(texts) not in (1, 2)
            or len(texts) + len(media) + 1 != len(request.parts)
            or any(medium.modality not in ("image", "mask") for medium in media)
        ):
            does, path = self.door
            raise InvalidRequest(
                f"this model {does}, and does nothing else: ask for one with a text, at /v1/{path}",
                param="model",
            )
        return texts, media, drawing

    def _avoided(self, texts: list[Text], drawing: Drawing) -> tuple[Text, ...]:
        """The second text, where the picture is guided away from one."""
        off = (
            (drawing.guidance or 0.0) <= self.neutral if self.guides else (drawing.true_guidance or 0.0) <= 1
        )
        if off:
            return ()
        return tuple(texts[1:]) or (() if self.avoid is None else (Text(self.avoid),))

    def _cache(self, drawing: Drawing) -> dict[str, Any]:
        """The fields of the feature cache. Raises InvalidRequest."""
        name, threshold = drawing.cache or "none", drawing.cache_threshold
        if name not in ("none", *self.caches):
            known = ", ".join(("none", *self.caches))
            raise InvalidRequest(f"cache must be one of {known} for this model, got {name!r}", param="cache")
        if name == "none":
            if threshold is not None:
                raise InvalidRequest(
                    f"cache_threshold needs a cache: {', '.join(self.caches) or 'this model has none'}",
                    param="cache_threshold",
                )
            return {}
        threshold = CACHES[name] if threshold is None else threshold
        if not (math.isfinite(threshold) and 0 <= threshold <= MOST_DRIFT):
            raise InvalidRequest(
                f"cache_threshold must be from 0 (nothing is skipped) to {MOST_DRIFT:g}, got {threshold}",
                param="cache_threshold",
            )
        return {"cache": name, "cache_threshold": threshold}

    def _check_size(self, drawing: Drawing) -> None:
        width, height = drawing.width or 0, drawing.height or 0
        for side in (width, height):
            if side < self.multiple or side % self.multiple:
                near = max(self.multiple, round(side / self.multiple) * self.multiple)
                raise InvalidRequest(
                    f"size {width}x{height}: this model draws in multiples of {self.multiple} pixels; "
                    f"take {near} for {side}",
                    param="size",
                )
        if max(width, height) > self.longest or width * height > MOST_PIXELS:
            raise InvalidRequest(
                f"size {width}x{height}: at most {self.longest} pixels a side and {MOST_PIXELS:,} in all are drawn",
                param="size",
            )

    def _check(self, drawing: Drawing) -> None:
        """The numbers of a drawing beside its size."""
        if not 1 <= (drawing.steps or 0) <= MOST_STEPS:
            raise InvalidRequest(
                f"num_inference_steps must be from 1 to {MOST_STEPS:,}, got {drawing.steps}; "
                f"this model's habit is {self.steps}",
                param="num_inference_steps",
            )
        for name, value in (
            ("guidance_scale", drawing.guidance),
            ("true_cfg_scale", drawing.true_guidance),
        ):
            if value is not None and not (math.isfinite(value) and 0 <= value <= MOST_GUIDANCE):
                raise InvalidRequest(f"{name} must be from 0 to {MOST_GUIDANCE:g}, got {value}", param=name)
        if not (math.isfinite(drawing.lora_scale) and abs(drawing.lora_scale) <= MOST_SCALE):
            raise InvalidRequest(
                f"the scale of lora must be from -{MOST_SCALE:g} to {MOST_SCALE:g}, got {drawing.lora_scale}",
                param="lora",
            )
        if drawing.strength is not None and not 0 < drawing.strength <= 1:
            raise InvalidRequest(
                f"strength must be above 0 and at most 1, got {drawing.strength}", param="strength"
            )
        most, name = (MOST_PREVIEWS, "partial_images") if drawing.decoded else (MOST_STEPS, "previews")
        if not 0 <= drawing.previews <= most:
            raise InvalidRequest(f"{name} must be from 0 to {most:,}, got {drawing.previews}", param=name)


@dataclass(frozen=True, slots=True)
class DrawingProcessor(Processor):
    """The processor of a model that draws: prompts stay text, which the model's own stage reads."""

    drawer: Drawer = field(kw_only=True)

    def prepare(self, request: Request, *, context: int | None = None) -> Request:
        """See `Drawer.complete`."""
        return self.drawer.complete(request)

    def readings(self, request: Request, context: int) -> list[Request]:
        """See `Processor.readings`. Raises InvalidRequest."""
        raise InvalidRequest(f"this model does not read texts aloud: it {self.drawer.door[0]}", param="model")


def _last_words(parts: Sequence[Part]) -> str | None:
    """What the user said last in a conversation, if that was text."""
    said = [message for part in parts if isinstance(part, Chat) for message in part.messages]
    content = next((one.get("content") for one in reversed(said) if one.get("role") == "user"), None)
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        content = " ".join(text for text in texts if isinstance(text, str))
    return content.strip() or None if isinstance(content, str) else None


def parse_sides(text: str | None) -> tuple[int | None, int | None]:
    """(width, height) of "1024x768"; (None, None), the model's habit, of "auto" or nothing. Raises InvalidRequest."""
    if not text or text == "auto":
        return None, None
    width, by, height = text.lower().partition("x")
    if not (by and width.isdecimal() and height.isdecimal() and len(text) < 16):
        raise InvalidRequest(f"size {text!r}: write WIDTHxHEIGHT, for instance 1024x1024", param="size")
    return int(width), int(height)


def drawing_request(
    prompt: str,
    negative: str | None,
    drawing: Drawing,
    *,
    id: str,
    model: str = "",
    n: int = 1,
    seed: int | None = None,
    priority: int = 0,
    media: Sequence[Media] = (),
) -> Request:
    """The request for `n` pictures of `prompt`, the first one of `seed`, the others of those after it.

    `media` are the pictures that it begins from, and a mask, if any.
    """
    texts = (Text(prompt),) if negative is None else (Text(prompt), Text(negative))
    return Request(
        id=id,
        parts=(*texts, *media, drawing),
        sampling=SamplingParams(n=n, seed=seed),
        modalities=("image",),
        model=model,
        priority=priority,
        arrival=time.time(),
    )
