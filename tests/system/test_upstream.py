"""Answers over real sockets, from a server that sends scripted bytes."""

import asyncio
import socket

import pytest

from gateway.core.backend import BackendRequest
from gateway.core.errors import BackendBroken
from gateway.system.upstream import Timeouts, Upstream
from tests.system.scripted_peer import (
    GET,
    OK,
    Wire,
    always,
    body_of,
    kept_open,
    once,
    serving,
    upstream_of,
)

pytestmark = pytest.mark.every_loop

STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_an_answer_has_its_status_headers_and_body() -> None:
    answer = b"HTTP/1.1 404 Not Found\r\nX-A: 1\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nnope"
    async with serving(once(answer)) as peer, upstream_of(peer) as upstream, upstream.open(GET) as got:
        assert (got.status, list(got.headers)) == (404, [(b"x-a", b"1"), (b"content-length", b"4")])
        assert await got.read(4) == b"nope"


async def test_the_request_arrives_as_it_was_given_with_the_headers_of_the_upstream() -> None:
    key = (b"authorization", b"Bearer child")
    request = BackendRequest(
        method="POST", target="/x?y", headers=[(b"authorization", b"Bearer client"), (b"a", b"b")], body=b"{}"
    )
    async with serving(always) as peer, upstream_of(peer, headers=[key]) as upstream:
        await body_of(upstream, request)
        head = f"POST /x?y HTTP/1.1\r\nhost: 127.0.0.1:{peer.port}\r\nauthorization: Bearer child\r\n"
        assert [head.encode() + b"content-length: 2\r\na: b\r\n\r\n{}"] == peer.requests


async def test_a_body_of_megabytes_arrives_whole_and_its_connection_is_kept() -> None:
    body = bytes(range(256)) * 16384
    async with serving(always) as peer, upstream_of(peer) as upstream:
        await body_of(upstream, BackendRequest(method="POST", target="/", body=body))
        assert peer.requests[0].endswith(b"\r\n\r\n" + body)
        assert await body_of(upstream) == b"hi"
        assert peer.accepted == 1


async def test_parts_are_yielded_as_they_come() -> None:
    taken = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.answer(STREAM)
        for _ in range(5):
            taken.clear()
            await wire.send(b"1\r\nx\r\n")
            await taken.wait()  # the next is sent only when this has been read
        await wire.send(b"0\r\n\r\n")
        await wire.until_left()

    async with serving(script) as peer, upstream_of(peer) as upstream, upstream.open(GET) as answer:
        parts = []
        async for part in answer.chunks():
            parts.append(part)
            taken.set()
        assert parts == [b"x"] * 5
        assert upstream.idle == 1


async def test_an_answer_in_single_bytes_is_the_same_answer() -> None:
    whole = b"HTTP/1.1 100 Continue\r\n\r\n" + STREAM + b"5\r\nhello\r\n0\r\nx: y\r\n\r\n"

    async def script(wire: Wire) -> None:
        await wire.request()
        for at in range(len(whole)):
            await wire.send(whole[at : at + 1])
            await asyncio.sleep(0)
        await wire.until_left()

    async with serving(script) as peer, upstream_of(peer) as upstream:
        assert await body_of(upstream) == b"hello"
        assert upstream.idle == 1


async def test_a_body_without_length_ends_with_its_connection() -> None:
    async with serving(once(b"HTTP/1.0 200 OK\r\n\r\nhello")) as peer, upstream_of(peer) as upstream:
        assert await body_of(upstream) == b"hello"
        assert await body_of(upstream) == b"hello"
        assert peer.accepted == 2


async def test_a_body_without_length_that_is_reset_is_broken() -> None:
    taken = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.answer(b"HTTP/1.0 200 OK\r\n\r\nhello")
        await taken.wait()
        wire.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
        )  # close with a reset
        wire.reset()

    async with serving(script) as peer, upstream_of(peer) as upstream, upstream.open(GET) as answer:
        chunks = answer.chunks()
        assert await anext(chunks) == b"hello"
        taken.set()
        with pytest.raises(BackendBroken, match=r"broke off .* in its body, after 5 bytes"):
            await anext(chunks)


async def test_an_answer_to_head_is_its_head() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    async with serving(kept_open(answer)) as peer, upstream_of(peer) as upstream:
        assert await body_of(upstream, BackendRequest(method="HEAD", target="/")) == b""


async def test_read_refuses_more_than_its_limit() -> None:
    async with serving(always) as peer, upstream_of(peer) as upstream, upstream.open(GET) as answer:
        with pytest.raises(BackendBroken, match="longer than 1 bytes"):
            await answer.read(1)


async def test_ipv6_literals_and_names_are_connected_to() -> None:
    async with serving(always, "::1") as peer:
        upstream = Upstream("::1", peer.port, timeouts=Timeouts())
        assert await body_of(upstream) == b"hi"
        await upstream.close()
        assert f"host: [::1]:{peer.port}\r\n".encode() in peer.requests[0]
    async with serving(always) as peer:
        upstream = Upstream("localhost", peer.port, timeouts=Timeouts())
        assert await body_of(upstream) == b"hi"
        await upstream.close()


async def test_a_reader_who_does_not_read_holds_an_endless_server_back_and_goes_on() -> None:
    high_water = 64 * 1024
    sent = 0
    stuck = asyncio.Event()
    part = bytes(16384)

    async def script(wire: Wire) -> None:
        nonlocal sent
        wire.writer.transport.set_write_buffer_limits(0)
        await wire.answer(STREAM)
        while True:
            wire.writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            sent += len(part)
            try:
                await asyncio.wait_for(wire.writer.drain(), 0.2)
            except TimeoutError:
                stuck.set()
                await wire.writer.drain()

    timeouts = Timeouts(between_bytes=0.1)  # does not run while it is the reader who is slow
    async with (
        serving(script) as peer,
        upstream_of(peer, read_high_water=high_water, timeouts=timeouts) as upstream,
        upstream.open(GET) as answer,
    ):
        await stuck.wait()
        held = sent
        assert held < 16 << 20  # what the kernel's buffers of both sides take, and no more
        size = 0
        async for chunk in answer.chunks():
            size += len(chunk)
            if size > 2 * held:
                break
    assert (upstream.active, upstream.idle) == (0, 0)


async def test_there_is_no_limit_on_exchanges_at_once() -> None:
    number = 200
    everybody = asyncio.Barrier(number)

    async def script(wire: Wire) -> None:
        await wire.request()
        await everybody.wait()
        await wire.send(OK)
        await wire.until_left()

    async with serving(script) as peer, upstream_of(peer) as upstream:
        bodies = await asyncio.gather(*(body_of(upstream) for _ in range(number)))
        assert [b"hi"] * number == bodies
        assert (upstream.active, upstream.idle) == (0, 32)
