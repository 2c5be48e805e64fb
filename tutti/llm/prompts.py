"""What the Python doors take as a prompt, vLLM's forms among them, as the parts of a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from tutti.errors import InvalidRequest
from tutti.request import Media, Part, Text, Tokens

Prompt = str | Sequence[int] | dict[str, Any]
Parts = tuple[Part, ...]

_MODALITIES = ("image", "audio", "video")


def prompts_of(prompts: Prompt | Sequence[Prompt]) -> Iterable[Prompt]:
    """One prompt or several: a list of numbers is one."""
    single = isinstance(prompts, str | dict) or (len(prompts) > 0 and isinstance(prompts[0], int))
    return [prompts] if single else prompts  # type: ignore[list-item,return-value]


def prompt_parts(prompt: Prompt) -> Parts:
    """Text, token ids, {"prompt": ...} or {"prompt_token_ids": ...}; the dicts with "multi_modal_data" if they like.

    With "mm_processor_kwargs": {"use_audio_in_video": True}, the sound of videos is heard with them. Raises
    InvalidRequest.
    """
    if isinstance(prompt, str):
        return (Text(prompt),)
    if not isinstance(prompt, dict):
        return (Tokens(tuple(prompt)),)
    how = dict(prompt.get("mm_processor_kwargs") or {})
    soundtracks = bool(how.pop("use_audio_in_video", False))
    if how:
        raise InvalidRequest(f"mm_processor_kwargs has {', '.join(sorted(how))}; it takes use_audio_in_video")
    media = media_of(prompt.get("multi_modal_data") or {}, soundtracks=soundtracks)
    if "prompt_token_ids" in prompt:
        return (Tokens(tuple(prompt["prompt_token_ids"])), *media)
    if "prompt" in prompt:
        return (Text(prompt["prompt"]), *media)
    raise InvalidRequest("a prompt given as a dict needs 'prompt' or 'prompt_token_ids'", param="prompt")


def media_of(data: Mapping[str, Any], *, soundtracks: bool = False) -> list[Media]:
    """The media of {"image": one or a list, "audio": ..., "video": ...}, in that order.

    A picture is a PIL image, an array uint8 [height, width, 3], a path or the bytes of a file; a recording is
    (samples, rate), a path or bytes; a video is a path or bytes, heard as well with `soundtracks`. Raises
    InvalidRequest.
    """
    unknown = sorted(set(data) - set(_MODALITIES))
    if unknown:
        raise InvalidRequest(f"multi_modal_data has {', '.join(unknown)}; it takes {', '.join(_MODALITIES)}")
    media = []
    for modality in _MODALITIES:
        given = data.get(modality)
        for one in given if isinstance(given, list) else [] if given is None else [given]:
            media.append(Media(modality, _file(modality, one), sound=soundtracks and modality == "video"))
    return media


def mask_of(value: Any) -> Media:
    """A mask for the picture before it, given as a picture is; a PIL image keeps its transparency."""
    if hasattr(value, "save"):
        file = BytesIO()
        value.save(file, "PNG")
        return Media("mask", file.getvalue())
    return Media("mask", _file("image", value))


def _file(modality: str, value: Any) -> bytes:
    """The bytes of a file that holds `value`, without loss."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str | Path):
        try:
            return Path(value).expanduser().read_bytes()
        except OSError as error:
            raise InvalidRequest(f"{value} cannot be read: {error.strerror}") from error
    if modality == "image":
        import numpy as np

        from tutti.media.image import write_png

        picture = value.convert("RGB") if hasattr(value, "convert") else value
        return write_png(np.asarray(picture, dtype=np.uint8))
    if modality == "audio" and isinstance(value, tuple):
        from tutti.media.audio_writer import write_audio

        samples, rate = value
        return write_audio(samples, rate, "wav")
    raise InvalidRequest(
        f"a {modality} cannot be given as {type(value).__name__}; give a path or the bytes of a file"
    )
