"""Modules taken from transformers: encoders and vocoders, made by their class and filled from the checkpoint.

What sees, hears and sounds differs in every family and runs once per item, so the modules are transformers' own. Only
their weights pass through us: named, checked and placed like every other weight.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tutti.errors import CheckpointError
from tutti.formats.checkpoint import Checkpoint, listing
from tutti.graph import BuildOptions
from tutti.models.processor.files import Colours


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
    prefix = next(
        (p for p in prefixes if any(name.startswith(p) for name in checkpoint.tensors)), prefixes[0]
    )
    fill(tower, checkpoint, options, prefix)
    return tower.to(options.device).eval()


def fill(module: nn.Module, checkpoint: Checkpoint, options: BuildOptions, prefix: str) -> None:
    """Replaces the module's parameters by the checkpoint's tensors under `prefix`. Raises CheckpointError."""
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    wanted = module.state_dict()
    missing = [prefix + name for name in wanted if prefix + name not in checkpoint.tensors]
    if missing:
        raise CheckpointError(
            f"the checkpoint lacks {len(missing)} of the {len(wanted)} tensors under {prefix}: {listing(missing)}"
        )
    wrong = [
        f"{prefix + name} is {list(checkpoint.tensors[prefix + name].shape)}, not {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if tuple(checkpoint.tensors[prefix + name].shape) != tuple(tensor.shape)
    ]
    if wrong:
        raise CheckpointError(
            f"{len(wrong)} tensors have a shape that config.json contradicts: {listing(wrong)}"
        )
    state = {}
    for name in wanted:
        stored = checkpoint.tensor(prefix + name)
        state[name] = torch.empty(stored.shape, dtype=dtype, device=device).copy_(stored)
        checkpoint.release(prefix + name)
    module.load_state_dict(state, assign=True)
