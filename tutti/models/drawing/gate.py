"""The blocks of a diffusers network, with rows that leave them early: where feature caches reach into its forward.

The network's own code runs, with its lists of blocks replaced by `Gated` ones. These are the blocks and nothing else,
under their old names, unless a pass is under way in which some row has a cache. Then they are run here:

    first list   signals, who skips all | first block | who skips the others | the others
    last list    its blocks, for the rows that are left | those that skipped come back

Blocks of one stream (`OneStream`) give that alone; the text, which stays as it is, is given to each anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tutti.models.drawing.adapters import Adapters
from tutti.models.drawing.cache import Pass

# What a block is given of each row, besides its two streams; the rest is the same for all rows.
_OF_ROWS = ("temb", "encoder_hidden_states_mask", "modulate_index")

Streams = tuple[Any, Tensor]  # a block's results: the text's tokens (None behind the last one), the picture's
Signal = Callable[[Any, Tensor, Tensor], Tensor]


class Gate:
    """What is under way in a network. `current` is the pass, where some row of it has a cache."""

    def __init__(self, signal: Signal, adapters: Adapters) -> None:
        """`signal(block, hidden, temb)` is what the first block makes of its input before it attends."""
        self.signal = signal
        self.adapters = adapters
        self.current: Pass | None = None

    @contextmanager
    def open(self, passing: Pass) -> Iterator[None]:
        """The network runs for the rows of `passing` in this block."""
        self.current = passing if passing.cached else None
        try:
            yield
        finally:
            self.current = None

    def guard_stream(self, net: Any, name: str, given: tuple[str, ...]) -> None:
        """Replace the only list of blocks of a network of one stream; a block takes what is `given`, by these names."""
        setattr(net, name, OneStream(getattr(net, name).children(), self, given))

    def guard(self, net: Any, *names: str) -> None:
        """Replace the lists of blocks `names` of `net`, in the order in which they run."""
        for number, name in enumerate(names):
            first, last = number == 0, number == len(names) - 1
            setattr(net, name, Gated(getattr(net, name).children(), self, first=first, last=last))


class Gated(nn.ModuleList):
    """See the module."""

    def __init__(self, blocks: Iterator[nn.Module], gate: Gate, *, first: bool, last: bool) -> None:
        super().__init__(blocks)
        self.gate = gate
        self.first = first
        self.last = last

    def __iter__(self) -> Iterator[Any]:
        """The blocks, or what runs them in a pass with caches: called as they are."""
        passing = self.gate.current
        if passing is None:
            yield from self.children()
            return
        for number, block in enumerate(self.children()):
            run = self._opening if self.first and number == 0 else self._block
            yield partial(run, passing, block)
        if self.last:
            yield partial(self._closing, passing)

    def _opening(
        self,
        passing: Pass,
        block: nn.Module,
        *,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        **given: Any,
    ) -> Streams:
        signals = hidden_states
        if passing.early:
            signals = self.gate.signal(block, hidden_states, given["temb"])
        passing.enter(list(hidden_states), list(signals))
        hidden, text = (_picked(one, passing) for one in (hidden_states, encoder_hidden_states))
        if not passing.left:
            return text, hidden
        entered = passing.left
        text, after = self._block(passing, block, hidden_states=hidden, encoder_hidden_states=text, **given)
        passing.look(list(hidden), list(after))
        if len(passing.left) < len(entered):
            kept = [number for number, row in enumerate(entered) if row in passing.left]
            text, after = text[kept], after[kept]
        return text, after

    def _block(
        self,
        passing: Pass,
        block: nn.Module,
        *,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        **given: Any,
    ) -> Streams:
        if not passing.left:
            return encoder_hidden_states, hidden_states
        given |= {name: _picked(given[name], passing) for name in _OF_ROWS if given.get(name) is not None}
        with self.gate.adapters.at(passing.left):
            found: Streams = block(
                hidden_states=hidden_states, encoder_hidden_states=encoder_hidden_states, **given
            )
        return found

    def _closing(
        self, passing: Pass, *, hidden_states: Tensor, encoder_hidden_states: Any, **given: Any
    ) -> Streams:
        return encoder_hidden_states, torch.stack(passing.end(list(hidden_states)))


class OneStream(Gated):
    """See the module."""

    def __init__(self, blocks: Iterator[nn.Module], gate: Gate, given: tuple[str, ...]) -> None:
        """`given` as for `Gate.guard_stream`."""
        super().__init__(blocks, gate, first=True, last=True)
        self.given = given

    def __iter__(self) -> Iterator[Any]:
        """See `Gated`."""
        runs = super().__iter__()
        yield from runs if self.gate.current is None else (partial(self._called, run) for run in runs)

    def _called(self, run: Callable[..., Streams], *args: Any, **named: Any) -> Tensor:
        return run(**dict(zip(self.given, args, strict=False)), **named)[1]

    def _block(
        self,
        passing: Pass,
        block: nn.Module,
        *,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        **given: Any,
    ) -> Streams:
        text = encoder_hidden_states
        if not passing.left:
            return text, hidden_states
        given = {name: _of_rows(value, passing) for name, value in given.items()}
        text = text if len(text) == len(hidden_states) else _of_rows(text, passing)
        with self.gate.adapters.at(passing.left):
            return text, block(hidden_states=hidden_states, encoder_hidden_states=text, **given)


def _of_rows(value: Any, passing: Pass) -> Any:
    """What a block is given, for the rows that are left: a tensor, or several in a tuple; of one row, it is for all."""
    if isinstance(value, tuple):
        return tuple(_of_rows(one, passing) for one in value)
    return _picked(value, passing) if isinstance(value, Tensor) and len(value) == passing.rows else value


def _picked(tensor: Tensor, passing: Pass) -> Tensor:
    """Of `tensor` [rows, ...], or [n * rows, ...] with all rows n times, the rows that are left."""
    if len(passing.left) == passing.rows:
        return tensor
    return tensor.unflatten(0, (-1, passing.rows))[:, passing.left].flatten(0, 1)
