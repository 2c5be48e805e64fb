"""Files that FFmpeg reads (through PyAV), opened so that a file is all it can read.

FFmpeg also knows playlists and lists of files, which name others: URLs to fetch, files of this machine. So the formats
it may recognize are those in which sound and video are in the file itself, and it has no protocol to open anything.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.container import InputContainer

_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,ogg,wav,w64,mp3,aac,ac3,eac3,flac,aiff,caf,amr,au,avi,flv,asf,"
    "mpeg,mpegts,mpegvideo,h264,hevc,m4v"
)


NOTE = "comment"  # the field of a file that says, as JSON, how what is in it was made


def open_container(data: bytes) -> InputContainer:
    """The container in `data`. Raises what PyAV raises, ValueError if there is nothing in it."""
    import av

    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "none"}
    container = av.open(BytesIO(data), "r", container_options=options, metadata_errors="ignore")
    if not len(container.streams):
        raise ValueError("there are no tracks in it")
    return container


def read_note(file: bytes) -> str:
    """The note in a film or a sound that was made here; "" where there is none."""
    with open_container(file) as container:
        tracks = (track.metadata for track in container.streams)  # where an Ogg file has its own
        return next((found[NOTE] for found in (container.metadata, *tracks) if NOTE in found), "")
