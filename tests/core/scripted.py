"""A scheduler that is told a story line by line, and answers each line in words.

Slots are named by one letter. An answer is a list such as `["start a", "grant 1"]`; errors are kept by ticket.
"""

from gateway.core.effects import Effect, Grant, Refuse, Start, Stop, TicketId
from gateway.core.errors import GatewayError, StartFailed
from gateway.core.occupancy import Limits, SlotView, Wish
from gateway.core.scheduler import Scheduler
from gateway.core.slot import Command, SlotId, SlotSpec


def slot(name: str, *, ttl: float | None = None, pinned: bool = False, max_concurrent: int = 1) -> SlotSpec:
    """Return a slot that launches nothing."""
    return SlotSpec(launch=Command(argv=(name,)), ttl=ttl, pinned=pinned, max_concurrent=max_concurrent)


class Script:
    """`needs` are those of the slots that are not one byte each; tickets are numbered from 1."""

    def __init__(self, *specs: SlotSpec, limits: Limits, **needs: int) -> None:
        self.specs = {self.letter(spec.id): spec for spec in specs}
        self.needs = needs
        self.limits = limits
        self.scheduler = Scheduler(limits)
        self.now = 0.0
        self.tickets = 0
        self.errors: dict[int, GatewayError] = {}
        self.reasons: dict[str, str] = {}

    @staticmethod
    def letter(slot_id: SlotId) -> str:
        """Return the name that a story has for a slot."""
        return slot_id.split("-", maxsplit=1)[0]

    def id(self, name: str) -> SlotId:
        """Return the scheduler's name for a slot."""
        return self._spec(name).id

    def ask(
        self, name: str, *, priority: int = 0, occupies: bool = True, may_evict: bool = True, need: int | None = None
    ) -> list[str]:
        """Send the next request."""
        self.tickets += 1
        wish = Wish(
            spec=self._spec(name),
            need=need if need is not None else self.needs.get(name, 1),
            priority=priority,
            occupies=occupies,
            may_evict=may_evict,
        )
        return self.words(self.scheduler.request(TicketId(self.tickets), wish, self.now))

    def cancel(self, ticket: int) -> list[str]:
        """Let a client leave the queue."""
        return self.words(self.scheduler.cancel(TicketId(ticket), self.now))

    def release(self, ticket: int) -> list[str]:
        """End an answer."""
        return self.words(self.scheduler.released(TicketId(ticket), self.now))

    def started(self, name: str) -> list[str]:
        """Let a start succeed."""
        return self.words(self.scheduler.started(self.id(name), self.now))

    def failed(self, name: str, why: str = "out of memory") -> list[str]:
        """Let a start fail."""
        return self.words(self.scheduler.start_failed(self.id(name), self.now, StartFailed(why)))

    def exited(self, name: str, why: str = "exited with code 1") -> list[str]:
        """Let a process die."""
        return self.words(self.scheduler.exited(self.id(name), self.now, StartFailed(why)))

    def stopped(self, name: str) -> list[str]:
        """Let a stop end."""
        return self.words(self.scheduler.stopped(self.id(name), self.now))

    def unload(self, name: str) -> list[str]:
        """Ask for an unload."""
        return self.words(self.scheduler.unload(self.id(name), self.now))

    def configure(self, *specs: SlotSpec) -> list[str]:
        """Replace the configuration."""
        self.specs.update({self.letter(spec.id): spec for spec in specs})
        return self.words(self.scheduler.replace_specs(specs, self.now))

    def bound(self, limits: Limits) -> list[str]:
        """Replace the bounds."""
        self.limits = limits
        return self.words(self.scheduler.budget(self.limits, self.now))

    def close(self) -> list[str]:
        """Begin the end."""
        return self.words(self.scheduler.closing(self.now))

    def at(self, now: float) -> list[str]:
        """Let it be `now`."""
        self.now = now
        return self.words(self.scheduler.tick(now))

    def up(self, *names: str) -> None:
        """Load slots, in this order and one second apart, and leave them idle."""
        for name in names:
            assert self.ask(name) == [f"start {name}"]
            assert self.started(name) == [f"grant {self.tickets}"]
            assert self.release(self.tickets) == []
            self.now += 1

    def phases(self) -> dict[str, str]:
        """Return what state each slot is in."""
        return {self.letter(slot_id): view.phase.value for slot_id, view in self.scheduler.view().items()}

    def view(self, name: str) -> SlotView:
        """Return what the scheduler shows of a slot."""
        return self.scheduler.view()[self.id(name)]

    def explain(self, ticket: int) -> str:
        """Return why a ticket waits."""
        return self.scheduler.explain(TicketId(ticket))

    def words(self, effects: list[Effect]) -> list[str]:
        """Say effects in words."""
        return [self._word(effect) for effect in effects]

    def _word(self, effect: Effect) -> str:
        match effect:
            case Start(spec=spec):
                return f"start {self.letter(spec.id)}"
            case Stop(slot=slot_id, reason=reason):
                self.reasons[self.letter(slot_id)] = reason
                return f"stop {self.letter(slot_id)}"
            case Grant(ticket=ticket):
                return f"grant {ticket}"
            case Refuse(ticket=ticket, error=error):
                self.errors[ticket] = error
                return f"refuse {ticket} {type(error).__name__}"

    def _spec(self, name: str) -> SlotSpec:
        return self.specs.get(name) or slot(name)
