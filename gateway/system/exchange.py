"""What one exchange with a model's server is: its limits, the head of its answer, who is told, how it fails.

The words that a connection and those who use it share. Every failure names the server by `peer` (host and
port).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.core.backend import Header
from gateway.core.errors import BackendBroken, BackendSilent, BackendUnreachable, GatewayError

STALE_WITHIN = 2.0
"""Seconds. See `StaleConnection`."""


class StaleConnection(BackendUnreachable):
    """A reused connection was closed by its peer with nothing received: the request may be sent once more.

    A server may close an idle connection at any moment, also while a request is on its way to it; the sender
    cannot tell this from a failure in any other manner. Sending again on a fresh connection is right for a
    POST as well: nothing of an answer was received, and a generation changes nothing on the server. It has a
    limit: a server that took its time over the request and then died is not given the request that may have
    killed it once more, so only a close within `STALE_WITHIN` seconds counts.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one exchange may take. Seconds, `None` for no limit; `head` is in bytes.

    `first_byte`: from the request sent to the complete head of its answer. `between_bytes`: silence in the
    body, not counted while the reader itself holds the connection back.
    """

    first_byte: float | None
    between_bytes: float | None
    head: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of an answer: names in lower case, hop-by-hop headers left out."""

    status: int
    headers: Sequence[Header]


class Sink(Protocol):
    """Who is told about one exchange. Calls come in this order; after `end` or `failed` there is none."""

    def head(self, head: Head, /) -> None:
        """The final head is complete."""

    def data(self, part: bytes, /) -> None:
        """A part of the body: all that one read of the socket brought, chunk framing removed."""

    def end(self) -> None:
        """The body is complete; the connection serves others from now on."""

    def failed(self, error: GatewayError, /) -> None:
        """The exchange failed before or after its head; the connection is gone."""


_ITS_LOG = "Its log says whether it crashed or was stopped."


def closed_unanswered(peer: str, why: str, *, stale: bool) -> BackendUnreachable:
    """Return the failure of a request to which not a byte of an answer came."""
    kind = StaleConnection if stale else BackendUnreachable
    return kind(f"The model's server at {peer} closed the connection{why} instead of answering.", hint=_ITS_LOG)


def broken_off(peer: str, why: str, where: str) -> BackendBroken:
    """Return the failure of an answer that ended before its end."""
    return BackendBroken(f"The answer of the model's server at {peer} broke off{why} in its {where}.", hint=_ITS_LOG)


def malformed(peer: str, reason: object) -> BackendBroken:
    """Return the failure of an answer that does not keep to HTTP/1.1."""
    return BackendBroken(
        f"What the model's server at {peer} sent is not a good HTTP/1.1 answer: {reason}.",
        hint="See whether a model's server, and not something else, listens there.",
    )


def silent(peer: str, limit: float, where: str) -> BackendSilent:
    """Return the failure of a server that kept silent for `limit` seconds."""
    return BackendSilent(
        f"The model's server at {peer} sent nothing for {limit:g} s {where}.",
        hint="See what it is busy with, or raise the time limit.",
    )
