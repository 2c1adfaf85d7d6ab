"""Clients that leave: whatever the stage, what they had is given back at once and the next client is served."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.serving import Served, chat, serving
from tests.standin.model import Model

CHAT = "/v1/chat/completions"
ENDLESS = {"max_tokens": -1, "ignore_eos": True}
SLOW = ("--chunks", "100000", "--chunk-interval", "0.005")
CLIENTS = 100
# Threads that wait for each other are slow where others take the cores.
ONE_THREAD = {"llama_server": {"arguments": "--threads 1"}}


async def nothing_held(served: Served, within: float = 1.0) -> None:
    """Return when no lease is held; fail after `within` seconds. Looks every 2 ms: leases tell nobody when they go."""
    async with asyncio.timeout(within):
        while served.gateway.pool.held:  # noqa: ASYNC110
            await asyncio.sleep(0.002)


@asynccontextmanager
async def asking(served: Served, body: dict[str, Any]) -> AsyncIterator[asyncio.Task[bytes]]:
    """Ask inside this block, over a connection of its own; who leaves the block leaves the gateway."""

    async def ask() -> bytes:
        async with aiohttp.ClientSession(served.url) as http, http.post(CHAT, json=body) as response:
            return await response.read()

    task = asyncio.ensure_future(ask())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def reading(served: Served, body: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
    """Ask inside this block and read the beginning of the answer."""
    async with aiohttp.ClientSession(served.url) as http, http.post(CHAT, json=body) as response:
        assert await response.content.readany()
        yield response


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """The model `m`, which answers slowly."""
    return Model(tmp_path, "m", *SLOW)


@pytest.fixture
async def slow(tmp_path: Path, standin_program: Path, tiny_model: Path, model: Model) -> AsyncIterator[Served]:
    """A gateway over `m`."""
    models = {"m": model.as_llama_server(tiny_model)}
    async with serving(tmp_path, models, program=standin_program) as served:
        yield served


async def test_who_leaves_in_the_middle_of_a_stream_ends_its_generation(slow: Served, model: Model) -> None:
    async with reading(slow, chat("m", stream=True)):
        assert 1 == slow.gateway.pool.held
    await nothing_held(slow)
    gone = await asyncio.to_thread(model.journal.wait_for, "gone")
    assert gone["chunks"] < 1000


async def test_who_leaves_before_a_whole_answer_ends_its_generation(slow: Served, model: Model) -> None:
    async with asking(slow, chat("m")):
        await asyncio.to_thread(model.journal.wait_for, "request")
        await slow.until(lambda rows: rows["ms/m"]["requests"] == 1)
    await nothing_held(slow)
    await asyncio.to_thread(model.journal.wait_for, "gone")


async def test_who_leaves_before_the_head_of_the_answer_ends_its_generation(
    tmp_path: Path, standin_program: Path, tiny_model: Path, model: Model
) -> None:
    model.behave("--hang-before-head")
    models = {"m": model.as_llama_server(tiny_model)}
    settings = {"server": {"keepalive_after": 0.02}}
    async with serving(tmp_path, models, program=standin_program, settings=settings) as served:
        for number, leave in enumerate((reading, asking), start=1):  # with and without signs of life
            async with leave(served, chat("m", stream=leave is reading)):
                await asyncio.to_thread(inference(model, number))
            await nothing_held(served)
            await asyncio.to_thread(model.journal.wait_for, "gone", number)


def inference(model: Model, number: int) -> Callable[[], None]:
    """Return what blocks until that many requests for answers have come."""

    def wait() -> None:
        seen = 0
        while len(model.asked()) < number:
            seen += 1
            model.journal.wait_for("request", seen)

    return wait


async def test_who_leaves_the_queue_is_never_heard_of_by_the_server(slow: Served, model: Model) -> None:
    async with reading(slow, chat("m", stream=True)):
        for stream in (True, False):
            async with asking(slow, chat("m", stream=stream)):
                await slow.until(lambda rows: rows["ms/m"]["waiting"] == 1)
            await slow.until(lambda rows: rows["ms/m"]["waiting"] == 0)
            assert 1 == slow.gateway.pool.held
    await nothing_held(slow)
    assert 1 == len(model.asked())


async def test_who_leaves_while_the_model_is_loaded_is_never_heard_of_by_the_server(
    tmp_path: Path, standin_program: Path, tiny_model: Path
) -> None:
    model = Model(tmp_path, "m", "--ready-after", "0.3")
    models = {"m": model.as_llama_server(tiny_model)}
    settings = {"server": {"keepalive_after": 0.02}}
    async with serving(tmp_path, models, program=standin_program, settings=settings) as served:
        async with reading(served, chat("m", stream=True)), asking(served, chat("m")):
            await served.until(lambda rows: rows["ms/m"]["waiting"] == 2)
        await nothing_held(served)
        assert 200 == (await served.chat("m"))[0]
    assert (1, 1) == (len(model.asked()), len(model.pids()))


async def test_who_leaves_while_sending_its_body_leaves_nothing(slow: Served, model: Model) -> None:
    async with aiohttp.ClientSession(slow.url) as http:
        sent = asyncio.Event()

        async def half() -> AsyncIterator[bytes]:
            yield b'{"model": "m", '
            sent.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(http.post(CHAT, data=half()))
        await sent.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await nothing_held(slow)
    assert [] == list(model.pids())


@pytest.fixture
async def real(tmp_path: Path, program: str, tiny_model: Path) -> AsyncIterator[Served]:
    """A gateway over a real server."""
    models = {"a": {"path": str(tiny_model), "ctx_size": 2048}}
    async with serving(tmp_path, models, program=program, settings=ONE_THREAD) as served:
        await served.chat("a")
        yield served


async def slot_is(served: Served, *, busy: bool, within: float = 5.0) -> None:
    """Return when the server's only slot is busy, or is not; fail after `within` seconds. Asks every 5 ms.

    llama-server looks once a second whether its client is still there while it has nothing to send (build 11669).
    """
    async with asyncio.timeout(within):
        while True:
            _, (slot,) = await served.get("/slots", params={"model": "a"})
            if slot["is_processing"] == busy:
                return
            await asyncio.sleep(0.005)


async def test_the_slot_of_a_real_server_is_free_soon_after_its_client_left(real: Served) -> None:
    async with reading(real, chat("a", stream=True, **ENDLESS)):
        await slot_is(real, busy=True)
    await slot_is(real, busy=False)
    async with asking(real, chat("a", **ENDLESS)):
        await slot_is(real, busy=True)
    await slot_is(real, busy=False)
    await nothing_held(real)
    assert 200 == (await real.chat("a"))[0]


async def test_a_hundred_clients_that_leave_at_random_moments_leave_nothing(
    tmp_path: Path, llama_server_program: Path, tiny_model: Path, other_tiny_model: Path
) -> None:
    chance = random.Random(20260)  # noqa: S311
    shape = {"ctx_size": 2048, "parallel": 2}
    models = {"a": {"path": str(tiny_model), **shape}, "b": {"path": str(other_tiny_model), **shape}}
    settings: dict[str, Any] = {
        "memory": {"max_loaded": 1},
        "queue": {"turn": 0, "length": 200},
        "server": {"keepalive_after": 0.05},
    }
    settings |= ONE_THREAD
    async with serving(tmp_path, models, program=llama_server_program, settings=settings) as served:
        plans = [
            (chance.choice("ab"), chance.random() < 0.7, chance.uniform(0, 2), chance.expovariate(4))
            for _ in range(CLIENTS)
        ]
        await asyncio.gather(*(leaver(served, *plan) for plan in plans))
        await nothing_held(served, within=5)
        for name in "ab":
            status, answer = await served.chat(name)
            assert (200, name) == (status, answer["model"])
        (left,) = await served.until(lambda rows: len(rows) == 1 and "stopping" not in states(rows))
        _, slots = await served.get("/slots", params={"model": left})
        assert [False, False] == [slot["is_processing"] for slot in slots]
        (running,) = served.gateway.pool._running.values()
        upstream: Any = running.backend
        assert 0 == upstream._up.upstream.active
        servers = [child for child in psutil.Process().children() if "llama-server" in " ".join(child.cmdline())]
        assert [upstream.pid] == [server.pid for server in servers]


def states(rows: dict[str, Any]) -> set[str]:
    """Return the states of `/running`."""
    return {row["state"] for row in rows.values()}


async def leaver(served: Served, model: str, stream: bool, comes: float, stays: float) -> None:  # noqa: FBT001
    """Come after `comes` seconds, ask for a long answer, leave `stays` seconds later, whatever happens meanwhile."""
    await asyncio.sleep(comes)
    async with asking(served, chat(model, stream=stream, max_tokens=1500, ignore_eos=True)) as task:
        await asyncio.wait({task}, timeout=stays)
