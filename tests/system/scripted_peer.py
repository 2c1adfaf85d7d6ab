"""A server on loopback which sends exactly the bytes that a test scripts for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from gateway.core.backend import BackendRequest
from gateway.system.upstream import Timeouts, Upstream

Script = Callable[["Wire"], Awaitable[None]]

GET = BackendRequest(method="GET", target="/v1/models")
POST = BackendRequest(method="POST", target="/v1/chat/completions", body=b'{"model": "m"}')
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Wire:
    """One accepted connection. `nth` counts from 1."""

    def __init__(self, peer: "Peer", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peer = peer
        self.nth = peer.accepted
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """Return the next request, head and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        request = head + await self.reader.readexactly(length)
        self.peer.requests.append(request)
        return request

    async def send(self, data: bytes) -> None:
        """Send bytes and wait until they have left."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, data: bytes = OK) -> None:
        """Take a request and send `data`."""
        await self.request()
        await self.send(data)

    async def until_left(self) -> None:
        """Return when the other side is gone."""
        while await self.reader.read(65536):
            pass

    def reset(self) -> None:
        """Close without a goodbye."""
        self.writer.transport.abort()


class Peer:
    """What the server saw."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.accepted = 0
        self.open = 0
        self.requests: list[bytes] = []
        self.port = 0
        self._changed = asyncio.Condition()
        self._serving: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Run the script for a new connection."""
        self.accepted += 1
        self.open += 1
        task = asyncio.get_running_loop().create_task(self._serve(Wire(self, reader, writer)))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, wire: Wire) -> None:
        try:
            await self._tell()
            await self.script(wire)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side left in the middle
        finally:
            wire.writer.close()
            self.open -= 1
            await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def seen(self, number: int) -> None:
        """Return when that many connections are being served."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.open >= number)

    async def all_left(self) -> None:
        """Return when no connection is being served."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.open == 0)

    async def stop(self) -> None:
        """End every script."""
        for task in tuple(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)


@asynccontextmanager
async def serving(script: Script, host: str = "127.0.0.1") -> AsyncIterator[Peer]:
    """Run `script` for every connection."""
    peer = Peer(script)
    server = await asyncio.start_server(peer.accept, host, 0, backlog=512)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        await peer.stop()


@asynccontextmanager
async def upstream_of(peer: Peer, **settings: object) -> AsyncIterator[Upstream]:
    """An `Upstream` of that server, closed at the end; nothing of it may be left then."""
    timeouts = settings.pop("timeouts", Timeouts())
    upstream = Upstream("127.0.0.1", peer.port, timeouts=timeouts, **settings)  # type: ignore[arg-type]
    try:
        yield upstream
    finally:
        await upstream.close()
        assert (upstream.active, upstream.idle, upstream.connections) == (0, 0, 0)


async def body_of(upstream: Upstream, request: BackendRequest = GET) -> bytes:
    """Perform one exchange and return the body."""
    async with upstream.open(request) as answer:
        return await answer.read(1 << 24)


async def always(wire: Wire) -> None:
    """Answer every request of a connection."""
    while True:
        await wire.answer()


def once(data: bytes) -> Script:
    """Send `data` to the first request, then close."""

    async def script(wire: Wire) -> None:
        await wire.answer(data)

    return script


def kept_open(data: bytes) -> Script:
    """Send `data` to the first request, then wait until the other side leaves."""

    async def script(wire: Wire) -> None:
        await wire.answer(data)
        await wire.until_left()

    return script
