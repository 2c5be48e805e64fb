"""LoRA adapters of networks that draw: each row of a batch has its request's, or none.

diffusers reads the files (its own format, Kohya's and others, by the converters of the model's pipeline). Those that
were used last stay in memory, within the plan's room; one that a picture is being drawn with stays in any case. The
linear layers that an adapter changes are watched: what a row's adapter adds is added to the row's part of the output.

    rows a batch, [rows, ...]               one part a row (n parts where all rows come n times)
    rows end to end, [sum of lengths, ...]  parts of their lengths

Of a model of two networks, the file called NAME changes the first one, and the one called NAME_2 the second: together
they are the adapter NAME.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from tutti.errors import Busy, CheckpointError, InvalidRequest
from tutti.formats.checkpoint import Checkpoint, listing
from tutti.formats.lora import peft_scale
from tutti.formats.safetensors import read_header
from tutti.layers.lora import LowRank
from tutti.models.drawing.parts import component

_NETWORKS = (
    "transformer",
    "unet",
)  # what its part of a file begins with: the name of the pipeline's component
_SECOND, _ENDING = "second network.", "_2"  # how names of its layers begin, and how those of its files end


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """An adapter in memory: what it adds, by the names of the network's linear layers."""

    changes: Mapping[str, LowRank]

    @property
    def bytes(self) -> int:
        """Bytes of memory it holds."""
        return sum(one.a.nbytes + one.b.nbytes for one in self.changes.values())


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Applied:
    """An adapter as a request has it; while this is held, the adapter stays in memory."""

    adapter: Adapter
    scale: float


class Adapters:
    """See the module."""

    def __init__(self) -> None:
        self._read: dict[str, Callable[[], Adapter]] = {}
        self._sizes: dict[str, int] = {}
        self._room = 0
        self._loaded: OrderedDict[str, Adapter] = OrderedDict()  # the one that was used last comes last
        self._used: WeakSet[Applied] = WeakSet()
        self._watched: set[str] = set()
        self._layers: dict[str, nn.Linear] = {}
        self._rows: Sequence[Applied | None] = ()  # of the pass; empty: there is nothing to add
        self._at: Sequence[int] = ()  # the rows that are computed now
        self._lengths: Sequence[int] | None = None  # of rows that are laid end to end

    def serve(
        self,
        checkpoint: Checkpoint,
        net: nn.Module,
        paths: Mapping[str, Path],
        room: int,
        second: nn.Module | None = None,
    ) -> None:
        """Have the adapters at `paths` at hand, by their names; `room` is in bytes.

        Each is read once, so that one that is no adapter of this network is found now. Raises CheckpointError.
        """
        self._room = room
        first, other = _linear(net), {} if second is None else _linear(second)
        self._layers = first | {_SECOND + name: one for name, one in other.items()}
        names = [
            name for name in paths if not (other and name.removesuffix(_ENDING) in paths.keys() - {name})
        ]

        def whole(name: str) -> Adapter:
            changes = dict(read(paths[name], checkpoint, first).changes)
            if other and name + _ENDING in paths:
                lower = read(paths[name + _ENDING], checkpoint, other).changes
                changes |= {_SECOND + layer: change for layer, change in lower.items()}
            return Adapter(changes)

        for name in names:
            self._read[name] = partial(whole, name)
            adapter = self._read[name]()
            self._sizes[name] = adapter.bytes
            if adapter.bytes + sum(self._sizes[one] for one in self._loaded) <= room:
                self._keep(name, adapter)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that a request may name."""
        return tuple(self._read)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Those in memory, the one that was used last at the end."""
        return tuple(self._loaded)

    def use(self, name: str, scale: float) -> Applied:
        """The adapter `name`, read now unless it is in memory. Raises InvalidRequest, Busy, CheckpointError."""
        if name not in self._read:
            known = ", ".join(self._read) or "none: the server is started with --lora-modules NAME=PATH"
            raise InvalidRequest(
                f"there is no adapter {name!r} for this model; there are {known}", param="lora"
            )
        if name not in self._loaded:
            self._make_room(name)
            self._keep(name, self._read[name]())
        self._loaded.move_to_end(name)
        applied = Applied(self._loaded[name], scale)
        self._used.add(applied)
        return applied

    @contextmanager
    def over(self, rows: Sequence[Applied | None]) -> Iterator[None]:
        """The network runs for rows with these adapters in this block."""
        self._rows = rows if any(one is not None for one in rows) else ()
        with self.at(range(len(rows))):
            try:
                yield
            finally:
                self._rows = ()

    @contextmanager
    def at(self, rows: Sequence[int], lengths: Sequence[int] | None = None) -> Iterator[None]:
        """Only the `rows` of the pass are computed in this block, end to end where there are `lengths`."""
        before = self._at, self._lengths
        self._at, self._lengths = rows, lengths
        try:
            yield
        finally:
            self._at, self._lengths = before

    def _make_room(self, name: str) -> None:
        busy = {id(one.adapter) for one in self._used}
        free = self._room - sum(self._sizes[one] for one in self._loaded)
        for other in [one for one, adapter in self._loaded.items() if id(adapter) not in busy]:
            if free >= self._sizes[name]:
                break
            del self._loaded[other]
            free += self._sizes[other]
        if free < self._sizes[name]:
            raise Busy(
                f"there is no room for the adapter {name!r} beside those in use; try again in a moment"
            )

    def _keep(self, name: str, adapter: Adapter) -> None:
        self._loaded[name] = adapter
        for layer in set(adapter.changes) - self._watched:
            self._layers[layer].register_forward_hook(self._hook(layer))
        self._watched |= set(adapter.changes)

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def add(layer: nn.Module, given: Any, output: Tensor) -> None:
            if self._rows:
                self._add(name, given[0], output)

        return add

    def _add(self, name: str, x: Tensor, y: Tensor) -> None:
        """Adds to `y`, in place, what the rows' adapters make of `x` in the layer `name`."""
        start = 0
        for applied, length in self._parts(len(x)):
            part = slice(start, start + length)
            start += length
            change = None if applied is None else applied.adapter.changes.get(name)
            if applied is not None and change is not None:
                y[part] += linear(linear(x[part], change.a), change.b) * applied.scale

    def _parts(self, total: int) -> list[tuple[Applied | None, int]]:
        """Whose the first dimension of an input of `total` is, neighbours with one adapter together."""
        rows = [self._rows[row] for row in self._at]
        if len(rows) == 1:
            return [(rows[0], total)]
        if self._lengths is not None and sum(self._lengths) == total:
            parts = list(zip(rows, self._lengths, strict=True))
        else:
            parts = [(one, 1) for one in rows] * (total // len(rows))
        found: list[tuple[Applied | None, int]] = []
        for applied, length in parts:
            if found and found[-1][0] is applied:
                found[-1] = applied, found[-1][1] + length
            else:
                found.append((applied, length))
        return found


def _linear(net: nn.Module) -> dict[str, nn.Linear]:
    """A network's linear layers by their names."""
    return {name: one for name, one in net.named_modules() if isinstance(one, nn.Linear)}


def read(path: Path, checkpoint: Checkpoint, layers: Mapping[str, nn.Linear]) -> Adapter:
    """The adapter in the file `path`, for the network with these linear `layers`. Raises CheckpointError."""
    kind = checkpoint.config["architectures"][0]
    own = next(f"{one}." for one in _NETWORKS if one in checkpoint.config["components"])
    state, scales = _converted(path, checkpoint, own)
    if not state:
        raise CheckpointError(f"{path}: there are no matrices of a LoRA adapter for a {kind} in it")
    other = [name for name in state if not name.startswith(own)]
    if other:
        raise CheckpointError(
            f"{path}: it changes more than the network that draws, which is not served: {listing(other)}"
        )
    sides: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        module, dot, side = name.removeprefix(own).rpartition(".lora_")
        if not dot or side not in ("A.weight", "B.weight") or tensor.dim() != 2:
            raise CheckpointError(f"{path}: the tensor {name!r} is no part of a LoRA adapter that is served")
        sides.setdefault(module, {})[side[0]] = tensor
    lost = [module for module in sides if module not in layers]
    if lost:
        raise CheckpointError(
            f"{path} is an adapter for another model: this one has no linear layer for {listing(lost)}"
        )
    return Adapter(
        {name: _change(path, name, two, scales(name), layers[name]) for name, two in sides.items()}
    )


def _change(
    path: Path, name: str, two: Mapping[str, Tensor], scale: float | None, layer: nn.Linear
) -> LowRank:
    """The matrices of the layer `name`, the file's scale inside the second one."""
    if set(two) != {"A", "B"} or two["A"].shape[0] != two["B"].shape[1]:
        raise CheckpointError(f"{path}: the two matrices of {name} have no rank in common")
    a, b = two["A"], two["B"]
    if (b.shape[0], a.shape[1]) != (layer.out_features, layer.in_features):
        raise CheckpointError(
            f"{path} is an adapter for another model: its matrices for {name} make "
            f"{[b.shape[0], a.shape[1]]}, and the layer is {[layer.out_features, layer.in_features]}"
        )
    b = b if scale is None else b.float() * scale
    weight = layer.weight
    return LowRank(
        a.to(weight.device, weight.dtype).contiguous(), b.to(weight.device, weight.dtype).contiguous()
    )


def _converted(
    path: Path, checkpoint: Checkpoint, own: str
) -> tuple[dict[str, Tensor], Callable[[str], float | None]]:
    """The matrices under diffusers' names, the network's beginning with `own`, and scales that are not in them yet."""
    import diffusers
    from diffusers.utils import convert_unet_state_dict_to_peft

    kind, names = checkpoint.config["architectures"][0], read_header(path)
    unet = {"unet_config": SimpleNamespace(**component(checkpoint.config, "unet"))} if own == "unet." else {}
    if any("dora_scale" in name or ".lokr_" in name or ".hada_" in name for name in names):
        raise CheckpointError(f"{path}: DoRA, LoKr and LoHa adapters are not served; LoRA is")
    try:
        with torch.inference_mode(False):
            found = getattr(diffusers, kind).lora_state_dict(
                str(path),
                return_lora_metadata=True,
                return_alphas=True,
                local_files_only=True,
                use_safetensors=True,
                **unet,
            )
            state, metadata = found[0], found[-1] or {}
            if any(".lora.down." in name or ".lora_down." in name for name in state):
                state = convert_unet_state_dict_to_peft(state)
    except Exception as error:  # the converters raise what they meet
        raise CheckpointError(
            f"{path} cannot be read as a LoRA adapter for a {kind}: {type(error).__name__}: {error}"
        ) from error
    alphas = (found[1] if len(found) == 3 else None) or {}
    if unet:  # some are named after the matrix, as it was called before
        alphas = {
            f"{name.removesuffix('.alpha').partition('.lora_A')[0]}.alpha": alpha
            for name, alpha in convert_unet_state_dict_to_peft(alphas).items()
        }
    settings = {name.removeprefix(own): value for name, value in metadata.items()}

    def scale(module: str) -> float | None:
        alpha = alphas.get(f"{own}{module}.alpha")
        if alpha is not None:
            return float(alpha) / int(state[f"{own}{module}.lora_B.weight"].shape[1])
        return peft_scale(settings, module)

    return state, scale
