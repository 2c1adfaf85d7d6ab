"""Leases: who gets a backend, who a refusal, and that whoever leaves gives back what he had."""

import asyncio
from collections.abc import Awaitable

import pytest

from gateway.core.backend import Exit
from gateway.core.errors import CoolingDown, GatewayError, NeverFits, QueueFull, QueueTimeout, StartFailed
from gateway.core.occupancy import Limits, Phase
from gateway.core.slot import SlotSpec
from tests.engine.conftest import PATIENCE, Build, Engine, ended, turns
from tests.engine.fake_backend import FakeBackend, slot

A, B = slot("a"), slot("b")
ONE = Limits(max_loaded=1, turn=0.0)


# -- waiting and being served --


async def test_all_who_wait_share_one_start(build: Build) -> None:
    engine, spec = build(hold=True), slot("a", max_concurrent=5)
    clients = [asyncio.ensure_future(engine.use(spec)) for _ in range(5)]
    backend = await engine.backend(0)
    await turns(3)
    assert engine.pool.held == 5
    assert not any(client.done() for client in clients)
    engine.world.release()
    assert await asyncio.gather(*clients) == [backend] * 5
    assert engine.world.starts[spec.id] == 1


async def test_no_more_are_served_at_once_than_the_slot_allows(build: Build) -> None:
    engine, go = build(), asyncio.Event()
    first = asyncio.ensure_future(engine.use(A, until=go))
    backend = await engine.backend(0)
    second = asyncio.ensure_future(engine.use(A))
    await turns(5)
    assert (backend.serving, second.done()) == (1, False)
    go.set()
    assert [await first, await second] == [backend, backend]


async def test_what_does_not_occupy_is_served_beside(build: Build) -> None:
    engine, go = build(), asyncio.Event()
    first = asyncio.ensure_future(engine.use(A, until=go))
    await engine.backend(0)
    async with asyncio.timeout(PATIENCE), await engine.pool.lease(A, occupies=False) as backend:
        assert backend is engine.world.made[0]
    go.set()
    await first


async def test_another_model_is_stopped_to_make_room_when_its_work_is_done(build: Build) -> None:
    engine, go = build(ONE), asyncio.Event()
    first = asyncio.ensure_future(engine.use(A, until=go))
    backend = await engine.backend(0)
    second = asyncio.ensure_future(engine.use(B))
    await turns(5)
    assert not backend.stopping.is_set()
    go.set()
    await asyncio.gather(first, second)
    assert backend.stopping.is_set()
    assert engine.world.most_up == 1


async def test_nothing_is_started_before_the_memory_is_free(build: Build) -> None:
    engine = build(ONE, hold=True)
    first = asyncio.ensure_future(engine.use(A))
    backend = await engine.backend(0)
    backend.may_start.set_result(None)
    await first
    second = asyncio.ensure_future(engine.use(B))
    await backend.stopping.wait()
    await turns(5)
    assert len(engine.world.made) == 1
    backend.may_stop.set_result(None)
    (await engine.backend(1)).release()
    await second


async def test_a_lease_that_is_never_entered_holds_nothing(build: Build) -> None:
    engine = build()
    await engine.pool.lease(A)
    assert (engine.pool.held, engine.world.made) == (0, [])


async def test_the_pool_tells_what_it_knows(build: Build) -> None:
    engine, go = build(hold=True), asyncio.Event()
    client = asyncio.ensure_future(engine.use(A, until=go))
    backend = await engine.backend(0)
    assert engine.pool.view()[A.id].phase is Phase.STARTING
    waiting = await engine.pool.lease(A)
    entering = asyncio.ensure_future(waiting.__aenter__())
    await turns(1)
    assert engine.pool.explain(waiting) == "the model is loading"
    backend.may_start.set_result(None)
    await turns(5)
    view = engine.pool.view()[A.id]
    assert (view.phase, view.running, view.waiting) == (Phase.READY, 1, 1)
    assert engine.pool.address(A.id) == backend.address
    assert engine.pool.address(B.id) is None
    go.set()
    await client
    assert await entering is backend
    await waiting.__aexit__(None, None, None)
    assert waiting.wish.spec == A


# -- refusals --


async def refusal(work: Awaitable[object]) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await asyncio.wait_for(work, PATIENCE)
    return caught.value


async def test_a_failed_start_is_told_to_each_waiter_as_its_own_error(build: Build) -> None:
    engine = build(hold=True)
    clients = [asyncio.ensure_future(engine.use(A)) for _ in range(3)]
    backend = await engine.backend(0)
    failure = StartFailed("It did not start.", hint="Look at its log.", retry_after=3.0)
    backend.may_start.set_exception(failure)
    errors = [await refusal(client) for client in clients]
    assert [type(error) for error in errors] == [StartFailed] * 3
    assert len({id(error) for error in (*errors, failure)}) == 4
    assert {(str(error), error.retry_after) for error in errors} == {(str(failure), 3.0)}
    assert engine.pool.held == 0


async def test_after_a_failure_it_is_not_tried_again_at_once(build: Build) -> None:
    engine = build()
    engine.world.failures[A.id] = StartFailed("It did not start.")
    assert isinstance(await refusal(engine.use(A)), StartFailed)
    error = await refusal(engine.use(A))
    assert isinstance(error, CoolingDown)
    assert error.message.endswith("It did not start.")
    assert engine.world.starts[A.id] == 1


async def test_a_start_that_crashes_refuses_its_waiters_and_is_reported(build: Build) -> None:
    engine = build()
    bug = engine.world.failures[A.id] = ZeroDivisionError("a bug")
    error = await refusal(engine.use(A))
    assert isinstance(error, StartFailed)
    assert "a bug" in error.message
    await turns(2)
    assert engine.crashes == [bug]
    engine.crashes.clear()


async def test_a_full_queue_refuses(build: Build) -> None:
    engine, go = build(Limits(queue_length=1)), asyncio.Event()
    first = asyncio.ensure_future(engine.use(A, until=go))
    await engine.backend(0)
    await turns(3)
    second = asyncio.ensure_future(engine.use(A))
    await turns(1)
    assert isinstance(await refusal(engine.use(A)), QueueFull)
    go.set()
    await asyncio.gather(first, second)


async def test_waiting_is_bounded_in_time(build: Build) -> None:
    engine, go = build(Limits(queue_timeout=0.02)), asyncio.Event()
    first = asyncio.ensure_future(engine.use(A, until=go))
    await engine.backend(0)
    await turns(3)
    assert isinstance(await refusal(engine.use(A)), QueueTimeout)
    go.set()
    await first


async def test_a_need_that_cannot_be_told_is_the_error_of_the_lease(build: Build) -> None:
    async def need(spec: SlotSpec) -> int:
        raise StartFailed(f"No file for {spec.id}.")

    engine = build(need=need)
    assert isinstance(await refusal(engine.pool.lease(A)), StartFailed)
    assert engine.pool.held == 0


async def test_what_never_fits_is_refused_with_numbers(build: Build) -> None:
    async def need(spec: SlotSpec) -> int:
        del spec
        return 3 << 30

    engine = build(Limits(memory=2 << 30), need=need)
    error = await refusal(engine.use(A))
    assert isinstance(error, NeverFits)
    assert "3.00 GiB" in error.message
    assert "2.00 GiB" in error.message


# -- unexpected exits --


async def test_after_an_exit_the_next_lease_starts_anew(build: Build) -> None:
    engine, go = build(), asyncio.Event()
    first = asyncio.ensure_future(engine.use(A, until=go))
    backend = await engine.backend(0)
    await turns(3)
    waiting = asyncio.ensure_future(engine.use(A))  # waits behind the first
    await turns(1)
    backend.exit(Exit(code=-9, log=("killed",)))
    second = await asyncio.wait_for(waiting, PATIENCE)
    assert second is not backend
    assert await engine.use(A) is second
    go.set()
    assert await first is backend
    assert backend.stopping.is_set()
    assert await engine.use(A) is second


async def test_an_exit_of_an_idle_backend_is_noticed_and_logged(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    engine = build()
    backend = await engine.use(A)
    backend.exit(Exit(code=3, log=("some words",)))
    await asyncio.wait_for(engine.pool.notice(A.id, patience=PATIENCE), PATIENCE)
    await turns(3)
    assert engine.pool.address(A.id) is None
    assert "exited with code 3; its last words: some words" in caplog.text


async def test_notice_does_not_wait_for_what_lives_or_was_never_there(build: Build) -> None:
    engine = build()
    await engine.use(A)
    await asyncio.wait_for(engine.pool.notice(A.id, patience=0.01), PATIENCE)
    await asyncio.wait_for(engine.pool.notice(B.id, patience=1000), PATIENCE)


# -- leaving --


async def scene(engine: Engine) -> list["asyncio.Future[FakeBackend]"]:
    """Two want one model, one wants another, and only one model fits."""
    return [asyncio.ensure_future(engine.use(spec, turns=2)) for spec in (A, A, B)]


@pytest.mark.parametrize("leaver", [0, 1, 2])
@pytest.mark.parametrize("steps", [0, 2])
async def test_whoever_is_cancelled_at_whichever_turn_lets_the_others_go_on(
    build: Build, leaver: int, steps: int
) -> None:
    for turn in range(1000):
        engine = build(ONE, turns=lambda: steps)
        clients = await scene(engine)
        await turns(turn)
        finished = clients[leaver].done()
        clients[leaver].cancel()
        await ended(*clients)
        assert clients[leaver].cancelled() != finished
        assert not any(client.cancelled() for client in clients if client is not clients[leaver])
        assert engine.pool.held == 0
        if finished:
            assert turn > 4, "he was to be cancelled while he waited, and while he was served"
            break
        await asyncio.wait_for(asyncio.gather(engine.use(A), engine.use(B)), PATIENCE)


@pytest.mark.parametrize("steps", [0, 2])
async def test_whoever_is_cancelled_around_a_failing_start_leaves_nothing(build: Build, steps: int) -> None:
    for turn in range(1000):
        engine = build(turns=lambda: steps)
        engine.world.failures[A.id] = StartFailed("It did not start.")
        clients = [asyncio.ensure_future(engine.use(A)) for _ in range(2)]
        await turns(turn)
        finished = clients[0].done()
        clients[0].cancel()
        await ended(*clients)
        assert engine.pool.held == 0
        assert isinstance(clients[1].exception(), StartFailed)
        if finished:
            assert isinstance(clients[0].exception(), StartFailed)
            break
        assert clients[0].cancelled()


async def test_a_start_goes_on_when_everybody_has_left(build: Build) -> None:
    engine = build(hold=True)
    client = asyncio.ensure_future(engine.use(A))
    backend = await engine.backend(0)
    client.cancel()
    await ended(client)
    backend.may_start.set_result(None)
    assert await engine.use(A) is backend


async def test_an_error_inside_the_lease_gives_it_back(build: Build) -> None:
    engine = build()
    with pytest.raises(ZeroDivisionError):
        async with await engine.pool.lease(A):
            raise ZeroDivisionError
    assert engine.pool.held == 0
    await engine.use(A)
