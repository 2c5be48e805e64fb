"""Which models are in memory, who waits for one, and what happens next: decisions alone, without loading anything.

Callers wait in a line, in the order in which they came. Whoever is told of something (a caller came, a model was
loaded, one was given back, time went by) goes through the line from its head, and answers with what is to be done now:
grant a wish, begin to load, unload.

- A model that is there and large enough is granted at once.
- One that is absent is loaded if there is room. If there is not, idle models go, the longest unused first; where that
  is not enough, busy ones take no new callers and go as soon as they are idle. Until there is room for the first who
  waits for it, nobody behind loads anything, so that none waits for ever.
- One whose context is too small takes no new callers, either, and is loaded anew when it is idle.

Sizes are in bytes, times in seconds of any clock that does not go back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum, auto


class State(Enum):
    """Where a model is on its way."""

    LOADING = auto()
    READY = auto()
    LEAVING = auto()


@dataclass(slots=True, eq=False)
class Wish:
    """A caller's wish for the model `key`, which takes `size` bytes if it is loaded for this.

    It then has a context of `context` tokens; one that is there already must have `least`. `stays`: see `Wants`.
    """

    key: str
    size: int
    context: int = 0
    least: int = 0
    stays: float | None = None


@dataclass(slots=True, eq=False)
class Resident:
    """A model in memory, or on its way there or away. `used` is when it was last given out or given back."""

    key: str
    size: int
    context: int
    stays: float
    used: float
    state: State = State.LOADING
    holders: int = 0

    @property
    def idle(self) -> bool:
        """Whether it could go now."""
        return self.state is State.READY and not self.holders

    @property
    def until(self) -> float:
        """When it goes if nobody uses it meanwhile."""
        return self.used + self.stays


@dataclass(frozen=True, slots=True)
class Grant:
    """The wish is fulfilled; `release` follows."""

    wish: Wish


@dataclass(frozen=True, slots=True)
class Load:
    """Load the model of this wish; `loaded` or `failed` follows."""

    wish: Wish


@dataclass(frozen=True, slots=True)
class Unload:
    """Unload this model; `unloaded` follows. `evicted`: to make room."""

    key: str
    evicted: bool


Action = Grant | Load | Unload


@dataclass(slots=True)
class Residents:
    """At most `memory` bytes and `most` models (0: any number); `stays` counts where no caller says how long.

    Raises nothing: a wish larger than `memory` must not be asked.
    """

    memory: int
    most: int = 0
    stays: float = math.inf
    models: dict[str, Resident] = field(default_factory=dict)
    waiting: list[Wish] = field(default_factory=list)

    @property
    def taken(self) -> int:
        """Bytes of all models; those that leave count until they are gone."""
        return sum(model.size for model in self.models.values())

    def ask(self, wish: Wish, now: float) -> list[Action]:
        """A caller comes."""
        self.waiting.append(wish)
        return self.settle(now)

    def withdraw(self, wish: Wish, now: float) -> list[Action]:
        """A caller who still waits goes away. What is being loaded for it is loaded nevertheless."""
        self.waiting.remove(wish)
        return self.settle(now)

    def release(self, key: str, now: float) -> list[Action]:
        """A caller gives the model back."""
        model = self.models[key]
        model.holders -= 1
        model.used = now
        return self.settle(now)

    def expire(self, key: str, now: float) -> list[Action]:
        """The model shall go as soon as nobody uses it."""
        if key in self.models:
            self.models[key].stays = 0.0
        return self.settle(now)

    def loaded(self, key: str, now: float) -> list[Action]:
        """The model is there."""
        model = self.models[key]
        model.state, model.used = State.READY, now
        return self.settle(now)

    def failed(self, key: str, now: float) -> tuple[list[Wish], list[Action]]:
        """It cannot be loaded. The wishes that end with that, and what is to be done."""
        model = self.models.pop(key)
        lost = [wish for wish in self.waiting if wish.key == key and wish.least <= model.context]
        self.waiting = [wish for wish in self.waiting if wish not in lost]
        return lost, self.settle(now)

    def unloaded(self, key: str, now: float) -> list[Action]:
        """The model is gone, and its memory free."""
        del self.models[key]
        return self.settle(now)

    def next_expiry(self) -> float | None:
        """When `settle` has something to do though nobody comes; None: never."""
        times = [model.until for model in self.models.values() if model.idle]
        return min((time for time in times if time < math.inf), default=None)

    def settle(self, now: float) -> list[Action]:
        """Go through the line."""
        found: list[Action] = []
        going: set[str] = set()  # those that somebody farther ahead wants gone
        blocked = False  # whether somebody ahead waits for room
        for wish in tuple(self.waiting):
            model = self.models.get(wish.key)
            if model is None:
                blocked = blocked or not self._load(wish, now, going, found)
            elif model.state is State.READY and wish.key not in going:
                if model.context >= wish.least:
                    self._grant(wish, model, now, found)
                else:
                    going.add(wish.key)
                    self._leave(model, found, evicted=False)
        for model in self.models.values():
            if model.until <= now:
                self._leave(model, found, evicted=False)
        return found

    def _grant(self, wish: Wish, model: Resident, now: float, found: list[Action]) -> None:
        self.waiting.remove(wish)
        model.holders += 1
        model.used = now
        if wish.stays is not None:
            model.stays = wish.stays
        found.append(Grant(wish))

    def _load(self, wish: Wish, now: float, going: set[str], found: list[Action]) -> bool:
        """Load it, if there is room; if not, see to it that there will be."""
        if self._fits(self.taken + wish.size, len(self.models) + 1):
            stays = self.stays if wish.stays is None else wish.stays
            self.models[wish.key] = Resident(wish.key, wish.size, wish.context, stays, now)
            found.append(Load(wish))
            return True
        staying = [model for model in self.models.values() if model.state is not State.LEAVING]
        taken, count = sum(model.size for model in staying), len(staying)
        ready = [model for model in staying if model.state is State.READY]
        for model in sorted(ready, key=lambda model: (model.holders > 0, model.used)):
            if self._fits(taken + wish.size, count + 1):
                break
            taken, count = taken - model.size, count - 1
            going.add(model.key)
            self._leave(model, found, evicted=True)
        return False

    def _leave(self, model: Resident, found: list[Action], *, evicted: bool) -> None:
        if model.idle:
            model.state = State.LEAVING
            found.append(Unload(model.key, evicted))

    def _fits(self, size: int, count: int) -> bool:
        return size <= self.memory and (not self.most or count <= self.most)
