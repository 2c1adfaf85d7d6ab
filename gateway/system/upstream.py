"""The upstream leg of the request path: pooled HTTP/1.1 exchanges with one model's server.

Owns: the connections to one host and port. Idle ones are kept last in, first out, so that few stay warm and
the rest grow old and go. `Upstream.open` performs one exchange: it returns when the final head of the answer
is there, and leaving its block gives the connection up: back to the pool as soon as the answer was complete,
aborted at once otherwise, which is how a generation is cancelled.

Promises: an answer that a reader does not take holds the server back instead of filling memory; whatever
raises or is cancelled, wherever, no connection is left behind; a request is sent again in one case only
(`StaleConnection`). There is no limit on the number of exchanges at once: admission is decided elsewhere.

Does not: use TLS, decode content, follow redirects. Why not aiohttp's client: it costs several times the CPU.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from gateway.core.backend import Answer, BackendRequest, Consumer, Header
from gateway.core.errors import BackendBroken, BackendRefused, GatewayError
from gateway.system.connection import Connection, Owner
from gateway.system.exchange import Head, Limits, Sink, StaleConnection, closed_unanswered
from gateway.system.http1 import REWRITTEN, field_lines, request_head


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long to wait, in seconds; `None` for ever. There is none on the whole of an answer.

    `connect`: for a connection, name look-up included. `first_byte`: for the head of the answer, from the
    request sent. `between_bytes`: for the next byte of a body, not counted while its reader is the slow one.
    """

    connect: float = 5.0
    first_byte: float | None = None
    between_bytes: float | None = None


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


class Upstream:
    """The connections to one model's server. Satisfies `Owner` to each of them.

    `headers` are added to every request and win over the request's own of that name. `max_idle` connections
    are kept for `idle_seconds` each. `read_high_water` is how many unread bytes of one body hold its server
    back, `head_limit` how many bytes the head of an answer may have. Raises `BadRequest` if host or headers
    cannot stand in a head.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own, by keyword
        self,
        host: str,
        port: int,
        *,
        timeouts: Timeouts,
        headers: Sequence[Header] = (),
        max_idle: int = 32,
        idle_seconds: float = 30.0,
        read_high_water: int = 256 * 1024,
        head_limit: int = 64 * 1024,
    ) -> None:
        self._host = host
        self._port = port
        self._peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._connect_limit = timeouts.connect
        self._limits = Limits(first_byte=timeouts.first_byte, between_bytes=timeouts.between_bytes, head=head_limit)
        self._fixed = field_lines([(b"host", self._peer.encode()), *headers])
        self._dropped = REWRITTEN | {name.lower() for name, _ in headers}
        request_head(BackendRequest(method="GET", target="/"), fixed=self._fixed)  # fails here, not in each request
        self._max_idle = max_idle
        self._idle_seconds = idle_seconds
        self._high_water = read_high_water
        self._active = 0
        self._connections: set[Connection] = set()
        self._idle: deque[Connection] = deque()  # in order of `idle_since`
        self._expiry: asyncio.TimerHandle | None = None
        self._closed = False
        self._emptied = asyncio.Event()

    @property
    def active(self) -> int:
        """How many exchanges are open, those that are still connecting included."""
        return self._active

    @property
    def idle(self) -> int:
        """How many connections wait for a request."""
        return len(self._idle)

    @property
    def connections(self) -> int:
        """How many connections there are, in use or idle."""
        return len(self._connections)

    @asynccontextmanager
    async def open(self, request: BackendRequest) -> AsyncIterator[StreamedAnswer]:
        """Perform one exchange. See the module's docstring.

        Raises `BadRequest` for a request that cannot be written, `BackendUnreachable`, `BackendSilent` and
        `BackendBroken` for one that got no good head of an answer.
        """
        self._active += 1
        try:
            answer = await self._begin(request)
            try:
                yield answer
            finally:
                answer.leave()
        finally:
            self._active -= 1

    async def close(self) -> None:
        """Abort all exchanges, whose readers get `BackendBroken`, and return when every connection is gone.

        Idempotent. What is opened later is refused with `BackendRefused`.
        """
        self._closed = True
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        for connection in tuple(self._connections):
            connection.fail(BackendBroken(f"The gateway closed its connections to {self._peer}."))
        if self._connections:
            await self._emptied.wait()

    # --- Owner

    def released(self, connection: Connection, /) -> None:
        """Keep a connection for the next request."""
        self._idle.append(connection)
        if len(self._idle) > self._max_idle:
            self._idle.popleft().abort()
        elif self._expiry is None:
            self._expire()

    def gone(self, connection: Connection, /) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        with suppress(ValueError):  # it was in use
            self._idle.remove(connection)
        if self._closed and not self._connections:
            self._emptied.set()

    # --- inside

    async def _begin(self, request: BackendRequest) -> StreamedAnswer:
        head = request_head(request, fixed=self._fixed, dropped=self._dropped)
        connection = self._take_idle()
        if connection is not None:
            with suppress(StaleConnection):
                return await self._send(connection, head, request)
        return await self._send(await self._connect(), head, request)

    async def _send(self, connection: Connection, head: bytes, request: BackendRequest) -> StreamedAnswer:
        answer = StreamedAnswer(asyncio.get_running_loop(), connection, self._high_water)
        connection.send(head, request.body, answer, bodyless=request.method == "HEAD")
        try:
            return await answer.begun()
        except BaseException:
            answer.leave()
            raise

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        self._refuse_if_closed()
        deadline = asyncio.timeout(self._connect_limit)
        try:
            async with deadline:
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, self, self._peer, self._limits), self._host, self._port
                )
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be looked up
            why = f"nothing came within {self._connect_limit:g} s" if deadline.expired() else str(error)
            raise BackendRefused(
                f"A model's server was expected at {self._peer}, and connecting to it failed: {why}.",
                hint="See whether it is running and listens on this address and port.",
            ) from error
        # Counted here and not in connection_made(): where connecting is cancelled after that call, uvloop 0.23 closes
        # the transport without a call of connection_lost().
        if connection.lost:
            raise closed_unanswered(self._peer, "", stale=False)
        self._connections.add(connection)
        if self._closed:
            connection.abort()
            self._refuse_if_closed()
        return connection

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise BackendRefused(
                f"The gateway has closed its connections to {self._peer}.",
                hint="The model is being stopped: ask again, and it is started anew.",
            )

    def _expire(self) -> None:
        """Close the connections that were idle for too long; come again when the next one will have been."""
        self._expiry = None
        loop = asyncio.get_running_loop()
        while self._idle:
            due = self._idle[0].idle_since + self._idle_seconds
            if loop.time() < due:
                self._expiry = loop.call_at(due, self._expire)
                return
            self._idle.popleft().abort()


if TYPE_CHECKING:
    _ANSWER: type[Answer] = StreamedAnswer
    _SINK: type[Sink] = StreamedAnswer
    _OWNER: type[Owner] = Upstream
