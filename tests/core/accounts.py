"""The accounts of a simulated world: who waits, who runs, what is loaded; and what must always hold.

Everything here is counted from the events that were sent and the effects that came back. `SlotView.phase` is believed
for one thing only: whether a slot drains.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.core.effects import Effect, Grant, Refuse, Start, Stop, TicketId
from gateway.core.errors import CoolingDown, NeverFits, QueueFull, QueueTimeout, ShuttingDown, StartFailed
from gateway.core.occupancy import Limits, Wish
from gateway.core.scheduler import Scheduler
from gateway.core.slot import SlotId, SlotSpec


class Violation(AssertionError):
    """Something that must always hold did not."""


@dataclass(slots=True)
class Client:
    """One request, as its sender remembers it."""

    id: TicketId
    slot: "Machine"
    wish: Wish
    arrived: float
    deadline: float

    def ahead_of(self, other: "Client") -> bool:
        """Whether it has the better claim."""
        return (-self.wish.priority, self.id) < (-other.wish.priority, other.id)


@dataclass(slots=True)
class Machine:
    """One slot, as an onlooker sees it.

    `phase` is cold, starting, up or stopping. `owed` are those it was loaded for, `promised` those who are to be served
    before it goes. `removed` is one that goes for no other reason than that it is not configured.
    """

    spec: SlotSpec
    need: int
    phase: str = "cold"
    draining: bool = False
    waiting: dict[TicketId, Client] = field(default_factory=dict)
    running: dict[TicketId, Client] = field(default_factory=dict)
    served: bool = False
    ready_at: float = 0.0
    last_used: float = 0.0
    retired_at: float | None = None
    removed: bool = False
    owed: set[TicketId] = field(default_factory=set)
    promised: set[TicketId] = field(default_factory=set)
    yields_to: Client | None = None
    failures: int = 0
    cool_until: float = 0.0
    id: SlotId = field(init=False)

    def __post_init__(self) -> None:
        self.id = self.spec.id

    @property
    def loaded(self) -> bool:
        """Whether it holds memory."""
        return self.phase != "cold"

    @property
    def leaving(self) -> bool:
        """Whether its memory comes back without anybody asking."""
        return self.phase == "stopping" or (self.loaded and self.retired_at is not None)

    @property
    def head(self) -> Client:
        """Who has the best claim of those who wait."""
        return min(self.waiting.values(), key=lambda client: (-client.wish.priority, client.id))

    @property
    def claim(self) -> tuple[float, ...]:
        """Its place in the line for memory: behind the one for whom it went."""
        head, other = self.head, self.yields_to
        if other is not None and other.wish.priority == head.wish.priority and other.id > head.id:
            return (-head.wish.priority, other.id + 0.5, head.id)
        return (-head.wish.priority, head.id)

    @property
    def occupied(self) -> int:
        """How many of its places are taken."""
        return sum(client.wish.occupies for client in self.running.values())

    def entitled(self, client: Client) -> bool:
        """Whether this load may still serve it."""
        return self.retired_at is None or client.arrived <= self.retired_at


def require(condition: object, message: str) -> None:
    """Raise `Violation` unless it holds."""
    if not condition:
        raise Violation(message)


class Accounts:
    """A scheduler under test, and what is known about it from outside."""

    def __init__(self, scheduler: Scheduler, limits: Limits, machines: Sequence[Machine]) -> None:
        self.scheduler = scheduler
        self.limits = limits
        self.machines: dict[SlotId, Machine] = {machine.id: machine for machine in machines}
        self.clients: dict[TicketId, Client] = {}
        self.now = 100.0
        self.closed = False
        self._drained_for: Client | None = None

    # -- who there is --

    def _starting(self) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.phase == "starting"]

    def _stopping(self) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.phase == "stopping"]

    def _granted(self) -> list[TicketId]:
        return [ticket for ticket in self.clients if ticket not in self.clients[ticket].slot.waiting]

    def _crowd(self) -> int:
        return sum(len(machine.waiting) for machine in self.machines.values())

    def _next_cold(self) -> Machine | None:
        """Return the cold slot that owns the next free memory."""
        cold = [machine for machine in self.machines.values() if not machine.loaded and machine.waiting]
        return min(cold, key=lambda machine: machine.claim, default=None)

    def _room(self, machine: Machine, gone: Sequence[Machine]) -> bool:
        """Whether the budget lets `machine` start once those in `gone` have gone."""
        stay = [other for other in self.machines.values() if other.loaded and other not in gone]
        memory, most = self.limits.memory, self.limits.max_loaded
        held = sum(other.need for other in stay)
        return (memory is None or held + machine.need <= memory) and (most is None or len(stay) + 1 <= most)

    # -- what must hold --

    def check(self, event: str, effects: Sequence[Effect], *, crowd: int | None = None) -> None:
        """Take in the answer to an event, and look whether all is well."""
        try:
            drained = {machine.id for machine in self.machines.values() if machine.draining}
            self._look()
            outranked = self._outranked(effects)
            stopped = self._take(event, effects, crowd)
            self._agree()
            self._check_clock()
            self._check_queue(crowd)
            self._check_service()
            self._check_room(drained)
            self._check_drains(effects, set() if outranked else drained)
            self._check_victims(stopped)
        except Violation as wrong:
            wrong.add_note(f"at {self.now:g} s, after `{event}` was answered with {list(effects)}")
            raise

    def _look(self) -> None:
        """See who drains now; all else is known."""
        view = self.scheduler.view()
        for slot_id, machine in self.machines.items():
            machine.draining = slot_id in view and view[slot_id].phase.name == "DRAINING"

    def _outranked(self, effects: Sequence[Effect]) -> bool:
        """Whether somebody is served for whom those who drain went back to work for a moment."""
        cold = self._next_cold()
        tickets = [effect.ticket for effect in effects if isinstance(effect, Grant)]
        granted = [self.clients[ticket] for ticket in tickets if ticket in self.clients]
        return any(cold is None or client.wish.priority > cold.head.wish.priority for client in granted)

    def _check_drains(self, effects: Sequence[Effect], drained: set[SlotId]) -> None:
        """Who drains for the same one as before has admitted nobody."""
        cold = self._next_cold()
        drained_for, self._drained_for = self._drained_for, cold.head if cold else None
        for effect in effects:
            if isinstance(effect, Grant) and drained_for is self._drained_for:
                broken = effect.slot in drained and self.machines[effect.slot].draining
                require(not broken, f"{effect.slot} admits {effect.ticket} while it drains")

    def _take(self, event: str, effects: Sequence[Effect], crowd: int | None) -> list[Machine]:
        """Carry the effects out; return who was stopped to make room."""
        stopped: list[Machine] = []
        for effect in effects:
            match effect:
                case Start():
                    self._take_start(effect)
                case Stop():
                    stopped += self._take_stop(self.machines[effect.slot])
                case Grant():
                    self._take_grant(effect)
                case Refuse():
                    self._take_refuse(effect, event, crowd)
        return stopped

    def _take_start(self, effect: Start) -> None:
        machine = self.machines[effect.spec.id]
        require(machine.phase == "cold", f"{machine.id} is started while it is {machine.phase}")
        require(machine.waiting, f"{machine.id} is started for nobody")
        require(not self.closed, "something starts while the gateway closes")
        require(machine.cool_until <= self.now, f"{machine.id} is started while it cools down")
        require(effect.need == machine.need, f"{machine.id} is started with a need of {effect.need}")
        require(self._next_cold() is machine, f"{machine.id} overtakes an older waiter")
        require(self._room(machine, []), f"{machine.id} exceeds the budget")
        machine.phase = "starting"
        machine.served = False
        machine.yields_to = None

    def _take_stop(self, machine: Machine) -> list[Machine]:
        require(machine.phase == "up", f"{machine.id} is stopped while it is {machine.phase}")
        require(not machine.running, f"{machine.id} is stopped while it serves")
        machine.phase = "stopping"
        if machine.retired_at is not None:
            require(not machine.promised & set(machine.waiting), "those who waited before an unload are not served")
            return []
        require(not machine.spec.pinned, f"{machine.id} is pinned and stopped")
        if not machine.waiting and machine.spec.ttl is not None and machine.last_used + machine.spec.ttl <= self.now:
            return []
        unserved = machine.owed & set(machine.waiting)
        require(machine.served or not unserved, f"{machine.id} goes before it served {unserved}")
        cold = self._next_cold()
        machine.yields_to = cold.head if cold else None
        return [machine]

    def _take_grant(self, effect: Grant) -> None:
        client = self.clients.get(effect.ticket)
        require(client is not None and client.id in client.slot.waiting, f"{effect.ticket} does not wait")
        assert client is not None
        machine = client.slot
        require(effect.slot == machine.id, f"{client.id} gets the wrong slot")
        require(machine.phase == "up", f"{machine.id} is granted while it is {machine.phase}")
        require(machine.entitled(client), f"{client.id} is too late for this load")
        del machine.waiting[client.id]
        for other in machine.waiting.values():
            could = machine.entitled(other) and (client.wish.occupies or not other.wish.occupies)
            require(not (could and other.ahead_of(client)), f"{client.id} overtakes {other.id}")
        machine.running[client.id] = client
        machine.served = True
        machine.last_used = self.now
        full = client.wish.occupies and machine.occupied > machine.spec.max_concurrent
        require(not full, f"{machine.id} serves more at once than it may")

    def _take_refuse(self, effect: Refuse, event: str, crowd: int | None) -> None:
        client = self.clients.pop(effect.ticket, None)
        require(client is not None and client.id in client.slot.waiting, f"{effect.ticket} does not wait")
        assert client is not None
        machine = client.slot
        del machine.waiting[client.id]
        match effect.error:
            case QueueTimeout():
                fair = client.deadline <= self.now and machine.phase != "starting"
            case QueueFull():
                fair = crowd is not None and crowd >= self.limits.queue_length
            case NeverFits():
                fair = not client.wish.may_evict or not self._can_ever_fit(machine)
            case CoolingDown():
                fair = effect.error.retry_after == max(machine.cool_until - self.now, 0.1)
            case ShuttingDown():
                fair = self.closed
            case StartFailed():
                fair = event == f"failed {machine.id}"
            case _:
                fair = False
        require(fair, f"{client.id} is refused without reason: {effect.error}")

    def _agree(self) -> None:
        """Compare the scheduler's view with our own accounts."""
        view = self.scheduler.view()
        require(set(view) <= set(self.machines), "the scheduler knows slots that nobody asked for")
        for slot_id, machine in self.machines.items():
            seen = view.get(slot_id)
            require(seen is not None or not (machine.loaded or machine.waiting), f"{slot_id} is forgotten")
            if seen is not None:
                counts = (len(machine.running), len(machine.waiting), machine.failures)
                require(
                    counts == (seen.running, seen.waiting, seen.failures),
                    f"{slot_id} shows others than the {counts} that run, wait, failed",
                )
                phase = {"READY": "up", "DRAINING": "up"}.get(seen.phase.name, seen.phase.name.lower())
                require(phase == machine.phase, f"{slot_id} is {machine.phase}, and shown as {seen.phase.name}")

    def _check_clock(self) -> None:
        require(self.scheduler.next_deadline() > self.now, "the next deadline is not in the future")
        for machine in self.machines.values():
            require(machine.cool_until <= self.now or not machine.waiting, "somebody waits for what cools down")
            for client in machine.waiting.values():
                late = client.deadline <= self.now and machine.phase != "starting"
                require(not late, f"{client.id} waits longer than it may")
                require(self.scheduler.explain(client.id), f"nobody can say why {client.id} waits")

    def _check_queue(self, crowd: int | None) -> None:
        if crowd is not None and crowd >= self.limits.queue_length:
            newest = max(self.clients.values(), key=lambda client: client.id, default=None)
            queued = newest is not None and newest.id in newest.slot.waiting and newest.arrived == self.now
            require(self._crowd() <= crowd or not queued, "more wait than may")

    def _check_service(self) -> None:
        """Who is up serves its own queue; who must go and may go, goes."""
        for machine in self.machines.values():
            if machine.phase != "up":
                continue
            entitled = [client for client in machine.waiting.values() if machine.entitled(client)]
            full = machine.occupied >= machine.spec.max_concurrent
            idle = [client for client in entitled if not (full and client.wish.occupies)]
            require(machine.draining or not idle, f"{machine.id} has a place but does not serve")
            lingers = machine.retired_at is not None and not machine.running and (machine.draining or not entitled)
            require(not lingers, f"{machine.id} should be gone")

    def _check_room(self, drained: set[SlotId]) -> None:
        """The oldest cold waiter gets room as soon as there is a way, and nobody drains without need."""
        cold = self._next_cold()
        drains = [m for m in self.machines.values() if m.phase == "up" and m.draining and m.retired_at is None]
        for machine in self.machines.values():
            if machine in drains:
                machine.yields_to = cold.head if cold else None
            elif machine.phase == "up" and not machine.draining:
                machine.yields_to = None
        if cold is None:
            require(not drains, "somebody drains for nobody")
            return
        leaving = [machine for machine in self.machines.values() if machine.leaving]
        require(not self._room(cold, []), f"{cold.id} has room but does not start")
        require(self._can_ever_fit(cold), f"{cold.id} can never fit but waits")
        require(all(c.wish.may_evict for c in cold.waiting.values()), "a preload waits for an eviction")
        may_go = [machine for machine in self.machines.values() if self._may_go(machine, cold)]
        if not self._room(cold, leaving):
            idle = [machine for machine in may_go if not machine.running]
            require(not self._room(cold, leaving + idle), f"idle slots stay while {cold.id} waits")
            drain = self._room(cold, leaving + may_go)
            require(drain or not drains, f"somebody drains in vain for {cold.id}")
            require(self._room(cold, leaving + drains) == drain, f"{cold.id} waits, and too few drain for it")
        for machine in drains:
            fewer = [other for other in drains if other is not machine]
            require(not self._room(cold, leaving + fewer), f"{machine.id} drains without need")
            require(not machine.spec.pinned, f"{machine.id} is pinned and drains")
            turn_over = not machine.waiting or self.now >= self._turn_ends(machine, cold)
            require(turn_over or machine.id in drained, f"{machine.id} drains before its turn is over")

    def _check_victims(self, stopped: list[Machine]) -> None:
        """Those who made room were needed, and had been idle for longest."""
        cold = self._next_cold()
        leaving = [machine for machine in self.machines.values() if machine.leaving]
        for victim in stopped:
            require(cold is not None, f"{victim.id} goes for nobody")
            assert cold is not None
            require(self._room(cold, leaving), f"{victim.id} goes in vain")
            # Who went in the same moment because its time was over came second.
            fewer = [other for other in leaving if other in stopped or other.retired_at is not None]
            fewer.remove(victim)
            require(not self._room(cold, fewer), f"{victim.id} goes without need")
            for other in self.machines.values():
                idle = self._may_go(other, cold) and not other.running and not other.waiting
                older = other.last_used < victim.last_used and other.need >= victim.need
                require(not (idle and older), f"{victim.id} goes, {other.id} was idle for longer")

    def _can_ever_fit(self, machine: Machine) -> bool:
        return self._room(
            machine, [other for other in self.machines.values() if not other.spec.pinned or other.leaving]
        )

    def _may_go(self, machine: Machine, cold: Machine) -> bool:
        if machine.phase != "up" or machine.retired_at is not None or machine.spec.pinned:
            return False
        if machine.waiting and machine.head.wish.priority > cold.head.wish.priority:
            return False
        return not machine.waiting or machine.draining or self.now >= self._turn_ends(machine, cold)

    def _turn_ends(self, machine: Machine, cold: Machine) -> float:
        return max(machine.ready_at, cold.head.arrived) + self.limits.turn
