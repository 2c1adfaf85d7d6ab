"""The end of a pool: whoever waits is refused, what runs may finish, nothing is left."""

import asyncio

import pytest

from gateway.core.errors import ShuttingDown, StartFailed
from gateway.core.occupancy import Limits
from tests.engine.conftest import PATIENCE, Build, timers, turns
from tests.engine.fake_backend import FakeBackend, slot

A, B = slot("a"), slot("b")


async def test_close_stops_all_that_is_idle_at_once(build: Build) -> None:
    engine = build()
    backends = [await engine.use(A), await engine.use(B)]
    await asyncio.wait_for(engine.pool.close(patience=1000), PATIENCE)
    assert all(backend.stopping.is_set() for backend in backends)
    assert engine.world.up == set()
    assert (len(engine.tasks), timers()) == (0, [])


async def test_close_stops_side_by_side(build: Build) -> None:
    engine = build(hold=True)
    clients = [asyncio.ensure_future(engine.use(spec)) for spec in (A, B)]
    for number in range(2):
        (await engine.backend(number)).may_start.set_result(None)
    backends = await asyncio.gather(*clients)
    closing = asyncio.ensure_future(engine.pool.close(patience=1000))
    for backend in backends:
        await asyncio.wait_for(backend.stopping.wait(), PATIENCE)
    assert not closing.done()
    engine.world.release()
    await asyncio.wait_for(closing, PATIENCE)


async def test_close_refuses_who_waits_and_who_comes(build: Build) -> None:
    engine, go = build(), asyncio.Event()
    running = asyncio.ensure_future(engine.use(A, until=go))
    await engine.backend(0)
    await turns(3)
    waiting = asyncio.ensure_future(engine.use(A))
    asked_before = await engine.pool.lease(B)
    await turns(1)
    closing = asyncio.ensure_future(engine.pool.close(patience=1000))
    with pytest.raises(ShuttingDown):
        await waiting
    with pytest.raises(ShuttingDown):
        await engine.use(B)
    with pytest.raises(ShuttingDown):
        async with asked_before:
            pass
    assert engine.pool.held == 1
    go.set()
    await running
    await asyncio.wait_for(closing, PATIENCE)


async def test_close_waits_for_what_runs(build: Build) -> None:
    engine, go = build(), asyncio.Event()
    running = asyncio.ensure_future(engine.use(A, until=go))
    backend = await engine.backend(0)
    await turns(3)
    closing = asyncio.ensure_future(engine.pool.close(patience=1000))
    await turns(10)
    assert (closing.done(), backend.stopping.is_set()) == (False, False)
    go.set()
    await running
    await asyncio.wait_for(closing, PATIENCE)
    assert backend.stopping.is_set()


async def test_close_stops_what_still_runs_when_its_patience_is_over(build: Build) -> None:
    engine, go = build(), asyncio.Event()
    running = asyncio.ensure_future(engine.use(A, until=go))
    backend = await engine.backend(0)
    await turns(3)
    await asyncio.wait_for(engine.pool.close(patience=0.02), PATIENCE)
    assert backend.exited.done()
    engine.expected_misdeeds = [f"{A.id} was stopped while it served 1"]
    go.set()
    await running
    assert engine.pool.held == 0


async def test_close_does_not_wait_for_a_start(build: Build) -> None:
    engine = build(hold=True)
    client = asyncio.ensure_future(engine.use(A))
    await engine.backend(0)
    await asyncio.wait_for(engine.pool.close(patience=1000), PATIENCE)
    with pytest.raises(ShuttingDown):
        await client
    assert engine.world.up == set()
    assert len(engine.tasks) == 0


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("fails", [False, True])
async def test_close_at_any_turn_of_a_request_leaves_nothing(build: Build, steps: int, fails: bool) -> None:  # noqa: FBT001 - a table
    for turn in range(1000):
        engine = build(Limits(max_loaded=1, turn=0.0), turns=lambda: steps)
        if fails:
            engine.world.failures[B.id] = StartFailed("It did not start.")
        clients = [asyncio.ensure_future(engine.use(spec, turns=2)) for spec in (A, B)]
        await turns(turn)
        finished = all(client.done() for client in clients)
        await asyncio.wait_for(engine.pool.close(patience=1000), PATIENCE)
        results = await asyncio.wait_for(asyncio.gather(*clients, return_exceptions=True), PATIENCE)
        assert all(isinstance(result, FakeBackend | ShuttingDown | StartFailed) for result in results)
        assert engine.pool.held == 0
        assert engine.world.up == set()
        assert engine.world.misdeeds == []
        assert len(engine.tasks) == 0
        if finished:
            break


async def test_close_waits_for_a_stop_that_is_under_way(build: Build) -> None:
    engine = build(hold=True)
    client = asyncio.ensure_future(engine.use(A))
    backend = await engine.backend(0)
    backend.may_start.set_result(None)
    await client
    unloading = asyncio.ensure_future(engine.pool.unload([A.id]))
    await asyncio.wait_for(backend.stopping.wait(), PATIENCE)
    closing = asyncio.ensure_future(engine.pool.close(patience=0.01))
    await turns(3)
    assert not closing.done()
    backend.may_stop.set_result(None)
    await asyncio.wait_for(asyncio.gather(closing, unloading), PATIENCE)


async def test_close_takes_the_timer_away(build: Build) -> None:
    engine = build()
    await engine.use(slot("a", ttl=1000.0))
    assert len(timers()) == 1
    await asyncio.wait_for(engine.pool.close(patience=1000), PATIENCE)
    assert timers() == []


async def test_closing_twice_does_no_harm(build: Build) -> None:
    engine = build()
    await engine.use(A)
    await asyncio.wait_for(asyncio.gather(*(engine.pool.close(patience=1000) for _ in range(2))), PATIENCE)
    await asyncio.wait_for(engine.pool.close(patience=1000), PATIENCE)
