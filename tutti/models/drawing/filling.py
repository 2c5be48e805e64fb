"""Modules of diffusers and transformers whose weights are not in the plain form that these libraries load.

What is quantized, or shall be, takes the place of a linear layer as a packed one. Tensors are read one by one, straight
from the mapped files, so that no more than one is ever there in floats beside what stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutti.errors import CheckpointError
from tutti.formats.checkpoint import Checkpoint, listing
from tutti.graph import BuildOptions
from tutti.kernels import pack_linear, quantize
from tutti.kernels.memory import give_back_memory
from tutti.kernels.weights import Dense, Weight, dequantize
from tutti.layers.packed import PackedModule
from tutti.models.drawing.conversion import Rows, encoder_rows, network_rows

# What files have besides a network's tensors, and nothing is computed with.
_IDLE = re.compile(r"(.*\.)?(position_ids|logit_scale|attn_mask|norm_final\.weight|text_projection\.weight)")
_PROJECTION = "text_projection.weight"


def fill_module(
    checkpoint: Checkpoint, name: str, kind: Any, options: BuildOptions, form: str | None
) -> nn.Module:
    """The module `kind` of the component `name`, its linear layers in `form` (None: as the files have them).

    Raises CheckpointError where tensors are missing, have no place, or have another shape than the configuration says.
    """
    shapes = {
        full.removeprefix(f"{name}."): info.shape
        for full, info in checkpoint.tensors.items()
        if full.startswith(f"{name}.")
    }
    folder = checkpoint.path / name
    make = _of_diffusers if kind.__module__.startswith("diffusers") else _of_transformers
    with _named(checkpoint, name):
        net, places = make(kind, folder, shapes)
    _Filling(checkpoint, name, options, form, net, places).fill()
    return net.to(options.device)


Places = Mapping[int, Rows]
"""What is to be in parameters and buffers, by their identities."""


def _of_diffusers(kind: Any, folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> tuple[nn.Module, Places]:
    """A module without memory for its parameters, and what is to be in them."""
    from accelerate import init_empty_weights

    config = kind.load_config(str(folder), local_files_only=True)
    with init_empty_weights():
        net: nn.Module = kind.from_config(config)
    state = net.state_dict(keep_vars=True)
    plain = state.keys() <= shapes.keys()
    rows = (
        {name: Rows.of(name, shape) for name, shape in shapes.items()}
        if plain
        else network_rows(kind.__name__, config, shapes)
    )
    rows = {name: one.reshaped(state[name].shape) if name in state else one for name, one in rows.items()}
    _check(kind.__name__, {name: tuple(tensor.shape) for name, tensor in state.items()}, rows, shapes)
    return net, {id(tensor): rows[name] for name, tensor in state.items()}


def _of_transformers(
    kind: Any, folder: Path, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[nn.Module, Places]:
    """The same. transformers renames tensors itself: it is given stand-ins, which hold their numbers in one element."""
    config = kind.config_class.from_pretrained(str(folder), local_files_only=True)
    rows = encoder_rows(getattr(config, "hidden_size", 0), shapes)
    numbered = list(rows.values())
    state = {
        name: torch.tensor(float(number)).expand(one.shape) for number, (name, one) in enumerate(rows.items())
    }
    if kind.__name__ == "CLIPTextModelWithProjection" and _PROJECTION not in state:
        # It projects nothing, and its file leaves that out.
        state[_PROJECTION] = torch.tensor(-1.0).expand(config.projection_dim, config.hidden_size)
    loaded: Any = kind.from_pretrained(
        None,
        config=config,
        state_dict=state,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,  # they are reported, and refused below
        output_loading_info=True,
    )
    net, report = loaded
    wrong = [
        f"{name} is {list(found)}, not {list(wanted)}" for name, found, wanted in report["mismatched_keys"]
    ]
    _complain(kind.__name__, report["missing_keys"], _strangers(report["unexpected_keys"]), wrong)
    places = {}
    for tensor in net.parameters():
        number = int(tensor.detach().flatten()[0])
        if number >= 0:
            places[id(tensor)] = numbered[number]
        else:
            tensor.data = torch.eye(*tensor.shape)
    return net, places


def _check(
    kind: str,
    wanted: Mapping[str, tuple[int, ...]],
    rows: Mapping[str, Rows],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Raises CheckpointError unless every tensor has its place, every place its tensor, and both one shape."""
    used = {piece.name for name, one in rows.items() if name in wanted for piece in one.pieces}
    wrong = [
        f"{rows[name].pieces[0].name} is {list(rows[name].stored)}, not {list(shape)}"
        for name, shape in wanted.items()
        if name in rows and rows[name].shape != shape
    ]
    absent = [name for name in wanted if name not in rows]
    _complain(kind, absent, _strangers(name for name in shapes if name not in used), wrong)


def _strangers(names: Any) -> list[str]:
    return [name for name in names if not _IDLE.fullmatch(name)]


def _complain(kind: str, absent: list[str], strange: list[str], wrong: list[str]) -> None:
    for names, what in (
        (absent, "it lacks {} tensors"),
        (strange, "it has {} tensors that have no place there"),
        (wrong, "{} tensors have another shape"),
    ):
        if names:
            raise CheckpointError(
                f"it is no {kind} of this configuration: {what.format(len(names))}: {listing(sorted(names), 4)}; "
                "take the file and the folder of one model"
            )


@contextmanager
def _named(checkpoint: Checkpoint, name: str) -> Iterator[None]:
    """What is wrong with the tensors, with where they are and what they were for."""
    try:
        yield
    except CheckpointError as error:
        files = {str(info.file) for full, info in checkpoint.tensors.items() if full.startswith(f"{name}.")}
        raise CheckpointError(f"{', '.join(sorted(files))}, for the {name}: {error.message}") from error


class _Filling:
    """Fills the modules of one network."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        name: str,
        options: BuildOptions,
        form: str | None,
        net: nn.Module,
        places: Places,
    ) -> None:
        self.checkpoint = checkpoint
        self.name = name
        self.device = torch.device(options.device)
        self.dtype: torch.dtype = getattr(torch, options.dtype)
        self.form = form
        self.net = net
        self.places = places
        self.read: Callable[[str], Weight] = lru_cache(maxsize=1)(self._read)  # its rows may go to several
        self._made: dict[int, nn.Parameter] = {}  # those that modules share are made once
        self._float32 = _kept_in_float32(net, self.dtype)
        self._alive = [*net.parameters(), *net.buffers()]  # so that identities stay theirs
        self._tables = {id(one.weight) for one in net.modules() if isinstance(one, nn.Embedding)}

    def fill(self) -> None:
        """Put every tensor into its place."""
        for path, module in list(self.net.named_modules()):
            dtype = torch.float32 if self._float32.intersection(path.split(".")) else self.dtype
            if type(module) is nn.Linear and self._packed(path, module, dtype):
                continue
            for key, parameter in list(module._parameters.items()):
                if parameter is not None:
                    own = torch.float32 if key in self._float32 else dtype
                    module._parameters[key] = self._parameter(parameter, own)
            for key, buffer in list(module._buffers.items()):
                if buffer is not None and id(buffer) in self.places:
                    module._buffers[key] = self._tensor(buffer, dtype)

    def _packed(self, path: str, module: nn.Linear, dtype: torch.dtype) -> bool:
        """Whether the linear layer at `path` is quantized, and a packed one is in its place now."""
        rows = self.places.get(id(module.weight))
        if rows is None or id(module.weight) in self._tables:
            return False
        weight = rows.read(self.read)
        if self.form is not None and (dtype == self.dtype or not isinstance(weight, Dense)):
            weight = quantize(weight, self.form)
        if isinstance(weight, Dense):
            return False
        bias = None if module.bias is None else self._tensor(module.bias, dtype)
        packed = pack_linear(weight, bias, device=self.device, dtype=dtype)
        like = torch.empty(0, dtype=dtype, device=self.device)
        self.net.set_submodule(path, PackedModule(packed, like))
        give_back_memory()  # else what was floats stays in holes between the codes
        for piece in rows.pieces:
            self.checkpoint.release(f"{self.name}.{piece.name}")
        return True

    def _parameter(self, old: nn.Parameter, dtype: torch.dtype) -> nn.Parameter:
        made = self._made.get(id(old))
        if made is None:
            made = nn.Parameter(self._tensor(old, dtype), requires_grad=False)
            self._made[id(old)] = made
        return made

    def _tensor(self, old: Tensor, dtype: torch.dtype) -> Tensor:
        rows = self.places.get(id(old))
        if rows is None:  # it has its value already
            return old.detach().to(dtype)
        weight = rows.read(self.read)
        return dequantize(weight, dtype).to(self.device)

    def _read(self, name: str) -> Weight:
        return self.checkpoint.weight(f"{self.name}.{name}")


def _kept_in_float32(net: Any, dtype: torch.dtype) -> set[str]:
    """Modules that the libraries keep in float32: transformers where float16 is too coarse, diffusers always."""
    if type(net).__module__.startswith("transformers") and dtype != torch.float16:
        return set()
    return set(net._keep_in_fp32_modules or ())
