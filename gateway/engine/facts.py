"""What is known of one request when it has ended.

It is the one record from which the request's line in the log, its row among the last requests and its share of the
metrics are made.
Moments are seconds of `time.monotonic`, `None` for what the request did not come to. No body and no key is in here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.system.logs import Structured
from gateway.wire.usage import Usage

DONE = "done"
CLIENT_LEFT = "client_left"


@dataclass(slots=True)
class Facts(Structured):
    """One request, from its arrival on.

    `at`: Unix time of the arrival. `route`: the path of the route, without the client's own parts; `key`: the name of
    the caller's key. `upload`: seconds in which the client sent the body. `asked`, `granted`: when a lease was wanted
    and when there was one; `loading`: seconds of that wait in which the model was being loaded. `sent`: when the
    question went to the model's server; `answered`: when the first piece of the answer was there (of an answer that
    is not streamed: all of it); `first_byte`: when that had been passed on. `outcome`: `DONE`, `CLIENT_LEFT`, or the
    code of the error.
    """

    request_id: str
    arrived: float
    at: float = 0.0
    method: str = ""
    path: str = ""
    route: str = ""
    key: str = ""
    alias: str = ""
    slot: str = ""
    streaming: bool = False
    upload: float = 0.0
    asked: float | None = None
    granted: float | None = None
    loading: float = 0.0
    sent: float | None = None
    answered: float | None = None
    first_byte: float | None = None
    ended: float = 0.0
    tokens_in: int | None = None
    tokens_out: int | None = None
    events: int = 0
    status: int = 0
    outcome: str = ""

    def metered(self, usage: Usage, events: int = 0) -> None:
        """Enter what the answer said of its tokens, and how many events it had."""
        self.tokens_in, self.tokens_out = usage.tokens_in, usage.tokens_out
        self.events = events

    @property
    def total(self) -> float:
        """Seconds from arrival to end."""
        return self.ended - self.arrived

    @property
    def queued(self) -> float | None:
        """Seconds in which it waited for its turn or for memory, the loading of its model not counted."""
        if self.asked is None:
            return None
        return max(0.0, (self.ended if self.granted is None else self.granted) - self.asked - self.loading)

    @property
    def first_token(self) -> float | None:
        """Seconds from arrival until the first piece of the answer had been passed on."""
        return None if self.first_byte is None else self.first_byte - self.arrived

    @property
    def per_token(self) -> float | None:
        """Seconds for each token of a stream after the first."""
        if not self.streaming or self.first_byte is None or self.tokens_out is None or self.tokens_out < 2:
            return None
        return (self.ended - self.first_byte) / (self.tokens_out - 1)

    def overhead(self, now: float | None = None) -> float | None:
        """Return the seconds that the gateway itself took until the answer began; `now` stands in for that moment.

        What is waited for is left out: the client's body, the queue, the model's loading, its server. So is what
        passes before the request is read from the socket and after an answer's first piece.
        """
        begun = self.first_byte if self.first_byte is not None else now
        if self.asked is None or self.granted is None or self.sent is None or self.answered is None or begun is None:
            return None
        return (self.asked - self.arrived - self.upload) + (self.sent - self.granted) + (begun - self.answered)

    def fields(self) -> Mapping[str, object]:
        """Return all there is to tell, times in seconds."""
        return {
            "id": self.request_id,
            "arrived": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds"),
            "method": self.method,
            "path": self.path,
            "route": self.route,
            "key": self.key or None,
            "model": self.alias or None,
            "slot": self.slot or None,
            "stream": self.streaming,
            "status": self.status,
            "outcome": self.outcome,
            "queue": _rounded(self.queued),
            "load": _rounded(self.loading) if self.asked is not None else None,
            "first_byte": _rounded(self.first_token),
            "total": _rounded(self.total),
            "overhead": _rounded(self.overhead()),
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "events": self.events,
        }

    def __str__(self) -> str:
        return (
            f"{self.status} {self.method} {self.path} id={self.request_id} key={self.key or '-'} "
            f"model={self.alias or '-'} slot={self.slot or '-'} stream={'yes' if self.streaming else 'no'} "
            f"queue={_shown(self.queued)} load={_shown(self.loading)} first={_shown(self.first_token)} "
            f"total={_shown(self.total)} in={_count(self.tokens_in)} out={_count(self.tokens_out)} "
            f"outcome={self.outcome}"
        )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _shown(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.3f}"


def _count(tokens: int | None) -> str:
    return "-" if tokens is None else str(tokens)
