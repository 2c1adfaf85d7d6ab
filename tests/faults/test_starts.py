"""A model's server that does not start, or does not end, as it should."""

import asyncio
import time
from pathlib import Path

import psutil
import pytest

from gateway.system.ports import free_port
from tests.faults.conftest import KINDS, Admit, Ward
from tests.standin.running import StandIn


def gone(ward: Ward) -> bool:
    """Return whether no process of the model that is ill is left."""
    return not any(psutil.pid_exists(pid) for pid in ward.ill.pids())


@pytest.mark.parametrize(
    ("switch", "kind"),
    [
        ("--never-ready", KINDS[0]),
        ("--never-ready", KINDS[1]),
        ("--never-open", KINDS[0]),
        ("--garbage-always", KINDS[0]),
    ],
)
async def test_a_server_that_is_not_ready_in_time_is_given_up_with_its_last_words(
    admit: Admit, switch: str, kind: str
) -> None:
    async with admit(switch, kind=kind, timeout=1) as ward:
        async with ward.undisturbed():
            answers = await asyncio.gather(ward.ask(), ward.ask(stream=True))
        for answer in answers:
            assert (503, "model_start_failed") == (answer.status, answer.code)
            assert "false" == answer.headers["X-Should-Retry"]
            assert "was not ready within 1 s" in answer.json["error"]["message"]
            assert "stand-in: loading the model" in answer.json["error"]["message"]
        assert (1, True) == (len(ward.ill.pids()), gone(ward))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_ends_while_it_starts_says_why_to_all_who_wait_and_then_has_a_pause(
    admit: Admit, kind: str
) -> None:
    async with admit("--exit-during-start", "3", kind=kind) as ward:
        async with ward.undisturbed():
            answers = await asyncio.gather(*(ward.ask(stream=stream) for stream in (True, False, True, False)))
        for answer in answers:
            assert (503, "model_start_failed") == (answer.status, answer.code)
            assert "exited with code 3" in answer.json["error"]["message"]
            assert "exiting due to model loading error" in answer.json["error"]["message"]
        refused = await ward.ask()
        assert (503, "model_cooling_down", "1") == (refused.status, refused.code, refused.headers["Retry-After"])
        assert "exited with code 3" in refused.json["error"]["message"]
        assert 1 == len(ward.ill.pids())
        ward.ill.behave()
        again = await until_served(ward)
        assert 0.5 <= again <= 5
        assert 2 == len(ward.ill.pids())
        ward.nothing_left()


async def until_served(ward: Ward) -> float:
    """Return how many seconds it took until the model that was ill is served. Asks every 50 ms."""
    began = time.monotonic()
    async with asyncio.timeout(10):
        while (await ward.ask()).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return time.monotonic() - began


async def test_a_server_that_does_not_end_when_told_is_killed(admit: Admit) -> None:
    async with admit("--ignore-sigterm", settings={"llama_server": {"stop_grace": 0.3}}) as ward:
        async with ward.undisturbed():
            assert 200 == (await ward.ask()).status
            began = time.monotonic()
            assert (200, {"unloaded": ["ms/ill"]}) == await ward.served.post("/unload?model=ill", {})
            assert 0.3 <= time.monotonic() - began < 3
        assert gone(ward)
        assert ward.ill.journal.events("terminated")
        await ward.recovers()
        ward.nothing_left()


async def test_what_a_server_has_started_itself_ends_with_it(admit: Admit) -> None:
    async with admit("--fork-grandchild") as ward:
        assert 200 == (await ward.ask()).status
        (forked,) = ward.ill.journal.events("grandchild")
        grandchild = psutil.Process(forked["child"])
        assert grandchild.is_running()
        await ward.served.post("/unload?model=ill", {})
        assert [] == psutil.wait_procs([grandchild], timeout=2)[1]
        assert gone(ward)


async def test_what_a_server_has_started_itself_ends_when_it_dies(admit: Admit) -> None:
    async with admit("--fork-grandchild", "--die-before-answer") as ward:
        assert 502 == (await ward.ask()).status
        forked = ward.ill.journal.events("grandchild")
        assert len(forked) == 2  # one that dies at once is asked again, once
        for event in forked:
            await asyncio.to_thread(ended, event["child"])
        await ward.recovers()


def ended(pid: int) -> None:
    """Return when a process has ended; fails after 2 s."""
    if psutil.pid_exists(pid):
        psutil.wait_procs([psutil.Process(pid)], timeout=2)
    assert not psutil.pid_exists(pid)


async def test_somebody_else_on_the_port_is_never_taken_for_the_server(
    admit: Admit, standin_program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One stranger has a key of its own, the other takes any: neither goes by the alias that our server has.
    strangers = [
        StandIn(standin_program, tmp_path / "locked", ("--api-key", "its-own-key", "--alias", "ill")),
        StandIn(standin_program, tmp_path / "open", ("--alias", "ill")),
    ]
    try:
        ports = iter([*(stranger.port for stranger in strangers), free_port(), free_port()])
        monkeypatch.setattr("gateway.backends.spawned.free_port", lambda: next(ports))
        async with admit() as ward:
            answer = await ward.ask()
            assert 200 == answer.status, answer.body
            assert (3, 1) == (len(ward.ill.pids()), len(ward.ill.asked()))
            assert 1 == sum(psutil.pid_exists(pid) for pid in ward.ill.pids())
        for stranger in strangers:
            asked = [event["target"] for event in stranger.journal.events("request")]
            assert {"/v1/models"} == set(asked)
    finally:
        for stranger in strangers:
            stranger.end()


async def test_a_server_that_does_not_know_its_key_is_not_used(admit: Admit) -> None:
    async with admit("--someone-else", timeout=1) as ward:
        answer = await ward.ask()
        assert (503, "model_start_failed") == (answer.status, answer.code)
        assert gone(ward)
        assert [] == ward.ill.asked()
