"""What the tests of processes share: small programs, and waiting for an end that is not our child's."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from unittest.mock import patch

from gateway.system import process
from gateway.system.process import Launcher, LaunchSpec, Process

PATIENCE = 10.0  # seconds until a test gives up
_pidfd_open = os.pidfd_open  # some tests take it away from the code under test


def shell(script: str, **environment: str) -> LaunchSpec:
    """A child that runs `script`."""
    return LaunchSpec(argv=["/bin/sh", "-c", script], environment={"PATH": os.defpath} | environment)


# Prints its child's process id; both stay until they are ended.
FAMILY = "sleep 1000 & echo $!; wait"


class Lines(asyncio.Queue[str]):
    """Receives the lines of a child: `on_line=lines.put_nowait`."""

    async def next(self) -> str:
        """Return the next line."""
        return await asyncio.wait_for(self.get(), PATIENCE)

    async def number(self) -> int:
        """Return the next line, which is a number."""
        return int(await self.next())


@asynccontextmanager
async def ends(*pids: int, within: float = PATIENCE) -> AsyncIterator[None]:
    """Watch processes that live at the beginning; at the end, wait until all have exited.

    Raises `TimeoutError` if one has not after `within` seconds. Whatever happens, none is left.
    """
    loop = asyncio.get_running_loop()
    exited = {_pidfd_open(pid): loop.create_future() for pid in pids}
    for pidfd, future in exited.items():
        loop.add_reader(pidfd, _set, future)
    try:
        yield
        await asyncio.wait_for(asyncio.gather(*exited.values()), within)
    finally:
        for pidfd in exited:
            loop.remove_reader(pidfd)
            os.close(pidfd)
        for pid, future in zip(pids, exited.values(), strict=True):
            if not future.done() or future.cancelled():
                with suppress(ProcessLookupError):
                    os.kill(pid, 9)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def descriptors() -> set[tuple[str, str]]:
    """What this process has open."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of this very listing
            found.add((entry.name, str(entry.readlink())))
    return found


class Observed(Launcher):
    """Keeps what it has spawned and begun, also if nobody wants it any more."""

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[subprocess.Popen[bytes]] = []
        self.begun: asyncio.Queue[Process] = asyncio.Queue()

    def _spawn(self, spec: LaunchSpec) -> "subprocess.Popen[bytes]":
        child = super()._spawn(spec)
        self.spawned.append(child)
        return child

    async def _begin(self, spec: LaunchSpec, on_line: Callable[[str], None]) -> Process:
        begun = await super()._begin(spec, on_line)
        self.begun.put_nowait(begun)
        return begun

    async def all_ended(self) -> None:
        """Return when everything that was begun has ended, and its output too."""
        while not self.begun.empty():
            await asyncio.wait_for(self.begun.get_nowait().wait_with_log(), PATIENCE)


@asynccontextmanager
async def launching(*, setpriv: bool = True) -> AsyncIterator[Observed]:
    """Yield a launcher whose guardian already runs; end what is left of its children."""
    launcher = Observed()
    assert await asyncio.to_thread(process._setpriv), "these tests need util-linux"
    with patch.object(process, "_setpriv", process._setpriv if setpriv else lambda: None):
        try:
            await (await launcher.launch(shell(":"))).wait_with_log()
            await launcher.all_ended()
            launcher.spawned.clear()
            yield launcher
        finally:
            await asyncio.to_thread(launcher.close)
            await launcher.all_ended()
