"""The words in which the scheduler says no. Every number that a person needs to act is in them."""

from gateway.core.errors import CoolingDown, NeverFits, QueueFull, QueueTimeout, ShuttingDown
from gateway.core.occupancy import Limits, SlotState


def gib(size: int) -> str:
    """Return a size in bytes as people read it."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def shutting_down() -> ShuttingDown:
    """Refuse because the gateway goes away."""
    return ShuttingDown("The gateway is shutting down.", retry_after=5.0)


def cooling_down(slot: SlotState, now: float) -> CoolingDown:
    """Refuse because the slot failed a moment ago."""
    left = max(slot.retry_at - now, 0.1)
    return CoolingDown(
        f"{slot.spec.id} failed {slot.failures} times in a row and is not started again for {left:.1f} s. "
        f"The last failure: {slot.error.message if slot.error else 'unknown'}",
        retry_after=left,
    )


def queue_full(waiting: int) -> QueueFull:
    """Refuse because as many wait as may."""
    return QueueFull(
        f"{waiting} requests are waiting already, as many as `queue.length` allows.",
        hint="Try again in a moment.",
        retry_after=2.0,
    )


def queue_timeout(slot: SlotState, patience: float) -> QueueTimeout:
    """Refuse because it waited as long as it may: `patience` seconds."""
    return QueueTimeout(
        f"The request waited {patience:g} s for {slot.spec.id}, as long as `queue.timeout` allows.",
        hint="Try again, or raise `queue.timeout`.",
        retry_after=5.0,
    )


def no_room_to_preload(slot: SlotState) -> NeverFits:
    """Refuse a preload that would have to evict somebody."""
    return NeverFits(f"There is no room to preload {slot.spec.id} beside what is loaded.")


def never_fits(slot: SlotState, pinned: list[SlotState], limits: Limits) -> NeverFits | None:
    """Refuse what cannot fit even if everything goes that may go; `pinned` are the other slots that never go."""
    held = sum(other.need for other in pinned)
    if limits.memory is not None and slot.need + held > limits.memory:
        beside = f", and pinned models hold {gib(held)}" if held else ""
        return NeverFits(
            f"{slot.spec.id} needs {gib(slot.need)}, the memory budget is {gib(limits.memory)}{beside}.",
            hint="A smaller `ctx_size`, fewer `parallel` slots or a larger `memory.budget` would make it fit.",
        )
    if limits.max_loaded is not None and len(pinned) >= limits.max_loaded:
        return NeverFits(
            f"All {limits.max_loaded} places of `memory.max_loaded` are held by pinned models.",
            hint="Unpin one, or raise `memory.max_loaded`.",
        )
    return None
