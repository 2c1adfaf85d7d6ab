"""A simulated world around a scheduler: it plays the engine and the clients.

It sends requests, lets starts succeed or fail, ends runs, moves the clock; after each event `Accounts.check` looks
whether all is well. A history is a list of `Step`s. Any list is a valid history, since a step picks among what is
possible at that moment: hypothesis can shrink it, and a seed can make it up.
"""

from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import NamedTuple

from gateway.core.effects import TicketId
from gateway.core.errors import StartFailed
from gateway.core.occupancy import Limits, Wish
from gateway.core.scheduler import Scheduler
from gateway.core.slot import Command, SlotSpec
from tests.core.accounts import Accounts, Client, Machine, require

FOREVER = float("inf")
ACTIONS = (
    *("request",) * 8,
    *("release",) * 6,
    *("started",) * 4,
    *("stopped",) * 4,
    *("wait",) * 4,
    *("cancel",) * 2,
    "preload",
    "peek",
    "fail",
    "exit",
    "unload",
    "budget",
    "replace",
    "wait_untold",
    "close",
)
ROLES = ("memory", "count", "both", "none")


class Step(NamedTuple):
    """One thing that happens: `pick` chooses whom it happens to, `value` how."""

    action: str
    pick: int
    value: int


def history(random: Random, length: int) -> list[Step]:
    """Make up a history."""
    return [Step(random.choice(ACTIONS), random.randrange(1000), random.randrange(1000)) for _ in range(length)]


def machines(random: Random) -> list[Machine]:
    """Make up the slots of a world: needs from 1 to 7."""
    return [
        Machine(
            spec=SlotSpec(
                launch=Command(argv=(f"slot{number}",)),
                ttl=random.choice([None, 0.0, 3.0, 20.0]),
                pinned=random.random() < 0.12,
                max_concurrent=random.choice([1, 1, 2, 3]),
            ),
            need=random.randint(1, 7),
        )
        for number in range(random.randint(2, 5))
    ]


def limits(random: Random) -> Limits:
    """Make up bounds that are tight for these needs."""
    role = random.choice(ROLES)
    return Limits(
        memory=random.randint(5, 12) if role in {"memory", "both"} else None,
        max_loaded=random.randint(1, 3) if role in {"count", "both"} else None,
        queue_length=random.choice([3, 8, 100]),
        queue_timeout=random.choice([None, None, 4.0, 30.0]),
        turn=random.choice([0.0, 2.0, 10.0]),
    )


class World(Accounts):
    """A scheduler under test and everything around it, made up from a seed."""

    def __init__(self, make: type[Scheduler], seed: int) -> None:
        self.random = random = Random(seed)  # noqa: S311 - it makes up histories
        bounds = limits(random)
        super().__init__(make(bounds), bounds, machines(random))
        self.orphans: set[TicketId] = set()  # granted by a process that died since
        self._last_ticket = 0

    # -- what happens --

    def play(self, steps: Iterable[Step]) -> None:
        """Let a history happen."""
        for step in steps:
            self.step(step)

    def step(self, step: Step) -> None:
        """Let one thing happen to one of those it can happen to; nothing if there is none."""
        getattr(self, f"_do_{step.action}")(step.pick, step.value)

    def finish(self) -> None:
        """Let the world end well, the clock standing still: then nobody may be left waiting."""
        while self._starting() or self._stopping() or self._granted():
            self._do_started(0, 0)
            self._do_stopped(0, 0)
            self._do_release(0, 0)
        left = [client.id for machine in self.machines.values() for client in machine.waiting.values()]
        require(not left, f"{left} wait for ever")
        self._let_idle_ones_go()
        require(not self.scheduler._tickets, "the scheduler remembers tickets that are answered")
        for slot_id, view in self.scheduler.view().items():
            machine = self.machines[slot_id]
            require(machine.loaded or view.failures, f"{slot_id} is cold and unused but kept")

    def _let_idle_ones_go(self) -> None:
        for _ in range(4 * len(self.machines)):
            due = self.scheduler.next_deadline()
            if due == FOREVER:
                break
            self._tick(due)
            while self._stopping():
                self._do_stopped(0, 0)
        for machine in self.machines.values():
            stays = machine.spec.pinned or machine.spec.ttl is None
            require(stays or not machine.loaded, f"{machine.id} outlives its ttl")

    def _do_request(self, pick: int, value: int) -> None:
        self._enter(pick, value, occupies=True, may_evict=True)

    def _do_peek(self, pick: int, value: int) -> None:
        self._enter(pick, value, occupies=False, may_evict=True)

    def _do_preload(self, pick: int, value: int) -> None:
        self._enter(pick, value, occupies=True, may_evict=False)

    def _enter(self, pick: int, value: int, *, occupies: bool, may_evict: bool) -> None:
        self.now += value % 3 / 8
        machine = list(self.machines.values())[pick % len(self.machines)]
        if value % 29 == 0 and not machine.loaded:
            machine.need = 1 + value % 7  # it was measured anew
        wish = Wish(
            spec=machine.spec,
            need=machine.need,
            priority=int(value % 10 == 0),
            occupies=occupies,
            may_evict=may_evict,
        )
        self._last_ticket += 1
        patience = self.limits.queue_timeout
        deadline = FOREVER if patience is None else self.now + patience
        client = Client(TicketId(self._last_ticket), machine, wish, self.now, deadline)
        crowd = self._crowd()
        machine.waiting[client.id] = self.clients[client.id] = client
        self.check(f"request {client.id}", self.scheduler.request(client.id, wish, self.now), crowd=crowd)

    def _do_cancel(self, pick: int, _value: int) -> None:
        waiting = [client for client in self.clients.values() if client.id in client.slot.waiting]
        if waiting:
            client = waiting[pick % len(waiting)]
            del self.clients[client.id], client.slot.waiting[client.id]
            self.check(f"cancel {client.id}", self.scheduler.cancel(client.id, self.now))

    def _do_release(self, pick: int, _value: int) -> None:
        granted = self._granted()
        if granted:
            ticket = granted[pick % len(granted)]
            client = self.clients.pop(ticket)
            if ticket in self.orphans:
                self.orphans.remove(ticket)
            else:
                del client.slot.running[ticket]
                client.slot.last_used = self.now
                client.slot.failures = 0
            self.check(f"released {ticket}", self.scheduler.released(ticket, self.now))

    def _do_started(self, pick: int, _value: int) -> None:
        starting = self._starting()
        if starting:
            machine = starting[pick % len(starting)]
            machine.phase = "up"
            machine.ready_at = machine.last_used = self.now
            machine.owed = set(machine.waiting)
            self.check(f"started {machine.id}", self.scheduler.started(machine.id, self.now))

    def _do_fail(self, pick: int, _value: int) -> None:
        starting = self._starting()
        if starting:
            machine = starting[pick % len(starting)]
            self._die(machine, free_tries=0)
            error = StartFailed("out of memory")
            self.check(f"failed {machine.id}", self.scheduler.start_failed(machine.id, self.now, error))
            require(not machine.waiting, "a failed start leaves waiters")

    def _do_exit(self, pick: int, _value: int) -> None:
        up = [machine for machine in self.machines.values() if machine.phase == "up"]
        if up:
            machine = up[pick % len(up)]
            self.orphans |= set(machine.running)
            machine.running.clear()
            self._die(machine, free_tries=1)
            error = StartFailed("exited with code 1")
            self.check(f"exited {machine.id}", self.scheduler.exited(machine.id, self.now, error))

    def _die(self, machine: Machine, *, free_tries: int) -> None:
        machine.failures += 1
        tries = machine.failures - free_tries
        machine.cool_until = self.now + min(60.0, 2.0 ** (tries - 1)) if tries > 0 else self.now
        self._unloaded(machine)

    def _do_stopped(self, pick: int, _value: int) -> None:
        stopping = self._stopping()
        if stopping:
            machine = stopping[pick % len(stopping)]
            self._unloaded(machine)
            self.check(f"stopped {machine.id}", self.scheduler.stopped(machine.id, self.now))

    def _unloaded(self, machine: Machine) -> None:
        machine.phase = "cold"
        machine.retired_at = None
        machine.promised.clear()
        machine.draining = machine.served = False

    def _do_unload(self, pick: int, _value: int) -> None:
        machine = list(self.machines.values())[pick % len(self.machines)]
        if machine.id in self.scheduler.view():
            machine.failures = 0
            machine.cool_until = 0.0
            self._retire(machine)
            self.check(f"unload {machine.id}", self.scheduler.unload(machine.id, self.now))

    def _retire(self, machine: Machine, *, removed: bool = False) -> None:
        machine.removed = removed and (machine.removed or machine.retired_at is None)
        if machine.phase in {"starting", "up"} and machine.retired_at is None:
            machine.retired_at = self.now
            if not machine.draining:
                machine.promised = set(machine.waiting)

    def _restore(self, machine: Machine) -> None:
        if machine.removed and machine.phase in {"starting", "up"}:
            machine.retired_at = None
            machine.promised = set()
        machine.removed = False

    def _do_budget(self, _pick: int, _value: int) -> None:
        self.limits = limits(self.random)
        self.check("budget", self.scheduler.budget(self.limits, self.now))

    def _do_replace(self, pick: int, value: int) -> None:
        """Give all slots new rules of life; now and then one is no longer configured."""
        gone = list(self.machines.values())[pick % len(self.machines)] if value % 2 else None
        stay = [machine for machine in self.machines.values() if machine is not gone]
        for machine in stay:
            machine.spec = replace(machine.spec, pinned=self.random.random() < 0.12, max_concurrent=1 + value % 3)
            self._restore(machine)
        specs = [machine.spec for machine in stay]
        if gone is not None:
            gone.spec = replace(gone.spec, ttl=0.0, pinned=False)
            if not gone.loaded:
                gone.failures = 0
                gone.cool_until = 0.0
            self._retire(gone, removed=True)
        self.check("replace", self.scheduler.replace_specs(specs, self.now))

    def _do_close(self, _pick: int, value: int) -> None:
        if value % 10 == 0:
            self.closed = True
            for machine in self.machines.values():
                self._retire(machine)
                machine.promised.clear()
            self.check("closing", self.scheduler.closing(self.now))

    def _do_wait(self, _pick: int, value: int) -> None:
        """Let the clock go on to the next deadline or up to ten seconds, whichever comes first."""
        due = self.scheduler.next_deadline()
        pause = (value % 100) / 10
        if self.now + pause < due:
            self._tick(self.now + pause, idle=True)
        else:
            self._tick(max(due, self.now))

    def _do_wait_untold(self, _pick: int, value: int) -> None:
        """Let the clock go on with nobody telling the scheduler: the next event comes late."""
        self.now += value % 5

    def _tick(self, now: float, *, idle: bool = False) -> None:
        self.now = now
        before = self.scheduler.view()
        effects = self.scheduler.tick(now)
        same = not effects and before == self.scheduler.view()
        require(same or not idle, f"{effects} were due before the deadline")
        self.check("tick", effects)
