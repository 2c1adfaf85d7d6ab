"""Serving the application. Everything, tests included, goes through here.

`handler_cancellation` decides whether a closed browser tab frees the GPU: without it aiohttp lets a handler run on
after its client has left, while aiohttp's own test server cancels it.
"""

import logging

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

READ_BUFFER = 256 << 10


class _Brief(logging.Filter):
    """Makes one line of what is not HTTP: with a traceback for each, anybody who connects could fill the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.msg, record.args = "a client sent no proper HTTP: %s", (" ".join(error.message.split())[:200],)
            record.exc_info = None
        return True


_log = logging.getLogger(f"{__name__}.http")
_log.addFilter(_Brief())


class Runner:
    """A listening application. `port` 0 takes a free one; `address` then says which."""

    def __init__(self, app: web.Application, host: str, port: int) -> None:
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_log,
            handler_cancellation=True,
            auto_decompress=False,
            read_bufsize=READ_BUFFER,
            shutdown_timeout=0,
        )
        self._host = host
        self._port = port

    async def start(self) -> None:
        """Begin to listen. Raises `OSError` if the address is taken."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port, backlog=1024).start()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are listened on."""
        host, port, *_ = self._runner.addresses[0]
        return host, port

    async def stop_listening(self) -> None:
        """Take no new connections; those that are there go on."""
        for site in list(self._runner.sites):
            await site.stop()

    async def close(self) -> None:
        """Close every connection."""
        await self._runner.cleanup()
