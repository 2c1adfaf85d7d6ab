"""A launch that is cancelled leaves nothing, at whichever turn of the event loop that happens."""

import asyncio
from asyncio import events
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from gateway.system.process import LaunchSpec
from tests.system.children import FAMILY, PATIENCE, Observed, descriptors, launching, shell

pytestmark = pytest.mark.every_loop


class AtOnce(Executor):
    """Does what it is given before `submit` returns, so that a launch takes the same few turns each time."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Call it, with no event loop to be seen: it may block, as in a thread of its own."""
        future: Future[Any] = Future()
        loop = asyncio.get_running_loop()
        events._set_running_loop(None)
        try:
            future.set_result(fn(*args, **kwargs))
        finally:
            events._set_running_loop(loop)
        return future


@pytest.fixture
async def launcher() -> AsyncIterator[Observed]:
    async with launching() as observed:
        yield observed


async def all_left(launcher: Observed) -> None:
    """Return when everything that was spawned has ended; look that it was watched, reaped and let go."""
    for _ in launcher.spawned:
        process = await asyncio.wait_for(launcher.begun.get(), PATIENCE)
        await asyncio.wait_for(process.wait_with_log(), PATIENCE)
    assert all(child.returncode is not None for child in launcher.spawned)
    assert launcher._guarded == set()
    launcher.spawned.clear()


async def test_no_turn_of_the_loop_is_one_at_which_something_is_left(launcher: Observed) -> None:
    launcher._spawner.shutdown()
    launcher._spawner = AtOnce()  # type: ignore[assignment] # any executor does
    before = descriptors()
    turns = 0
    while True:
        launch = asyncio.ensure_future(launcher.launch(shell(FAMILY)))
        for _ in range(turns):
            await asyncio.sleep(0)
        if launch.done():
            break
        launch.cancel()
        await asyncio.wait({launch})
        assert launch.cancelled()
        await all_left(launcher)
        assert before == descriptors()
        turns += 1
    assert turns > 3, "the launch was to be cancelled between its steps"
    await launch.result().stop(grace=0)
    await all_left(launcher)


async def test_a_launch_cancelled_while_the_spawner_is_at_it_leaves_nothing(launcher: Observed) -> None:
    before = descriptors()
    launches = [asyncio.ensure_future(launcher.launch(shell(FAMILY))) for _ in range(10)]
    await asyncio.sleep(0)
    for launch in launches:
        launch.cancel()
    await asyncio.wait(launches)
    assert all(launch.cancelled() for launch in launches)
    # The spawner works in order of arrival: behind this one, the others are spawned.
    await (await launcher.launch(shell(":"))).wait_with_log()
    await all_left(launcher)
    assert before == descriptors()


async def test_a_cancelled_launch_of_what_cannot_be_run_says_nothing_more(launcher: Observed) -> None:
    launch = asyncio.ensure_future(launcher.launch(LaunchSpec(argv=["/no/such/program"])))
    await asyncio.sleep(0)
    launch.cancel()
    await asyncio.wait({launch})
    assert launch.cancelled()
    await (await launcher.launch(shell(":"))).wait_with_log()
    await all_left(launcher)
