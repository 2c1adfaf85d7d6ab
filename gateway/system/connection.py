"""One HTTP/1.1 connection to a model's server: sends a request, reads the answer strictly, tells a sink.

Owns: the state of one connection. A `Connection` performs one exchange at a time and reports it to a `Sink`:
the head, the body part by part as it comes off the socket, and then exactly one of end and failure. Framing
is parsed by llhttp in its strict mode; what llhttp lets pass and a client of model servers has no use for is
refused here: protocol switches, transfer codings other than `chunked`, other HTTP versions.

Promises: the sink is never called from inside the parser, nor after its end or failure; a broken body never
ends cleanly; where the bytes were cut on their way changes neither what a sink is told nor in which order; a
silent peer is noticed by one timer per exchange, never by one per chunk.

Does not: decide which connection serves a request, retry, buffer bodies (that is `gateway.system.upstream`),
write heads (`gateway.system.http1`), decode content codings, or use TLS. Line ends between two messages are
skipped, as RFC 9112, section 2.2 has it.

State of a connection: IDLE -> HEAD -> FRAMED or UNTIL_CLOSE -> IDLE or gone. Everything runs on the event
loop's thread, in callbacks; nothing here waits.
"""

import asyncio
import socket
from enum import Enum, auto
from typing import Protocol, cast

import httptools

from gateway.core.backend import Header
from gateway.core.errors import GatewayError
from gateway.system.exchange import (
    STALE_WITHIN,
    Head,
    Limits,
    Sink,
    broken_off,
    closed_unanswered,
    malformed,
    silent,
)
from gateway.system.http1 import HOP_BY_HOP, end_to_end

COPY_LIMIT = 64 * 1024
"""Up to this many bytes a body is joined with its head into one write; a longer one is not copied again."""


class Owner(Protocol):
    """Who keeps the connections."""

    def released(self, connection: "Connection", /) -> None:
        """Its exchange ended well and it may serve another."""

    def gone(self, connection: "Connection", /) -> None:
        """It is closed."""


class _Phase(Enum):
    IDLE = auto()
    HEAD = auto()
    FRAMED = auto()  # chunked, with a Content-Length, or without a body
    UNTIL_CLOSE = auto()


class _FaultError(Exception):
    """Leaves a parser callback, which makes llhttp stop at once."""


class Connection(asyncio.Protocol):
    """One connection: at most one exchange at a time, begun by `send`, given up by `abort`.

    `peer` is how messages name the other side, `lost` is true from the moment when the transport is gone, and
    `idle_since` is the loop's time at the end of the last exchange.
    """

    __slots__ = (
        "_body_bytes",
        "_bodyless",
        "_complete",
        "_dry_bytes",
        "_fields",
        "_head",
        "_head_bytes",
        "_heard",
        "_keep_alive",
        "_limits",
        "_loop",
        "_owner",
        "_parser",
        "_parts",
        "_paused",
        "_phase",
        "_received",
        "_sink",
        "_transport",
        "_uses",
        "_watch",
        "idle_since",
        "lost",
        "peer",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Owner, peer: str, limits: Limits) -> None:
        self._loop = loop
        self._owner = owner
        self._limits = limits
        self.peer = peer
        self.idle_since = 0.0
        self.lost = False
        self._uses = 0
        self._sink: Sink | None = None
        self._phase = _Phase.IDLE
        self._paused = False
        self._watch: asyncio.TimerHandle | None = None
        self._parts: list[bytes] = []

    # --- what the owner and the sink do

    @property
    def usable(self) -> bool:
        """Whether a request may be sent on it now, as far as anyone on this side knows."""
        return self._sink is None and not self._transport.is_closing()

    def send(self, head: bytes, body: bytes, sink: Sink, *, bodyless: bool = False) -> None:
        """Begin an exchange; `bodyless` if the answer has no body whatever its head says (HEAD)."""
        assert self._sink is None, "one exchange at a time"  # noqa: S101 - a bug here would mix two answers
        self._sink = sink
        self._phase = _Phase.HEAD
        self._bodyless = bodyless
        self._complete = self._keep_alive = self._received = False
        self._fields: list[Header] = []
        self._head: Head | None = None
        self._head_bytes = self._body_bytes = self._dry_bytes = 0
        self._uses += 1
        if len(body) <= COPY_LIMIT:
            self._transport.write(head + body)
        else:
            # Not writelines(): before Python 3.12 asyncio joins, and so copies, what it is given.
            self._transport.write(head)
            self._transport.write(body)
        self._heard = self._loop.time()
        self._watch_for(self._limits.first_byte)

    def pause(self) -> None:
        """Hold the peer back: read nothing from the socket until `resume`. Idempotent."""
        if not self._paused and self._sink is not None:
            self._paused = True
            self._unwatch()
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again. Idempotent."""
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
            if self._sink is not None:
                self._heard = self._loop.time()
                self._watch_for(self._limits.between_bytes)

    def abort(self) -> None:
        """Close at once and tell the sink nothing more. This is what cancels a generation. Idempotent."""
        self._detach()
        self._transport.abort()

    def fail(self, error: GatewayError) -> None:
        """Close at once and tell the sink why, if there is one."""
        sink = self._detach()
        self._transport.abort()
        if sink is not None:
            sink.failed(error)

    # --- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)
        wire = transport.get_extra_info("socket")
        if wire is not None:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        """Parse what came and tell the sink."""
        sink = self._sink
        if sink is None:
            self.abort()  # nobody asked: it would be taken for the answer to the next request
            return
        self._received = True
        fault: Exception | None = None
        in_head = self._phase is _Phase.HEAD
        try:
            self._parse(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, _FaultError) as error:
            fault = error
        if in_head and self._head is not None:
            sink.head(self._head)
        if not in_head:
            self._dry_bytes += len(data)
        if self._parts:
            self._hand_over(sink)
        if self._sink is not sink:
            return  # it was given up from inside a call
        if self._complete:
            self._finish(reusable=self._keep_alive and fault is None)
        elif fault is not None:
            self._reject(fault)
        elif self._phase is not _Phase.HEAD:
            self._listen(just_begun=in_head)

    def eof_received(self) -> None:
        """The peer sends no more; it is not worth keeping for writing."""
        self._ended(None)
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, for whatever reason."""
        self.lost = True
        self._ended(exc)
        self._owner.gone(self)
        del self._parser  # it refers to this object: without the cycle both go at once

    def resume_writing(self) -> None:
        """A long request has left but for its last bytes: the wait for the answer begins now."""
        if self._phase is _Phase.HEAD:
            self._heard = self._loop.time()

    # --- what the parser calls

    def on_message_begin(self) -> None:
        """Stop at bytes that follow the end of the answer."""
        if self._complete:
            raise _FaultError("bytes after the end of the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; those after the body (trailers) are ignored."""
        if self._phase is _Phase.HEAD:
            self._fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Take the final head; skip the interim ones (1xx)."""
        if self._phase is not _Phase.HEAD:
            return
        status = self._parser.get_status_code()
        if status == 101:
            raise _FaultError("it switched protocols")
        if not 100 <= status <= 599:
            raise _FaultError(f"status {status}")
        if status < 200:
            self._fields = []
            return
        self._phase = self._framing(status)
        self._head = Head(status=status, headers=end_to_end(self._fields, HOP_BY_HOP))
        self._complete = self._bodyless  # and not kept: the parser waits for the body that never comes

    def on_body(self, part: bytes) -> None:
        """Keep a part until the parser returns."""
        if not self._complete:
            self._parts.append(part)

    def on_message_complete(self) -> None:
        """Note the end. `should_keep_alive` has an answer here only, afterwards it is always false."""
        if self._phase is not _Phase.HEAD and not self._complete:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()

    # --- inside

    def _parse(self, data: bytes) -> None:
        """Feed the parser; no more of a head than its limit, which so holds wherever the bytes are cut."""
        if self._phase is not _Phase.HEAD:
            self._parser.feed_data(data)
            return
        room = self._limits.head - self._head_bytes
        self._parser.feed_data(data[:room])
        if self._head is not None:
            if len(data) > room:
                self._parser.feed_data(data[room:])
            return
        self._head_bytes += len(data)
        if self._head_bytes >= self._limits.head:
            raise _FaultError(f"its head is longer than {self._limits.head} bytes")

    def _framing(self, status: int) -> _Phase:
        """Return how the body ends (RFC 9112, section 6.3)."""
        version = self._parser.get_http_version()
        if version not in {"1.1", "1.0"}:
            raise _FaultError(f"HTTP/{version} where HTTP/1.1 was expected")
        codings = [value.lower() for name, value in self._fields if name == b"transfer-encoding"]
        if codings and (codings != [b"chunked"] or version == "1.0"):
            raise _FaultError("a transfer coding other than `chunked`")
        if codings or status in {204, 304} or any(name == b"content-length" for name, _ in self._fields):
            return _Phase.FRAMED
        return _Phase.UNTIL_CLOSE

    def _hand_over(self, sink: Sink) -> None:
        parts = self._parts
        part = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._body_bytes += len(part)
        self._dry_bytes = 0
        sink.data(part)

    def _listen(self, *, just_begun: bool) -> None:
        """Wait for more of the body."""
        if self._dry_bytes > self._limits.head:
            # Trailers and chunk extensions without an end: llhttp would take them in for ever.
            self._reject(f"{self._dry_bytes} bytes without any of the body among them")
            return
        self._heard = self._loop.time()
        if just_begun:
            self._watch_for(self._limits.between_bytes)

    def _finish(self, *, reusable: bool) -> None:
        """End the exchange; keep the connection if request and answer are both through."""
        if reusable and self._transport.get_write_buffer_size() == 0 and not self._transport.is_closing():
            self.resume()
            sink = self._detach()
            self.idle_since = self._loop.time()
            self._owner.released(self)
        else:
            sink = self._detach()
            self._transport.abort()
        if sink is not None:
            sink.end()

    def _ended(self, exc: Exception | None) -> None:
        """Tell the sink that the peer is gone: the end of a body that only this ends, else a failure."""
        if self._sink is None:
            return
        if self._phase is _Phase.UNTIL_CLOSE and exc is None:
            self._finish(reusable=False)
            return
        why = f" ({exc})" if exc is not None else ""
        if not self._received:
            stale = self._uses > 1 and self._loop.time() - self._heard <= STALE_WITHIN
            self.fail(closed_unanswered(self.peer, why, stale=stale))
        elif self._head is None:
            self.fail(broken_off(self.peer, why, "head"))
        else:
            self.fail(broken_off(self.peer, why, f"body, after {self._body_bytes} bytes of it"))

    def _reject(self, fault: Exception | str) -> None:
        """Fail the exchange over what was received."""
        # What a callback raised comes wrapped, and says more than its wrapping.
        reason = fault.__context__ if isinstance(fault, httptools.HttpParserCallbackError) else fault
        error = malformed(self.peer, reason)
        error.__cause__ = fault if isinstance(fault, Exception) else None
        self.fail(error)

    def _detach(self) -> Sink | None:
        """Leave the exchange, if there is one."""
        sink = self._sink
        self._sink = None
        self._phase = _Phase.IDLE
        self._unwatch()
        self._parts.clear()
        return sink

    # --- silence

    def _watch_for(self, limit: float | None) -> None:
        """Have `_check` called when `limit` seconds have passed since something was heard."""
        self._unwatch()
        if limit is not None and not self._paused:
            self._watch = self._loop.call_at(self._heard + limit, self._check, limit)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _check(self, limit: float) -> None:
        """Fail the exchange if it was silent; otherwise look again when it next could have been."""
        if self._loop.time() < self._heard + limit:
            self._watch_for(limit)
            return
        where = "where its answer was expected" if self._head is None else "in the middle of its answer"
        self.fail(silent(self.peer, limit, where))
