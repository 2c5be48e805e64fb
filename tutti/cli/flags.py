"""The engine's flags, shared by every command that starts one. Names are vLLM's where vLLM has them.

A command takes them all with one parameter, `engine: EngineFlags`, under the decorator `with_engine_flags`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints

import typer

from tutti.errors import ConfigError
from tutti.settings import EngineOptions, parse_size, parse_tokens, read_settings


def _flag(help: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFlags:
    """What was typed. `options` makes `EngineOptions` of it."""

    max_model_len: Annotated[
        int | None,
        _flag("Longest sequence, prompt and answer together.", parser=parse_tokens, metavar="TOKENS"),
    ] = None
    memory: Annotated[
        int | None,
        _flag("Everything on the device must fit in this: 16GB.", parser=parse_size, metavar="SIZE"),
    ] = None
    kv_cache_memory_bytes: Annotated[
        int | None, _flag("Size of the KV cache alone: 2GB.", parser=parse_size, metavar="SIZE")
    ] = None
    encoder_cache_memory_bytes: Annotated[
        int, _flag("Keep this much of what encoders made of media.", parser=parse_size, metavar="SIZE")
    ] = 256_000_000
    dtype: Annotated[str, _flag("auto, bfloat16, float16 or float32.")] = "auto"
    quantization: Annotated[
        str | None,
        _flag(
            "int8: quantize the weights while loading; drawing: fp8, or transformer=int8,...",
            "--quantization",
            "-q",
        ),
    ] = None
    component: Annotated[
        list[str] | None,
        _flag("NAME=FILE: take a drawing model's component from this file; may be repeated."),
    ] = None
    pipeline: Annotated[
        str | None, _flag("The folder or id of the rest, of a model that is one file of weights.")
    ] = None
    device: Annotated[str, _flag("auto, cpu or cuda.")] = "auto"
    placement: Annotated[
        list[str] | None,
        _flag("Run a stage in its own process, on a device: talker=cpu:1; may be repeated.", "--place"),
    ] = None
    threads: Annotated[
        int | None, _flag("CPU threads of each device (default: the cores, shared).", min=1)
    ] = None
    max_num_seqs: Annotated[int | None, _flag("Most requests in one step (default: 256; run: 4).", min=1)] = (
        None
    )
    max_num_batched_tokens: Annotated[
        int | None, _flag("Most tokens in one step.", parser=parse_tokens, metavar="TOKENS")
    ] = None
    cfg_parallel_size: Annotated[
        int, _flag("Ranks that share the pictures of a step, and what guides them.", min=1)
    ] = 1
    ulysses_degree: Annotated[int, _flag("Ranks that share each picture's tokens.", min=1)] = 1
    tensor_parallel_size: Annotated[
        int,
        _flag("Ranks that share each layer of a model that draws.", min=1),
    ] = 1
    max_queue: Annotated[int, _flag("Requests that may wait; more are answered 503.", min=0)] = 256
    block_size: Annotated[int, _flag("Tokens per KV block.", min=1)] = 32
    enable_prefix_caching: Annotated[bool, _flag("Reuse the KV cache of equal prompt beginnings.")] = True
    player_clock: Annotated[bool, _flag("Serve the listener first whose player runs dry first.")] = True
    seed: Annotated[int | None, _flag("Seed of requests that bring none; of the picture, in run.")] = None
    tokenizer: Annotated[str | None, _flag("Directory or id of another tokenizer.")] = None
    chat_template: Annotated[str | None, _flag("A Jinja file, or the template itself.")] = None
    generation_config: Annotated[str, _flag("auto: the model's sampling defaults; vllm: neutral ones.")] = (
        "auto"
    )
    adapters: Annotated[
        list[str] | None,
        _flag("Add a LoRA adapter, a folder of PEFT's or a GGUF file; may be repeated.", "--adapter"),
    ] = None
    lora_modules: Annotated[
        list[str] | None,
        _flag("NAME=PATH: a LoRA adapter that requests may name, of a model that draws; may be repeated."),
    ] = None
    tool_call_parser: Annotated[str | None, _flag("How tool calls are read (default: by the template).")] = (
        None
    )
    reasoning_parser: Annotated[str | None, _flag("How thinking is read (default: by the template).")] = None

    def given(self) -> tuple[str, ...]:
        """The flags that were typed and say something else than their defaults do, as they are typed."""
        return tuple(
            f"--{'place' if field.name == 'placement' else field.name.replace('_', '-')}"
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default and value != []
        )

    def options(self, model: str, names: tuple[str, ...] = (), *, max_num_seqs: int = 256) -> EngineOptions:
        """The options for serving the checkpoint of `model`, found (or downloaded) now, under `names`.

        `max_num_seqs` counts where none was typed. Raises ModelNotFound, CheckpointError, ConfigError.
        """
        from tutti.llm.options import engine_options

        return engine_options(model, self._typed(max_num_seqs) | {"served_model_name": names})

    def for_every_model(self) -> EngineOptions:
        """The options that many models have in common. `memory` is for all of them together.

        Raises ConfigError on a flag that can be true of one model only.
        """
        for flag in (
            "tokenizer",
            "chat_template",
            "tool_call_parser",
            "reasoning_parser",
            "placement",
            "lora_modules",
            "cfg_parallel_size",
            "ulysses_degree",
            "tensor_parallel_size",
            "component",
            "pipeline",
        ):
            if getattr(self, flag) not in (None, [], 1):
                name = "place" if flag == "placement" else flag.replace("_", "-")
                raise ConfigError(f"--{name} is for one model: say which, tutti serve MODEL", param=flag)
        return EngineOptions(model="", **self._typed(read_settings().num_parallel or 256))

    def _typed(self, max_num_seqs: int) -> dict[str, Any]:
        """What was typed, by the names of `EngineOptions`."""
        from tutti.engine.placement import parse_placement
        from tutti.hub import resolve_model

        typed = {field.name: getattr(self, field.name) for field in fields(self)}
        typed["placement"] = parse_placement(self.placement or [])
        if self.adapters:
            typed["adapters"] = tuple(self.adapters)
        else:
            del typed["adapters"]  # those that a model of the store brings along count
        typed["lora_modules"] = tuple(self.lora_modules or ())
        typed["components"] = _files(typed.pop("component") or [])
        if self.pipeline is None:
            del typed["pipeline"]
        typed["max_num_seqs"] = self.max_num_seqs or max_num_seqs
        typed["seed"] = self.seed or 0
        typed["threads"] = self.threads or read_settings().threads
        if self.tokenizer is not None:
            typed["tokenizer"] = str(resolve_model(self.tokenizer))
        return typed


def _files(given: list[str]) -> dict[str, str]:
    """The files of NAME=FILE, by the names. Raises ConfigError."""
    found = {}
    for one in given:
        name, _, file = one.partition("=")
        if not name or not file:
            raise ConfigError(
                f"--component {one}: write NAME=FILE, transformer=model.gguf for instance", param="component"
            )
        found[name] = file
    return found


def with_engine_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """`command` with its parameter `engine: EngineFlags` spelt out as the engine's flags.

    Typer reads a command's signature; the wrapper's has one keyword per field of EngineFlags in `engine`'s place.
    """
    hints = get_type_hints(EngineFlags, include_extras=True)
    flags = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(EngineFlags)
    ]
    signature = inspect.signature(command, eval_str=True)
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in signature.parameters.items()
        if name != "engine"
    ]

    @functools.wraps(command)
    def wrapper(**given: Any) -> Any:
        engine = EngineFlags(**{flag.name: given.pop(flag.name) for flag in flags})
        return command(engine=engine, **given)

    parameters = own + flags
    # Typer reads both of these.
    wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper
