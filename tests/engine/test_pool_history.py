"""Many clients, each leaving when chance has it, while models start, fail, die and make room for each other."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest

from gateway.core.backend import Exit
from gateway.core.errors import GatewayError, StartFailed
from gateway.core.occupancy import Limits
from tests.engine.conftest import PATIENCE, Build, Engine, turns
from tests.engine.fake_backend import slot

CLIENTS = 100
ROOM = 3
SLOTS = [slot(f"slot-{number}", max_concurrent=1 + number % 3, ttl=(0.001, 1000.0)[number % 2]) for number in range(6)]


async def client(engine: Engine, chance: Random, outcomes: list[str]) -> None:
    """Come, wait, work, and go."""
    await turns(chance.randrange(200))
    with _noted(outcomes):
        backend = await engine.use(chance.choice(SLOTS), turns=chance.randrange(20))
        if chance.random() < 0.02:
            backend.exit(Exit(code=1))


@contextmanager
def _noted(outcomes: list[str]) -> Iterator[None]:
    try:
        yield
    except asyncio.CancelledError:
        outcomes.append("left")
        raise
    except GatewayError as error:
        outcomes.append(error.code)
    else:
        outcomes.append("served")


async def unrest(engine: Engine, chance: Random) -> None:
    """Unload, reload and break things every now and then."""
    for _ in range(20):
        await turns(chance.randrange(20))
        match chance.randrange(4):
            case 0:
                await engine.pool.unload([chance.choice(SLOTS).id])
            case 1:
                engine.pool.replace_specs(chance.sample(SLOTS, 5))
            case 2:
                engine.world.failures = {chance.choice(SLOTS).id: StartFailed("by chance")}
            case _:
                engine.world.failures = {}


@pytest.mark.parametrize("seed", range(12))
async def test_everybody_is_served_refused_or_gone_and_nothing_is_left(build: Build, seed: int) -> None:
    chance = Random(seed)  # noqa: S311 - a history, not a secret
    engine = build(Limits(max_loaded=ROOM, queue_length=60, turn=0.0), turns=lambda: chance.randrange(6))
    outcomes: list[str] = []
    clients = [asyncio.ensure_future(client(engine, chance, outcomes)) for _ in range(CLIENTS)]
    trouble = asyncio.ensure_future(unrest(engine, chance))
    for leaver in chance.sample(clients, CLIENTS // 3):
        await turns(chance.randrange(6))
        leaver.cancel()
    await asyncio.wait_for(asyncio.wait([*clients, trouble]), PATIENCE)
    await trouble
    assert all(each.cancelled() or each.exception() is None for each in clients)
    assert len(outcomes) + sum(each.cancelled() for each in clients) >= CLIENTS
    assert "served" in outcomes
    assert engine.pool.held == 0
    assert engine.world.most_up <= ROOM
    await asyncio.wait_for(engine.pool.close(patience=1000), PATIENCE)
    assert engine.world.up == set()
