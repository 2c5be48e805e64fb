"""Many models in one memory: loaded when somebody asks, kept for a while, unloaded to make room.

What happens next is decided in `residents`; here it is done. A model's size is its own memory plan's
(`engine.shares.portion_of`): weights, activations, runtime, and a KV cache of at most a quarter of all memory, since
another model may come. It does not depend on who else is there. A model that fits nowhere is refused before anything
is unloaded for it.

Models are told apart by their digests: two names of one model are one in memory, and a name whose model was replaced
gets the new one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import msgspec

from tutti.engine.shares import Guest, Portion, portion_of
from tutti.errors import Busy, LoadTimeout, QueueFull, TuttiError
from tutti.gateway.cards import Card, Sheet
from tutti.gateway.catalog import Catalog
from tutti.gateway.lease import Account, Lease, Served, Wants
from tutti.gateway.limits import Admission, Limits
from tutti.gateway.local import LocalBackend
from tutti.gateway.models import Running
from tutti.gateway.opening import open_local
from tutti.gateway.residents import Action, Grant, Load, Residents, Unload, Wish
from tutti.settings import EngineOptions
from tutti.trace import Trace

log = logging.getLogger(__name__)

Exporter = Callable[[Trace], None]

_LONGEST = 1 << 24  # tokens of context, where a model does not say
_STEP = 256  # tokens: a context that callers ask for is rounded up to that, so that there are not too many
_LOADING = "loading"  # tasks of that name are cancelled when the server ends


@dataclass(frozen=True, slots=True)
class Policy:
    """How models come and go. Times are in seconds.

    `stays`: how long one stays that nobody uses; `patience`: how long loading may take; `most` models at a time (0: as
    many as the memory holds); `waiting` callers at most for models that are not there; `context`: tokens that a model
    is loaded with (0: as many as there is room for).
    """

    stays: float = 300.0
    patience: float = 300.0
    most: int = 0
    waiting: int = 512
    context: int = 0


@dataclass(frozen=True, slots=True)
class _Caller:
    """Who waits for a model: what it takes, and where they are told that it is theirs."""

    card: Card
    portion: Portion
    granted: asyncio.Future[None]


class Manager:
    """See `Models`."""

    def __init__(
        self,
        catalog: Catalog,
        options: EngineOptions,
        policy: Policy | None = None,
        *,
        export: Exporter | None = None,
        in_process: bool = False,
    ) -> None:
        """`options` are for every model, but for `memory`, which is for all together.

        `export` takes the traces of requests that end; `in_process`: engines in threads instead of processes.
        """
        self._catalog = catalog
        self._options = options
        self._policy = policy or Policy()
        self._export = export
        self._in_process = in_process
        self._residents = Residents(options.memory or 0, self._policy.most, self._policy.stays)
        self._portions: dict[tuple[str, int], Portion] = {}  # by digest and the context that was asked for
        self._measuring = asyncio.Lock()
        self._callers: dict[Wish, _Caller] = {}
        self._pending = 0  # callers who wait, or whose model is measured
        self._cards: dict[str, Card] = {}  # of the models in memory, by their digests
        self._served: dict[str, Served] = {}
        self._accounts: dict[str, Account] = {}  # by the name
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    @property
    def served(self) -> tuple[Served, ...]:
        """See `Models`."""
        return tuple(self._served.values())

    @property
    def accounts(self) -> tuple[Account, ...]:
        """See `Models`."""
        return tuple(self._accounts.values())

    async def cards(self) -> list[Card]:
        """See `Models`."""
        return [self._known(card) for card in await asyncio.to_thread(self._catalog.cards)]

    async def card(self, name: str) -> Card:
        """See `Models`."""
        return self._known(await asyncio.to_thread(self._catalog.find, name))

    async def sheet(self, name: str) -> Sheet:
        """See `Models`."""
        return await asyncio.to_thread(self._catalog.sheet, name)

    async def running(self) -> list[Running]:
        """See `Models`."""
        now = _now()
        found = []
        for key, served in self._served.items():
            model = self._residents.models[key]
            stays = model.stays if model.holders else model.until - now
            found.append(Running(self._cards[key], served, stays))
        return found

    @asynccontextmanager
    async def lease(self, name: str, wants: Wants) -> AsyncIterator[Lease]:
        """See `Models`. Raises also Busy when the server ends, LoadTimeout, OutOfMemory, CheckpointError."""
        came = _now()
        card = await self.card(name)
        waited = await self._take(card, wants)
        served = self._served[card.digest]
        model = replace(served.backend.models()[0], name=card.name)
        try:
            yield Lease(model, served, _now() - came if waited else 0.0)
        finally:
            self._do(self._residents.release(card.digest, _now()))

    async def unload(self, name: str) -> None:
        """See `Models`."""
        card = await self.card(name)
        self._do(self._residents.expire(card.digest, _now()))

    async def close(self) -> None:
        """See `Models`."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        for caller in self._callers.values():
            if not caller.granted.done():
                caller.granted.set_exception(_ending())
        loading = [task for task in self._tasks if task.get_name() == _LOADING]
        for task in loading:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(served.backend.close() for served in self._served.values()))

    async def _take(self, card: Card, wants: Wants) -> bool:
        """Wait until the model is there and given out; whether that took time. Raises as `lease` does."""
        self._pending += 1
        try:
            if card.digest not in self._served:
                self._check_queue()
            caller, wish = await self._wish(card, wants)
            if self._closing:
                raise _ending()
            self._callers[wish] = caller
            try:
                self._do(self._residents.ask(wish, _now()))
                if caller.granted.done():
                    return False
                self._check_queue()
                await caller.granted
            except BaseException:
                self._leave(wish, caller)
                raise
            finally:
                del self._callers[wish]
        finally:
            self._pending -= 1
        return True

    def _leave(self, wish: Wish, caller: _Caller) -> None:
        """A caller goes who was not given the model, or was and does not know it yet."""
        granted = caller.granted
        if wish in self._residents.waiting:
            self._do(self._residents.withdraw(wish, _now()))
        elif granted.done() and not granted.cancelled() and granted.exception() is None:
            self._do(self._residents.release(wish.key, _now()))

    def _check_queue(self) -> None:
        if self._pending > self._policy.waiting:
            raise QueueFull(
                f"The server is busy: {self._policy.waiting} requests wait for a model to be loaded, and that is the "
                "most. Try again in a moment.",
                retry_after=5.0,
            )

    async def _wish(self, card: Card, wants: Wants) -> tuple[_Caller, Wish]:
        made_for = card.preset.parameters.get("num_ctx", 0)
        usual = portion = await self._portion(card, max(made_for, 0) or self._policy.context)
        more = min(wants.context or 0, card.context or _LONGEST)
        if more > usual.context:
            portion = await self._portion(card, -(-more // _STEP) * _STEP)
        least = 0 if portion is usual else portion.context
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wish = Wish(card.digest, portion.total, portion.context, least, wants.stays)
        return _Caller(card, portion, granted), wish

    async def _portion(self, card: Card, context: int) -> Portion:
        """What the model takes with that context (0: as much as there is room for). Raises OutOfMemory."""
        key = (card.digest, context)
        async with self._measuring:
            if key not in self._portions:
                options = await self._engine_options(card, None, context)
                guest = Guest(options, self._residents.memory or None)
                portion = await portion_of(guest, in_process=self._in_process)
                self._residents.memory = portion.budget
                self._portions[key] = portion
        return self._portions[key]

    async def _engine_options(self, card: Card, memory: int | None, context: int) -> EngineOptions:
        own = await asyncio.to_thread(self._catalog.options, card)
        return msgspec.structs.replace(
            self._options,
            **own,
            served_model_name=(card.name,),
            memory=memory,
            max_model_len=context or None,
        )

    def _do(self, actions: Sequence[Action]) -> None:
        """Do what was decided, and look again when the next model has stayed long enough."""
        if self._closing:
            return
        for action in actions:
            match action:
                case Grant(wish):
                    self._grant(wish, self._callers[wish].granted)
                case Load(wish):
                    self._start(self._load(wish.key, self._callers[wish]), _LOADING)
                case Unload(key, evicted):
                    self._start(self._unload(key, self._served.pop(key), evicted=evicted), "unloading")
        if self._timer is not None:
            self._timer.cancel()
        then = self._residents.next_expiry()
        self._timer = None if then is None else asyncio.get_running_loop().call_at(then, self._tick)

    def _grant(self, wish: Wish, granted: asyncio.Future[None]) -> None:
        if granted.cancelled():  # the caller left and has not run since
            self._do(self._residents.release(wish.key, _now()))
        else:
            granted.set_result(None)

    def _tick(self) -> None:
        self._timer = None
        self._do(self._residents.settle(_now()))

    def _start(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, key: str, caller: _Caller) -> None:
        """Load a model for those who wait. What goes wrong is told to them alone."""
        card, start = caller.card, _now()
        try:
            async with asyncio.timeout(self._policy.patience):
                backend = await self._open(caller)
        except TimeoutError:
            self._fail(
                key, card, LoadTimeout(f"{card.name} was not loaded within {self._policy.patience:.0f} s")
            )
        except TuttiError as error:
            self._fail(key, card, error)
        except Exception as error:
            log.exception("%s was not loaded", card.name)
            self._fail(key, card, TuttiError(f"{card.name} was not loaded: {type(error).__name__}: {error}"))
        else:
            served = Served(self._account(card), backend)
            served.metrics.loads += 1
            served.metrics.load_seconds += _now() - start
            self._served[key], self._cards[key] = served, card
            self._do(self._residents.loaded(key, _now()))

    async def _open(self, caller: _Caller) -> LocalBackend:
        card, portion = caller.card, caller.portion
        log.info("loading %s\n%s", card.name, portion.plan)
        options = await self._engine_options(card, portion.memory, portion.context)
        backend = await open_local(options, in_process=self._in_process)
        if self._export is not None:
            backend.traces.exporter = self._export
        return backend

    def _fail(self, key: str, card: Card, error: TuttiError) -> None:
        log.error("%s was not loaded: %s", card.name, error.message)
        self._account(card).metrics.load_failures += 1
        lost, actions = self._residents.failed(key, _now())
        for wish in lost:
            granted = self._callers[wish].granted
            if not granted.done():
                granted.set_exception(error)
        self._do(actions)

    async def _unload(self, key: str, served: Served, *, evicted: bool) -> None:
        log.info("unloading %s%s", served.name, " to make room" if evicted else "")
        served.metrics.unloads += 1
        served.metrics.evictions += evicted
        await served.backend.close()
        self._do(self._residents.unloaded(key, _now()))

    def _account(self, card: Card) -> Account:
        if card.name not in self._accounts:
            limits = Limits(self._options.max_num_seqs, self._options.max_queue)
            self._accounts[card.name] = Account(card.name, Admission(limits))
        return self._accounts[card.name]

    def _known(self, card: Card) -> Card:
        """The card, with what is known since the model was loaded."""
        served = self._served.get(card.digest)
        if served is None:
            return card
        info = served.backend.info
        return replace(card, outputs=info.outputs, voices=info.voices)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _ending() -> Busy:
    return Busy("The server is ending.")
