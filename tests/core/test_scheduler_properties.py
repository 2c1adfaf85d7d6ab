"""Whatever happens, in whatever order: what must always hold, holds, and in the end nobody is left waiting."""

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.scheduler import Scheduler
from tests.core.rush import Rush
from tests.core.world import ACTIONS, Step, World, history

steps = st.builds(Step, st.sampled_from(ACTIONS), st.integers(0, 999), st.integers(0, 999))


@settings(max_examples=120, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**6), steps=st.lists(steps, min_size=20, max_size=100))
def test_any_history_keeps_the_promises_and_leaves_nobody_waiting(seed: int, steps: list[Step]) -> None:
    world = World(Scheduler, seed)
    world.play(steps)
    world.finish()


@pytest.mark.parametrize("first", range(0, 200, 100))
def test_long_histories_keep_the_promises_and_leave_nobody_waiting(first: int) -> None:
    for seed in range(first, first + 100):
        world = World(Scheduler, seed)
        world.play(history(Random(seed), 120))  # noqa: S311 - it makes up histories
        world.finish()


@pytest.mark.parametrize("seed", [*range(10), 50])
def test_nobody_starves_while_everybody_always_wants_something(seed: int) -> None:
    rush = Rush(Scheduler, seed, 200.0)
    rush.run()
    assert rush.longest_wait <= rush.bearable_wait
