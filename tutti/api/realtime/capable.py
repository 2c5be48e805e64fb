"""Whether the models that are served can do what a session's settings ask: told when they are set, not later."""

from __future__ import annotations

from typing import Any

from tutti.api.defaults import answer_length, sampling_defaults
from tutti.api.openai.parse import convert
from tutti.api.realtime.config import Modality, SessionConfig, Tool, ToolChoice
from tutti.errors import InvalidRequest
from tutti.gateway.backend import BackendModel
from tutti.gateway.gateway import Gateway
from tutti.models.processor import Processor
from tutti.request import SamplingParams


def first_settings(model: BackendModel, processor: Processor, *, transcribes: bool) -> SessionConfig:
    """What a session with `model` begins with.

    It only transcribes if that is asked, or if that is what the model is for.
    """
    modality: Modality = "audio" if "audio" in model.outputs else "text"
    if transcribes or (processor.transcriber is not None and not processor.converses):
        transcription: dict[str, Any] = {"audio": {"input": {"transcription": {"model": model.name}}}}
        return SessionConfig(model=model.name).updated({"type": "transcription", **transcription})
    return SessionConfig(model=model.name, output_modalities=(modality,))


async def check(
    config: SessionConfig,
    gateway: Gateway,
    model: BackendModel,
    processor: Processor,
    within: str = "session",
) -> None:
    """Raises InvalidRequest, which names the field within `within`, where `config` asks for what is not there.

    `model` and `processor` are the session's. Another model that is to transcribe is loaded if it must be.
    """
    if config.model != model.name:
        await gateway.card(config.model)  # tells the name of one that does not exist
        raise _wrong(f"{within}.model", "the model of a session stays the same: open another session")
    if config.include:
        raise _wrong(
            f"{within}.include", f"{config.include[0]!r} is not given here; leave include out or empty"
        )
    if config.type == "realtime":
        _check_output(config, model, within)
        _check_tools(config.tools, config.tool_choice, within)
    _check_sampling(config, model, processor, within)
    if config.audio.input.transcription is not None:
        wanted = config.audio.input.transcription.model
        name = f"{within}.audio.input.transcription.model"
        if wanted is None or wanted == model.name:
            hears(processor, model.name, name)
        else:
            async with gateway.lease(wanted) as lease:
                hears(lease.backend.processor, wanted, name)


def hears(processor: Processor, name: str, param: str) -> None:
    """Raises InvalidRequest where the model `name` cannot write down what is said."""
    if processor.transcriber is None and "audio" not in processor.modalities:
        raise _wrong(param, f"the model {name!r} does not hear; name one that does")


def _check_output(config: SessionConfig, model: BackendModel, within: str) -> None:
    if config.output_modalities not in (("text",), ("audio",)):
        raise _wrong(
            f"{within}.output_modalities",
            'must be ["text"] or ["audio"], and an answer in audio has its transcript with it',
        )
    if config.speaks and "audio" not in model.outputs:
        raise _wrong(
            f"{within}.output_modalities", f'the model {model.name!r} does not speak; ask for ["text"]'
        )
    output = config.audio.output
    voices = {voice.lower() for voice in model.voices}
    if output.speaker is not None and voices and output.speaker.lower() not in voices:
        raise _wrong(
            f"{within}.audio.output.voice",
            f"there is no voice {output.speaker!r}; this model has {', '.join(model.voices)}",
        )


def _check_tools(tools: tuple[Tool, ...], choice: str | ToolChoice, within: str) -> None:
    names = [tool.name for tool in tools]
    if choice == "required" and not tools:
        raise _wrong(f"{within}.tool_choice", "asks for a call, but there are no tools")
    if isinstance(choice, ToolChoice) and choice.name not in names:
        raise _wrong(
            f"{within}.tool_choice",
            f"names {choice.name!r}, which is not among the tools: {', '.join(names) or 'none'}",
        )


def _check_sampling(config: SessionConfig, model: BackendModel, processor: Processor, within: str) -> None:
    for name in ("n", "max_tokens", "structured_outputs"):
        if name in config.sampling:
            raise _wrong(f"{within}.sampling.{name}", "is not set here")
    sampling(config, model, processor, within)


def sampling(
    config: SessionConfig, model: BackendModel, processor: Processor, within: str = "session", **changes: Any
) -> SamplingParams:
    """How an answer is sampled: the client's word, else the model's; `changes` override. Raises InvalidRequest."""
    length, _ = answer_length(model, None if config.max_output_tokens == "inf" else config.max_output_tokens)
    values = {**sampling_defaults(model, processor), **config.sampling, "max_tokens": length, **changes}
    unknown = [name for name in values if name not in SamplingParams.__struct_fields__]
    if unknown:
        raise _wrong(f"{within}.sampling.{unknown[0]}", "is not known")
    return convert(values, SamplingParams, f"{within}.sampling")


def _wrong(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{param}: {message}.", param=param)
