"""What a file is, by its first bytes: for messages, and to choose the library that reads it.

Names and extensions lie more often than first bytes do. Nothing here decodes.
"""

from __future__ import annotations

# (offset, bytes, kind); the first match counts.
_MAGIC = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (0, b"\x00\x00\x01\x00", "image/x-icon"),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "image/jp2"),
    (0, b"\xff\x4f\xff\x51", "image/jp2"),
    (0, b"BM", "image/bmp"),
    (0, b"8BPS", "image/vnd.adobe.photoshop"),
    (0, b"fLaC", "audio/flac"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"#!AMR", "audio/amr"),
    (0, b"caff", "audio/x-caf"),
    (0, b".snd", "audio/basic"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (0, b"FLV\x01", "video/x-flv"),
    (0, b"\x00\x00\x01\xba", "video/mpeg"),
    (0, b"\x00\x00\x01\xb3", "video/mpeg"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "video/x-ms-asf"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"\xd0\xcf\x11\xe0", "application/msword"),
    (0, b"{\\rtf", "application/rtf"),
    (0, b"\x7fELF", "application/x-elf"),
)
_RIFF = {b"WAVE": "audio/wav", b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}
_BRANDS = {  # of ISO base media files ("ftyp")
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"mif1": "image/heic",
    b"msf1": "image/heic",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
}
_NAMES = {
    "application/pdf": "a PDF document",
    "application/zip": "a ZIP archive or an Office document",
    "application/gzip": "a gzip archive",
    "application/msword": "an Office document",
    "application/rtf": "an RTF document",
    "application/json": "JSON",
    "application/x-elf": "a program",
    "text/html": "an HTML page",
    "text/plain": "plain text",
    "image/svg+xml": "an SVG drawing",
    "image/vnd.adobe.photoshop": "a Photoshop file",
    "image/x-icon": "an icon",
    "image/heic": "a HEIC picture",
    "video/webm": "a WebM or Matroska file",
    "video/x-msvideo": "an AVI video",
    "video/x-ms-asf": "a Windows Media file",
    "application/ogg": "an Ogg file",
}
_NOUNS = {"image": "picture", "audio": "recording", "video": "video"}


def sniff(data: bytes) -> str | None:
    """The media type of a file ("image/png"), None when it is of no known kind."""
    for offset, magic, kind in _MAGIC:
        if data.startswith(magic, offset):
            return kind
    if data[:4] in (b"RIFF", b"RF64", b"RIFX"):
        return _RIFF.get(data[8:12])
    if data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return "audio/aiff"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "video/mp4")
    if data[4:8] in (b"moov", b"mdat", b"wide"):
        return "video/quicktime"
    if data[:4] == b"OggS":
        return _ogg(data[:128])
    if data[:1] == b"\xff" and data[1:2] and data[1] & 0xE0 == 0xE0:  # eleven set bits: a frame's beginning
        return "audio/aac" if data[1] & 0x06 == 0 else "audio/mpeg"
    if data[:1] == b"G" and data[188:189] == b"G":
        return "video/mp2t"
    return _text(data[:1024])


def describe(data: bytes) -> str:
    """What a file is, in words that end a sentence beginning with "this is"."""
    if not data:
        return "an empty file"
    kind = sniff(data)
    if kind is None:
        return f"of no kind known here (it begins with the bytes {data[:8].hex(' ')})"
    if kind in _NAMES:
        return _NAMES[kind]
    family, _, name = kind.partition("/")
    name = name.removeprefix("x-").upper()
    return f"{'an' if name[0] in 'AEFILMNORSX' else 'a'} {name} {_NOUNS[family]}"


def _ogg(page: bytes) -> str:
    """Ogg holds sound or pictures; its first page names the codec."""
    if any(name in page for name in (b"OpusHead", b"\x01vorbis", b"Speex   ", b"\x7fFLAC")):
        return "audio/ogg"
    return "video/ogg" if b"\x80theora" in page else "application/ogg"


def _text(start: bytes) -> str | None:
    if b"\x00" in start:
        return None
    try:
        text = start.decode().lstrip("\ufeff \t\r\n").lower()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # not merely cut inside a character
            return None
        text = start[: error.start].decode().lower()
    if not text:
        return None
    if "<svg" in text:
        return "image/svg+xml"
    if text.startswith(("<!doctype html", "<html", "<head", "<body")):
        return "text/html"
    return "application/json" if text[0] in "{[" else "text/plain"
