"""The pool: leases in, backends out. Carries out what the scheduler decides and tells it what happened.

The pool owns the only `Scheduler` and every running `Backend`. It decides nothing. Everything a request holds here is
a `Lease`: entered, it waits for the scheduler's grant; left, by whatever door, it gives back what it has.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from copy import copy
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from typing import Protocol, assert_never

from gateway.core.backend import Backend
from gateway.core.effects import Effect, Grant, Refuse, Start, Stop, TicketId
from gateway.core.errors import BackendUnreachable, GatewayError, ShuttingDown, StartFailed
from gateway.core.occupancy import NEVER, Limits, SlotView, Wish
from gateway.core.scheduler import Scheduler
from gateway.core.slot import SlotId, SlotSpec
from gateway.engine.tasks import Tasks

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Is told what becomes of the slots' servers. Called on the event loop; must not raise."""

    def started(self, slot: SlotId, seconds: float) -> None:
        """A server can serve, `seconds` after its launch."""

    def start_failed(self, slot: SlotId) -> None:
        """A server did not come up."""

    def stopped(self, slot: SlotId, reason: str, seconds: float) -> None:
        """A server is gone, `seconds` after it was asked to end; `reason` is the scheduler's."""

    def exited(self, slot: SlotId) -> None:
        """A server died by itself."""


class _Stand(Enum):
    """Where a lease stands with the scheduler."""

    OUTSIDE = auto()
    WAITING = auto()
    GRANTED = auto()


@dataclass(slots=True)
class _Running:
    """A backend between its `Start` and the end of its `Stop`. `began` and `ready` are loop times."""

    spec: SlotSpec
    backend: Backend
    began: float
    ready: float = NEVER
    task: asyncio.Task[None] | None = None  # starts it, then waits for its unexpected end
    stopping: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Lease:
    """The right to use a slot's backend, from the moment it is asked for until it is left."""

    __slots__ = ("_backend", "_pool", "_stand", "_ticket", "_wish", "entered", "loading")

    def __init__(self, pool: "Pool", ticket: TicketId, wish: Wish) -> None:
        self._pool = pool
        self._ticket = ticket
        self._wish = wish
        self._stand = _Stand.OUTSIDE
        self._backend: asyncio.Future[Backend] = pool.loop.create_future()
        self.entered = 0.0  # loop time
        self.loading = 0.0  # seconds between `entered` and the grant in which the slot's server was coming up

    async def __aenter__(self) -> Backend:
        """Wait for the backend. Raises what the scheduler refuses with: `QueueFull`, `StartFailed`, ..."""
        self._stand = _Stand.WAITING
        self._pool.enter(self)
        try:
            return await self._backend
        except BaseException:
            self._leave()  # refused, or cancelled: perhaps in the very turn in which it was granted
            raise

    async def __aexit__(self, *_error: object) -> None:
        self._leave()

    @property
    def ticket(self) -> TicketId:
        """Its number at the scheduler."""
        return self._ticket

    @property
    def wish(self) -> Wish:
        """What it asks for."""
        return self._wish

    def grant(self, backend: Backend, loading: float) -> None:
        """Hand over the backend (called by the pool)."""
        self._stand = _Stand.GRANTED
        self.loading = loading
        if not self._backend.done():  # cancelled in this very turn: `_leave` gives it back
            self._backend.set_result(backend)

    def refuse(self, error: GatewayError) -> None:
        """Hand over the refusal (called by the pool). Each waiter gets its own copy: a traceback belongs to one."""
        self._stand = _Stand.OUTSIDE
        if not self._backend.done():
            self._backend.set_exception(copy(error))

    def _leave(self) -> None:
        stand, self._stand = self._stand, _Stand.OUTSIDE
        if stand is _Stand.WAITING:
            self._pool.cancel(self)
        elif stand is _Stand.GRANTED:
            self._pool.release(self)


class Pool:
    """All backends of this gateway. `make` builds the backend of a slot, `need` says how many bytes it will take.

    `budget` is how many bytes all of them together may take, `None` for no limit.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        make: Callable[[SlotSpec], Backend],
        need: Callable[[SlotSpec], Awaitable[int]],
        tasks: Tasks,
        stop_grace: float = 10.0,
        observer: Observer | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.budget = limits.memory
        self._scheduler = Scheduler(limits)
        self._make = make
        self._need = need
        self._tasks = tasks
        self._stop_grace = stop_grace
        self._observer = observer
        self._tickets = count(1)
        self._leases: dict[TicketId, Lease] = {}
        self._running: dict[SlotId, _Running] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = NEVER
        self._closed = False

    async def lease(self, spec: SlotSpec, *, priority: int = 0, occupies: bool = True, may_evict: bool = True) -> Lease:
        """Return a lease to enter; enter it without waiting in between. Waits only for the need of a cold slot.

        Raises `StartFailed` if the model's file cannot be read.
        """
        need = 0 if spec.id in self._running else await self._need(spec)  # of no interest once it is loaded
        wish = Wish(spec=spec, need=need, priority=priority, occupies=occupies, may_evict=may_evict)
        return Lease(self, TicketId(next(self._tickets)), wish)

    async def preload(self, spec: SlotSpec) -> None:
        """Load a slot without a request, if it fits beside what is loaded; a failure is only logged."""
        try:
            async with await self.lease(spec, occupies=False, may_evict=False):
                log.info("preloaded %s", spec.id)
        except GatewayError as error:
            log.warning("could not preload %s: %s", spec.id, error)

    async def unload(self, slots: Iterable[SlotId]) -> None:
        """Let these slots finish what runs, stop them, and return when they are gone."""
        leaving = [self._running[slot] for slot in slots if slot in self._running]
        for running in leaving:
            self._carry_out(self._scheduler.unload(running.spec.id, self.loop.time()))
        for running in leaving:
            await running.gone.wait()

    async def gone(self, slots: Iterable[SlotId]) -> None:
        """Return when what now runs of these slots has ended. Ends nothing itself."""
        for running in [self._running[slot] for slot in slots if slot in self._running]:
            await running.gone.wait()

    def replace_specs(self, specs: Iterable[SlotSpec]) -> None:
        """Take over a new configuration: what is no longer in it goes when its last lease ends."""
        self._carry_out(self._scheduler.replace_specs(specs, self.loop.time()))

    def replace_limits(self, limits: Limits, *, stop_grace: float) -> None:
        """Take over new bounds. Nothing that runs is stopped for them until somebody needs room."""
        self.budget = limits.memory
        self._stop_grace = stop_grace
        self._carry_out(self._scheduler.budget(limits, self.loop.time()))

    def view(self) -> dict[SlotId, SlotView]:
        """Return what the scheduler knows of each slot."""
        return self._scheduler.view()

    def address(self, slot: SlotId) -> str | None:
        """Return where the server of a loaded slot answers, for people."""
        running = self._running.get(slot)
        return None if running is None else running.backend.address

    def explain(self, lease: Lease) -> str:
        """Say what a waiting lease waits for."""
        return self._scheduler.explain(lease.ticket)

    async def close(self, patience: float) -> None:
        """Refuse those who wait, give those who run `patience` seconds, then stop everything."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._carry_out(self._scheduler.closing(self.loop.time()))
        await asyncio.sleep(0)  # a task cancelled before its first step would never tell that the start failed
        for running in self._running.values():
            if running.task is not None and not running.stopping:
                running.task.cancel()  # what still starts need not finish; what is up is no longer watched
        gone = [asyncio.ensure_future(running.gone.wait()) for running in self._running.values()]
        if gone:
            _, late = await asyncio.wait(gone, timeout=patience)
            for waiter in late:
                waiter.cancel()
        await asyncio.gather(
            *(running.backend.stop(self._stop_grace) for running in self._running.values()), return_exceptions=True
        )

    # -- what leases say --

    def enter(self, lease: Lease) -> None:
        """Queue a lease."""
        self._leases[lease.ticket] = lease
        lease.entered = self.loop.time()
        self._carry_out(self._scheduler.request(lease.ticket, lease.wish, self.loop.time()))

    def cancel(self, lease: Lease) -> None:
        """Take a waiting lease out of the queue."""
        del self._leases[lease.ticket]
        self._carry_out(self._scheduler.cancel(lease.ticket, self.loop.time()))

    def release(self, lease: Lease) -> None:
        """Take a granted lease back."""
        del self._leases[lease.ticket]
        self._carry_out(self._scheduler.released(lease.ticket, self.loop.time()))

    async def notice(self, slot: SlotId, patience: float = 0.2) -> bool:
        """Return whether a slot's server is gone; one that lives is given `patience` seconds to die.

        For whoever saw a connection break: the socket may tell of a death before the process does.
        """
        running = self._running.get(slot)
        if running is not None:
            try:
                await asyncio.wait_for(running.gone.wait(), patience)
            except TimeoutError:
                return False
        return True

    @property
    def held(self) -> int:
        """How many leases are waiting or granted."""
        return len(self._leases)

    # -- what the scheduler says --

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Grant(ticket=ticket, slot=slot):
                    self._grant(self._leases[ticket], self._running[slot])
                case Refuse(ticket=ticket, error=error):
                    self._leases.pop(ticket).refuse(error)
                case Start(spec=spec, need=need):
                    self._start(spec, need)
                case Stop(slot=slot, reason=reason):
                    self._stop(slot, reason)
                case _:
                    assert_never(effect)
        self._arm()

    def _arm(self) -> None:
        due = NEVER if self._closed else self._scheduler.next_deadline()
        if due >= self._due and self._timer is not None:
            return  # the timer that is set comes early enough, and looks again
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = due
        if due < NEVER:
            self._timer = self.loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._due = NEVER
        self._carry_out(self._scheduler.tick(self.loop.time()))

    def _grant(self, lease: Lease, running: _Running) -> None:
        lease.grant(running.backend, max(0.0, running.ready - max(running.began, lease.entered)))

    def _start(self, spec: SlotSpec, need: int) -> None:
        log.info("starting %s, which is counted with %.1f MiB", spec.id, need / 2**20)
        running = _Running(spec, self._make(spec), self.loop.time())
        self._running[spec.id] = running
        running.task = self._tasks.start(self._live(running), f"live {spec.id}")

    async def _live(self, running: _Running) -> None:
        """Start a backend, then wait for the day it dies by itself."""
        slot, backend = running.spec.id, running.backend
        try:
            await backend.start()
        except GatewayError as error:
            self._failed(running, error)
            return
        except asyncio.CancelledError:
            self._failed(running, ShuttingDown("The gateway is shutting down."))
            raise
        except Exception as error:
            self._failed(running, StartFailed(f"{slot} could not be started: {error!r}"))
            raise
        running.ready = self.loop.time()
        took = running.ready - running.began
        log.info("%s is ready after %.3f s", slot, took)
        if self._observer is not None:
            self._observer.started(slot, took)
        self._carry_out(self._scheduler.started(slot, running.ready))
        end = await backend.wait_exit()
        if running.stopping:
            return
        # First the scheduler, so that nobody is granted a dead server; then the tidying up.
        del self._running[slot]
        running.gone.set()
        if self._observer is not None:
            self._observer.exited(slot)
        died = BackendUnreachable(f"The server of {slot} {end}.")
        self._carry_out(self._scheduler.exited(slot, self.loop.time(), died))
        await backend.stop(0)
        log.warning("%s %s; its last words: %s", slot, end, " | ".join(end.log[-3:]) or "none")

    def _failed(self, running: _Running, error: GatewayError) -> None:
        log.warning("%s did not start: %s", running.spec.id, error.message)
        del self._running[running.spec.id]
        running.gone.set()
        if self._observer is not None:
            self._observer.start_failed(running.spec.id)
        self._carry_out(self._scheduler.start_failed(running.spec.id, self.loop.time(), error))

    def _stop(self, slot: SlotId, reason: str) -> None:
        log.info("stopping %s: %s", slot, reason)
        running = self._running[slot]
        running.stopping = True
        self._tasks.start(self._end(running, reason), f"stop {slot}")

    async def _end(self, running: _Running, reason: str) -> None:
        asked = self.loop.time()
        if running.task is not None and running.task is not asyncio.current_task():
            running.task.cancel()
        await running.backend.stop(self._stop_grace)
        del self._running[running.spec.id]
        running.gone.set()
        if self._observer is not None:
            self._observer.stopped(running.spec.id, reason, self.loop.time() - asked)
        self._carry_out(self._scheduler.stopped(running.spec.id, self.loop.time()))
