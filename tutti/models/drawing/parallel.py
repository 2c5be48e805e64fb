"""One network over several ranks, by torch.distributed: gloo between CPU processes, NCCL between GPUs.

    rows      each rank computes some of the rows of a step (a picture, and what it is guided away from, are two), and
              all get all velocities: CFG parallelism, for every network
    tokens    each rank has some of the tokens of every row; around attention, tokens are exchanged for heads (Ulysses:
              Jacobs et al. 2023). diffusers' hooks do that, of networks for which it knows how (`_cp_plan`)
    layers    each rank has some of the heads and of the feed-forward's width (Shoeybi et al. 2019), of networks for
              which diffusers knows which layers these are (`_tp_plan`)

All ranks hold the same states and take the same steps, so that nothing but what a network's pass needs crosses. A team
may be left and joined again; what was hung into the network stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tutti.errors import ConfigError, InvalidRequest
from tutti.formats.checkpoint import Checkpoint
from tutti.models.drawing.blocks import restore
from tutti.models.drawing.parts import NETWORKS, class_of
from tutti.request import Drawing
from tutti.settings import Degrees

if TYPE_CHECKING:
    from tutti.models.drawing.adapters import Applied
    from tutti.models.drawing.denoiser import Denoiser, Row

_PATIENCE = timedelta(minutes=10)  # that a rank may be behind the others
_MEETING = timedelta(minutes=1)  # that ranks may take to meet, once all have loaded


class Team:
    """The ranks, as one of them sees them."""

    def __init__(self, degrees: Degrees, rank: int, device: torch.device) -> None:
        self.degrees = degrees
        self.rank = rank
        self.device = device
        self._groups: dict[str, Any] = {}  # of those who share rows, tokens, layers with this rank
        self._contexts: list[Any] = []  # diffusers' ParallelConfig of each network whose tokens are shared
        self._odd = False  # whether the heads of attention are no multiple of the ranks that share tokens

    # --- coming and going ---------------------------------------------------------------------------------------

    def join(self, file: str) -> None:
        """Meet the others by a `file` that all are told of. Raises RuntimeError where one does not come."""
        from torch.distributed.device_mesh import init_device_mesh

        store = dist.FileStore(file, self.degrees.ranks)
        store.set_timeout(_MEETING)
        # Sizes go by gloo in any case: they need not wait for a GPU.
        backend = "gloo" if self.device.type == "cpu" else f"cpu:gloo,{self.device.type}:nccl"
        if self.device.type != "cpu":
            torch.cuda.set_device(self.device)
        dist.init_process_group(
            backend, store=store, rank=self.rank, world_size=self.degrees.ranks, timeout=_PATIENCE
        )
        mesh = init_device_mesh(
            self.device.type,
            (self.degrees.cfg, 1, self.degrees.ulysses, self.degrees.tensor),
            mesh_dim_names=("cfg", "ring", "ulysses", "tensor"),
        )
        self._mesh = mesh
        self._groups = {name: mesh[name].get_group() for name in ("cfg", "ulysses", "tensor")}
        for context in self._contexts:
            self._meet(context)

    def leave(self) -> None:
        """Part from the others, wherever they are."""
        if dist.is_initialized():
            dist.destroy_process_group()
        self._groups = {}

    def settle(self) -> None:
        """Wait until all that was computed here is done, so that what went wrong is known."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def abort(self) -> None:
        """Have a computation that waits for others fail, in whatever thread it is; gloo's does by itself."""
        if dist.is_initialized() and self.device.type != "cpu":
            dist.distributed_c10d._abort_process_group()

    # --- networks -----------------------------------------------------------------------------------------------

    def adopt(self, denoiser: Denoiser) -> None:
        """Have the networks of `denoiser` computed together. Raises ConfigError where tokens cannot be shared."""
        degree = self.degrees.ulysses
        if degree > 1 and not denoiser.parts:
            raise ConfigError(
                f"--ulysses-degree {degree}: the tokens of a {type(denoiser.net).__name__} cannot be shared; share "
                f"the rows of a step: --cfg-parallel-size {degree}",
                param="ulysses_degree",
            )
        for net in denoiser.networks if degree > 1 else ():
            self._share_tokens(net)

    def _share_tokens(self, net: Any) -> None:
        from diffusers.hooks.context_parallel import apply_context_parallel
        from diffusers.models._modeling_parallel import (
            ContextParallelConfig,
            ContextParallelOutput,
            ParallelConfig,
        )

        degree, plan = self.degrees.ulysses, net._cp_plan
        heads = net.config.num_attention_heads // self.degrees.tensor
        if -heads % degree >= -(-heads // degree):
            raise ConfigError(
                f"--ulysses-degree {degree}: too many for {heads} heads of attention", param="ulysses_degree"
            )
        self._odd = bool(heads % degree)
        context = ContextParallelConfig(ulysses_degree=degree, ulysses_anything=True)
        config = ParallelConfig(context_parallel_config=context)
        restore(net)
        self._contexts.append(config)
        if self._groups:
            self._meet(config)
        for module in net.modules():
            if hasattr(getattr(module, "processor", None), "_parallel_config"):
                module.processor._parallel_config = config
        gathered = {name for name, what in plan.items() if isinstance(what, ContextParallelOutput)}
        apply_context_parallel(
            net, context, {name: what for name, what in plan.items() if name not in gathered}
        )
        for name in gathered:
            net.get_submodule(name).register_forward_hook(self._gather_tokens)

    def _meet(self, config: Any) -> None:
        config.setup(self.rank, self.degrees.ranks, self.device, mesh=self._mesh)

    def _gather_tokens(self, layer: nn.Module, given: Any, output: Tensor) -> Tensor:
        """The tokens of all ranks, of `output` [rows, tokens here, width]."""
        return _gathered(output, self._groups["ulysses"])

    def share_layers(self, name: str, net: Any) -> None:
        """Leave a network that is the component `name` this rank's share of its layers; no more need fit on a device.

        Raises ConfigError on a network whose layers cannot be shared.
        """
        from diffusers.hooks.tensor_parallel import resolve_tp_shard_specs

        degree, part = self.degrees.tensor, self.degrees.share(self.rank)[2]
        if degree == 1 or f"{name}." not in NETWORKS:
            return
        if net._tp_plan is None:
            raise ConfigError(
                f"--tensor-parallel-size {degree}: the layers of a {type(net).__name__} cannot be shared; share the "
                f"rows of a step: --cfg-parallel-size {degree}",
                param="tensor_parallel_size",
            )
        heads = net.config.num_attention_heads
        if heads % degree:
            raise ConfigError(
                f"--tensor-parallel-size {degree}: the {heads} heads of attention cannot be shared evenly",
                param="tensor_parallel_size",
            )
        try:
            specs = resolve_tp_shard_specs(net, net._tp_plan, degree)
        except (ValueError, AttributeError) as error:
            raise ConfigError(
                f"--tensor-parallel-size {degree}: {error}", param="tensor_parallel_size"
            ) from error
        for weight, spec in specs.items():
            path, _, kind = weight.rpartition(".")
            layer = net.get_submodule(path)
            if type(layer) is not nn.Linear:
                raise ConfigError(
                    f"--tensor-parallel-size {degree}: quantized layers cannot be shared; share the rows of a step: "
                    f"--cfg-parallel-size {degree}",
                    param="tensor_parallel_size",
                )
            whole = getattr(layer, kind)
            if spec.dim is None:  # what is added to a sum over ranks is added once
                kept = whole if part == 0 else torch.zeros_like(whole)
            else:
                blocks = whole.split(spec.block_sizes, dim=spec.dim)
                kept = torch.cat([one.chunk(degree, dim=spec.dim)[part] for one in blocks], dim=spec.dim)
            setattr(layer, kind, nn.Parameter(kept.clone(), requires_grad=False))
            layer.out_features, layer.in_features = layer.weight.shape
        for weight, spec in specs.items():
            path = weight.removesuffix(".weight")
            if spec.dim == 1:
                net.set_submodule(path, Summed(net.get_submodule(path), self))
            if path.endswith(".to_q"):
                attention = net.get_submodule(path.removesuffix(".to_q"))
                attention.heads //= degree
                attention.inner_dim //= degree

    def add_up(self, share: Tensor) -> Tensor:
        """The sum of what those who share layers have."""
        found = share.contiguous()
        dist.all_reduce(found, group=self._groups["tensor"])
        return found

    # --- a step -------------------------------------------------------------------------------------------------

    def check(self, drawing: Drawing, fewest: int) -> None:
        """Raises InvalidRequest on what cannot be drawn together; `fewest` are the tokens of its shortest text."""
        if drawing.cache is not None:
            raise InvalidRequest(
                f"this model is computed by {self.degrees.ranks} ranks together, which keep no feature caches: "
                "leave cache out",
                param="cache",
            )
        if fewest < self.degrees.ulysses:
            raise InvalidRequest(
                f"a prompt of {fewest} tokens cannot be shared by {self.degrees.ulysses} ranks: say more",
                param="prompt",
            )

    def predict(
        self, denoiser: Denoiser, rows: list[Row], adapters: Sequence[Applied | None]
    ) -> list[Tensor]:
        """See `Denoiser.predict`; each row has one of the `adapters`, or none."""
        shares = _shares(
            [denoiser.own_tokens(row) + denoiser.width(row.prepared) for row in rows], self.degrees.cfg
        )
        mine = shares[self.degrees.share(self.rank)[0]]
        found: dict[int, Tensor] = {}
        for batch in self._batches(denoiser, rows, mine):
            with denoiser.adapters.over([adapters[number] for number in batch]):
                found |= zip(batch, denoiser.predict([rows[number] for number in batch]), strict=True)
        if self.degrees.cfg > 1:
            flat = torch.cat(
                [torch.empty(0, device=self.device), *(found[number].flatten() for number in mine)]
            )
            order = [number for share in shares for number in share]
            sizes = [sum(rows[number].latents.numel() for number in share) for share in shares]
            all_flat = _gathered(flat[None], self._groups["cfg"], sizes)[0]
            pieces = all_flat.split([rows[number].latents.numel() for number in order])
            found = {
                number: one.view_as(rows[number].latents) for number, one in zip(order, pieces, strict=True)
            }
        return [found[number] for number in range(len(rows))]

    def _batches(self, denoiser: Denoiser, rows: list[Row], mine: list[int]) -> Iterator[list[int]]:
        """The rows of each pass. Where tokens are shared, texts of a pass are equally long: nothing is padded."""
        degree = self.degrees.ulysses
        if degree == 1:
            yield from [mine] if mine else []
            return
        found: dict[int, list[int]] = {}
        for number in mine:
            found.setdefault(denoiser.width(rows[number].prepared), []).append(number)
        for width, batch in found.items():
            # Ranks tell each other how much each has, before every exchange, only where that differs.
            uneven = any(
                tokens % degree for tokens in (width, *(denoiser.own_tokens(rows[k]) for k in batch))
            )
            for config in self._contexts:
                config.context_parallel_config.ulysses_anything = uneven or self._odd
            yield batch


class Summed(nn.Module):
    """A layer that each rank has some columns of: what it gives is the sum of what all ranks' shares give."""

    def __init__(self, layer: nn.Module, team: Team) -> None:
        super().__init__()
        self.layer = layer
        self._team = team

    def forward(self, x: Tensor) -> Tensor:
        """As the whole layer's."""
        return self._team.add_up(self.layer(x))


def _shares(work: Sequence[int], ranks: int) -> list[list[int]]:
    """Which rows each rank computes, so that all have about as much to do: the largest first, to who has least."""
    loads = [0] * ranks
    shares: list[list[int]] = [[] for _ in range(ranks)]
    for number in sorted(range(len(work)), key=lambda number: (-work[number], number)):
        least = loads.index(min(loads))
        shares[least].append(number)
        loads[least] += work[number]
    return shares


def _gathered(tensor: Tensor, group: Any, sizes: list[int] | None = None) -> Tensor:
    """What all ranks of a `group` have, one behind the other, of [rows, here, ...]; `sizes` of each, if they are known.

    Shares go as long as the longest, since gloo takes no others.
    """
    count = dist.get_world_size(group)
    if sizes is None:
        found = [torch.empty(1, dtype=torch.int64) for _ in range(count)]
        dist.all_gather(found, torch.tensor([tensor.shape[1]]), group=group)
        sizes = [int(one) for one in found]
    longest = max(sizes)
    padded = tensor.new_zeros(tensor.shape[0], longest, *tensor.shape[2:])
    padded[:, : tensor.shape[1]] = tensor
    shares = [torch.empty_like(padded) for _ in range(count)]
    dist.all_gather(shares, padded, group=group)
    return torch.cat([share[:, :size] for share, size in zip(shares, sizes, strict=True)], dim=1)


def shared_layers(checkpoint: Checkpoint, networks: Sequence[str]) -> tuple[str, ...]:
    """The names of the tensors of which each rank has a share, where ranks share layers."""
    found = []
    for network in networks:
        plan = class_of(checkpoint, network.rstrip("."))._tp_plan or {}
        for name in checkpoint.tensors:
            layer, _, kind = name.removeprefix(network).rpartition(".")
            styles = [style for pattern, style in plan.items() if fnmatchcase(layer, pattern)]
            columns = styles and (styles[0] == "colwise" or "Colwise" in type(styles[0]).__name__)
            if name.startswith(network) and styles and (kind == "weight" or columns):
                found.append(name)
    return tuple(found)
