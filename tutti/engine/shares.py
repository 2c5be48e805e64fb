"""Several engines on one machine: what each of them may take of its memory, known before one is started.

The sum itself is done where torch is (`engine.sharing`), in a process that ends with its answer. Torch-free.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from tutti.errors import EngineDied, OutOfMemory
from tutti.events import ErrorValue
from tutti.settings import EngineOptions, format_size


class Sharer(msgspec.Struct, frozen=True):
    """One engine; `options.memory`, when given, is what it gets."""

    name: str
    options: EngineOptions


class Question(msgspec.Struct, frozen=True, tag="question"):
    """`memory` bytes are for all engines together on each device; None: as much as one engine alone would take.

    `available` bytes stand for another machine than this one.
    """

    sharers: tuple[Sharer, ...]
    memory: int | None = None
    available: int | None = None


class Share(msgspec.Struct, frozen=True):
    """What one engine may take: `memory` bytes, of which it takes `total`, as `plan` says."""

    name: str
    device: str
    memory: int
    total: int
    fits: bool
    plan: str


class Device(msgspec.Struct, frozen=True):
    """A device and the bytes that all engines may take of it."""

    name: str
    budget: int
    available: int


class Shares(msgspec.Struct, frozen=True, tag="shares"):
    """The whole sum."""

    shares: tuple[Share, ...]
    devices: tuple[Device, ...]

    @property
    def fits(self) -> bool:
        """Whether there is enough for everybody."""
        return all(share.fits for share in self.shares) and all(
            self.taken(device.name) <= device.budget <= device.available for device in self.devices
        )

    def taken(self, device: str) -> int:
        """Bytes of all engines on a device."""
        return sum(share.total for share in self.shares if share.device == device)

    def text(self) -> str:
        """The sum as people read it."""
        lines: list[str] = []
        for device in self.devices:
            lines.append(f"memory plan for all parts on {device.name}:")
            for share in self.shares:
                if share.device == device.name:
                    lines.append(f"  {share.name:<14}{format_size(share.total):>10}")
            taken = self.taken(device.name)
            sign = "<=" if taken <= device.budget else "> "
            lines.append(
                f"  {'total':<14}{format_size(taken):>10}  {sign} budget {format_size(device.budget)}"
            )
            if device.budget > device.available:
                lines.append(f"  note: only {format_size(device.available)} are available")
        return "\n".join(lines)


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """There is no sum: engine `name` cannot be what it should."""

    name: str
    error: ErrorValue


class Portion(msgspec.Struct, frozen=True, tag="portion"):
    """What one engine takes that leaves room for others: `memory` bytes for its plan, which uses `total` of them.

    `context` is in tokens; `budget` is what all engines on the device may take together.
    """

    device: str
    memory: int
    total: int
    context: int
    budget: int
    plan: str


class Guest(msgspec.Struct, frozen=True, tag="guest"):
    """Asks for the portion of one engine among others that come and go.

    `budget` bytes are for all of them; None: as much as one engine alone would take now.
    """

    options: EngineOptions
    budget: int | None = None


async def portion_of(guest: Guest, *, in_process: bool = False) -> Portion:
    """What one engine among others takes. Asked as in `shares_of`.

    Raises OutOfMemory with the sum, CheckpointError, ConfigError, EngineDied.
    """
    answer = await _ask(guest, in_process=in_process)
    if isinstance(answer, Refused):
        raise answer.error.error()
    assert isinstance(answer, Portion)
    return answer


async def shares_of(question: Question, *, in_process: bool = False) -> Shares | Refused:
    """The answer to `question`, from a process of its own unless it is asked for here, where torch is then loaded.

    Raises EngineDied when that process gives none.
    """
    answer = await _ask(question, in_process=in_process)
    assert not isinstance(answer, Portion)
    return answer


async def _ask(question: Question | Guest, *, in_process: bool) -> Shares | Portion | Refused:
    if in_process:
        return await asyncio.to_thread(_here, question)
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tutti.engine.sharing",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        answer, _ = await child.communicate(msgspec.msgpack.encode(question))
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        raise EngineDied(f"the memory plan was not made (exit code {child.returncode}); see the log above")
    return msgspec.msgpack.decode(answer, type=Shares | Portion | Refused)


def _here(question: Question | Guest) -> Shares | Portion | Refused:
    from tutti.engine.sharing import answer

    return answer(question)


def require(shares: Shares) -> Shares:
    """`shares`, if everybody has enough. Raises OutOfMemory with the whole sum and what to do."""
    if shares.fits:
        return shares
    plans = [f"{share.name}: {share.plan}" for share in shares.shares if not share.fits]
    raise OutOfMemory(
        "\n".join(["not enough memory; nothing was loaded.", shares.text(), *plans])
        + "\ngive more with --memory, or need less: max_model_len, max_num_seqs or quantization: int8 of a part"
    )
