"""Files that a prompt names: `what is in ./cat.png?` shows the model the picture.

Only what is there and is a picture, a recording or a video by its content counts; everything else stays text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tutti.errors import InvalidRequest
from tutti.models.processor.messages import said
from tutti.request import Media

Content = str | list[dict[str, Any]]

# A quoted path, or a word with an extension; blanks in it are escaped with a backslash.
_PATH = re.compile(r"""(["'])(?P<quoted>[^"']+\.\w{2,5})\1|(?P<plain>(?:[^\s\\"']|\\.)+\.\w{2,5})""")


def content_of(text: str, modalities: frozenset[str]) -> Content:
    """`text` as a message's content: with the media it names before it, if it names any.

    Raises InvalidRequest on media that the model does not take.
    """
    media: list[dict[str, Any]] = []

    def take(match: re.Match[str]) -> str:
        name = match["quoted"] or re.sub(r"\\(.)", r"\1", match["plain"])
        found = _medium(Path(name).expanduser())
        if found is None:
            return match[0]
        if found.modality not in modalities:
            raise InvalidRequest(f"{name} is {found.modality}, and this model takes {said(modalities)} only")
        media.append({"type": found.modality, "media": found, "name": Path(name).name, "path": name})
        return ""

    rest = re.sub(r"[ \t]+", " ", _PATH.sub(take, text)).strip() if _PATH.search(text) else text
    if not media:
        return text
    return [*media, {"type": "text", "text": rest}] if rest else media


def media_in(messages: Iterable[Mapping[str, Any]]) -> list[Media]:
    """The media of all messages, in order."""
    return [
        part["media"]
        for message in messages
        if isinstance(message["content"], list)
        for part in message["content"]
        if "media" in part
    ]


def _medium(path: Path) -> Media | None:
    from tutti.media.kind import sniff

    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            kind = sniff(file.read(512))
    except (OSError, ValueError):
        return None
    modality = (kind or "").partition("/")[0]
    return Media(modality, path.read_bytes()) if modality in ("image", "audio", "video") else None
