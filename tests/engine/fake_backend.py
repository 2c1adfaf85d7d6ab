"""Backends of the tests: they start, fail, exit and stop when told, and notice what a pool must never do."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager

from gateway.core.backend import Answer, BackendRequest, Exit
from gateway.core.errors import GatewayError
from gateway.core.slot import Command, SlotId, SlotSpec


def slot(name: str, **rules: float | bool | None) -> SlotSpec:
    """A slot with the rules of life that are given."""
    return SlotSpec(launch=Command(argv=(name,)), **rules)  # type: ignore[arg-type] # by name, as the test wrote them


class FakeBackend:
    """Keeps to the contract of `core.backend`.

    `may_start`: a result lets a blocked `start` return, an exception makes it fail. `may_stop`: a result lets a
    blocked `stop` return. `exited`: a result is the end of the process.
    """

    served_name: bytes | None = None

    def __init__(self, spec: SlotSpec, world: "World") -> None:
        loop = asyncio.get_running_loop()
        self.spec = spec
        self.serving = 0
        self.may_start: asyncio.Future[None] = loop.create_future()
        self.may_stop: asyncio.Future[None] = loop.create_future()
        self.exited: asyncio.Future[Exit] = loop.create_future()
        self.starting = asyncio.Event()
        self.stopping = asyncio.Event()
        self._world = world

    @property
    def address(self) -> str | None:
        """Where it would answer."""
        return f"http://{self.spec.id}" if self in self._world.up else None

    async def start(self) -> None:
        """Return when it may."""
        self._world.begin(self)
        self.starting.set()
        try:
            await self._world.pause()
            await asyncio.shield(self.may_start)
        except BaseException:
            self._world.end(self)
            raise

    async def stop(self, grace: float) -> None:
        """Return when it may; the process is gone then, for every caller."""
        del grace
        self.stopping.set()
        if self in self._world.up and self.serving and not self.exited.done():
            self._world.misdeeds.append(f"{self.spec.id} was stopped while it served {self.serving}")
        if not self.exited.done():
            await self._world.pause()
            await asyncio.shield(self.may_stop)
        self.exit(Exit(code=-15))
        self._world.end(self)

    async def wait_exit(self) -> Exit:
        """Return when the process has ended."""
        return await asyncio.shield(self.exited)

    def open(self, request: BackendRequest) -> AbstractAsyncContextManager[Answer]:
        """No test of the pool asks anything."""
        raise NotImplementedError(request)

    def exit(self, end: Exit) -> None:
        """End the process."""
        if not self.exited.done():
            self.exited.set_result(end)

    def release(self) -> None:
        """Let it start and stop without being told."""
        for future in (self.may_start, self.may_stop):
            if not future.done():
                future.set_result(None)

    @contextmanager
    def serve(self) -> Iterator[None]:
        """Be at work."""
        if self not in self._world.up:
            self._world.misdeeds.append(f"{self.spec.id} was used while it was not up")
        self.serving += 1
        try:
            yield
        finally:
            self.serving -= 1


class World:
    """All backends of a test. `hold`: they start and stop only when told. `turns`: how long each step takes."""

    def __init__(self, *, hold: bool = False, turns: Callable[[], int] = lambda: 0) -> None:
        self.hold = hold
        self.made: list[FakeBackend] = []
        self.arrivals: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self.up: set[FakeBackend] = set()
        self.starts: Counter[SlotId] = Counter()
        self.most_up = 0
        self.misdeeds: list[str] = []
        self.failures: dict[SlotId, GatewayError | Exception] = {}
        self._turns = turns

    def make(self, spec: SlotSpec) -> FakeBackend:
        """What the pool calls."""
        backend = FakeBackend(spec, self)
        self.arrivals[len(self.made)].set()
        self.made.append(backend)
        if spec.id in self.failures:
            backend.may_start.set_exception(self.failures[spec.id])
            backend.may_start.exception()  # it was looked at, also if the start is cancelled
        if not self.hold:
            backend.release()
        return backend

    def begin(self, backend: FakeBackend) -> None:
        """Count a start."""
        self.starts[backend.spec.id] += 1
        if any(other.spec.id == backend.spec.id and not other.exited.done() for other in self.up):
            self.misdeeds.append(f"{backend.spec.id} was started twice")
        self.up.add(backend)
        self.most_up = max(self.most_up, sum(not other.exited.done() for other in self.up))

    def end(self, backend: FakeBackend) -> None:
        """Count an end."""
        self.up.discard(backend)

    async def pause(self) -> None:
        """Let some turns of the event loop pass."""
        for _ in range(self._turns()):
            await asyncio.sleep(0)

    def release(self) -> None:
        """Let everything start and stop from now on."""
        self.hold = False
        for backend in self.made:
            backend.release()
