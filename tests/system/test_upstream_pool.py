"""Connections over real sockets: when they are used again, replaced, given up."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.core.errors import BackendBroken, BackendUnreachable
from gateway.system import connection as connection_module
from tests.system.scripted_peer import (
    GET,
    OK,
    POST,
    Wire,
    always,
    body_of,
    kept_open,
    serving,
    upstream_of,
)

pytestmark = pytest.mark.every_loop

STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_connection_is_reused_and_the_one_used_last_comes_first() -> None:
    served = []

    async def script(wire: Wire) -> None:
        while True:
            await wire.answer()
            served.append(wire.nth)

    async with serving(script) as peer, upstream_of(peer) as upstream:
        await asyncio.gather(body_of(upstream), body_of(upstream))
        last = served[-1]
        for _ in range(3):
            await body_of(upstream)
        assert [last] * 4 == served[1:]
        assert (upstream.active, upstream.idle, peer.accepted) == (0, 2, 2)


async def test_no_more_than_max_idle_connections_are_kept() -> None:
    async with serving(always) as peer, upstream_of(peer, max_idle=2) as upstream:
        await asyncio.gather(*(body_of(upstream) for _ in range(5)))
        assert upstream.idle == 2


async def test_idle_connections_are_closed_after_their_time() -> None:
    async with serving(always) as peer, upstream_of(peer, idle_seconds=0.02) as upstream:
        await asyncio.gather(*(body_of(upstream) for _ in range(3)))
        assert upstream.idle == 3
        await peer.all_left()
        assert (upstream.idle, upstream.connections) == (0, 0)


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"junk",
        OK + OK,
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    ],
    ids=["junk after it", "a second answer", "connection: close", "HTTP/1.0"],
)
async def test_a_connection_is_dropped_after(answer: bytes) -> None:
    async with serving(kept_open(answer)) as peer, upstream_of(peer) as upstream:
        for _ in range(3):
            assert await body_of(upstream) == b"hi"
        await peer.all_left()
        assert (peer.accepted, upstream.connections) == (3, 0)


async def test_data_on_an_idle_connection_drops_it() -> None:
    go = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.answer()
        await go.wait()
        await wire.send(OK)
        await wire.until_left()

    async with serving(script) as peer, upstream_of(peer) as upstream:
        await body_of(upstream)
        assert upstream.idle == 1
        go.set()
        await peer.all_left()
        assert upstream.idle == 0


async def test_a_connection_is_kept_as_soon_as_its_answer_is_complete() -> None:
    async with serving(always) as peer, upstream_of(peer) as upstream:
        async with upstream.open(GET) as first:
            await first.read(9)
            async with upstream.open(GET) as second:
                await second.read(9)
        assert peer.accepted == 1


async def test_a_stale_connection_is_replaced_once_for_a_post_as_well() -> None:
    async def script(wire: Wire) -> None:
        await wire.answer()
        if wire.nth == 1:
            await wire.request()  # and close: the server went while the request was on its way
        else:
            await wire.until_left()

    async with serving(script) as peer, upstream_of(peer) as upstream:
        await body_of(upstream, POST)
        assert await body_of(upstream, POST) == b"hi"
        assert (peer.accepted, len(peer.requests)) == (2, 3)


async def test_a_fresh_connection_that_is_closed_unanswered_is_not_replaced() -> None:
    async def script(wire: Wire) -> None:
        if wire.nth == 1:
            await wire.answer()
        await wire.request()

    async with serving(script) as peer, upstream_of(peer) as upstream:
        await body_of(upstream)
        with pytest.raises(BackendUnreachable, match=r"127\.0\.0\.1:\d+ closed the connection instead of answering"):
            await body_of(upstream, POST)
        assert peer.accepted == 2


async def test_a_reused_connection_that_is_closed_late_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "STALE_WITHIN", -1.0)

    async def script(wire: Wire) -> None:
        await wire.answer()
        await wire.request()

    async with serving(script) as peer, upstream_of(peer) as upstream:
        await body_of(upstream)
        with pytest.raises(BackendUnreachable):
            await body_of(upstream, POST)
        assert peer.accepted == 1


async def test_a_reused_connection_that_broke_off_in_its_answer_is_not_replaced() -> None:
    async def script(wire: Wire) -> None:
        await wire.answer()
        await wire.answer(b"H")

    async with serving(script) as peer, upstream_of(peer) as upstream:
        await body_of(upstream)
        with pytest.raises(BackendBroken, match="broke off in its head"):
            await body_of(upstream)
        assert peer.accepted == 1


async def _leave_normally() -> None:
    return


async def _leave_by_an_error() -> None:
    raise LookupError


@pytest.mark.parametrize("leave", [_leave_normally, _leave_by_an_error])
async def test_leaving_early_closes_the_connection_at_once(leave: Callable[[], Awaitable[None]]) -> None:
    async with serving(kept_open(STREAM + b"1\r\nx\r\n")) as peer, upstream_of(peer) as upstream:
        try:
            async with upstream.open(GET) as answer:
                assert await anext(answer.chunks()) == b"x"
                await leave()
        except LookupError:
            pass
        await peer.all_left()
        assert (upstream.active, upstream.idle, upstream.connections) == (0, 0, 0)


async def test_what_was_not_read_before_leaving_is_no_clean_end_afterwards() -> None:
    async with serving(always) as peer, upstream_of(peer) as upstream:
        async with upstream.open(GET) as answer:
            pass
        with pytest.raises(BackendBroken, match="closed before its body had been read"):
            await answer.read(9)


async def test_close_breaks_running_answers_and_refuses_later_ones() -> None:
    async with serving(kept_open(STREAM + b"1\r\nx\r\n")) as peer, upstream_of(peer) as upstream:
        async with upstream.open(GET) as answer:
            chunks = answer.chunks()
            await anext(chunks)
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(_outcome(anext(chunks)))
                headless = tasks.create_task(_outcome(body_of(upstream)))
                await asyncio.sleep(0)
                tasks.create_task(upstream.close())
            assert isinstance(reader.result(), BackendBroken)
            assert isinstance(headless.result(), BackendBroken | BackendUnreachable)
        with pytest.raises(BackendUnreachable, match="has closed its connections"):
            await body_of(upstream)
        await peer.all_left()


async def _outcome(awaitable: Awaitable[bytes]) -> bytes | Exception:
    try:
        return await awaitable
    except Exception as error:  # noqa: BLE001 - it is looked at
        return error
