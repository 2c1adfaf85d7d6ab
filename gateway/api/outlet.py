"""The client's side of one exchange: nothing is sent until something must be.

Until the first byte a failure still has a proper status. From then on it is one error event in the caller's dialect
and a broken end: the connection is closed without the end of the body, so that no client takes it for a whole answer.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from aiohttp import HttpVersion11, hdrs, web

from gateway.api.keys import FACTS
from gateway.core.backend import Answer
from gateway.wire.dialect import Dialect
from gateway.wire.transducer import Transducer, feed

EVENT_STREAM = "text/event-stream"


class Start(Protocol):
    """How background tasks are started: `engine.tasks.Tasks.start`."""

    def __call__(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Start `work` as a task called `name`."""


class _Chunks:
    """Writes pieces as HTTP chunks straight to the client's transport.

    Only once the head and a first piece have left through the response, which then knows that its body is chunked and
    has nothing in its own buffers.
    """

    __slots__ = ("_machines", "_protocol", "_transport", "_writer")

    def __init__(self, request: web.Request, transport: asyncio.Transport, machines: Sequence[Transducer]) -> None:
        self._machines = machines
        self._protocol = request.protocol
        self._writer = request.writer
        self._transport = transport

    def take(self, part: bytes) -> bool:
        """Send a piece; false while the client reads more slowly than we write."""
        data = feed(self._machines, part)
        if data and not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return not self._protocol.writing_paused

    async def drained(self) -> None:
        """Return when the client has read on."""
        await self._writer.drain()


class Outlet:
    """Sends one answer. While a stream has not begun, `beat` keeps its client from giving up; `beats` counts."""

    def __init__(self, request: web.Request, dialect: Dialect) -> None:
        self._request = request
        self._dialect = dialect
        self._response: web.StreamResponse | None = None
        self._waking: asyncio.TimerHandle | None = None
        self._heart: asyncio.Task[None] | None = None
        self.beats = 0

    @property
    def begun(self) -> bool:
        """Whether a status has been sent."""
        return self._response is not None

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head, unless signs of life have sent one already."""
        await self.hush()
        if self._response is None:
            await self._prepare(status, headers)

    async def write(self, data: bytes) -> None:
        """Send a piece; waiting for the socket here is the back-pressure. The first piece ends the signs of life."""
        if self._waking is not None:
            await self.hush()
        assert self._response is not None  # noqa: S101 - `begin` comes first
        await self._response.write(data)

    async def follow(self, answer: Answer, machines: Sequence[Transducer]) -> None:
        """Send the rest of an answer through `machines`, without waking anything for a piece."""
        assert self._response is not None  # noqa: S101 - `begin` comes first
        transport = self._request.transport
        if transport is None or self._request.version < HttpVersion11:  # gone, or without chunks
            async for chunk in answer.chunks():
                if data := feed(machines, chunk):
                    await self.write(data)
            return
        await answer.relay(_Chunks(self._request, transport, machines))

    async def end(self) -> web.StreamResponse:
        """Send the end of the body."""
        assert self._response is not None  # noqa: S101 - `begin` comes first
        await self._response.write_eof()
        return self._response

    async def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> web.StreamResponse:
        """Return an answer that is complete."""
        await self.hush()
        return web.Response(status=status, headers=headers, body=body)

    async def fail(self, body: Mapping[str, Any]) -> web.StreamResponse:
        """Say what broke off, given as the body of an error, and cut the connection. Only once begun: before, raise."""
        await self.hush()
        assert self._response is not None  # noqa: S101 - the caller has looked at `begun`
        with suppress(ConnectionError):
            if self._response.content_type == EVENT_STREAM:
                # Blank lines first: what came before may have broken off within a line.
                await self._response.write(b"\n\n" + self._dialect.last_event(body, self._request[FACTS].request_id))
        if self._request.transport is not None:
            self._request.transport.close()
        return self._response

    # -- signs of life --

    def beat(self, model: str, gap: float, note: Callable[[int], bytes], start: Start) -> None:
        """Begin the stream after `gap` seconds of silence, and give a sign of life every `gap` seconds from then.

        `note` is asked for more to say at each; `start` starts the task, if it comes to that.
        """

        def wake() -> None:
            self._heart = start(self._beat(model, gap, note), name="keep-alive")

        if gap <= 0:
            return
        self._waking = asyncio.get_running_loop().call_later(gap, wake)

    async def hush(self) -> None:
        """End the signs of life; a piece that is being written is written."""
        if self._waking is None:
            return
        self._waking.cancel()
        self._waking = None
        heart, self._heart = self._heart, None
        if heart is not None:
            heart.cancel()
            await asyncio.wait([heart])

    async def _beat(self, model: str, gap: float, note: Callable[[int], bytes]) -> None:
        request_id = self._request[FACTS].request_id
        with suppress(ConnectionError):  # the client left; its handler is being cancelled
            while True:
                if self._response is None:
                    await self._prepare(200, {hdrs.CONTENT_TYPE: EVENT_STREAM})
                assert self._response is not None  # noqa: S101 - prepared above
                sign = self._dialect.keep_alive(model, request_id, self.beats) + note(self.beats)
                self.beats += 1  # before the write, which may be cancelled when the sign is on its way already
                await self._response.write(sign)
                await asyncio.sleep(gap)

    async def _prepare(self, status: int, headers: Mapping[str, str]) -> None:
        response = web.StreamResponse(status=status, headers=headers)
        if headers.get(hdrs.CONTENT_TYPE, "").startswith(EVENT_STREAM):
            response.headers.setdefault(hdrs.CACHE_CONTROL, "no-cache")
            response.headers["X-Accel-Buffering"] = "no"  # nginx in front would gather the chunks
        self._response = response
        await response.prepare(self._request)
