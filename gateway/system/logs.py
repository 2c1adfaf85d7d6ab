"""Logging that never holds up the event loop: lines are queued, and one thread puts them into words and writes them.

The queue is bounded. When whoever reads standard error is slower than we write, lines are dropped and counted, and the
count is the next line that gets through.
"""

import json
import logging
import queue
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener

QUEUED_LINES = 10_000
GATHERED_FOR = 0.05  # seconds
FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class Structured(ABC):
    """A message that is a set of facts: its text is its line in a text log. It must not change once it is logged."""

    __slots__ = ()

    @abstractmethod
    def fields(self) -> Mapping[str, object]:
        """Return its facts, as JSON has them."""


class _Dropping(QueueHandler):
    """Queues records; plain messages as text, structured ones as they are."""

    def __init__(self, lines: "queue.SimpleQueue[logging.LogRecord]") -> None:
        super().__init__(lines)
        self._lines = lines
        self._dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record if isinstance(record.msg, Structured) else super().prepare(record)

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._lines.qsize() >= QUEUED_LINES:
            self._dropped += 1
            return
        if self._dropped:
            notice = f"{self._dropped} log lines were dropped: they came faster than they could be written"
            facts = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": notice}
            self._lines.put_nowait(logging.makeLogRecord(facts))
            self._dropped = 0
        self._lines.put_nowait(record)


class _Gathering(QueueListener):
    """Takes lines some at a time: waking a thread for each costs the loop more than all else about a line."""

    def __init__(self, lines: "queue.SimpleQueue[logging.LogRecord]", writer: logging.Handler) -> None:
        super().__init__(lines, writer)
        self._lines = lines

    def dequeue(self, block: bool) -> logging.LogRecord:  # noqa: FBT001 - its base has it so
        if self._lines.empty():
            time.sleep(GATHERED_FOR)  # what is logged meanwhile wakes nobody
        return super().dequeue(block)


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON: a structured message's facts, or `message`."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"time": moment, "level": record.levelname.lower(), "logger": record.name}
        line |= record.msg.fields() if isinstance(record.msg, Structured) else {"message": record.getMessage()}
        return json.dumps(line, ensure_ascii=False, default=str)


def start_logging(level: str, form: str = "text") -> QueueListener:
    """Send all log lines of `level` and above to standard error; `stop()` of what is returned writes the rest.

    `form`: `text`, or `json` for one JSON object a line.
    """
    lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    writer = logging.StreamHandler(sys.stderr)
    writer.setFormatter(JsonLines() if form == "json" else logging.Formatter(FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [_Dropping(lines)]
    set_level(level)
    listener = _Gathering(lines, writer)
    listener.start()
    return listener


def set_level(level: str) -> None:
    """Write log lines of `level` and above from now on."""
    logging.getLogger().setLevel(level.upper())


_INFO = logging.makeLogRecord({"levelno": logging.INFO, "levelname": "INFO"}).__dict__


def note(log: logging.Logger, message: Structured) -> None:
    """Log `message` at level info, at a tenth of what `log.info` costs: that looks for its caller's line first."""
    if not log.isEnabledFor(logging.INFO):
        return
    record = logging.LogRecord.__new__(logging.LogRecord)
    now = time.time()
    record.__dict__.update(_INFO, name=log.name, msg=message, created=now, msecs=int(now % 1 * 1000))
    log.handle(record)
