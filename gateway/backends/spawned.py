"""What all backends have in common that are a local process answering HTTP on a port of its own.

A kind says how to launch it (`Kind.launch`) and how to tell that it is ready (`Kind.judge`); everything else is here:
a free port, the probing, the log, the end. Nothing is left behind by a start that fails or is cancelled.
"""

import asyncio
import logging
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from gateway.core.backend import Answer, BackendRequest, Exit
from gateway.core.errors import GatewayError, StartFailed
from gateway.core.slot import SlotSpec
from gateway.system.ports import LOOPBACK, free_port
from gateway.system.process import Launcher, LaunchSpec, Process
from gateway.system.upstream import Timeouts, Upstream

PORT_TRIES = 3
PROBE_TIMEOUTS = Timeouts(connect=1.0, first_byte=5.0, between_bytes=5.0)
PROBE_BODY = 1 << 20
IDLE_CONNECTIONS = 32
# A small model is ready after 30 ms, a large one after a minute: look often at first, then every 15 ms, which costs
# a loading server about half a percent of one core, and soon after each line of its log, the last of which before it
# is ready says so.
FIRST_PROBE, LONGEST_PROBE_GAP, PROBE_GROWTH = 0.002, 0.015, 1.25


class Judgement(Enum):
    """What an answer to a probe says."""

    READY = auto()
    LOADING = auto()
    STRANGER = auto()


class Kind(Protocol):
    """What a kind of spawned backend knows about its server."""

    @property
    def served_name(self) -> bytes | None:
        """See `core.backend.Backend`."""

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Headers for every request, such as the child's own key."""

    @property
    def probe(self) -> str:
        """The path to ask until it is ready."""

    def launch(self, port: int) -> LaunchSpec:
        """Return how to launch it on this port of loopback."""

    def judge(self, status: int, body: bytes) -> Judgement:
        """Judge the answer to a probe."""


@dataclass(frozen=True, slots=True)
class _Up:
    process: Process
    upstream: Upstream
    port: int


class Spawned:
    """A backend in a process of its own. `timeouts` are those of the request path."""

    def __init__(self, spec: SlotSpec, kind: Kind, launcher: Launcher, timeouts: Timeouts) -> None:
        self._spec = spec
        self._kind = kind
        self._launcher = launcher
        self._timeouts = timeouts
        self._up: _Up | None = None
        self._line = asyncio.Event()
        self._log = logging.getLogger(f"{__name__}.{spec.id}")

    @property
    def served_name(self) -> bytes | None:
        """See `core.backend.Backend`."""
        return self._kind.served_name

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._up is None else self._up.process.pid

    @property
    def address(self) -> str | None:
        """Where it answers, for people."""
        return None if self._up is None else f"http://{LOOPBACK}:{self._up.port}"

    async def start(self) -> None:
        """Launch it and return when it can serve. Raises `StartFailed`; then, and when cancelled, nothing is left."""
        for last in (False,) * (PORT_TRIES - 1) + (True,):
            port = free_port()
            try:
                process = await self._launcher.launch(self._kind.launch(port), self._heard)
            except OSError as error:
                raise StartFailed(f"The server of {self._spec.id} cannot be run: {error}") from error
            up = _Up(process, self._connect(port), port)
            try:
                stranger = await self._until_ready(up)
            except BaseException:
                await self._discard(up)
                raise
            if not stranger:
                self._up = up
                return
            await self._discard(up)
            if last:
                raise StartFailed(
                    f"{PORT_TRIES} free ports in a row were taken by others before {self._spec.id} was up."
                )

    def _connect(self, port: int) -> Upstream:
        """Return the way to it; as many connections are kept as it may be asked at once."""
        most = max(IDLE_CONNECTIONS, self._spec.max_concurrent)
        return Upstream(LOOPBACK, port, timeouts=self._timeouts, headers=self._kind.headers, max_idle=most)

    async def stop(self, grace: float) -> None:
        """End it. Our connections go first: llama-server does not exit while it answers one (seen in build 11669)."""
        up = self._up
        if up is None:
            return
        await up.upstream.close()
        await up.process.stop(grace)
        self._up = None  # not before: a second caller waits as well

    async def wait_exit(self) -> Exit:
        """Return when it has died by itself."""
        if self._up is None:
            return Exit(code=None)
        return await self._up.process.wait()

    def open(self, request: BackendRequest) -> AbstractAsyncContextManager[Answer]:
        """Perform one exchange."""
        if self._up is None:
            raise StartFailed(f"{self._spec.id} is not running.")
        return self._up.upstream.open(request)

    async def _until_ready(self, up: _Up) -> bool:
        """Return `False` when it can serve, `True` when somebody else holds its port; raise if it fails."""
        probes = Upstream(LOOPBACK, up.port, timeouts=PROBE_TIMEOUTS, headers=self._kind.headers)
        try:
            async with asyncio.timeout(self._spec.start_timeout):
                return await self._probe_until_known(up, probes)
        except TimeoutError:
            log = up.process.log_tail()
            raise StartFailed(
                f"{self._spec.id} was not ready within {self._spec.start_timeout:g} s. {_last_lines(log)}",
                hint="A longer `timeout` for this model would give it more time.",
            ) from None
        finally:
            await probes.close()

    async def _probe_until_known(self, up: _Up, probes: Upstream) -> bool:
        gap, stranger = FIRST_PROBE, False
        exited = asyncio.ensure_future(up.process.wait_with_log())
        try:
            while True:
                await self._something_new(exited, gap)
                if exited.done():
                    if stranger:
                        return True
                    end = exited.result()
                    raise StartFailed(f"The server of {self._spec.id} {end} while it started. {_last_lines(end.log)}")
                self._line.clear()
                judgement = await self._probe(probes)
                if judgement is Judgement.READY and up.process.alive:
                    return False
                stranger = judgement is Judgement.STRANGER
                gap = min(gap * PROBE_GROWTH, LONGEST_PROBE_GAP)
                await asyncio.sleep(FIRST_PROBE)  # however much it has to say
        finally:
            exited.cancel()

    async def _something_new(self, exited: "asyncio.Task[Exit]", patience: float) -> None:
        """Return when it has exited or written to its log, or after `patience` seconds."""
        line = asyncio.ensure_future(self._line.wait())
        try:
            await asyncio.wait((exited, line), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            line.cancel()

    def _heard(self, line: str) -> None:
        """Take a line of its log: a server that says something may have become ready."""
        self._log.debug("%s", line)
        self._line.set()

    async def _probe(self, probes: Upstream) -> Judgement:
        with suppress(GatewayError):
            async with probes.open(BackendRequest(method="GET", target=self._kind.probe)) as answer:
                return self._kind.judge(answer.status, await answer.read(PROBE_BODY))
        return Judgement.LOADING

    async def _discard(self, up: _Up) -> None:
        await up.upstream.close()
        up.process.kill()
        await up.process.wait()


def _last_lines(log: tuple[str, ...]) -> str:
    if not log:
        return "It wrote nothing to its log."
    return "The last lines of its log:\n" + "\n".join(log[-8:])
