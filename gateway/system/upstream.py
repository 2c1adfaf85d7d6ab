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
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.core.backend import BackendRequest, Header
from gateway.core.errors import BackendBroken, BackendRefused
from gateway.system.answer import StreamedAnswer
from gateway.system.connection import Connection, Owner
from gateway.system.exchange import Limits, StaleConnection, closed_unanswered
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


class Exchange:
    """One exchange as a block: entering it sends the request, leaving it gives up what is not over.

    A class rather than a decorated generator, which costs each request some microseconds more.
    """

    __slots__ = ("_answer", "_request", "_upstream")

    def __init__(self, upstream: "Upstream", request: BackendRequest) -> None:
        self._upstream = upstream
        self._request = request

    async def __aenter__(self) -> StreamedAnswer:
        self._answer = await self._upstream.begin(self._request)
        return self._answer

    async def __aexit__(self, *_error: object) -> None:
        self._answer.leave()
        self._upstream.left()


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

    def open(self, request: BackendRequest) -> "Exchange":
        """Perform one exchange, entered with `async with`. See the module's docstring.

        Entering raises `BadRequest` for a request that cannot be written, `BackendUnreachable`, `BackendSilent` and
        `BackendBroken` for one that got no good head of an answer.
        """
        return Exchange(self, request)

    async def begin(self, request: BackendRequest) -> StreamedAnswer:
        """Send a request and return its answer when the head is there; for `Exchange`, which sees to its end."""
        self._active += 1
        try:
            return await self._begin(request)
        except BaseException:
            self._active -= 1
            raise

    def left(self) -> None:
        """Count an exchange that `begin` has begun as over."""
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
    _OWNER: type[Owner] = Upstream
