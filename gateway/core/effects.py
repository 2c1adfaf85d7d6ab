"""What the scheduler asks of the world. Imperatives; the engine carries them out and reports back with events."""

from dataclasses import dataclass
from typing import NewType

from gateway.core.errors import GatewayError
from gateway.core.slot import SlotId, SlotSpec

TicketId = NewType("TicketId", int)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Launch this slot; answer with `started` or `start_failed`."""

    spec: SlotSpec
    need: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Stop this slot, on which nothing runs; answer with `stopped`. `reason` is for people."""

    slot: SlotId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Let this ticket use its slot; it will be `released`."""

    ticket: TicketId
    slot: SlotId


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Answer this ticket with the error; it is gone."""

    ticket: TicketId
    error: GatewayError


Effect = Start | Stop | Grant | Refuse
