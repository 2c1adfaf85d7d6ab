"""Failures over real sockets: unreachable, silent and broken servers."""

import asyncio
import socket

import pytest

from gateway.core.backend import BackendRequest
from gateway.core.errors import BackendBroken, BackendSilent, BackendUnreachable
from gateway.system.upstream import Timeouts, Upstream
from tests.system.scripted_peer import (
    GET,
    Wire,
    body_of,
    kept_open,
    once,
    serving,
    upstream_of,
)

pytestmark = pytest.mark.every_loop

STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_nobody_listening_is_unreachable_and_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        upstream = Upstream("127.0.0.1", port, timeouts=Timeouts())
        with pytest.raises(BackendUnreachable, match=rf"expected at 127\.0\.0\.1:{port}, and connecting .* failed"):
            await body_of(upstream)
        assert (upstream.active, upstream.connections) == (0, 0)


async def test_a_name_that_cannot_exist_is_unreachable() -> None:
    upstream = Upstream("a" * 80, 1, timeouts=Timeouts())
    with pytest.raises(BackendUnreachable):
        await body_of(upstream)


async def test_connecting_has_a_limit() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # a queue of one, which the two fill: further ones wait
        for client in (first, second):
            client.settimeout(0)
            client.connect_ex(full.getsockname())
        upstream = Upstream("127.0.0.1", full.getsockname()[1], timeouts=Timeouts(connect=0.05))
        with pytest.raises(BackendUnreachable, match=r"nothing came within 0\.05 s"):
            await body_of(upstream)
        assert (upstream.active, upstream.connections) == (0, 0)


async def test_silence_before_the_head_is_noticed() -> None:
    timeouts = Timeouts(first_byte=0.05)
    half_a_head = b"HTTP/1.1 200 OK\r\n"
    async with serving(kept_open(half_a_head)) as peer, upstream_of(peer, timeouts=timeouts) as upstream:
        with pytest.raises(BackendSilent, match=r"nothing for 0\.05 s where its answer was expected"):
            await body_of(upstream)
        await peer.all_left()
        assert (upstream.active, upstream.connections) == (0, 0)


async def test_a_request_that_nobody_takes_is_silence() -> None:
    async def script(wire: Wire) -> None:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await gone.wait()

    gone = asyncio.Event()
    request = BackendRequest(method="POST", target="/", body=bytes(1 << 25))
    async with serving(script) as peer, upstream_of(peer, timeouts=Timeouts(first_byte=0.05)) as upstream:
        with pytest.raises(BackendSilent):
            await body_of(upstream, request)
        gone.set()


async def test_silence_in_the_body_is_noticed_after_what_came() -> None:
    timeouts = Timeouts(first_byte=60, between_bytes=0.05)
    sent = kept_open(STREAM + b"1\r\nx\r\n")
    async with (
        serving(sent) as peer,
        upstream_of(peer, timeouts=timeouts) as upstream,
        upstream.open(GET) as answer,
    ):
        chunks = answer.chunks()
        assert await anext(chunks) == b"x"
        with pytest.raises(BackendSilent, match="in the middle of its answer"):
            await anext(chunks)
        await peer.all_left()


async def test_a_body_that_goes_on_outlives_the_limit_on_silence() -> None:
    loop = asyncio.get_running_loop()
    limit = 0.2

    async def script(wire: Wire) -> None:
        await wire.answer(STREAM)
        start = loop.time()
        while loop.time() < start + 2 * limit:
            await wire.send(b"1\r\nx\r\n")
            await asyncio.sleep(limit / 20)  # the pace of the stream
        await wire.send(b"0\r\n\r\n")
        await wire.until_left()

    timeouts = Timeouts(first_byte=limit, between_bytes=limit)
    async with serving(script) as peer, upstream_of(peer, timeouts=timeouts) as upstream:
        assert set(b"x") == set(await body_of(upstream))


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        STREAM + b"5\r\nhello\r\n",
        STREAM + b"5\r\nhello\r\nZ\r\n",
    ],
    ids=["short", "without the last chunk", "bad chunk"],
)
async def test_a_broken_body_gives_what_came_and_fails(broken: bytes) -> None:
    async with serving(once(broken)) as peer, upstream_of(peer) as upstream, upstream.open(GET) as answer:
        chunks = answer.chunks()
        assert await anext(chunks) == b"hello"
        with pytest.raises(BackendBroken):
            await anext(chunks)
        with pytest.raises(BackendBroken):  # and still when it is asked again
            await anext(chunks)


async def test_what_is_not_http_is_broken_and_named() -> None:
    async with serving(kept_open(b"SSH-2.0\r\n")) as peer, upstream_of(peer) as upstream:
        with pytest.raises(BackendBroken, match=r"127\.0\.0\.1:\d+ sent is not a good HTTP/1\.1 answer: "):
            await body_of(upstream)
        await peer.all_left()


async def test_a_head_beyond_its_limit_is_broken() -> None:
    head = b"HTTP/1.1 200 OK\r\nx: " + b"x" * 2000 + b"\r\nContent-Length: 0\r\n\r\n"
    async with serving(kept_open(head)) as peer:
        async with upstream_of(peer, head_limit=1000) as upstream:
            with pytest.raises(BackendBroken, match="head is longer than 1000 bytes"):
                await body_of(upstream)
        async with upstream_of(peer, head_limit=3000) as upstream:
            assert await body_of(upstream) == b""
