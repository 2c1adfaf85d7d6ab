"""A model's server that fails while it answers: its client learns of it, nobody else does, and it is used again."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from gateway import main
from gateway.system.upstream import Timeouts
from tests.faults.conftest import KINDS, Admit
from tests.serving import chat
from tests.taken import take

BROKEN, UNREACHABLE, SILENT = "backend_broken", "backend_unreachable", "backend_timeout"
SERVERS_OWN = "server_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """A failure before the first byte: the client gets this status and code, streaming or not."""

    switches: tuple[str, ...]
    status: int
    code: str
    streams: tuple[bool, ...] = (False, True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Midway:
    """A failure in the middle of a stream: the client gets this text, an error event with this code, no end."""

    switches: tuple[str, ...]
    text: str
    code: str = BROKEN


BEFORE = (
    Before(switches=("--die-before-answer",), status=502, code=UNREACHABLE),
    Before(switches=("--garbage",), status=502, code=BROKEN),
    Before(switches=("--wrong-content-type",), status=502, code=BROKEN),
    Before(switches=("--json-error-in-200",), status=502, code=SERVERS_OWN),
    Before(switches=("--error-status", "500"), status=500, code=SERVERS_OWN),
    Before(switches=("--error-status", "422"), status=422, code=SERVERS_OWN),
    Before(switches=("--close-early",), status=502, code=BROKEN, streams=(False,)),
    Before(switches=("--empty-stream",), status=502, code=BROKEN, streams=(True,)),
)
MIDWAY = (
    Midway(switches=("--die-after-chunks", "2"), text="0 1 "),
    Midway(switches=("--error-after-chunks", "2"), text="0 1 "),
    Midway(switches=("--garbage-chunks",), text="0 "),
    Midway(switches=("--half-chunk",), text="0 "),
    Midway(switches=("--close-early",), text="0 1 2 "),
    Midway(switches=("--no-done",), text="0 1 2 "),
    Midway(switches=("--no-done", "--say", "data: [DONE]"), text="data: [DONE]" * 3),
)


def of_each_kind(cases: Sequence[Before | Midway], *both: str) -> list[Any]:
    """Return cases with the kind of the server: a llama-server, and for the switches in `both` a command, too."""
    return [
        pytest.param(case, kind, id=f"{' '.join(case.switches)} {kind}".removeprefix("--"))
        for case in cases
        for kind in (KINDS if case.switches[0] in both else KINDS[:1])
    ]


@pytest.mark.parametrize(("case", "kind"), of_each_kind(BEFORE, "--die-before-answer", "--wrong-content-type"))
async def test_a_failure_before_the_first_byte_has_a_proper_status(admit: Admit, case: Before, kind: str) -> None:
    async with admit(*case.switches, kind=kind) as ward:
        async with ward.undisturbed():
            for stream in case.streams:
                answer = await ward.ask(stream=stream)
                assert (stream, case.status, True) == (stream, answer.status, answer.whole)
                assert case.code == answer.code, answer.body
        await ward.recovers()
        ward.nothing_left()


@pytest.mark.parametrize(("case", "kind"), of_each_kind(MIDWAY, "--die-after-chunks", "--no-done"))
async def test_a_failure_in_the_middle_of_a_stream_is_its_last_event_and_the_stream_is_broken_off(
    admit: Admit, case: Midway, kind: str
) -> None:
    async with admit(*case.switches, kind=kind) as ward:
        async with ward.undisturbed():
            answer = await ward.ask(stream=True)
            assert (200, False, case.code) == (answer.status, answer.whole, answer.code), answer.body
            assert case.text == answer.text
        await ward.recovers()
        ward.nothing_left()


async def test_a_server_that_died_while_it_answered_is_started_again_for_the_next_request(admit: Admit) -> None:
    async with admit("--die-after-chunks", "1") as ward:
        await ward.ask(stream=True)
        ward.ill.behave()
        answer = await ward.ask()
        assert (200, 2) == (answer.status, len(ward.ill.pids()))


@pytest.mark.parametrize("switches", [("--hang-before-head",), ("--hang-after-chunks", "2")], ids=" ".join)
async def test_a_server_that_falls_silent_is_given_up_after_the_time_limit(
    admit: Admit, switches: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Timeouts(first_byte=0.3, between_bytes=0.3)
    monkeypatch.setattr(main, "Timeouts", lambda **_given: limits)
    async with admit(*switches) as ward:
        async with ward.undisturbed():
            streamed, whole = await asyncio.gather(ward.ask(stream=True), ward.ask())
        assert SILENT == streamed.code
        if streamed.status == 200:
            assert ("0 1 ", False) == (streamed.text, streamed.whole)
        else:
            assert [504, 504] == [streamed.status, whole.status]
        await ward.recovers()
        ward.nothing_left()


async def test_a_reader_that_stops_holds_its_server_back_and_nobody_else(admit: Admit) -> None:
    async with admit("--flood", "--long-lines") as ward:
        async with ward.served.http.post("/v1/chat/completions", json=chat("ill", stream=True)) as flood:
            assert await flood.content.readany()
            async with ward.undisturbed():
                for _ in range(20):
                    answer = await take(ward.served.url, "/v1/chat/completions", chat("well"))
                    assert 200 == answer.status
        gone = await asyncio.to_thread(ward.ill.journal.wait_for, "gone")
        assert gone["chunks"] * 300_000 < 30_000_000  # the buffers on the way, and no more
        await ward.recovers()
        ward.nothing_left()
