"""Why a request waits, in words for the person who waits."""

from collections.abc import Mapping

from gateway.core.effects import TicketId
from gateway.core.occupancy import Phase, SlotState
from gateway.core.slot import SlotId


def reason_to_wait(slot: SlotState, ticket: TicketId, slots: Mapping[SlotId, SlotState]) -> str:
    """Say what `ticket` waits for at `slot`; empty if it does not wait."""
    place = next((n for n, entry in enumerate(slot.waiting) if entry.id == ticket), None)
    if place is None:
        return ""
    if slot.phase is Phase.STARTING:
        return "the model is loading"
    if slot.phase is Phase.READY:
        return f"the model is busy, {place} requests are ahead"
    if slot.phase in {Phase.DRAINING, Phase.STOPPING}:
        return "the model is being unloaded to make room, and will be loaded again"
    loaded = ", ".join(
        f"{other_id} is {other.phase.value}" + (f" with {len(other.running)} running" if other.running else "")
        for other_id, other in slots.items()
        if other.loaded
    )
    return "waiting for memory: " + (loaded or "about to start")
