"""A world in which everybody always wants something: time passes, and the longest wait is measured.

A discrete-event simulation. Each client sends a request, uses its slot for a while once it is granted, and soon sends
the next. There is room for some of the slots only.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

from gateway.core.effects import Effect, Grant, Refuse, Start, Stop, TicketId
from gateway.core.occupancy import Limits, Wish
from gateway.core.scheduler import Scheduler
from gateway.core.slot import Command, SlotSpec
from tests.core.accounts import require

START, STOP, LONGEST_RUN, TURN = 2.0, 1.0, 3.0, 5.0


class Rush:
    """`slots` slots of which not all fit, with some clients each, for `duration` seconds."""

    def __init__(self, make: type[Scheduler], seed: int, duration: float) -> None:
        self.random = random = Random(seed)  # noqa: S311 - it makes up histories
        self.specs = [
            SlotSpec(launch=Command(argv=(f"slot{number}",)), ttl=None, max_concurrent=random.choice([1, 2]))
            for number in range(random.randint(2, 4))
        ]
        self.needs = {spec.id: random.randint(1, 4) for spec in self.specs}
        most = max(*self.needs.values(), sum(self.needs.values()) - 1)
        self.scheduler = make(Limits(memory=most, turn=TURN, queue_timeout=None))
        self.duration = duration
        self.now = 0.0
        self.longest_wait = 0.0
        self._clients_per_slot = random.choice([1, 2, 4])
        self._waiting: dict[TicketId, tuple[SlotSpec, float]] = {}
        self._agenda: list[tuple[float, int, Callable[[], list[Effect]]]] = []
        self._last_id = 0

    @property
    def bearable_wait(self) -> float:
        """How long anybody may wait: twice round through all slots, and through the queue of its own."""
        swap = TURN + LONGEST_RUN + STOP + START
        return 2 * len(self.specs) * swap + self._clients_per_slot * LONGEST_RUN

    def run(self) -> None:
        """Let time pass, and look how long everybody waited."""
        for spec in self.specs:
            for _ in range(self._clients_per_slot):
                self._later(self.random.random(), lambda spec=spec: self._ask(spec))  # type: ignore[misc]
        while self.now < self.duration:
            due, _, event = self._agenda[0] if self._agenda else (float("inf"), 0, None)
            deadline = self.scheduler.next_deadline()
            require(min(due, deadline) < float("inf"), "nothing will ever happen again")
            require(deadline > self.now, "the next deadline is not in the future")
            self.now = min(due, deadline)
            if event is None or deadline < due:
                self._carry_out(self.scheduler.tick(self.now))
            else:
                heappop(self._agenda)
                self._carry_out(event())
        waits = [self.now - since for _, since in self._waiting.values()]
        self.longest_wait = max([self.longest_wait, *waits])
        require(
            self.longest_wait <= self.bearable_wait,
            f"somebody waits {self.longest_wait:g} s, {self.bearable_wait:g} s is what it may take",
        )

    def _later(self, pause: float, event: Callable[[], list[Effect]]) -> None:
        self._last_id += 1
        heappush(self._agenda, (self.now + pause, self._last_id, event))

    def _ask(self, spec: SlotSpec) -> list[Effect]:
        self._last_id += 1
        ticket = TicketId(self._last_id)
        self._waiting[ticket] = (spec, self.now)
        return self.scheduler.request(ticket, Wish(spec=spec, need=self.needs[spec.id]), self.now)

    def _release(self, ticket: TicketId, spec: SlotSpec) -> list[Effect]:
        self._later(self.random.random() / 2, lambda: self._ask(spec))
        return self.scheduler.released(ticket, self.now)

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Start(spec=spec):
                    self._later(START, lambda slot=spec.id: self.scheduler.started(slot, self.now))  # type: ignore[misc]
                case Stop(slot=slot):
                    self._later(STOP, lambda slot=slot: self.scheduler.stopped(slot, self.now))  # type: ignore[misc]
                case Grant(ticket=ticket):
                    spec, since = self._waiting.pop(ticket)
                    self.longest_wait = max(self.longest_wait, self.now - since)
                    length = 1 + self.random.random() * (LONGEST_RUN - 1)
                    self._later(length, lambda ticket=ticket, spec=spec: self._release(ticket, spec))  # type: ignore[misc]
                case Refuse(error=error):
                    require(condition=False, message=f"a request is refused: {error}")
