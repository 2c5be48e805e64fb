"""Building a model of transformers from a checkpoint's mapped tensors, and packing its linear layers.

transformers makes the modules without memory and puts the tensors in, converted where its names differ from the
checkpoint's (experts, mostly). Then every `nn.Linear` gives its weight to the kernels.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from tutti.errors import CheckpointError, ConfigError
from tutti.formats.checkpoint import Checkpoint, listing
from tutti.graph import BuildOptions
from tutti.kernels import pack_linear, quantize_int8
from tutti.kernels.weights import Dense, Weight
from tutti.layers.packed import PackedModule
from tutti.models.decoder import BUFFERS
from tutti.models.fallback.attention import NAME
from tutti.models.fallback.config import refused

ROUTERS = re.compile(r"(.*\.)?(\w*gate|\w*router)(\.\w+)?")  # small layers that choose: never quantized


def load_model(checkpoint: Checkpoint, options: BuildOptions) -> PreTrainedModel:
    """transformers' model with the checkpoint's weights on the options' device, in their dtype.

    Raises CheckpointError when transformers does not know the model, when its layers keep another state than keys and
    values or attend by themselves, and when tensors are missing, unknown or of the wrong shape.
    """
    if checkpoint.config.get("quantization_config"):
        raise CheckpointError(
            f"{checkpoint.path}: its weights are quantized, which is not supported for this model; take the "
            "checkpoint in bfloat16, and --quantization int8 to quantize it while loading"
        )
    config, kind = _find(checkpoint)
    _check_kind(checkpoint, kind)
    tensors = {name: checkpoint.tensor(name) for name in checkpoint.tensors}
    with _quiet():
        loaded: Any = kind.from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            dtype=getattr(torch, options.dtype),
            attn_implementation=NAME,
            experts_implementation="eager",  # the one that takes every width
            ignore_mismatched_sizes=True,  # they are reported, and refused below
            output_loading_info=True,
        )
    model, report = loaded
    _check_report(report)
    built: PreTrainedModel = model.to(options.device).eval()
    return built


def _find(checkpoint: Checkpoint) -> tuple[Any, type[PreTrainedModel]]:
    """The configuration as transformers reads it, and its class of model."""
    try:
        config = AutoConfig.from_pretrained(checkpoint.path, trust_remote_code=False, local_files_only=True)
        kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    except (KeyError, ValueError, OSError) as error:
        why = "transformers knows no such causal language model, and code that comes with a checkpoint is not run"
        raise refused(checkpoint.config, f"{why} ({error})") from error
    return config, kind


def _check_kind(checkpoint: Checkpoint, kind: type[PreTrainedModel]) -> None:
    if kind._is_stateful:
        raise refused(checkpoint.config, "its layers keep a state besides keys and values")
    if not kind._can_set_attn_implementation():
        raise refused(
            checkpoint.config, "its attention does not go through transformers' attention interface"
        )


def _check_report(report: dict[str, Any]) -> None:
    """Raises CheckpointError unless every tensor found its place and every place its tensor."""
    buffers = re.compile("|".join(BUFFERS))
    unknown = sorted(name for name in report["unexpected_keys"] if not buffers.fullmatch(name))
    missing = sorted(report["missing_keys"])
    wrong = [
        f"{name} is {list(found)}, not {list(wanted)}" for name, found, wanted in report["mismatched_keys"]
    ]
    for problem, names in (
        ("lacks {} tensors the model needs", missing),
        ("has {} tensors the model has no place for", unknown),
        ("has {} tensors of a shape that config.json contradicts", wrong),
    ):
        if names:
            raise CheckpointError(f"the checkpoint {problem.format(len(names))}: {listing(names)}")


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no reports: what is wrong is raised."""
    logger, shown = (
        transformers_logging.get_logger("transformers"),
        transformers_logging.is_progress_bar_enabled(),
    )
    level = logger.level
    transformers_logging.disable_progress_bar()
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        if shown:
            transformers_logging.enable_progress_bar()


def pack(model: PreTrainedModel, checkpoint: Checkpoint, options: BuildOptions) -> None:
    """Packs every linear layer for the options' device; the head answers in float32.

    With int8 everything is quantized but routers. Raises ConfigError where matrices are no linear layers (fused
    experts), which would stay as they are.
    """
    dtype: torch.dtype = getattr(torch, options.dtype)
    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if type(module) is not nn.Linear:
            continue
        weight: Weight = Dense(module.weight.detach())
        if options.quantization == "int8" and not ROUTERS.fullmatch(name):
            weight = quantize_int8(Dense(module.weight.detach()))
        bias = None if module.bias is None else module.bias.detach()
        packed = pack_linear(weight, bias, device=options.device, dtype=dtype)
        result = torch.float32 if module is head else None
        model.set_submodule(name, PackedModule(packed, module.weight.new_empty(0, dtype=dtype), result))
        if f"{name}.weight" in checkpoint.tensors:
            checkpoint.release(f"{name}.weight")
    if options.quantization is not None:
        _check_quantized(model)


def _check_quantized(model: PreTrainedModel) -> None:
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    left = [
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and id(parameter) not in tables and not ROUTERS.fullmatch(name)
    ]
    if left:
        raise ConfigError(
            f"quantization int8 is not supported for this model: {listing(left, 3)} are not plain linear layers",
            param="quantization",
        )
