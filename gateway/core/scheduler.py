"""Who runs, who waits, who goes: the one place where that is decided.

Events in (methods), effects out (return values). Synchronous and pure: no clock (every event carries `now`, seconds
on any monotonic clock), no I/O, no `await`, hence no locks. One owner calls it, `engine.pool`.

Life of a slot::

    COLD -> STARTING -> READY <-> DRAINING -> STOPPING -> COLD
            STARTING, READY, DRAINING -> COLD on failure or unexpected exit, with a growing cool-down

Memory and the count of loaded slots are held from STARTING to the end of STOPPING.

Policy, decided in `_pump` and nowhere else:

1. A ready slot serves its own queue, by priority and then arrival, up to `max_concurrent`.
2. The oldest waiter for a cold slot owns the next free memory; nothing cold overtakes it.
3. Room is made by idle slots first, least recently used first, only as many as needed. Never pinned ones, never one
   that is starting, never one that has not yet served the request it was loaded for.
4. Where idle ones are not enough, busy ones drain: they finish what runs and admit nobody new. A busy slot with a
   queue of its own keeps serving it for `turn` seconds first, so that requests for A B A B are served A A B B and
   nobody waits longer than `turn` plus the longest running answer. Nobody drains for a waiter of lower priority than
   its own.
5. Who still waits for a slot that made room stands in line behind the one it made room for.
6. If the one who waited leaves, a draining slot goes back to work.

Cost: an event is linear in the number of slots and of waiting tickets, which `queue_length` bounds.
"""

from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import replace

from gateway.core import refusals
from gateway.core.effects import Effect, Refuse, Start, Stop, TicketId
from gateway.core.errors import GatewayError
from gateway.core.eviction import choose_victims
from gateway.core.explanation import reason_to_wait
from gateway.core.occupancy import NEVER, REMOVED, Limits, Phase, SlotState, SlotView, Ticket, Wish
from gateway.core.slot import SlotId, SlotSpec

COOL_DOWNS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Seconds to wait after each failure in a row; the last value stays."""


class Scheduler:
    """The decision-maker. Ticket ids are given by the caller and must rise in order of arrival."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._specs: dict[SlotId, SlotSpec] | None = None  # until a configuration is taken over, wishes say it all
        self._slots: dict[SlotId, SlotState] = {}
        self._tickets: dict[TicketId, SlotState] = {}
        self._effects: list[Effect] = []
        self._now = 0.0
        self._closing = False

    # -- events --

    def request(self, ticket: TicketId, wish: Wish, now: float) -> list[Effect]:
        """Enter a new ticket. It is answered by exactly one `Grant` or `Refuse`, at once or later."""
        slot = self._slots.get(wish.spec.id)
        if slot is None:
            slot = self._slots[wish.spec.id] = SlotState(self._ruled(wish.spec), wish.need)
        if not slot.loaded:
            slot.need = wish.need
        timeout = self._limits.queue_timeout
        entry = Ticket(ticket, wish, now, NEVER if timeout is None else now + timeout)
        if self._calm(now) and slot.admits(entry):  # what `_pump` would come to, and all it would
            self._now = now
            self._tickets[ticket] = slot
            return [slot.grant(entry, now)]
        refusal = self._refusal(slot, entry, now)
        if refusal is not None:
            self._effects.append(Refuse(ticket=ticket, error=refusal))
        else:
            self._tickets[ticket] = slot
            insort(slot.waiting, entry)
        return self._pump(now)

    def cancel(self, ticket: TicketId, now: float) -> list[Effect]:
        """Withdraw a ticket that still waits."""
        slot = self._tickets.pop(ticket)
        slot.waiting = [other for other in slot.waiting if other.id != ticket]
        return self._pump(now)

    def released(self, ticket: TicketId, now: float) -> list[Effect]:
        """End the use of a granted ticket: its last byte is sent, or its client is gone."""
        slot = self._tickets.pop(ticket)
        if slot.running.pop(ticket, None) is not None:  # else its process died under it
            slot.last_used = now
            slot.failures = 0
        if slot.phase is Phase.READY and not slot.retiring and self._calm(now):
            self._now = now
            return []  # its place is free, and nobody wants it
        return self._pump(now)

    def started(self, slot_id: SlotId, now: float) -> list[Effect]:
        """Enter a slot that can serve."""
        slot = self._expect(slot_id, Phase.STARTING)
        slot.phase = Phase.READY
        slot.ready_at = slot.last_used = now
        slot.error = None
        self._admit(now)  # before anybody's time is up or anybody else's need counts: it was loaded for them
        return self._pump(now)

    def start_failed(self, slot_id: SlotId, now: float, error: GatewayError) -> list[Effect]:
        """Give every waiter of a slot that did not start the reason."""
        slot = self._expect(slot_id, Phase.STARTING)
        self._fail(slot, now, error, free_tries=0)
        self._refuse_all(slot, error)
        return self._pump(now)

    def exited(self, slot_id: SlotId, now: float, error: GatewayError) -> list[Effect]:
        """Enter the death of a running slot's process. Its leases end by themselves, with their broken answers.

        Who waits for it waits for the next load, unless it has to cool down.
        """
        slot = self._expect(slot_id, Phase.READY, Phase.DRAINING)
        self._fail(slot, now, error, free_tries=1)
        slot.running.clear()
        if slot.retry_at > now:
            self._refuse_all(slot, refusals.cooling_down(slot, now))
        return self._pump(now)

    def stopped(self, slot_id: SlotId, now: float) -> list[Effect]:
        """Enter the end of a `Stop`: the memory is free."""
        slot = self._expect(slot_id, Phase.STOPPING)
        slot.phase = Phase.COLD
        slot.retiring = ""
        return self._pump(now)

    def unload(self, slot_id: SlotId, now: float, reason: str = "asked to unload") -> list[Effect]:
        """Let a slot finish what runs, then stop it. One that is starting serves its waiters first."""
        slot = self._slots.get(slot_id)
        if slot is None:
            return []
        slot.failures = 0
        slot.retry_at = 0.0
        slot.retire(reason, now)
        return self._pump(now)

    def replace_specs(self, specs: Iterable[SlotSpec], now: float) -> list[Effect]:
        """Take over new rules of life; slots that are no longer configured go when their last lease ends.

        One that is configured again before it has gone stays. Who still asks for one that is not configured, because
        it was resolved before, is served, and is its last user.
        """
        self._specs = {spec.id: spec for spec in specs}
        for slot_id, slot in self._slots.items():
            slot.spec = self._ruled(slot.spec)
            if slot_id in self._specs:
                slot.stay()
                continue
            slot.retire(REMOVED, now)
            if not slot.loaded:
                slot.failures = 0
        return self._pump(now)

    def budget(self, limits: Limits, now: float) -> list[Effect]:
        """Replace the bounds. Loaded slots above a smaller budget go as soon as somebody needs room."""
        self._limits = limits
        return self._pump(now)

    def tick(self, now: float) -> list[Effect]:
        """Let time pass: due at `next_deadline`."""
        return self._pump(now)

    def closing(self, now: float) -> list[Effect]:
        """Refuse all who wait and everybody new; stop each slot when its last lease ends."""
        self._closing = True
        for slot in self._slots.values():
            self._refuse_all(slot, refusals.shutting_down())
            slot.retire("the gateway shuts down", now)
        return self._pump(now)

    # -- questions --

    def next_deadline(self) -> float:
        """Return when `tick` is due next, `inf` if only an event can change anything."""
        return min((due for slot in self._slots.values() for due in self._deadlines(slot)), default=NEVER)

    def view(self) -> dict[SlotId, SlotView]:
        """Return every slot that is loaded, wanted, or cooling down."""
        return {slot_id: slot.view for slot_id, slot in self._slots.items()}

    def explain(self, ticket: TicketId) -> str:
        """Say in words what a waiting ticket waits for; empty if it does not wait."""
        slot = self._tickets.get(ticket)
        return "" if slot is None else reason_to_wait(slot, ticket, self._slots)

    # -- decisions --

    def _pump(self, now: float) -> list[Effect]:
        self._now = now
        self._expire(now)
        changed = True
        while changed:
            changed = self._make_room(now) | self._admit(now) | self._retire(now)
        self._slots = {slot_id: slot for slot_id, slot in self._slots.items() if slot.remembered}
        effects, self._effects = self._effects, []
        return effects

    def _expire(self, now: float) -> None:
        for slot in self._slots.values():
            if slot.phase is Phase.STARTING:
                continue  # its waiters are bounded by the start time-out
            late = [ticket for ticket in slot.waiting if ticket.deadline <= now]
            for ticket in late:
                self._refuse(ticket, refusals.queue_timeout(slot, ticket.deadline - ticket.arrived))
                slot.waiting.remove(ticket)

    def _calm(self, now: float) -> bool:
        """Whether nobody waits and nobody's time is up, so that a request or release concerns its own slot alone."""
        return not any(slot.waiting or slot.idle_until <= now for slot in self._slots.values())

    def _admit(self, now: float) -> bool:
        admitted = False
        for slot in self._slots.values():
            for ticket in slot.waiting.copy():
                if slot.admits(ticket):
                    slot.waiting.remove(ticket)
                    self._effects.append(slot.grant(ticket, now))
                    admitted = True
        return admitted

    def _retire(self, now: float) -> bool:
        """Stop what must go for its own sake: asked to, or idle for its time."""
        retired = False
        for slot in self._slots.values():
            if slot.phase is Phase.READY and not slot.retiring and not slot.waiting and slot.idle_until <= now:
                slot.retire(f"idle for {slot.spec.ttl:g} s", now)
            if slot.up and slot.retiring and not slot.owes:
                slot.phase = Phase.DRAINING
                if not slot.running:
                    self._stop(slot, slot.retiring)
                    retired = True
        return retired

    def _make_room(self, now: float) -> bool:
        """Start the cold slots that are waited for, oldest first, as far as there is or can be room."""
        changed = False
        draining: set[SlotId] = set()
        for slot in sorted((s for s in self._slots.values() if not s.loaded and s.waiting), key=lambda s: s.claim):
            if (never := self._never_fits(slot)) is not None:
                self._refuse_all(slot, never)
                continue
            excess_bytes, excess_slots = self._excess(slot)
            if excess_bytes <= 0 and excess_slots <= 0:
                self._start(slot)
                changed = True
                continue
            if self._refuse_preloads(slot):
                return True  # another slot's waiter may be the oldest now
            draining, stopped = self._evict_for(slot, now)
            changed |= stopped
            break  # nothing cold overtakes the oldest
        self._settle_drains(draining)
        return changed

    def _evict_for(self, slot: SlotState, now: float) -> tuple[set[SlotId], bool]:
        """Choose who goes for `slot`; return those who must drain first, and whether somebody was stopped.

        Where one must finish first, those who are idle drain with it: had they work again when it is done, two slots
        that are busy in turn would keep the third out for ever.
        """
        leaving = [other for other in self._slots.values() if other.leaves]
        excess_bytes, excess_slots = self._excess(slot)
        victims = choose_victims(
            (other.candidate for other in self._slots.values() if self._may_go(other, slot.waiting[0], now)),
            excess_bytes=excess_bytes - sum(other.need for other in leaving),
            excess_slots=excess_slots - len(leaving),
        )
        if victims is None:
            return set(), False
        for victim in victims:
            self._slots[victim.slot].yields_to = slot.waiting[0]
        if any(victim.busy for victim in victims):
            return {victim.slot for victim in victims}, False
        for victim in victims:
            self._stop(self._slots[victim.slot], f"makes room for {slot.spec.id}")
        return set(), bool(victims)

    def _may_go(self, slot: SlotState, waiter: Ticket, now: float) -> bool:
        if not slot.up or slot.retiring or slot.spec.pinned:
            return False
        if not slot.waiting:
            return True
        if slot.waiting[0].wish.priority > waiter.wish.priority:
            return False
        if slot.phase is Phase.DRAINING:
            return True  # once it drains, those who come to it now wait for its next load
        return now >= self._turn_ends(slot, waiter)

    def _turn_ends(self, slot: SlotState, waiter: Ticket) -> float:
        return max(waiter.arrived, slot.ready_at) + self._limits.turn

    def _settle_drains(self, draining: set[SlotId]) -> None:
        for slot_id, slot in self._slots.items():
            if slot.phase is Phase.READY and slot_id in draining:
                slot.phase = Phase.DRAINING
            elif slot.phase is Phase.DRAINING and not slot.retiring and slot_id not in draining:
                slot.phase = Phase.READY
                slot.yields_to = None

    def _excess(self, slot: SlotState) -> tuple[int, int]:
        """Return by how many bytes and slots the budget would be exceeded if `slot` started now."""
        loaded = [other for other in self._slots.values() if other.loaded and other is not slot]
        memory, most = self._limits.memory, self._limits.max_loaded
        return (
            0 if memory is None else sum(other.need for other in loaded) + slot.need - memory,
            0 if most is None else len(loaded) + 1 - most,
        )

    # -- steps --

    def _ruled(self, spec: SlotSpec) -> SlotSpec:
        """Return a launch with the rules of life that are in force for it."""
        if self._specs is None:
            return spec
        if (configured := self._specs.get(spec.id)) is not None:
            return configured
        return replace(spec, ttl=0.0, pinned=False)

    def _start(self, slot: SlotState) -> None:
        slot.phase = Phase.STARTING
        slot.yields_to = None
        self._effects.append(Start(spec=slot.spec, need=slot.need))

    def _stop(self, slot: SlotState, reason: str) -> None:
        slot.phase = Phase.STOPPING
        self._effects.append(Stop(slot=slot.spec.id, reason=reason))

    def _fail(self, slot: SlotState, now: float, error: GatewayError, *, free_tries: int) -> None:
        """Go cold, and stay so for a time that doubles with each failure since it last served."""
        slot.phase = Phase.COLD
        slot.retiring = ""
        slot.failures += 1
        slot.error = error
        tries = slot.failures - free_tries
        slot.retry_at = now + COOL_DOWNS[min(tries, len(COOL_DOWNS) - 1)]

    def _refuse(self, ticket: Ticket, error: GatewayError) -> None:
        del self._tickets[ticket.id]
        self._effects.append(Refuse(ticket=ticket.id, error=error))

    def _refuse_all(self, slot: SlotState, error: GatewayError) -> None:
        for ticket in slot.waiting:
            self._refuse(ticket, error)
        slot.waiting.clear()

    def _refuse_preloads(self, slot: SlotState) -> bool:
        """Refuse the tickets that may not evict; return whether there were any."""
        preloads = [ticket for ticket in slot.waiting if not ticket.wish.may_evict]
        for ticket in preloads:
            slot.waiting.remove(ticket)
            self._refuse(ticket, refusals.no_room_to_preload(slot))
        return bool(preloads)

    def _refusal(self, slot: SlotState, ticket: Ticket, now: float) -> GatewayError | None:
        """Return why a new ticket cannot even wait."""
        if self._closing:
            return refusals.shutting_down()
        if not slot.loaded:
            if slot.retry_at > now:
                return refusals.cooling_down(slot, now)
            if (never := self._never_fits(slot)) is not None:
                return never
        waiting = sum(len(other.waiting) for other in self._slots.values())
        if waiting >= self._limits.queue_length and not slot.admits(ticket):
            return refusals.queue_full(waiting)
        return None

    def _never_fits(self, slot: SlotState) -> GatewayError | None:
        stay = [other for other in self._slots.values() if other.loaded and other.spec.pinned and not other.leaves]
        return refusals.never_fits(slot, stay, self._limits)

    def _deadlines(self, slot: SlotState) -> Iterator[float]:
        if slot.phase is not Phase.STARTING:
            yield from (ticket.deadline for ticket in slot.waiting)
        if slot.phase is Phase.READY and not slot.waiting:
            yield slot.idle_until
        if slot.phase is Phase.READY and slot.waiting:
            for other in self._slots.values():
                if not other.loaded and other.waiting and (ends := self._turn_ends(slot, other.waiting[0])) > self._now:
                    yield ends

    def _expect(self, slot_id: SlotId, *phases: Phase) -> SlotState:
        slot = self._slots[slot_id]
        if slot.phase not in phases:
            message = f"{slot_id} is {slot.phase.name}, expected {' or '.join(phase.name for phase in phases)}"
            raise AssertionError(message)
        return slot
