"""Models of stages that few requests need: built when the first request does, by a thread, while the loop goes on.

What such a stage needs to be imported and loaded, nobody waits for who does not ask for it. Its memory is in the plan
from the start. All late stages of a device are built at once, so that what one emits finds the next one there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any


class Later:
    """The models of late stages, by the stage's name."""

    def __init__(self, build: Callable[[], Mapping[str, Any]], wake: Callable[[], None]) -> None:
        """`build` makes them all, in a thread; `wake` has the loop look again, from any thread."""
        self._build = build
        self._wake = wake
        self._thread: threading.Thread | None = None
        self._models: Mapping[str, Any] | None = None
        self._error: Exception | None = None

    @property
    def settled(self) -> bool:
        """Whether they are there, or cannot be built."""
        return self._models is not None or self._error is not None

    def begin(self) -> None:
        """Build them, unless that was begun. What failed once is tried again."""
        if self._models is not None or (self._thread is not None and self._thread.is_alive()):
            return
        self._error = None
        self._thread = threading.Thread(target=self._work, name="late stages", daemon=True)
        self._thread.start()

    def model(self, name: str) -> Any:
        """The model of the stage `name`, once settled. Raises what kept it from being built."""
        if self._error is not None:
            raise self._error
        assert self._models is not None
        return self._models[name]

    def _work(self) -> None:
        try:
            self._models = self._build()
        except Exception as error:  # noqa: BLE001 - it is raised where a request needs the model
            self._error = error
        self._wake()
