"""A session's settings, as OpenAI names them: their types, their defaults, and changing them.

`updated` merges what a client sends into what there is: only what is sent changes, objects are merged field by field,
lists and objects of another `type` are replaced. What the server can do with a setting is checked in `capable`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from tutti.api.openai.parse import convert
from tutti.api.realtime.sound import Format
from tutti.request import SamplingParams

Modality = Literal["text", "audio"]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=60_000)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]

# Seconds of silence that end a turn where a client asks for a judgement of meaning, which is not made here.
_PAUSES = {"low": 1.5, "medium": 0.8, "auto": 0.8, "high": 0.4}


class _Fields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An object of a session: a field that is not known is an error, as it is at OpenAI."""


class ServerVad(_Fields, frozen=True, tag_field="type", tag="server_vad"):
    """Turns end when silence has lasted for a while."""

    threshold: Share = 0.5
    prefix_padding_ms: Milliseconds = 300
    silence_duration_ms: Annotated[int, msgspec.Meta(ge=20, le=60_000)] = 500
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: Annotated[int, msgspec.Meta(ge=1_000, le=600_000)] | None = None

    @property
    def silence(self) -> float:
        """Seconds of it that end a turn."""
        return self.silence_duration_ms / 1000


class SemanticVad(_Fields, frozen=True, tag_field="type", tag="semantic_vad"):
    """Turns end when the speaker seems to have finished: here, the less eager, the longer the silence."""

    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True

    @property
    def silence(self) -> float:
        """Seconds of it that end a turn."""
        return _PAUSES[self.eagerness]

    @property
    def threshold(self) -> float:
        """The voice detector's."""
        return 0.5

    @property
    def prefix_padding_ms(self) -> int:
        """Sound before speech that belongs to its turn."""
        return 300

    @property
    def idle_timeout_ms(self) -> None:
        """Only the other kind has one."""
        return


class Transcription(_Fields, frozen=True):
    """How what is heard is written down for the client's eyes. Without a model, the session's own."""

    model: str | None = None
    language: str | None = None
    prompt: str = ""


class NoiseReduction(_Fields, frozen=True):
    """Accepted; the sound is left as it is."""

    type: Literal["near_field", "far_field"] | None = None
    strength: float | None = None


class InputAudio(_Fields, frozen=True):
    """What is heard."""

    format: Format = Format()
    noise_reduction: NoiseReduction | None = None
    transcription: Transcription | None = None
    turn_detection: ServerVad | SemanticVad | None = ServerVad()


class Voice(_Fields, frozen=True):
    """A voice by its id."""

    id: str


class OutputAudio(_Fields, frozen=True):
    """What is said."""

    format: Format = Format()
    voice: str | Voice | None = None
    speed: Annotated[float, msgspec.Meta(ge=0.25, le=1.5)] = 1.0

    @property
    def speaker(self) -> str | None:
        """The voice's name."""
        return self.voice.id if isinstance(self.voice, Voice) else self.voice


class Audio(_Fields, frozen=True):
    """Both ways."""

    input: InputAudio = InputAudio()
    output: OutputAudio = OutputAudio()


class Tool(_Fields, frozen=True):
    """A function that the model may call."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    type: Literal["function"] = "function"
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolChoice(_Fields, frozen=True):
    """A function that the model must call."""

    name: str
    type: Literal["function"] = "function"


class Reasoning(_Fields, frozen=True):
    """How much the model should think first."""

    effort: str | None = None


class Retention(_Fields, frozen=True):
    """When the conversation is too long, this share of it is kept."""

    retention_ratio: Share
    type: Literal["retention_ratio"] = "retention_ratio"
    token_limits: None = None


class SessionConfig(_Fields, frozen=True):
    """All of it. `sampling` and `stage_sampling` are ours: fields of `SamplingParams`."""

    model: str
    type: Literal["realtime", "transcription"] = "realtime"
    instructions: str = ""
    output_modalities: tuple[Modality, ...] = ("audio",)
    audio: Audio = Audio()
    tools: tuple[Tool, ...] = ()
    tool_choice: Literal["none", "auto", "required"] | ToolChoice = "auto"
    parallel_tool_calls: bool = True
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1)] | Literal["inf"] = "inf"
    truncation: Literal["auto", "disabled"] | Retention = "auto"
    reasoning: Reasoning | None = None
    include: tuple[str, ...] | None = None
    prompt: None = None  # OpenAI's stored prompts, and its traces, which nobody here keeps
    tracing: Any = None
    sampling: dict[str, Any] = msgspec.field(default_factory=dict)
    stage_sampling: dict[str, SamplingParams] = msgspec.field(default_factory=dict)

    @property
    def speaks(self) -> bool:
        """Whether answers are spoken."""
        return self.output_modalities == ("audio",)

    def updated(self, changes: Mapping[str, Any], name: str = "session") -> SessionConfig:
        """These settings with `changes`, JSON's values. Raises InvalidRequest, which names the field within `name`."""
        known = {"id", "object", "expires_at"}  # what clients send back of what they were shown
        changes = {name: value for name, value in changes.items() if name not in known}
        return convert(merged(self._plain(), changes), SessionConfig, name)

    def shown(self, session_id: str) -> dict[str, Any]:
        """What clients see."""
        kind = "realtime.session" if self.type == "realtime" else "realtime.transcription_session"
        fields = self._plain()
        if self.type == "transcription":
            fields = {
                "type": self.type,
                "audio": {"input": fields["audio"]["input"]},
                "include": self.include,
            }
        return {"id": session_id, "object": kind, **fields}

    def _plain(self) -> dict[str, Any]:
        """As JSON's values."""
        plain: dict[str, Any] = msgspec.to_builtins(self, str_keys=True)
        return plain


def merged(known: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`known` with `changes`: objects of one kind are merged, the rest is replaced."""
    result = dict(known)
    for name, value in changes.items():
        before = known.get(name)
        result[name] = value
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            kind = before.get("type")
            if value.get("type", kind) == kind:
                result[name] = merged(before, value)
    return result
