"""Networks that are filled from a checkpoint as they stand: encoders, flows and vocoders.

What sees, hears and sounds differs in every family and runs once per item. Some are ours, `nn.Module`s whose parameters
have the checkpoint's names (`fill_tower`); the others are transformers' own (`load_tower`). Their weights are named,
checked and placed like every other weight.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tutti.errors import CheckpointError
from tutti.formats.checkpoint import Checkpoint, listing
from tutti.graph import BuildOptions
from tutti.models.processor.files import Colours

Stacks = Mapping[str, tuple[str, ...]]
"""Layers in which several of the checkpoint's lie, in this order: {"qkv": ("q", "k", "v")}."""

Tower = TypeVar("Tower", bound=nn.Module)
_NO_STACKS: Stacks = {}


def normalized(pixels: Tensor, colours: Colours) -> Tensor:
    """`pixels` uint8 [..., 3] as the float32 that towers take."""
    mean, deviation = torch.tensor(colours.mean), torch.tensor(colours.deviation)
    return (pixels.to(torch.float32) * colours.scale - mean) / deviation


def load_tower(
    checkpoint: Checkpoint,
    options: BuildOptions,
    target: str,
    config: Mapping[str, Any],
    prefixes: Sequence[str],
    attention: str = "sdpa",
    settings: str | None = None,
) -> nn.Module:
    """The module `target` ("transformers.models.x.modeling_x:Class") of its section `config` of config.json.

    Its tensors are those under the first of `prefixes` that the checkpoint has. `settings` is the class of its
    configuration, a name in its module, where the class itself does not say. Raises CheckpointError naming the
    tensors that are missing or of the wrong shape.
    """
    from transformers.initialization import no_init_weights

    module_name, _, class_name = target.partition(":")
    home = importlib.import_module(module_name)
    kind = getattr(home, class_name)
    config_class = kind.config_class if settings is None else getattr(home, settings)
    parsed = config_class.from_dict({key: value for key, value in config.items() if key != "dtype"})
    with no_init_weights():  # buffers are computed, weights stay untouched memory until they are replaced
        tower: nn.Module = kind._from_config(parsed, attn_implementation=attention)
    return fill_tower(tower, checkpoint, options, prefixes)


def fill_tower(
    tower: Tower,
    checkpoint: Checkpoint,
    options: BuildOptions,
    prefixes: Sequence[str],
    stacks: Stacks = _NO_STACKS,
) -> Tower:
    """`tower` with its weights, on the options' device: see `fill`; the first of `prefixes` that the checkpoint has."""
    prefix = next(
        (p for p in prefixes if any(name.startswith(p) for name in checkpoint.tensors)), prefixes[0]
    )
    fill(tower, checkpoint, options, prefix, stacks)
    return tower.to(options.device).eval()


def fill(
    module: nn.Module,
    checkpoint: Checkpoint,
    options: BuildOptions,
    prefix: str,
    stacks: Stacks = _NO_STACKS,
) -> None:
    """Replaces the module's parameters by the checkpoint's tensors under `prefix`. Raises CheckpointError."""
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    wanted = module.state_dict()
    sources = {name: _sources(prefix + name, checkpoint, stacks) for name in wanted}
    _check(wanted, sources, checkpoint, prefix)
    state = {}
    for name, tensor in wanted.items():
        state[name] = torch.empty(tensor.shape, dtype=dtype, device=device)
        names = sources[name]
        parts = (state[name],) if len(names) == 1 else state[name].chunk(len(names))
        for part, source in zip(parts, names, strict=True):
            part.copy_(checkpoint.tensor(source))
            checkpoint.release(source)
    module.load_state_dict(state, assign=True)


def _sources(name: str, checkpoint: Checkpoint, stacks: Stacks) -> list[str]:
    """The checkpoint's tensors that lie in the parameter `name`: itself, or those that are stacked in it."""
    layer, _, kind = name.rpartition(".")
    home, _, own = layer.rpartition(".")
    if own not in stacks or name in checkpoint.tensors:
        return [name]
    return [f"{home}.{part}.{kind}" for part in stacks[own]]


def _check(
    wanted: Mapping[str, Tensor], sources: Mapping[str, list[str]], checkpoint: Checkpoint, prefix: str
) -> None:
    """Raises CheckpointError naming the tensors that are missing or of the wrong shape."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in wanted.items():
        rows, *columns = tensor.shape or (1,)
        count = len(sources[name])
        shape = tuple(tensor.shape) if count == 1 else (rows // count, *columns)
        shapes |= dict.fromkeys(sources[name], shape)
    missing = [name for name in shapes if name not in checkpoint.tensors]
    if missing:
        raise CheckpointError(
            f"the checkpoint lacks {len(missing)} of the {len(shapes)} tensors under {prefix}: {listing(missing)}"
        )
    wrong = [
        f"{name} is {list(checkpoint.tensors[name].shape)}, not {list(shape)}"
        for name, shape in shapes.items()
        if tuple(checkpoint.tensors[name].shape) != shape
    ]
    if wrong:
        raise CheckpointError(
            f"{len(wrong)} tensors have a shape that config.json contradicts: {listing(wrong)}"
        )
