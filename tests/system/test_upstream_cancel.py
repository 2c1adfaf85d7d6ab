"""An exchange that is cancelled leaves nothing, at whichever turn of the event loop it is."""

import asyncio
from contextlib import suppress

import pytest

from gateway.core.errors import BackendBroken, BackendUnreachable
from gateway.system.upstream import Timeouts, Upstream
from tests.system.scripted_peer import OK, POST, Wire, body_of, serving, upstream_of

pytestmark = pytest.mark.every_loop


async def slowly(wire: Wire) -> None:
    """Answer in four pieces, a turn of the loop between them."""
    while True:
        await wire.request()
        await asyncio.sleep(0)
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (b"2\r\nhe\r\n", b"3\r\nllo\r\n", b"0\r\n\r\n"):
            await asyncio.sleep(0)
            await wire.send(part)


async def cancelled_at(turn: int, upstream: Upstream) -> bool:
    """Start an exchange, cancel it after `turn` turns; return whether it had completed by then."""
    loop = asyncio.get_running_loop()
    exchange = loop.create_task(body_of(upstream, POST))
    for _ in range(turn):
        await asyncio.sleep(0)
    exchange.cancel()
    with suppress(asyncio.CancelledError):
        assert await exchange == b"hello"
    return not exchange.cancelled()


@pytest.mark.parametrize("warm", [False, True], ids=["fresh connection", "reused connection"])
async def test_an_exchange_cancelled_at_any_turn_leaves_nothing(*, warm: bool) -> None:
    completed = False
    turn = 0
    async with serving(slowly) as peer:
        while not completed:
            async with upstream_of(peer, timeouts=Timeouts(first_byte=60, between_bytes=60)) as upstream:
                if warm:
                    await body_of(upstream, POST)
                completed = await cancelled_at(turn, upstream)
                assert upstream.active == 0
                assert await body_of(upstream, POST) == b"hello"  # and what comes next is served
            await peer.all_left()
            turn += 1
    assert turn > 4  # it was cancelled in the middle of things


async def test_an_exchange_whose_upstream_closes_at_any_turn_fails_or_completes_and_leaves_nothing() -> None:
    completed = False
    turn = 0
    async with serving(slowly) as peer:
        while not completed:
            upstream = Upstream("127.0.0.1", peer.port, timeouts=Timeouts())
            exchange = asyncio.get_running_loop().create_task(body_of(upstream, POST))
            for _ in range(turn):
                await asyncio.sleep(0)
            completed = exchange.done()
            await upstream.close()
            await asyncio.wait([exchange])
            if exchange.exception() is None:
                assert exchange.result() == b"hello"
            else:
                assert isinstance(exchange.exception(), BackendBroken | BackendUnreachable)
                assert not completed
            assert (upstream.active, upstream.idle) == (0, 0)
            await peer.all_left()
            turn += 1
    assert turn > 4


async def test_a_thousand_aborted_streams_leave_no_connection() -> None:
    async def script(wire: Wire) -> None:
        await wire.answer(OK[:-1])  # its last byte never comes
        await wire.until_left()

    async with serving(script) as peer, upstream_of(peer) as upstream:
        for _ in range(10):
            tasks = [asyncio.get_running_loop().create_task(body_of(upstream)) for _ in range(100)]
            await peer.seen(50)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await peer.all_left()
            assert (upstream.active, upstream.idle) == (0, 0)
