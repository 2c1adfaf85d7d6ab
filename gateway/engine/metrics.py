"""What has been counted since the gateway started. Plain numbers in plain objects; `engine.exposition` shows them.

Written on the event loop only: once for a request, when it has ended, and at each event in the life of a model's
server. Nothing is counted per chunk. The number of series is bounded: their labels are names from the configuration
and the table of routes, never a client's own words, and beyond `SERIES` combinations all others are counted as one.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gateway.core.slot import SlotId
from gateway.engine.facts import Facts
from gateway.engine.pool import Observer

SERIES = 500
NONE = "(none)"
OTHER = "(other)"

# Up to ten minutes: a large model that is loaded from a slow disk takes as long before its first token.
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
# The bounds of OpenTelemetry's conventions for generative AI, and some below them: small models are fast.
PER_TOKEN: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKENS: Final = tuple(float(4**power) for power in range(14))
OVERHEAD: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

# What the scheduler says when it stops a slot, by how it begins.
STOPS: Final[Mapping[str, str]] = {
    "makes room for ": "make_room",
    "idle for ": "idle",
    "asked to unload": "unload",
    "no longer configured": "reconfigured",
    "the gateway shuts down": "shutdown",
}


class Histogram:
    """How often a value fell below each of `bounds` (inclusive) and above all of them, and the sum of all values."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(frozen=True, slots=True)
class Labels:
    """Whose requests are counted together: names of a model and of a key, and a route."""

    model: str
    key: str
    route: str


class Requests:
    """Everything that is counted of the requests with the same labels."""

    __slots__ = (
        "duration",
        "first_token",
        "labels",
        "load",
        "outcomes",
        "overhead",
        "per_token",
        "queue",
        "tokens_in",
        "tokens_out",
    )

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.outcomes: dict[str, int] = {}  # bounded: an outcome is the code of an error, see `core.errors`
        self.duration = Histogram(SECONDS)
        self.first_token = Histogram(SECONDS)
        self.per_token = Histogram(PER_TOKEN)
        self.queue = Histogram(SECONDS)
        self.load = Histogram(SECONDS)
        self.overhead = Histogram(OVERHEAD)
        self.tokens_in = Histogram(TOKENS)
        self.tokens_out = Histogram(TOKENS)

    def count(self, facts: Facts) -> None:
        """Count one request."""
        self.outcomes[facts.outcome] = self.outcomes.get(facts.outcome, 0) + 1
        if facts.asked is None:
            return  # it never came to a model
        self.duration.observe(facts.ended - facts.arrived)
        if (queued := facts.queued) is not None:
            self.queue.observe(queued)
        if facts.loading:
            self.load.observe(facts.loading)
        if (overhead := facts.overhead()) is not None:
            self.overhead.observe(overhead)
        if facts.streaming and facts.first_byte is not None:
            self.first_token.observe(facts.first_byte - facts.arrived)
        if (per_token := facts.per_token) is not None:
            self.per_token.observe(per_token)
        if facts.tokens_in is not None:
            self.tokens_in.observe(facts.tokens_in)
        if facts.tokens_out is not None:
            self.tokens_out.observe(facts.tokens_out)


@dataclass(slots=True)
class Loads:
    """What is counted of one slot: how long its loads and stops took, why it went, what went wrong."""

    loads: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    ends: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    stops: dict[str, int] = field(default_factory=dict)
    swaps: int = 0
    failures: int = 0
    exits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """All series that there are. They go on counting: who reads them elsewhere copies what has several parts."""

    requests: tuple[Requests, ...]
    loads: Mapping[str, Loads]


class Metrics:
    """Counts. Satisfies `Observer` to the pool."""

    def __init__(self, limit: int = SERIES) -> None:
        self._limit = limit
        self._requests: dict[tuple[str, str, str], Requests] = {}
        self._loads: dict[str, Loads] = {}
        self._made_room_for: set[str] = set()

    def requested(self, facts: Facts) -> None:
        """Count a request that has ended."""
        labels = (facts.alias, facts.key, facts.route)
        (self._requests.get(labels) or self._new(labels)).count(facts)

    def counted(self) -> Counted:
        """Return all series."""
        return Counted(requests=tuple(self._requests.values()), loads=self._loads.copy())

    # -- Observer --

    def started(self, slot: SlotId, seconds: float) -> None:
        """Count a load, and a swap if others had to go for it."""
        loads = self._of(slot)
        loads.loads.observe(seconds)
        if slot in self._made_room_for:
            self._made_room_for.discard(slot)
            loads.swaps += 1

    def start_failed(self, slot: SlotId) -> None:
        """Count a load that failed."""
        self._made_room_for.discard(slot)
        self._of(slot).failures += 1

    def stopped(self, slot: SlotId, reason: str, seconds: float) -> None:
        """Count a stop."""
        loads = self._of(slot)
        loads.ends.observe(seconds)
        beginning = next((beginning for beginning in STOPS if reason.startswith(beginning)), "")
        cause = STOPS.get(beginning, OTHER)
        loads.stops[cause] = loads.stops.get(cause, 0) + 1
        if cause == "make_room" and len(self._made_room_for) < self._limit:
            self._made_room_for.add(reason.removeprefix(beginning))

    def exited(self, slot: SlotId) -> None:
        """Count the death of a server that nobody asked to end."""
        self._of(slot).exits += 1

    # -- inside --

    def _new(self, labels: tuple[str, str, str]) -> Requests:
        if len(self._requests) >= self._limit:
            labels = (OTHER, OTHER, OTHER)
            if labels in self._requests:
                return self._requests[labels]
        model, key, route = labels
        series = self._requests[labels] = Requests(Labels(model or NONE, key or NONE, route or NONE))
        return series

    def _of(self, slot: str) -> Loads:
        if slot not in self._loads and len(self._loads) >= self._limit:
            slot = OTHER
        return self._loads.setdefault(slot, Loads())


if TYPE_CHECKING:
    _: Observer = Metrics()
