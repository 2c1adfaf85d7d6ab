"""A gateway whose one model, `m`, is a server inside the test: it sends exactly the bytes that the test scripts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.serving import Served, serving
from tests.system.scripted_peer import OK, Script, Wire
from tests.system.scripted_peer import serving as peer_serving

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return a chunk of a body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@asynccontextmanager
async def scripted(
    folder: Path, program: Path, monkeypatch: pytest.MonkeyPatch, script: Script
) -> AsyncIterator[Served]:
    """Run a gateway; `script` goes on after each first request of a connection that is not about health.

    The process that the gateway starts only sleeps; the port that it is told is that of the scripted server.
    """

    async def after_probes(wire: Wire) -> None:
        while (await wire.request()).startswith(b"GET /health "):
            await wire.send(OK)
        await script(wire)

    async with peer_serving(after_probes) as peer:
        monkeypatch.setattr("gateway.backends.spawned.free_port", lambda: peer.port)
        models = {"m": {"cmd": ["sh", "-c", "exec sleep 600", "${PORT}"]}}
        async with serving(folder, models, program=program) as served:
            yield served
