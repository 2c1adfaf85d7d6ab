"""Bodies that are handed to a consumer in the call in which they come off the socket."""

import asyncio

import pytest

from gateway.core.errors import BackendBroken
from gateway.system.upstream import Upstream
from tests.system.scripted_peer import GET, Wire, kept_open, once, serving, upstream_of

pytestmark = pytest.mark.every_loop

STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Consumer:
    """Takes parts; is full after each `capacity` of them, until it is told to drain."""

    def __init__(self, capacity: int | None = None) -> None:
        self.parts: list[bytes] = []
        self.took = asyncio.Event()
        self.may_drain = asyncio.Event()
        self.drains = 0
        self._capacity = capacity

    def take(self, part: bytes) -> bool:
        """Take a part."""
        self.parts.append(part)
        self.took.set()
        return self._capacity is None or len(self.parts) % self._capacity != 0

    async def drained(self) -> None:
        """Wait until told."""
        self.drains += 1
        await self.may_drain.wait()


async def test_a_consumer_gets_the_whole_body_and_the_connection_is_kept() -> None:
    answer = STREAM + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    async with serving(once(answer)) as peer, upstream_of(peer) as upstream:
        consumer = Consumer()
        async with upstream.open(GET) as got:
            await got.relay(consumer)
        assert b"".join(consumer.parts) == b"abcde"
        assert (upstream.active, upstream.idle) == (0, 1)


async def test_parts_that_came_before_the_consumer_come_first() -> None:
    async with serving(once(STREAM + b"3\r\nabc\r\n0\r\n\r\n")) as peer, upstream_of(peer) as upstream:
        async with upstream.open(GET) as got:
            first = await anext(got.chunks())
            consumer = Consumer()
            await got.relay(consumer)
        assert (first, consumer.parts) == (b"abc", [])


async def test_a_full_consumer_holds_the_server_back_and_loses_nothing() -> None:
    part, parts = b"x" * 65536, 400
    sent = 0

    async def script(wire: Wire) -> None:
        nonlocal sent
        await wire.answer(STREAM)
        for _ in range(parts):
            await wire.send(b"10000\r\n%b\r\n" % part)
            sent += 1
        await wire.send(b"0\r\n\r\n")

    async with serving(script) as peer, upstream_of(peer) as upstream, upstream.open(GET) as got:
        consumer = Consumer(capacity=1)
        relaying = asyncio.ensure_future(got.relay(consumer))
        await consumer.took.wait()
        for _ in range(200):  # as many turns as a server that is not held back would need
            await asyncio.sleep(0)
        assert sent < parts
        consumer.may_drain.set()
        await relaying
        assert sum(map(len, consumer.parts)) == len(part) * parts
        assert consumer.drains


async def test_a_body_that_breaks_off_fails_after_what_came() -> None:
    async with serving(once(STREAM + b"3\r\nabc\r\n")) as peer, upstream_of(peer) as upstream:
        consumer = Consumer()
        async with upstream.open(GET) as got:
            with pytest.raises(BackendBroken):
                await got.relay(consumer)
        assert b"".join(consumer.parts) == b"abc"


async def test_cancelling_leaves_the_consumer_alone_and_aborts_the_exchange() -> None:
    async with serving(kept_open(STREAM + b"3\r\nabc\r\n")) as peer, upstream_of(peer) as upstream:
        consumer = Consumer()

        async def relay() -> None:
            async with upstream.open(GET) as got:
                await got.relay(consumer)

        relaying = asyncio.ensure_future(relay())
        await consumer.took.wait()
        relaying.cancel()
        await asyncio.wait([relaying])
        assert _counts(upstream) == (0, 0)
        await peer.all_left()


def _counts(upstream: Upstream) -> tuple[int, int]:
    return upstream.active, upstream.idle
