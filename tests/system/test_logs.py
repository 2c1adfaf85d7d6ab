"""Logging that never waits for whoever reads it."""

import io
import json
import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping
from types import SimpleNamespace

import pytest

from gateway.system import logs
from gateway.system.logs import QUEUED_LINES, Structured, note, start_logging

log = logging.getLogger("some.part")
PATIENCE = 10.0


class Stuck(io.StringIO):
    """A standard error whose reader does not read until `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()
        self.go = threading.Event()
        self._lines = 0
        self._written = threading.Condition()

    def write(self, text: str) -> int:
        """Wait, then write."""
        self.waiting.set()
        assert self.go.wait(PATIENCE)
        with self._written:
            self._lines += 1
            self._written.notify_all()
            return super().write(text)

    def wait_for(self, lines: int) -> None:
        """Return when as many lines have been written."""
        with self._written:
            assert self._written.wait_for(lambda: self._lines == lines, PATIENCE)


class Fact(Structured):
    """A message with one fact."""

    def fields(self) -> Mapping[str, object]:
        """Return it."""
        return {"fact": 1}

    def __str__(self) -> str:
        return "one fact"


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stuck]:
    error = Stuck()
    # Not in `sys` itself: pytest, which catches standard error, sets it anew before the test is called.
    monkeypatch.setattr(logs, "sys", SimpleNamespace(stderr=error))
    yield error
    error.go.set()


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def messages(stuck: Stuck) -> list[str]:
    return [line.split(": ", 1)[1] for line in stuck.getvalue().splitlines()]


def test_lines_have_time_level_and_name(stuck: Stuck) -> None:
    stuck.go.set()
    listener = start_logging("info")
    log.info("hello %s", "you")
    listener.stop()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO    some.part: hello you\n", stuck.getvalue())


def test_a_structured_line_has_its_own_time_to_the_millisecond(stuck: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck.go.set()
    listener = start_logging("info")
    for moment in (1_700_000_000.125, 1_700_000_000.5):
        monkeypatch.setattr("gateway.system.logs.time", SimpleNamespace(time=lambda at=moment: at, sleep=time.sleep))
        note(log, Fact())
    listener.stop()
    assert re.findall(r",(\d{3}) ", stuck.getvalue()) == ["125", "500"]


@pytest.mark.parametrize("level", ["warning", "WARNING"])
def test_lines_below_the_level_are_not_written(stuck: Stuck, level: str) -> None:
    stuck.go.set()
    listener = start_logging(level)
    log.info("quiet")
    log.warning("loud")
    listener.stop()
    assert messages(stuck) == ["loud"]


def test_an_exception_is_written_with_its_traceback(stuck: Stuck) -> None:
    stuck.go.set()
    listener = start_logging("info")
    try:
        int("some reason")
    except ValueError:
        log.exception("it failed")
    listener.stop()
    assert "it failed\nTraceback (most recent call last):" in stuck.getvalue()
    assert "ValueError: invalid literal" in stuck.getvalue()


def test_stop_writes_what_is_queued(stuck: Stuck) -> None:
    listener = start_logging("info")
    for number in range(100):
        log.info("%d", number)
    stuck.go.set()
    listener.stop()
    assert [str(number) for number in range(100)] == messages(stuck)


def test_a_reader_that_is_stuck_costs_lines_not_time(stuck: Stuck) -> None:
    listener = start_logging("info")
    log.info("first")
    assert stuck.waiting.wait(PATIENCE)  # this one is being written; the queue is empty
    for number in range(QUEUED_LINES + 7):  # comes back, though nobody reads
        log.info("%d", number)
    stuck.go.set()
    listener.stop()
    assert ["first", *map(str, range(QUEUED_LINES))] == messages(stuck)


def test_dropped_lines_are_counted_in_the_next_that_gets_through(stuck: Stuck) -> None:
    listener = start_logging("info")
    log.info("first")
    assert stuck.waiting.wait(PATIENCE)
    for number in range(QUEUED_LINES + 7):
        log.info("%d", number)
    written = len(stuck.getvalue())
    stuck.go.set()
    stuck.wait_for(1 + QUEUED_LINES)
    log.info("again")
    log.info("and again")
    listener.stop()
    *_, notice, again, and_again = stuck.getvalue()[written:].splitlines()
    assert notice.endswith(
        "WARNING gateway.system.logs: 7 log lines were dropped: they came faster than they could be written"
    )
    assert again.endswith(" some.part: again")
    assert and_again.endswith(" some.part: and again")


def test_stop_waits_for_room_in_a_full_queue(stuck: Stuck) -> None:
    listener = start_logging("info")
    for number in range(QUEUED_LINES + 10):
        log.info("%d", number)
    stopping = threading.Thread(target=listener.stop)
    stopping.start()
    stuck.go.set()
    stopping.join(PATIENCE)
    assert not stopping.is_alive()
    assert messages(stuck)[:2] == ["0", "1"]


def test_a_structured_message_is_a_line_for_people_or_an_object_for_programs(stuck: Stuck) -> None:
    stuck.go.set()
    for form in ("text", "json"):
        listener = start_logging("info", form)
        note(log, Fact())
        log.warning("about %s", "\u00fc\n")
        listener.stop()
    text_fact, text_warning, _, *lines = stuck.getvalue().splitlines()
    assert text_fact.endswith(" INFO    some.part: one fact")
    assert text_warning.endswith(" WARNING some.part: about \u00fc")
    fact, warning = (json.loads(line) for line in lines)
    assert {"level": "info", "logger": "some.part", "fact": 1} == {k: v for k, v in fact.items() if k != "time"}
    assert ("warning", "about \u00fc\n") == (warning["level"], warning["message"])
    assert fact["time"].endswith("+00:00")


def test_an_exception_is_part_of_the_message_of_an_object(stuck: Stuck) -> None:
    stuck.go.set()
    listener = start_logging("info", "json")
    try:
        int("some reason")
    except ValueError:
        log.exception("it failed")
    listener.stop()
    assert json.loads(stuck.getvalue())["message"].endswith("'some reason'")


def test_a_structured_message_below_the_level_is_not_written(stuck: Stuck) -> None:
    stuck.go.set()
    listener = start_logging("warning")
    note(log, Fact())
    listener.stop()
    assert messages(stuck) == []
