"""The process of a device beside the main one: `python -m tutti.engine.device_worker FD FD FD FD`.

Started by `engine.device`; the descriptors are one end of a line to the main loop. The first message says what to run.
When the line ends, so does the process.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from tutti.engine.apart import open_line
from tutti.errors import TuttiError
from tutti.events import ErrorValue

if TYPE_CHECKING:
    from tutti.engine.autoregress import Autoregress
    from tutti.engine.device_loop import DeviceLoop
    from tutti.engine.line import Line
    from tutti.engine.once import Once
    from tutti.engine.parcels import Begin
    from tutti.engine.stage import Arrival
    from tutti.engine.wire import ToEngine

log = logging.getLogger(__name__)


def main(descriptors: tuple[int, ...]) -> int:
    """Serve until the line ends; the exit code."""
    line = open_line(descriptors)

    from tutti.engine.parcels import Begin
    from tutti.engine.wire import Fatal

    task = line.receive()
    if not isinstance(task, Begin):
        return 1
    try:
        _serve(line, task)
        return 0
    except TuttiError as error:
        line.send(Fatal(ErrorValue.of(error)))
        return 2
    except Exception as error:  # the process's last word: the engine must hear of it
        log.exception("device %s ended", task.device)
        what = f"device {task.device} ended: {type(error).__name__}: {error}"
        line.send(Fatal(ErrorValue("EngineDied", what)))
        return 1
    finally:
        line.close()
        line.join()


def _serve(line: Line, begin: Begin) -> None:
    from tutti.engine.parcels import Ready

    inbox: SimpleQueue[ToEngine | Arrival] = SimpleQueue()
    loop, voices = _build(line, begin, inbox)
    threading.Thread(target=_receive_all, args=(line, loop), name="from-main", daemon=True).start()
    line.send(Ready(voices))
    loop.run()


def _build(
    line: Line, begin: Begin, inbox: SimpleQueue[ToEngine | Arrival]
) -> tuple[DeviceLoop, tuple[str, ...]]:
    """The loop over the stages that are to run here, and the voices they speak with."""
    import torch

    from tutti.engine.bridges import bridges_to
    from tutti.engine.build import Builder, voices_of
    from tutti.engine.device_loop import DeviceLoop
    from tutti.engine.neighbour import Neighbour
    from tutti.engine.players import Players
    from tutti.engine.wire import Wake
    from tutti.formats.checkpoint import open_checkpoint
    from tutti.graph import Kind
    from tutti.models.registry import find_graph

    if begin.device.startswith("cpu"):
        torch.set_num_threads(begin.threads)
    checkpoint = open_checkpoint(begin.options.model, begin.options.components)
    graph = find_graph(checkpoint.config, checkpoint.path)
    players = Players(begin.options.player_clock)
    wake = functools.partial(inbox.put, Wake())
    builder = Builder(checkpoint, graph, begin.options, begin.plan, torch.device(begin.device), players, wake)
    stages = [graph.stage(name) for name in begin.stages]
    followers = [builder.follower(stage) for stage in stages if stage.kind is Kind.AUTOREGRESS]
    encoders = [builder.once(stage) for stage in stages if stage.kind is Kind.ONCE]

    def reset() -> None:
        for follower in followers:
            follower.cache.reset()
        for encoder in encoders:
            encoder.kept.clear()

    here: list[Autoregress | Once] = [*followers, *encoders]
    loop = DeviceLoop(
        graph,
        {one.name: one for one in here},
        bridges_to({one.name: one.model for one in here}, graph, checkpoint),
        Neighbour(line),
        players,
        inbox,
        reset,
        begin.traced,
    )
    return loop, voices_of(followers)


def _receive_all(line: Line, loop: DeviceLoop) -> None:
    from tutti.engine.stage import Arrival
    from tutti.engine.wire import Shutdown

    while (message := line.receive()) is not None:
        loop.inbox.put(Arrival(functools.partial(loop.take, message)))
    loop.inbox.put(Shutdown())


if __name__ == "__main__":
    code = main(tuple(map(int, sys.argv[1:])))
    logging.shutdown()
    sys.stderr.flush()
    # Not sys.exit: as in `engine.worker`.
    os._exit(code)
