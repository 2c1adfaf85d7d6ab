"""Answers as they came, to the byte: every chunk of a stream, and whether its end was among them.

The parser is httptools: aiohttp's client forgets what it had not handed out yet when a body breaks off.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httptools


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One answer. `whole`: the end of its body came; `pieces`: the body, chunk by chunk; headers in Title-Case."""

    status: int
    headers: Mapping[str, str]
    pieces: tuple[bytes, ...]
    whole: bool

    @property
    def body(self) -> bytes:
        """The body."""
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the error that it is, or that ends it; empty if there is none."""
        if not self.headers["Content-Type"].startswith("text/event-stream"):
            return str(self.json.get("error", {}).get("code", ""))
        return str((self.events[-1].get("error") or {}).get("code", "")) if self.events else ""

    @property
    def events(self) -> list[dict[str, Any]]:
        """The data of every event that is JSON."""
        found = []
        for _, data in self.named_events:
            with suppress(ValueError):
                found.append(json.loads(data))
        return found

    @property
    def named_events(self) -> list[tuple[str, str]]:
        """Name (`message` if it has none) and data of every event; comments are left out."""
        return list(self._parsed())

    @property
    def comments(self) -> int:
        """How many comments there are."""
        return sum(line.startswith(b":") for line in self.body.split(b"\n"))

    @property
    def text(self) -> str:
        """What a chat answer says."""
        deltas = [event["choices"][0]["delta"] for event in self.events if event.get("choices")]
        return "".join(delta.get("content") or "" for delta in deltas)

    def _parsed(self) -> Iterator[tuple[str, str]]:
        for block in self.body.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and line[0] != ":")
            if "data" in fields:
                yield fields.get("event", "message"), fields["data"]


class _Parser:
    """Collects what httptools finds in an answer."""

    def __init__(self, on_piece: Callable[[], None]) -> None:
        self._on_piece = on_piece
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.whole = False
        self._piece = b""
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take bytes off the connection."""
        self._parser.feed_data(data)

    def taken(self) -> Taken:
        """Return the answer as far as it came."""
        self.on_chunk_complete()
        status = self._parser.get_status_code()
        return Taken(status=status, headers=self.headers, pieces=tuple(self.pieces), whole=self.whole)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self.headers[name.decode().title()] = value.decode()

    def on_body(self, part: bytes) -> None:
        """Keep a part of a piece."""
        self._piece += part

    def on_chunk_complete(self) -> None:
        """Keep a piece."""
        if self._piece:
            self.pieces.append(self._piece)
            self._piece = b""
            self._on_piece()

    def on_message_complete(self) -> None:
        """Note that the body has ended as it should."""
        self.whole = True


async def take(url: str, path: str, body: Any, *headers: str, on_piece: Callable[[], None] = lambda: None) -> Taken:
    """POST `body` over a connection of its own; return the answer when it has ended or broken off.

    `on_piece` is called at each chunk.
    """
    data = json.dumps(body).encode()
    own = ("Host: localhost", "Connection: close", "Content-Type: application/json", f"Content-Length: {len(data)}")
    parser = _Parser(on_piece)
    async with connection(url) as (reader, writer):
        writer.write("\r\n".join((f"POST {path} HTTP/1.1", *own, *headers, "", "")).encode() + data)
        while not parser.whole and (data := await reader.read(65536)):
            parser.feed(data)
    return parser.taken()


async def raw(url: str, *parts: bytes, until: bytes = b"") -> bytes:
    """Send bytes over a connection of its own; return what comes until `until`, or the peer closes."""
    async with connection(url) as (reader, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await (reader.readuntil(until) if until else reader.read())


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to a gateway, and close the connection at the end of this block."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
