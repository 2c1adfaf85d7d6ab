"""The state that the scheduler keeps: phases, waiting tickets, loaded slots. Written by `core.scheduler` alone."""

from dataclasses import dataclass, field
from enum import Enum

from gateway.core.effects import Grant, TicketId
from gateway.core.errors import GatewayError
from gateway.core.eviction import Candidate
from gateway.core.slot import SlotSpec

NEVER = float("inf")
REMOVED = "no longer configured"
"""Why a slot goes that the configuration no longer has: the one reason that can be taken back."""


class Phase(Enum):
    """Where a slot is in its life; the values are what `/running` shows."""

    COLD = "stopped"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the whole: bytes, slots, tickets, seconds. `None` is no bound."""

    memory: int | None = None
    max_loaded: int | None = None
    queue_length: int = 100
    queue_timeout: float | None = 300.0
    turn: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a request wants of the scheduler.

    `need` is in bytes. `occupies`: it counts against `max_concurrent` (a generation does, a look at the tokenizer
    does not). `may_evict`: others may be stopped for it (a preload may not). `priority`: higher goes first.
    """

    spec: SlotSpec
    need: int
    priority: int = 0
    occupies: bool = True
    may_evict: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotView:
    """One slot as others may see it. `need` in bytes, `last_used` in the scheduler's seconds."""

    spec: SlotSpec
    phase: Phase
    need: int
    running: int
    waiting: int
    last_used: float
    failures: int


@dataclass(slots=True)
class Ticket:
    """A request that waits or runs. Sorts by priority, then arrival."""

    id: TicketId
    wish: Wish
    arrived: float
    deadline: float

    def __lt__(self, other: "Ticket") -> bool:
        return (-self.wish.priority, self.id) < (-other.wish.priority, other.id)


@dataclass(slots=True)
class SlotState:
    """A slot and everybody who wants it or has it.

    `retiring` says why it must go however much it is wanted (empty: it need not); who already waited at
    `retiring_since` is served before, unless it drains already. `yields_to` is the ticket that it makes room for.
    """

    spec: SlotSpec
    need: int
    phase: Phase = Phase.COLD
    waiting: list[Ticket] = field(default_factory=list)
    running: dict[TicketId, Ticket] = field(default_factory=dict)
    last_used: float = 0.0
    ready_at: float = 0.0
    retiring: str = ""
    retiring_since: float = 0.0
    yields_to: Ticket | None = None
    failures: int = 0
    retry_at: float = 0.0
    error: GatewayError | None = None

    @property
    def loaded(self) -> bool:
        """Whether it holds memory."""
        return self.phase is not Phase.COLD

    @property
    def remembered(self) -> bool:
        """Whether there is anything to know about it: it is loaded, wanted, or failed when it was last asked for."""
        return self.loaded or bool(self.waiting) or self.failures > 0

    @property
    def up(self) -> bool:
        """Whether its server can answer."""
        return self.phase in {Phase.READY, Phase.DRAINING}

    @property
    def leaves(self) -> bool:
        """Whether its memory will be free without anybody asking for it."""
        return self.phase is Phase.STOPPING or (self.loaded and bool(self.retiring))

    @property
    def view(self) -> SlotView:
        """What others may see of it."""
        return SlotView(
            spec=self.spec,
            phase=self.phase,
            need=self.need,
            running=len(self.running),
            waiting=len(self.waiting),
            last_used=self.last_used,
            failures=self.failures,
        )

    @property
    def idle_until(self) -> float:
        """When its `ttl` ends if nothing more is asked of it."""
        if self.running or self.spec.pinned or self.spec.ttl is None:
            return NEVER
        return self.last_used + self.spec.ttl

    def entitled(self, ticket: Ticket) -> bool:
        """Whether this load may still serve the ticket."""
        return not self.retiring or ticket.arrived <= self.retiring_since

    @property
    def candidate(self) -> Candidate:
        """What is to be known about it when victims are chosen."""
        return Candidate(
            slot=self.spec.id,
            need=self.need,
            last_used=self.last_used,
            busy=bool(self.running),
            draining=self.phase is Phase.DRAINING,
        )

    @property
    def claim(self) -> tuple[int, TicketId, bool, TicketId]:
        """The place of its waiters in the line for memory, lowest first.

        It is that of the first of them, but behind the ticket that the slot made room for: or else it would be loaded
        again at once, and the room be gone.
        """
        first, other = self.waiting[0], self.yields_to
        if other is not None and first < other and first.wish.priority == other.wish.priority:
            return (-first.wish.priority, other.id, True, first.id)
        return (-first.wish.priority, first.id, False, first.id)

    @property
    def owes(self) -> bool:
        """Whether somebody who waits will be served by this load; once it drains, all wait for the next."""
        return self.phase is not Phase.DRAINING and any(self.entitled(ticket) for ticket in self.waiting)

    def admits(self, ticket: Ticket) -> bool:
        """Whether the ticket can be served now."""
        if self.phase is not Phase.READY or not self.entitled(ticket):
            return False
        occupied = sum(other.wish.occupies for other in self.running.values())
        return not ticket.wish.occupies or occupied < self.spec.max_concurrent

    def grant(self, ticket: Ticket, now: float) -> Grant:
        """Let a ticket in; return the word for it."""
        self.running[ticket.id] = ticket
        self.last_used = now
        return Grant(ticket=ticket.id, slot=self.spec.id)

    def retire(self, reason: str, now: float) -> None:
        """Mark that it must go, unless it is gone or going; the first reason stays, save one that can be taken back."""
        if self.phase in {Phase.COLD, Phase.STOPPING}:
            return
        if not self.retiring:
            self.retiring = reason
            self.retiring_since = now
        elif self.retiring == REMOVED:
            self.retiring = reason

    def stay(self) -> None:
        """Take back that it must go because it was no longer configured. One that drains goes back to work."""
        if self.retiring == REMOVED:
            self.retiring = ""
