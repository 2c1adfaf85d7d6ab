"""Models that go and come without a request: unloaded, idle for long, no longer configured, preloaded."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from gateway.core.backend import Exit
from gateway.core.errors import StartFailed
from gateway.core.occupancy import Limits
from tests.engine.conftest import PATIENCE, Build, Engine, ended, turns
from tests.engine.fake_backend import slot

A, B = slot("a"), slot("b")
ONE = Limits(max_loaded=1, turn=0.0)


# -- being unloaded --


async def test_unload_waits_for_what_runs(build: Build) -> None:
    engine, go = build(hold=True), asyncio.Event()
    client = asyncio.ensure_future(engine.use(A, until=go))
    backend = await engine.backend(0)
    backend.may_start.set_result(None)
    await turns(5)
    unloading = asyncio.ensure_future(engine.pool.unload([A.id, B.id]))
    await turns(5)
    assert not backend.stopping.is_set()
    go.set()
    await client
    await asyncio.wait_for(backend.stopping.wait(), PATIENCE)
    await turns(3)
    assert not unloading.done()
    backend.may_stop.set_result(None)
    await asyncio.wait_for(unloading, PATIENCE)
    assert engine.pool.view() == {}


async def test_unload_of_what_is_loading_serves_first_who_waits(build: Build) -> None:
    engine = build(hold=True)
    client = asyncio.ensure_future(engine.use(A))
    backend = await engine.backend(0)
    unloading = asyncio.ensure_future(engine.pool.unload([A.id]))
    await turns(3)
    engine.world.release()
    assert await client is backend
    await asyncio.wait_for(unloading, PATIENCE)


@pytest.mark.parametrize("end", ["exit", "failure"])
async def test_unload_returns_when_it_is_gone_for_another_reason(build: Build, end: str) -> None:
    engine, go = build(hold=True), asyncio.Event()
    client = asyncio.ensure_future(engine.use(A, until=go))
    backend = await engine.backend(0)
    if end == "exit":
        backend.may_start.set_result(None)
        await turns(5)
    unloading = asyncio.ensure_future(engine.pool.unload([A.id]))
    await turns(1)
    if end == "exit":
        backend.exit(Exit(code=1))
    else:
        backend.may_start.set_exception(StartFailed("It did not start."))
    await asyncio.wait_for(unloading, PATIENCE)
    go.set()
    await ended(client)


async def test_a_cancelled_unload_still_unloads(build: Build) -> None:
    engine, go = build(), asyncio.Event()
    client = asyncio.ensure_future(engine.use(A, until=go))
    backend = await engine.backend(0)
    await turns(3)
    unloading = asyncio.ensure_future(engine.pool.unload([A.id]))
    await turns(1)
    unloading.cancel()
    await ended(unloading)
    go.set()
    await client
    await asyncio.wait_for(backend.stopping.wait(), PATIENCE)


async def test_an_idle_model_is_stopped_after_its_time_and_a_used_one_is_not(build: Build) -> None:
    engine, go = build(), asyncio.Event()
    short, longer = slot("a", ttl=0.01), slot("b", ttl=0.04)
    client = asyncio.ensure_future(engine.use(short, until=go))
    await engine.backend(0)
    idle = await engine.use(longer)
    await asyncio.wait_for(idle.stopping.wait(), PATIENCE)
    assert not engine.world.made[0].stopping.is_set()
    go.set()
    await client
    await asyncio.wait_for(engine.world.made[0].stopping.wait(), PATIENCE)


async def test_an_earlier_time_moves_the_timer_forward(build: Build) -> None:
    engine = build()
    patient = await engine.use(slot("a", ttl=1000.0))
    hasty = await engine.use(slot("b", ttl=0.01))
    await asyncio.wait_for(hasty.stopping.wait(), PATIENCE)
    assert not patient.stopping.is_set()
    engine.pool.replace_specs([slot("a", ttl=0.01)])
    await asyncio.wait_for(patient.stopping.wait(), PATIENCE)


async def test_what_is_no_longer_configured_goes_when_its_last_lease_ends(build: Build) -> None:
    engine, go = build(), asyncio.Event()
    client = asyncio.ensure_future(engine.use(A, until=go))
    backend = await engine.backend(0)
    await turns(3)
    engine.pool.replace_specs([B])
    await turns(5)
    assert not backend.stopping.is_set()
    go.set()
    await client
    await asyncio.wait_for(backend.stopping.wait(), PATIENCE)


# -- preloading --


async def test_a_preloaded_model_is_there_for_the_first_request(build: Build) -> None:
    engine = build()
    await engine.pool.preload(A)
    assert engine.pool.held == 0
    assert await engine.use(A) is engine.world.made[0]


Spoil = Callable[[Engine], Awaitable[None]]


async def _fail(engine: Engine) -> None:
    engine.world.failures[B.id] = StartFailed("It did not start.")


async def _occupy(engine: Engine) -> None:
    await engine.use(A)


@pytest.mark.parametrize(
    ("spoil", "words"), [(_fail, "It did not start."), (_occupy, "no room to preload")], ids=["failure", "no room"]
)
async def test_a_preload_that_fails_is_only_logged(
    build: Build, spoil: Spoil, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = build(ONE)
    await spoil(engine)
    await engine.pool.preload(B)
    [line] = [record for record in caplog.records if record.getMessage().startswith("could not preload")]
    assert line.levelno == logging.WARNING
    assert words in line.getMessage()
    assert not any(backend.stopping.is_set() for backend in engine.world.made)
    assert engine.pool.held == 0
