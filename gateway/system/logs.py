"""Logging that never holds up the event loop: lines are queued, and one thread writes them.

The queue is bounded. When whoever reads standard error is slower than we write, lines are dropped and counted, and the
count is the next line that gets through.
"""

import logging
import queue
import sys
from logging.handlers import QueueHandler, QueueListener

QUEUED_LINES = 10_000
FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class _Dropping(QueueHandler):
    def __init__(self, lines: "queue.Queue[logging.LogRecord | None]") -> None:
        super().__init__(lines)
        self._dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self._dropped:
                notice = f"{self._dropped} log lines were dropped: they came faster than they could be written"
                self.queue.put_nowait(logging.LogRecord(__name__, logging.WARNING, __file__, 0, notice, None, None))
                self._dropped = 0
            self.queue.put_nowait(record)
        except queue.Full:
            self._dropped += 1


class _Listener(QueueListener):
    def __init__(self, lines: "queue.Queue[logging.LogRecord | None]", writer: logging.Handler) -> None:
        super().__init__(lines, writer)
        self._lines = lines

    def enqueue_sentinel(self) -> None:
        self._lines.put(None)  # the inherited `put_nowait` raises when the queue is full


def start_logging(level: str) -> QueueListener:
    """Send all log lines of `level` and above to standard error; `stop()` of what is returned writes the rest."""
    lines: queue.Queue[logging.LogRecord | None] = queue.Queue(QUEUED_LINES)
    writer = logging.StreamHandler(sys.stderr)
    writer.setFormatter(logging.Formatter(FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [_Dropping(lines)]
    set_level(level)
    listener = _Listener(lines, writer)
    listener.start()
    return listener


def set_level(level: str) -> None:
    """Write log lines of `level` and above from now on."""
    logging.getLogger().setLevel(level.upper())
