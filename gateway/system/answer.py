"""The answer of a model's server: an iterator to its reader, a sink to its connection.

Owns the parts that were received and not yet taken, at most `high_water` bytes and one read more. Knows nothing of
pools and requests; `system.upstream` makes one for each exchange.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Self

from gateway.core.backend import Answer, Consumer, Header
from gateway.core.errors import BackendBroken, GatewayError
from gateway.system.connection import Connection
from gateway.system.exchange import Head, Sink


class StreamedAnswer:
    """An answer whose body is taken as it comes: an `Answer` to its reader, a `Sink` to its connection.

    One reader at a time. More than `high_water` bytes untaken hold the server back until half are taken.
    """

    __slots__ = (
        "_buffered",
        "_connection",
        "_consumer",
        "_error",
        "_head",
        "_high_water",
        "_loop",
        "_over",
        "_parts",
        "_waiter",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Connection, high_water: int) -> None:
        self._loop = loop
        self._connection = connection
        self._high_water = high_water
        self._head: Head | None = None
        self._parts: deque[bytes] = deque()
        self._buffered = 0
        self._waiter: asyncio.Future[None] | None = None
        self._consumer: Consumer | None = None
        self._over = False
        self._error: GatewayError | None = None

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._final_head().status

    @property
    def headers(self) -> Sequence[Header]:
        """The headers as sent, names in lower case, hop-by-hop headers left out."""
        return self._final_head().headers

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body, one item for each read of the socket; a second call goes on where the first is.

        Raises `BackendBroken` if the body breaks off or the exchange was closed, `BackendSilent` if it
        stalls; what came before is yielded before.
        """
        return self

    async def read(self, limit: int) -> bytes:
        """Return the rest of the body. Raises as `chunks` does, and `BackendBroken` beyond `limit` bytes."""
        parts: list[bytes] = []
        size = 0
        async for part in self:
            size += len(part)
            if size > limit:
                raise BackendBroken(
                    f"The answer of {self._connection.peer} is longer than {limit} bytes.",
                    hint="Ask for a streamed answer, or for a shorter one.",
                )
            parts.append(part)
        return b"".join(parts)

    async def relay(self, consumer: Consumer) -> None:
        """Hand the rest of the body to `consumer`, each part in the call in which it came off the socket.

        No task is woken for a part, which is most of what a part costs. While the consumer is full the server is held
        back. Raises as `chunks` does.
        """
        try:
            while True:
                while self._parts:
                    part = self._parts.popleft()
                    self._buffered -= len(part)
                    if not consumer.take(part):
                        await consumer.drained()
                if self._error is not None:
                    raise self._error
                if self._over:
                    return
                self._consumer = consumer
                self._connection.resume()
                await self._something()
                if not self._follows():  # the consumer was full
                    await consumer.drained()
                self._consumer = None
        finally:
            self._consumer = None

    def __aiter__(self) -> Self:
        return self

    # A class of its own rather than an asynchronous generator: one that is left half-way has to be finalised
    # by a task of the event loop, later; this has nothing to finalise.
    async def __anext__(self) -> bytes:
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self._over:
                raise StopAsyncIteration
            await self._something()
        part = self._parts.popleft()
        self._buffered -= len(part)
        if not self._over and 2 * self._buffered <= self._high_water:
            self._connection.resume()
        return part

    async def begun(self) -> Self:
        """Return when the head is there; raise what kept it from coming."""
        while self._head is None:
            if self._error is not None:
                raise self._error
            await self._something()
        return self

    def leave(self) -> None:
        """Give the exchange up, unless it is over."""
        if not self._over and self._error is None:
            self._connection.abort()
        if not self._over or self._parts:  # so that nobody takes what is left of it for a whole body
            self.failed(BackendBroken("The exchange was closed before its body had been read to the end."))
        self._parts.clear()
        self._buffered = 0

    # --- Sink

    def head(self, head: Head, /) -> None:
        """Let `begun` return."""
        self._head = head
        self._wake()

    def data(self, part: bytes, /) -> None:
        """Keep a part for the reader, or let the consumer have it."""
        if self._consumer is not None:
            if not self._consumer.take(part):
                self._consumer = None  # what still comes is kept until the consumer has drained
                self._connection.pause()
                self._wake()
            return
        self._parts.append(part)
        self._buffered += len(part)
        if self._buffered > self._high_water:
            self._connection.pause()
        self._wake()

    def end(self) -> None:
        """Let the reader come to the end. The connection is somebody else's now."""
        self._over = True
        self._wake()

    def failed(self, error: GatewayError, /) -> None:
        """Let the reader fail, after what came before."""
        self._error = error
        self._wake()

    # --- inside

    def _final_head(self) -> Head:
        assert self._head is not None, "`begun` comes first"  # noqa: S101 - a caller's mistake, not a server's
        return self._head

    def _follows(self) -> bool:
        return self._consumer is not None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _something(self) -> None:
        assert self._waiter is None, "one reader at a time"  # noqa: S101 - a caller's mistake, not a server's
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


if TYPE_CHECKING:
    _ANSWER: type[Answer] = StreamedAnswer
    _SINK: type[Sink] = StreamedAnswer
