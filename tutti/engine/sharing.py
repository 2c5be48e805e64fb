"""The memory plans of several engines as one sum: `python -m tutti.engine.sharing`, started by `engine.shares`.

Who says how much it gets, gets it. The others share the rest in proportion to what they need before the first token
(weights, activations); what one of them cannot use, the others get.

Engines that come and go one by one (`portion`) cannot share what is left, for nobody knows who comes next. Each takes
what it needs before the first token, and a KV cache of at most a quarter of the whole; of more only where one request
of the context that was asked for needs more.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from tutti.engine.placement import main_stage
from tutti.engine.plan import MemoryPlan, auto_share, require
from tutti.engine.planning import available_bytes, choose_device, sketch_plan
from tutti.engine.shares import Device, Guest, Portion, Question, Refused, Share, Sharer, Shares
from tutti.errors import TuttiError
from tutti.events import ErrorValue
from tutti.formats.checkpoint import open_checkpoint
from tutti.graph import resolve
from tutti.logs import configure
from tutti.models.registry import find_graph
from tutti.settings import read_settings

_CACHED = 4  # the part of all memory that is one guest's KV cache at most


def answer(question: Question | Guest) -> Shares | Portion | Refused:
    """The answer to either question."""
    if isinstance(question, Question):
        return share(question)
    try:
        return portion(question)
    except TuttiError as error:
        return Refused(question.options.model, ErrorValue.of(error))


def portion(guest: Guest) -> Portion:
    """What one engine among others takes. Raises OutOfMemory, CheckpointError, ConfigError."""
    device = choose_device(guest.options.device)
    budget = guest.budget or int(available_bytes(device) * auto_share(device.type))
    checkpoint = open_checkpoint(guest.options.model, guest.options.components)
    graph = find_graph(checkpoint.config, checkpoint.path)
    longest = resolve(main_stage(graph).describe)(checkpoint.config).context
    asked = guest.options.max_model_len
    options = msgspec.structs.replace(
        guest.options, max_model_len=None if asked is None else min(asked, longest)
    )

    def plan(memory: int) -> MemoryPlan:
        memory = min(memory, budget)
        wanted = msgspec.structs.replace(options, memory=memory)
        return sketch_plan(checkpoint, graph, wanted, device, available=budget)

    found = plan(plan(budget).fixed + budget // _CACHED)
    if not found.fits:
        found = plan(_with_beside(found, found.total))
    require(found)
    total = _with_beside(found, found.total)
    return Portion(str(device), _with_beside(found, found.budget), total, found.context, budget, found.text())


def share(question: Question) -> Shares | Refused:
    """What each of the sharers may take."""
    planners: list[_Planner] = []
    for sharer in question.sharers:
        try:
            planners.append(_Planner(sharer, question.available))
        except TuttiError as error:
            return Refused(sharer.name, ErrorValue.of(error))
    devices: list[Device] = []
    plans: dict[str, MemoryPlan] = {}
    for device in dict.fromkeys(planner.device for planner in planners):
        here = [planner for planner in planners if planner.device == device]
        available = question.available or available_bytes(device)
        budget = question.memory or int(available * auto_share(device.type))
        devices.append(Device(str(device), budget, available))
        plans |= _divide(here, budget)
    shares = [
        Share(
            planner.sharer.name,
            str(planner.device),
            _with_beside(plan := plans[planner.sharer.name], plan.budget),
            _with_beside(plan, plan.total),
            all(one.fits for one in (plan, *plan.beside)),
            plan.text(),
        )
        for planner in planners
    ]
    return Shares(tuple(shares), tuple(devices))


class _Planner:
    """Makes the plans of one engine. Raises TuttiError when there can be none."""

    def __init__(self, sharer: Sharer, available: int | None) -> None:
        self.sharer = sharer
        self.device = choose_device(sharer.options.device)
        self.checkpoint = open_checkpoint(sharer.options.model, sharer.options.components)
        self.graph = find_graph(self.checkpoint.config, self.checkpoint.path)
        self.available = available
        self.alone = self.plan(sharer.options.memory)

    @property
    def decided(self) -> bool:
        """Whether its size is given."""
        options = self.sharer.options
        return options.memory is not None or options.kv_cache_memory_bytes is not None

    def plan(self, memory: int | None) -> MemoryPlan:
        """The plan with a budget of `memory` bytes."""
        options = msgspec.structs.replace(self.sharer.options, memory=memory)
        return sketch_plan(self.checkpoint, self.graph, options, self.device, available=self.available)


def _divide(planners: Sequence[_Planner], budget: int) -> Mapping[str, MemoryPlan]:
    """The plans of engines that have `budget` bytes together."""
    plans = {planner.sharer.name: planner.alone for planner in planners if planner.decided}
    left = budget - sum(_with_beside(plan, plan.budget) for plan in plans.values())
    sharing = [planner for planner in planners if not planner.decided]
    while sharing:
        needed = sum(planner.alone.fixed for planner in sharing)
        parts = {planner.sharer.name: max(left, 0) * planner.alone.fixed // needed for planner in sharing}
        made = {planner.sharer.name: planner.plan(parts[planner.sharer.name]) for planner in sharing}
        modest = [name for name, plan in made.items() if _with_beside(plan, plan.total) < parts[name]]
        if len(modest) in (0, len(made)):
            return plans | made
        for name in modest:  # it gets what it can use, and the next round shares out the rest
            plans[name] = replace(made[name], budget=made[name].total)
            left -= _with_beside(made[name], made[name].total)
        sharing = [planner for planner in sharing if planner.sharer.name not in modest]
    return plans


def _with_beside(plan: MemoryPlan, own: int) -> int:
    """`own` bytes of a plan, and those of its stages that are placed beside the others in the same memory."""
    shared = (
        one.total for one in plan.beside if one.device.startswith("cpu") and plan.device.startswith("cpu")
    )
    return own + sum(shared)


def main() -> None:
    """Answer the question on standard input."""
    settings = read_settings()
    configure(settings.log_level, settings.log_format)
    question = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Question | Guest)
    sys.stdout.buffer.write(msgspec.msgpack.encode(answer(question)))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
