"""The properties notice faults: each fault below is put into a copy of the source, and then they must fail.

A fault is a fragment of `gateway.core` and what stands there instead. Nothing of the package is changed: the copies are
compiled from the patched text and import one another instead of the originals.
"""

import sys
from collections.abc import Iterator
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from random import Random
from typing import NamedTuple
from unittest.mock import patch

import pytest

from gateway.core.scheduler import Scheduler
from tests.core.rush import Rush
from tests.core.world import World, history

MODULES = ("gateway.core.eviction", "gateway.core.occupancy", "gateway.core.scheduler")


class Fault(NamedTuple):
    """What somebody might write by mistake."""

    name: str
    right: str
    wrong: str


FAULTS = (
    # eviction
    Fault("the busy go before the idle", "(self.busy, self.busy and", "(not self.busy, self.busy and"),
    Fault(
        "the most recently used goes first", "not self.draining, self.last_used)", "not self.draining, -self.last_used)"
    ),
    Fault("two slots take turns in draining", "self.busy and not self.draining", "False"),
    Fault(
        "more go than are needed",
        "            chosen.remove(candidate)\n            freed -= candidate.need",
        "            pass",
    ),
    Fault("too few go", "if freed >= excess_bytes and len(chosen) >= excess_slots:", "if freed >= excess_bytes:"),
    Fault(
        "some go although all are not enough",
        "if freed < excess_bytes or len(chosen) < excess_slots:",
        "if not chosen:",
    ),
    # occupancy
    Fault(
        "memory is free before the stop is done",
        "return self.phase is not Phase.COLD",
        "return self.phase not in {Phase.COLD, Phase.STOPPING}",
    ),
    Fault("a place too many", "occupied < self.spec.max_concurrent", "occupied <= self.spec.max_concurrent"),
    Fault("a look at the tokenizer takes a place", "return not ticket.wish.occupies or occupied", "return occupied"),
    Fault(
        "who drains admits",
        "if self.phase is not Phase.READY or not self.entitled(ticket):",
        "if not self.up or not self.entitled(ticket):",
    ),
    Fault(
        "unload serves those who come later",
        "return not self.retiring or ticket.arrived <= self.retiring_since",
        "return True",
    ),
    Fault(
        "unload leaves those who wait",
        "return self.phase is not Phase.DRAINING and any(self.entitled(ticket) for ticket in self.waiting)",
        "return False",
    ),
    Fault(
        "who drains and is unloaded waits for its waiters",
        "return self.phase is not Phase.DRAINING and any(",
        "return any(",
    ),
    Fault("ttl ends under a running answer", "if self.running or self.spec.pinned or", "if self.spec.pinned or"),
    Fault("ttl ends for the pinned", "if self.running or self.spec.pinned or", "if self.running or"),
    Fault("priority is ignored", "(-self.wish.priority, self.id) <", "(0, self.id) <"),
    Fault("last come, first served", "(-self.wish.priority, self.id) <", "(-self.wish.priority, -self.id) <"),
    Fault(
        "what stops counts as staying",
        "return self.phase is Phase.STOPPING or (self.loaded and bool(self.retiring))",
        "return False",
    ),
    Fault("the victim takes the room back", "other.id, True, first.id", "first.id, False, first.id"),
    # scheduler: events
    Fault(
        "cancel leaves the ticket in the queue",
        "slot.waiting = [other for other in slot.waiting if other.id != ticket]",
        "pass",
    ),
    Fault(
        "cancel leaves the ticket on the list",
        "slot = self._tickets.pop(ticket)\n        slot.waiting",
        "slot = self._tickets[ticket]\n        slot.waiting",
    ),
    Fault(
        "cancel does not pump",
        "if other.id != ticket]\n        return self._pump(now)",
        "if other.id != ticket]\n        return []",
    ),
    Fault(
        "release does not pump",
        "and nobody wants it\n        return self._pump(now)\n\n    def started",
        "and nobody wants it\n        return []\n\n    def started",
    ),
    Fault(
        "release looks at nobody else",
        "if slot.phase is Phase.READY and not slot.retiring and self._calm(now):",
        "if slot.phase is Phase.READY and not slot.retiring:",
    ),
    Fault(
        "a newcomer overtakes who waits",
        "if self._calm(now) and slot.admits(entry):",
        "if slot.admits(entry):",
    ),
    Fault(
        "ttl counts from the grant",
        "            slot.last_used = now\n            slot.failures = 0",
        "            slot.failures = 0",
    ),
    Fault(
        "service does not end the row of failures",
        "            slot.last_used = now\n            slot.failures = 0",
        "            slot.last_used = now",
    ),
    Fault("evicted before it served", "        self._admit(now)  # before", "        # before"),
    Fault(
        "a failed start starts again at once",
        "self._fail(slot, now, error, free_tries=0)",
        "self._fail(slot, now, error, free_tries=1)",
    ),
    Fault(
        "a failed start leaves its waiters",
        "        self._refuse_all(slot, error)\n        return self._pump(now)",
        "        return self._pump(now)",
    ),
    Fault("leases of a dead process count", "        slot.running.clear()\n", ""),
    Fault(
        "waiters stay while it cools down",
        "        if slot.retry_at > now:\n            self._refuse_all",
        "        if slot.retry_at > now + 9:\n            self._refuse_all",
    ),
    Fault(
        "a stopped slot is still to be unloaded",
        '        slot.phase = Phase.COLD\n        slot.retiring = ""\n        return',
        "        slot.phase = Phase.COLD\n        return",
    ),
    Fault("what is not configured stays pinned", "return replace(spec, ttl=0.0, pinned=False)", "return spec"),
    Fault("what is configured again goes all the same", "                slot.stay()\n", ""),
    Fault(
        "a configuration takes an unload back",
        'if self.retiring == REMOVED:\n            self.retiring = ""',
        'self.retiring = ""',
    ),
    Fault(
        "a new budget waits for the next event",
        "        self._limits = limits\n        return self._pump(now)",
        "        self._limits = limits\n        return []",
    ),
    Fault("closing lets them wait", "            self._refuse_all(slot, refusals.shutting_down())\n", ""),
    Fault("closing lets new ones in", "        if self._closing:\n            return refusals.shutting_down()\n", ""),
    # scheduler: decisions
    Fault("nobody's time is up", "        self._expire(now)\n", ""),
    Fault("cold and unused slots are kept", "if slot.remembered}", "}"),
    Fault(
        "a starting slot loses its waiters",
        "            if slot.phase is Phase.STARTING:\n                continue",
        "            if slot.phase is None:\n                continue",
    ),
    Fault(
        "stopped while it serves",
        "                if not slot.running:\n                    self._stop",
        "                if True:\n                    self._stop",
    ),
    Fault("the youngest cold waiter first", "key=lambda s: s.claim):", "key=lambda s: s.claim, reverse=True):"),
    Fault("the cold overtake the oldest", "            break  # nothing cold", "            # nothing cold"),
    Fault(
        "who never fits waits",
        "if (never := self._never_fits(slot)) is not None:\n                self._refuse",
        "if (never := None) is not None:\n                self._refuse",
    ),
    Fault(
        "preloads evict",
        "if self._refuse_preloads(slot):",
        "if False:",
    ),
    Fault(
        "started twice",
        "append(Start(spec=slot.spec, need=slot.need))",
        "extend([Start(spec=slot.spec, need=slot.need)] * 2)",
    ),
    Fault("stopped twice", "        slot.phase = Phase.STOPPING\n", ""),
    Fault(
        "started over the budget",
        "if excess_bytes <= 0 and excess_slots <= 0:",
        "if excess_bytes <= 0 or excess_slots <= 0:",
    ),
    Fault("the pinned go", "if not slot.up or slot.retiring or slot.spec.pinned:", "if not slot.up or slot.retiring:"),
    Fault("a lower priority drains a higher one", "slot.waiting[0].wish.priority > waiter.wish.priority", "False"),
    Fault(
        "the starting go",
        "if not slot.up or slot.retiring or slot.spec.pinned:",
        "if not slot.loaded or slot.retiring or slot.spec.pinned:",
    ),
    Fault("no turn: a queue of its own is no protection", "return now >= self._turn_ends(slot, waiter)", "return True"),
    Fault("the turn never ends", "return now >= self._turn_ends(slot, waiter)", "return False"),
    Fault(
        "each arrival while it drains ends the drain",
        "        if slot.phase is Phase.DRAINING:\n            return True  # once",
        "        if False:\n            return True  # once",
    ),
    Fault(
        "those who are idle work on while others drain",
        "return {victim.slot for victim in victims}, False",
        "return {victim.slot for victim in victims if victim.busy}, False",
    ),
    Fault("busy ones are stopped", "if any(victim.busy for victim in victims):", "if False:"),
    Fault("nobody drains", "slot.phase is Phase.READY and slot_id in draining", "False"),
    Fault(
        "who drains does not go back to work",
        "slot.phase is Phase.DRAINING and not slot.retiring and slot_id not in draining",
        "False",
    ),
    Fault(
        "what leaves is not counted on",
        "excess_bytes=excess_bytes - sum(other.need for other in leaving)",
        "excess_bytes=excess_bytes",
    ),
    Fault(
        "the slot itself is not counted",
        "sum(other.need for other in loaded) + slot.need - memory",
        "sum(other.need for other in loaded) - memory",
    ),
    Fault("one slot too many", "len(loaded) + 1 - most", "len(loaded) - most"),
    Fault("a refused ticket is remembered", "        del self._tickets[ticket.id]\n", ""),
    Fault("the queue has no end", "if waiting >= self._limits.queue_length and", "if waiting >= 10**9 and"),
    Fault("a leaving pinned slot counts as staying", "other.spec.pinned and not other.leaves]", "other.spec.pinned]"),
    Fault("no tick for those who wait", "yield from (ticket.deadline for ticket in slot.waiting)", "yield NEVER"),
    Fault("no tick for the ttl", "            yield slot.idle_until\n", "            yield NEVER\n"),
    Fault("no tick for the end of a turn", "                    yield ends\n", "                    yield NEVER\n"),
    Fault("a deadline stays in the past", "waiting[0])) > self._now:", "waiting[0])) > 0:"),
    Fault(
        "unload waits for the next event",
        "        slot.retire(reason, now)\n        return self._pump(now)",
        "        slot.retire(reason, now)\n        return []",
    ),
)


def sources() -> dict[str, str]:
    """Return the text of the modules that faults are put into."""
    specs = {name: find_spec(name) for name in MODULES}
    return {name: Path(spec.origin).read_text("utf-8") for name, spec in specs.items() if spec and spec.origin}


def faulty(fault: Fault) -> type[Scheduler]:
    """Return the scheduler of a copy of the source with the fault."""
    copies = {}
    for name, text in sources().items():
        spec = find_spec(name)
        assert spec is not None
        copies[name] = module_from_spec(spec)
        with patch.dict(sys.modules, copies):
            exec(compile(text.replace(fault.right, fault.wrong), name, "exec"), copies[name].__dict__)  # noqa: S102
    scheduler: type[Scheduler] = copies["gateway.core.scheduler"].Scheduler
    return scheduler


def trials(make: type[Scheduler]) -> Iterator[None]:
    """Let a bounded number of made-up worlds happen, each a step of the iterator."""
    for seed in range(25):
        rush = Rush(make, seed + 50, 200.0)
        rush.run()
        yield
        for part in range(5):
            world = World(make, 5 * seed + part)
            world.play(history(Random(world.random.random()), 120))  # noqa: S311 - it makes up histories
            world.finish()
            yield


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_the_properties_notice(fault: Fault) -> None:
    assert sum(text.count(fault.right) for text in sources().values()) == 1
    make = faulty(fault)
    with pytest.raises(Exception):  # noqa: B017, PT011 - a fault may show as a violation or as any accident
        for _ in trials(make):
            pass


def test_the_source_without_a_fault_passes_the_same_trials() -> None:
    assert sum(1 for _ in trials(faulty(Fault("none", "", "")))) == 150
