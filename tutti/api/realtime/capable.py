"""Whether the models that are served can do what a session's settings ask: told when they are set, not later."""

from __future__ import annotations

from typing import Any

from tutti.api.openai.parse import convert
from tutti.api.realtime.config import Modality, SessionConfig, Tool, ToolChoice
from tutti.errors import InvalidRequest
from tutti.gateway.backend import BackendModel
from tutti.gateway.gateway import Gateway
from tutti.models.processor import Processor
from tutti.request import SamplingParams


def first_settings(gateway: Gateway, name: str, *, transcribes: bool) -> SessionConfig:
    """What a session with the model `name` begins with. Raises ModelNotFound.

    It only transcribes if that is asked, or if that is what the model is for.
    """
    model = gateway.model(name)
    processor = gateway.backend(name).processor
    modality: Modality = "audio" if "audio" in model.outputs else "text"
    if transcribes or (processor.transcriber is not None and not processor.converses):
        transcription: dict[str, Any] = {"audio": {"input": {"transcription": {"model": model.name}}}}
        return SessionConfig(model=model.name).updated({"type": "transcription", **transcription})
    return SessionConfig(model=model.name, output_modalities=(modality,))


def check(config: SessionConfig, gateway: Gateway, known: SessionConfig, within: str = "session") -> None:
    """Raises InvalidRequest, which names the field within `within`, where `config` asks for what is not there.

    `known` are the settings before.
    """
    model = gateway.model(config.model)
    if config.model != known.model:
        raise _wrong(f"{within}.model", "the model of a session stays the same: open another session")
    if config.include:
        raise _wrong(
            f"{within}.include", f"{config.include[0]!r} is not given here; leave include out or empty"
        )
    if config.type == "realtime":
        _check_output(config, model, within)
        _check_tools(config.tools, config.tool_choice, within)
    _check_sampling(config, gateway.backend(config.model).processor, within)
    if config.audio.input.transcription is not None:
        wanted = config.audio.input.transcription.model
        name = f"{within}.audio.input.transcription.model"
        hears(gateway, config.model if wanted is None else wanted, name)


def hears(gateway: Gateway, name: str, param: str) -> Processor:
    """The processor of the model `name`, which can write down what is said. Raises ModelNotFound, InvalidRequest."""
    processor = gateway.backend(name).processor
    if processor.transcriber is None and "audio" not in processor.modalities:
        raise _wrong(param, f"the model {name!r} does not hear; served are {_names(gateway)}")
    return processor


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


def _check_sampling(config: SessionConfig, processor: Processor, within: str) -> None:
    for name in ("n", "max_tokens", "structured_outputs"):
        if name in config.sampling:
            raise _wrong(f"{within}.sampling.{name}", "is not set here")
    sampling(config, processor, within)


def sampling(
    config: SessionConfig, processor: Processor, within: str = "session", **changes: Any
) -> SamplingParams:
    """How an answer is sampled: the client's word, else the model's; `changes` override. Raises InvalidRequest."""
    length = None if config.max_output_tokens == "inf" else config.max_output_tokens
    values = {**processor.generation_defaults, **config.sampling, "max_tokens": length, **changes}
    unknown = [name for name in values if name not in SamplingParams.__struct_fields__]
    if unknown:
        raise _wrong(f"{within}.sampling.{unknown[0]}", "is not known")
    return convert(values, SamplingParams, f"{within}.sampling")


def _wrong(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{param}: {message}.", param=param)


def _names(gateway: Gateway) -> str:
    return ", ".join(model.name for model in gateway.models())
