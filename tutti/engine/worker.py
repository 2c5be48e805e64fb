"""The engine process: `python -m tutti.engine.worker FD`, started by `engine.process`.

FD is one end of a socket pair. The first frame is the `EngineOptions`; then messages pass both ways. Two threads carry
them, so that neither a slow front nor a message's decoding holds up a step. When the front goes, so does the engine.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from queue import SimpleQueue

import msgspec

from tutti.engine.apart import begin
from tutti.engine.frames import pack, receive
from tutti.engine.wire import Events, Fatal, FromEngine, Shutdown, ToEngine, Traced
from tutti.errors import TuttiError
from tutti.events import ErrorValue
from tutti.settings import EngineOptions, read_settings

log = logging.getLogger(__name__)


def main(descriptor: int) -> int:
    """Serve until the front says so or is gone; the exit code."""
    begin()
    connection = socket.socket(fileno=descriptor)
    first = receive(connection)
    if first is None:
        return 1
    options = msgspec.msgpack.decode(first, type=EngineOptions)
    outbox: SimpleQueue[FromEngine | None] = SimpleQueue()
    sender = threading.Thread(target=_send_all, args=(connection, outbox), name="to-front", daemon=True)
    sender.start()
    try:
        _serve(connection, options, outbox)
        return 0
    except TuttiError as error:
        outbox.put(Fatal(ErrorValue.of(error)))
        return 2
    except Exception as error:  # the process's last word: the front must hear of it
        log.exception("the engine ended")
        outbox.put(Fatal(ErrorValue("EngineDied", f"the engine ended: {type(error).__name__}: {error}")))
        return 1
    finally:
        outbox.put(None)
        sender.join(timeout=5)


def _serve(connection: socket.socket, options: EngineOptions, outbox: SimpleQueue[FromEngine | None]) -> None:
    from tutti.engine.core import Engine  # torch, only here

    engine = Engine(
        options,
        lambda events: outbox.put(Events(tuple(events))),
        outbox.put,
        (lambda trace: outbox.put(Traced(trace))) if read_settings().traces else None,
    )
    inbox = engine.loop.inbox
    threading.Thread(target=_receive_all, args=(connection, inbox), name="from-front", daemon=True).start()
    outbox.put(engine.info)
    try:
        engine.loop.run()
    finally:
        engine.close()


def _receive_all(connection: socket.socket, inbox: SimpleQueue[ToEngine]) -> None:
    decoder = msgspec.msgpack.Decoder(ToEngine)
    while (body := receive(connection)) is not None:
        inbox.put(decoder.decode(body))
    inbox.put(Shutdown())


def _send_all(connection: socket.socket, outbox: SimpleQueue[FromEngine | None]) -> None:
    while (message := outbox.get()) is not None:
        try:
            connection.sendall(pack(message))
        except OSError:  # the front is gone; the receiving thread ends the loop
            return


if __name__ == "__main__":
    code = main(int(sys.argv[1]))
    logging.shutdown()
    sys.stderr.flush()
    # Not sys.exit: a grammar's compilation that was given up may still be in C++, and would abort the interpreter.
    os._exit(code)
