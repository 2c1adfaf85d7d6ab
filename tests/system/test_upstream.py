"""Exchanges over real sockets with a server that sends scripted bytes: answers, reuse, failures, limits."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from gateway.core.backend import BackendRequest
from gateway.core.errors import BackendBroken, BackendSilent, BackendUnreachable
from gateway.system import connection as connection_module
from gateway.system.upstream import Timeouts, Upstream
from tests.system.scripted_peer import (
    GET,
    OK,
    POST,
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


# Answers


async def test_an_answer_has_its_status_headers_and_body() -> None:
    answer = b"HTTP/1.1 404 Not Found\r\nX-A: 1\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nnope"
    async with serving(once(answer)) as peer, upstream_of(peer) as upstream, upstream.open(GET) as got:
        assert (404, [(b"x-a", b"1"), (b"content-length", b"4")]) == (got.status, list(got.headers))
        assert b"nope" == await got.read(4)


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
        assert b"hi" == await body_of(upstream)
        assert 1 == peer.accepted


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
        assert [b"x"] * 5 == parts
        assert 1 == upstream.idle


async def test_an_answer_in_single_bytes_is_the_same_answer() -> None:
    whole = b"HTTP/1.1 100 Continue\r\n\r\n" + STREAM + b"5\r\nhello\r\n0\r\nx: y\r\n\r\n"

    async def script(wire: Wire) -> None:
        await wire.request()
        for at in range(len(whole)):
            await wire.send(whole[at : at + 1])
            await asyncio.sleep(0)
        await wire.until_left()

    async with serving(script) as peer, upstream_of(peer) as upstream:
        assert b"hello" == await body_of(upstream)
        assert 1 == upstream.idle


async def test_a_body_without_length_ends_with_its_connection() -> None:
    async with serving(once(b"HTTP/1.0 200 OK\r\n\r\nhello")) as peer, upstream_of(peer) as upstream:
        assert b"hello" == await body_of(upstream)
        assert b"hello" == await body_of(upstream)
        assert 2 == peer.accepted


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
        assert b"hello" == await anext(chunks)
        taken.set()
        with pytest.raises(BackendBroken, match="broke off .* in its body, after 5 bytes"):
            await anext(chunks)


async def test_an_answer_to_head_is_its_head() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    async with serving(kept_open(answer)) as peer, upstream_of(peer) as upstream:
        assert b"" == await body_of(upstream, BackendRequest(method="HEAD", target="/"))


async def test_read_refuses_more_than_its_limit() -> None:
    async with serving(always) as peer, upstream_of(peer) as upstream, upstream.open(GET) as answer:
        with pytest.raises(BackendBroken, match="longer than 1 bytes"):
            await answer.read(1)


async def test_ipv6_literals_and_names_are_connected_to() -> None:
    async with serving(always, "::1") as peer:
        upstream = Upstream("::1", peer.port, timeouts=Timeouts())
        assert b"hi" == await body_of(upstream)
        await upstream.close()
        assert f"host: [::1]:{peer.port}\r\n".encode() in peer.requests[0]
    async with serving(always) as peer:
        upstream = Upstream("localhost", peer.port, timeouts=Timeouts())
        assert b"hi" == await body_of(upstream)
        await upstream.close()


# Reuse


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
        assert (0, 2, 2) == (upstream.active, upstream.idle, peer.accepted)


async def test_no_more_than_max_idle_connections_are_kept() -> None:
    async with serving(always) as peer, upstream_of(peer, max_idle=2) as upstream:
        await asyncio.gather(*(body_of(upstream) for _ in range(5)))
        assert 2 == upstream.idle


async def test_idle_connections_are_closed_after_their_time() -> None:
    async with serving(always) as peer, upstream_of(peer, idle_seconds=0.02) as upstream:
        await asyncio.gather(*(body_of(upstream) for _ in range(3)))
        assert 3 == upstream.idle
        await peer.all_left()
        assert (0, 0) == (upstream.idle, upstream.connections)


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
            assert b"hi" == await body_of(upstream)
        await peer.all_left()
        assert (3, 0) == (peer.accepted, upstream.connections)


async def test_data_on_an_idle_connection_drops_it() -> None:
    go = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.answer()
        await go.wait()
        await wire.send(OK)
        await wire.until_left()

    async with serving(script) as peer, upstream_of(peer) as upstream:
        await body_of(upstream)
        assert 1 == upstream.idle
        go.set()
        await peer.all_left()
        assert 0 == upstream.idle


async def test_a_connection_is_kept_as_soon_as_its_answer_is_complete() -> None:
    async with serving(always) as peer, upstream_of(peer) as upstream:
        async with upstream.open(GET) as first:
            await first.read(9)
            async with upstream.open(GET) as second:
                await second.read(9)
        assert 1 == peer.accepted


async def test_a_stale_connection_is_replaced_once_for_a_post_as_well() -> None:
    async def script(wire: Wire) -> None:
        await wire.answer()
        if wire.nth == 1:
            await wire.request()  # and close: the server went while the request was on its way
        else:
            await wire.until_left()

    async with serving(script) as peer, upstream_of(peer) as upstream:
        await body_of(upstream, POST)
        assert b"hi" == await body_of(upstream, POST)
        assert (2, 3) == (peer.accepted, len(peer.requests))


async def test_a_fresh_connection_that_is_closed_unanswered_is_not_replaced() -> None:
    async def script(wire: Wire) -> None:
        if wire.nth == 1:
            await wire.answer()
        await wire.request()

    async with serving(script) as peer, upstream_of(peer) as upstream:
        await body_of(upstream)
        with pytest.raises(BackendUnreachable, match=r"127\.0\.0\.1:\d+ closed the connection instead of answering"):
            await body_of(upstream, POST)
        assert 2 == peer.accepted


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
        assert 1 == peer.accepted


async def test_a_reused_connection_that_broke_off_in_its_answer_is_not_replaced() -> None:
    async def script(wire: Wire) -> None:
        await wire.answer()
        await wire.answer(b"H")

    async with serving(script) as peer, upstream_of(peer) as upstream:
        await body_of(upstream)
        with pytest.raises(BackendBroken, match="broke off in its head"):
            await body_of(upstream)
        assert 1 == peer.accepted


# Leaving


async def _leave_normally() -> None:
    return


async def _leave_by_an_error() -> None:
    raise LookupError


@pytest.mark.parametrize("leave", [_leave_normally, _leave_by_an_error])
async def test_leaving_early_closes_the_connection_at_once(leave: Callable[[], Awaitable[None]]) -> None:
    async with serving(kept_open(STREAM + b"1\r\nx\r\n")) as peer, upstream_of(peer) as upstream:
        try:
            async with upstream.open(GET) as answer:
                assert b"x" == await anext(answer.chunks())
                await leave()
        except LookupError:
            pass
        await peer.all_left()
        assert (0, 0, 0) == (upstream.active, upstream.idle, upstream.connections)


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


# Failures


async def test_nobody_listening_is_unreachable_and_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        upstream = Upstream("127.0.0.1", port, timeouts=Timeouts())
        with pytest.raises(BackendUnreachable, match=rf"expected at 127\.0\.0\.1:{port}, and connecting .* failed"):
            await body_of(upstream)
        assert (0, 0) == (upstream.active, upstream.connections)


async def test_a_name_that_cannot_exist_is_unreachable() -> None:
    upstream = Upstream("a" * 80, 1, timeouts=Timeouts())
    with pytest.raises(BackendUnreachable):
        await body_of(upstream)


async def test_connecting_has_a_limit() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # a queue of one, which the two fill: further ones wait
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        upstream = Upstream("127.0.0.1", full.getsockname()[1], timeouts=Timeouts(connect=0.05))
        with pytest.raises(BackendUnreachable, match=r"nothing came within 0\.05 s"):
            await body_of(upstream)
        assert (0, 0) == (upstream.active, upstream.connections)


async def test_silence_before_the_head_is_noticed() -> None:
    timeouts = Timeouts(first_byte=0.05)
    half_a_head = b"HTTP/1.1 200 OK\r\n"
    async with serving(kept_open(half_a_head)) as peer, upstream_of(peer, timeouts=timeouts) as upstream:
        with pytest.raises(BackendSilent, match=r"nothing for 0\.05 s where its answer was expected"):
            await body_of(upstream)
        await peer.all_left()
        assert (0, 0) == (upstream.active, upstream.connections)


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
        assert b"x" == await anext(chunks)
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
        assert b"hello" == await anext(chunks)
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
            assert b"" == await body_of(upstream)


# Load


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
    assert (0, 0) == (upstream.active, upstream.idle)


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
        assert (0, 32) == (upstream.active, upstream.idle)
