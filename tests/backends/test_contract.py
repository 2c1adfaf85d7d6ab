"""What the engine counts on (`core.backend`), of every kind of backend: real, embedded, stand-in, command."""

import asyncio
import json
import os
import signal
import time

import pytest

from gateway.backends.spawned import Spawned
from gateway.core.backend import Answer, BackendRequest
from gateway.core.errors import BackendBroken, BackendUnreachable, StartFailed
from tests.backends.conftest import Make, children

pytestmark = pytest.mark.timeout(60)


def chat(*, stream: bool = False, tokens: int = 4) -> BackendRequest:
    """Return a chat of some tokens."""
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": tokens, "stream": stream}
    return BackendRequest(
        method="POST",
        target="/v1/chat/completions",
        headers=((b"content-type", b"application/json"),),
        body=json.dumps(body | {"ignore_eos": True}).encode(),
    )


async def rest(answer: Answer) -> None:
    """Read an answer to its end."""
    async for _ in answer.chunks():
        pass


async def answered(backend: Spawned) -> int:
    """Return the status of a chat that is read to its end."""
    async with backend.open(chat()) as answer:
        await rest(answer)
        return answer.status


async def test_a_started_backend_serves_and_a_stopped_one_is_gone(make: Make) -> None:
    before = await asyncio.to_thread(children)
    backend = make()
    await backend.start()
    assert await answered(backend) == 200
    assert backend.address is not None
    await backend.stop(5)
    assert await asyncio.to_thread(children) == before
    assert backend.address is None


async def test_a_backend_can_be_started_again(make: Make) -> None:
    backend = make()
    for _ in range(2):
        await backend.start()
        assert await answered(backend) == 200
        await backend.stop(5)


async def test_stop_is_idempotent_and_whoever_calls_it_waits_for_the_end(make: Make) -> None:
    before = await asyncio.to_thread(children)
    backend = make()
    await backend.stop(5)
    await backend.start()
    await asyncio.gather(backend.stop(5), backend.stop(5))
    assert await asyncio.to_thread(children) == before
    await backend.stop(5)


async def test_a_start_that_fails_says_why_and_leaves_nothing(make: Make) -> None:
    before = await asyncio.to_thread(children)
    backend = make(broken=True)
    with pytest.raises(StartFailed, match="exited with code") as failure:
        await backend.start()
    assert "log" in failure.value.message
    assert await asyncio.to_thread(children) == before


async def test_a_start_that_is_cancelled_at_any_time_leaves_nothing(make: Make) -> None:
    before = await asyncio.to_thread(children)
    for milliseconds in (0, 1, 3, 10, 30, 100):
        backend = make()
        starting = asyncio.ensure_future(backend.start())
        await asyncio.wait([starting], timeout=milliseconds / 1000)
        starting.cancel()
        await asyncio.wait([starting])
        await backend.stop(0)  # it may have been up already
        await asyncio.to_thread(until_only, before)


def until_only(expected: set[int]) -> None:
    """Return when only these children are left; a fork that was under way when it was cancelled ends after it."""
    deadline = time.monotonic() + 2
    while (left := children()) != expected:
        assert time.monotonic() < deadline, left
        time.sleep(0.005)


async def test_a_death_is_told_to_whoever_waits_for_it_and_to_whoever_reads(make: Make) -> None:
    backend = make()
    await backend.start()
    assert backend.pid is not None
    waiting = asyncio.ensure_future(backend.wait_exit())
    async with backend.open(chat(stream=True, tokens=16000)) as answer:
        await anext(answer.chunks())
        os.kill(backend.pid, signal.SIGKILL)
        with pytest.raises((BackendBroken, BackendUnreachable)):
            await rest(answer)
    assert (await waiting).code == -signal.SIGKILL
    await backend.stop(0)


async def test_leaving_an_exchange_early_frees_its_place(make: Make) -> None:
    backend = make()
    await backend.start()
    async with backend.open(chat(stream=True, tokens=16000)) as answer:
        await anext(answer.chunks())
    async with asyncio.timeout(10):  # a model with one place answers the next only when the first is gone
        assert await answered(backend) == 200
    await backend.stop(5)


async def test_stop_ends_it_under_a_running_answer_that_was_not_streamed(make: Make) -> None:
    before = await asyncio.to_thread(children)
    backend = make()
    await backend.start()

    async def ask() -> None:
        async with backend.open(chat(tokens=16000)) as answer:
            await rest(answer)

    asking = asyncio.ensure_future(ask())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await backend.stop(5)
    await asyncio.wait([asking])
    assert asking.exception() is None or isinstance(asking.exception(), BackendBroken | BackendUnreachable)
    assert await asyncio.to_thread(children) == before
