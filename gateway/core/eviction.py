"""Who goes when room is needed: least recently *used* first, idle before busy, as few as needed.

Of the busy ones those that drain already come first. Each answer that ends makes a slot the most recently used; if that
counted, two slots would take turns in draining and neither would ever be done.

Pure: the scheduler says who may go at all (never pinned, never starting, never before the request it was loaded for
was served); this module only orders and counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.core.slot import SlotId


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A loaded slot that may go: `need` in bytes, `last_used` in the scheduler's seconds."""

    slot: SlotId
    need: int
    last_used: float
    busy: bool
    draining: bool = False

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """Who goes first has the lowest."""
        return (self.busy, self.busy and not self.draining, self.last_used)


def choose_victims(
    candidates: Iterable[Candidate], *, excess_bytes: int, excess_slots: int
) -> tuple[Candidate, ...] | None:
    """Return the candidates whose going frees `excess_bytes` and `excess_slots`, or `None` if all are not enough.

    Candidates are taken in order until there is room, then those that turned out not to be needed are let off,
    most recently used first: when one big model makes all the room, the small ones before it stay.
    """
    chosen: list[Candidate] = []
    freed = 0
    for candidate in sorted(candidates, key=lambda candidate: candidate.rank):
        if freed >= excess_bytes and len(chosen) >= excess_slots:
            break
        chosen.append(candidate)
        freed += candidate.need
    if freed < excess_bytes or len(chosen) < excess_slots:
        return None
    for candidate in reversed(chosen.copy()):
        if freed - candidate.need >= excess_bytes and len(chosen) - 1 >= excess_slots:
            chosen.remove(candidate)
            freed -= candidate.need
    return tuple(chosen)
