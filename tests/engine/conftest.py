"""A pool with fake backends, and what must hold after every test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.core.backend import Backend
from gateway.core.occupancy import Limits
from gateway.core.slot import SlotSpec
from gateway.engine.pool import Pool
from gateway.engine.tasks import Tasks
from tests.engine.fake_backend import FakeBackend, World

PATIENCE = 10.0  # seconds until a test gives up


@dataclass(slots=True)
class Engine:
    """A pool, its world, and what went wrong."""

    pool: Pool
    world: World
    tasks: Tasks
    crashes: list[BaseException] = field(default_factory=list)
    expected_misdeeds: list[str] = field(default_factory=list)

    async def use(self, spec: SlotSpec, until: asyncio.Event | None = None, turns: int = 1) -> FakeBackend:
        """Lease a slot, work with it `until` something happens or for some turns of the loop, and leave."""
        async with await self.pool.lease(spec) as backend:
            assert isinstance(backend, FakeBackend)
            with backend.serve():
                for _ in range(turns):
                    await asyncio.sleep(0)
                if until is not None:
                    await until.wait()
            return backend

    async def backend(self, number: int) -> FakeBackend:
        """Return the backend that is made as number `number` (from 0), as soon as it starts."""
        async with asyncio.timeout(PATIENCE):
            await self.world.arrivals[number].wait()
            await self.world.made[number].starting.wait()
        return self.world.made[number]


Build = Callable[..., Engine]


async def no_memory(spec: SlotSpec) -> int:
    del spec
    return 0


@pytest.fixture
async def build() -> AsyncIterator[Build]:
    """Make an engine: `build(Limits(...), hold=True)`. Looks, in the end, that nothing is left of it."""
    engines: list[Engine] = []

    def make(limits: Limits | None = None, *, need: Any = no_memory, **world_options: Any) -> Engine:
        crashes: list[BaseException] = []
        world, tasks = World(**world_options), Tasks(on_crash=crashes.append)
        backend: Callable[[SlotSpec], Backend] = world.make
        pool = Pool(limits or Limits(), make=backend, need=need, tasks=tasks)
        engines.append(Engine(pool, world, tasks, crashes))
        return engines[-1]

    yield make
    for engine in engines:
        engine.world.release()
        await asyncio.wait_for(engine.pool.close(patience=PATIENCE), PATIENCE)
    for engine in engines:
        assert engine.pool.held == 0
        assert engine.world.up == set()
        assert engine.world.misdeeds == engine.expected_misdeeds
        assert engine.crashes == []
        assert len(engine.tasks) == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert timers() == []


def timers() -> list[asyncio.TimerHandle]:
    """Return the timers that are still set in the running loop, which is asyncio's own."""
    scheduled: list[asyncio.TimerHandle] = getattr(asyncio.get_running_loop(), "_scheduled")  # noqa: B009 - not in its interface
    return [timer for timer in scheduled if not timer.cancelled()]


async def turns(number: int) -> None:
    """Let some turns of the event loop pass."""
    for _ in range(number):
        await asyncio.sleep(0)


async def ended(*futures: asyncio.Future[Any]) -> None:
    """Wait until all have ended, however."""
    await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), PATIENCE)
