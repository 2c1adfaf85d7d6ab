"""The journal of requests: each that has ended is counted, kept among the last ones, and written to the log.

Owns the ring of the last requests. All of it together costs a request a few microseconds on the event loop: the line
itself is put into words by the thread that writes it.
"""

import logging
from collections import deque
from collections.abc import Iterator

from gateway.engine.facts import Facts
from gateway.engine.metrics import Metrics
from gateway.system.logs import note

KEPT = 1000
"""Requests that are remembered, about 1 KB each."""

log = logging.getLogger("gateway.request")


class Journal:
    """Where requests are entered when they have ended."""

    def __init__(self, metrics: Metrics, kept: int = KEPT) -> None:
        self.metrics = metrics
        self._last: deque[Facts] = deque(maxlen=kept)

    def enter(self, facts: Facts) -> None:
        """Enter a request that has ended. `facts` must not change any more."""
        self.metrics.requested(facts)
        self._last.append(facts)
        note(log, facts)

    def last(self) -> Iterator[Facts]:
        """Return the last requests, newest first."""
        return reversed(self._last)
