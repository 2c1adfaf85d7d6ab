"""Background tasks end with their keeper, and none dies unnoticed."""

import asyncio
import logging

import pytest

from gateway.engine.tasks import Tasks


async def test_a_task_runs_under_its_name_and_is_let_go_when_it_ends() -> None:
    tasks = Tasks()

    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    task = tasks.start(work(), "some work")
    assert task.get_name() == "some work"
    assert len(tasks) == 1
    assert await task == 7
    assert len(tasks) == 0


async def test_a_task_nobody_else_holds_is_not_collected() -> None:
    tasks, go, done = Tasks(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go.wait()
        done.set()

    tasks.start(work(), "kept")
    await asyncio.sleep(0)
    go.set()
    await done.wait()


async def test_a_task_that_dies_is_logged_with_its_traceback_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    crashes: list[BaseException] = []
    tasks = Tasks(on_crash=crashes.append)
    error = ValueError("some reason")

    async def work() -> None:
        raise error

    task = tasks.start(work(), "doomed")
    await asyncio.wait({task})
    await asyncio.sleep(0)
    assert crashes == [error]
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.CRITICAL, "the task 'doomed' died")
    assert "some reason" in caplog.text
    assert "Traceback" in caplog.text


async def test_a_cancelled_task_is_no_crash() -> None:
    crashes: list[BaseException] = []
    tasks = Tasks(on_crash=crashes.append)
    task = tasks.start(asyncio.Event().wait(), "cancelled")
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    await asyncio.sleep(0)
    assert (crashes, len(tasks)) == ([], 0)


@pytest.mark.parametrize("turns", range(4))
async def test_close_cancels_what_runs_and_waits_for_its_end(turns: int) -> None:
    tasks = Tasks()
    tidied: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(turns):
                await asyncio.sleep(0)
            tidied.append("yes")

    for number in range(3):
        tasks.start(work(), f"number {number}")
    await asyncio.sleep(0)
    await tasks.close()
    assert tidied == ["yes"] * 3
    assert len(tasks) == 0


async def test_close_ends_what_a_task_starts_while_it_is_cancelled() -> None:
    tasks = Tasks()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            tasks.start(asyncio.Event().wait(), "late")

    tasks.start(work(), "first")
    await asyncio.sleep(0)
    await tasks.close()
    assert len(tasks) == 0


async def test_a_task_may_close_its_keeper() -> None:
    tasks = Tasks()
    other = tasks.start(asyncio.Event().wait(), "other")

    async def closing() -> None:
        await tasks.close()

    await tasks.start(closing(), "closing")
    assert other.cancelled()


async def test_close_without_tasks_returns() -> None:
    await Tasks().close()
