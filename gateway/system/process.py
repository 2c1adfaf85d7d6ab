"""Child processes: started, watched and ended so that none outlives the gateway.

Each child leads its own session and process group. It is ended with its whole group: SIGTERM, a grace period, SIGKILL.
If the gateway dies, the kernel kills the child on Linux (`PR_SET_PDEATHSIG` through util-linux's `setpriv`), and the
guardian kills what is left of the group everywhere.

All children are started by one thread that lives as long as the launcher: the parent-death signal follows the *thread*
that forked (prctl(2)), and a fork must not hold up the event loop.
"""

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from gateway.core.backend import Exit

LOG_LINES = 200
LOG_LINE_LENGTH = 2000  # bytes
LOG_PATIENCE = 0.5
GUARDIAN = Path(__file__).with_name("guardian.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """What to run: a command line, and the whole environment (nothing is inherited)."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    name: str = "child"


class Process(asyncio.Protocol):
    """A running child: its log, its end. Made by `Launcher.launch`.

    Both of its outputs come here as lines; the last `LOG_LINES` are kept, each cut at `LOG_LINE_LENGTH` bytes.
    They are read until nobody holds their other end, or `LOG_PATIENCE` seconds past its own end: what it has started
    may hold it for ever.
    """

    def __init__(
        self, child: "subprocess.Popen[bytes]", on_line: Callable[[str], None], forget: Callable[[int], None]
    ) -> None:
        self._child = child
        self._on_line = on_line
        self._forget = forget
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._partial = b""
        self._loop = asyncio.get_running_loop()
        self._exited = self._loop.create_future()
        self._log_ended = self._loop.create_future()
        self._pipe: asyncio.BaseTransport | None = None
        self._patience: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        """The process id, which is also that of its group."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether its end has not been seen yet."""
        return not self._exited.done()

    def log_tail(self, lines: int = 20) -> tuple[str, ...]:
        """Return the last lines of its output."""
        return tuple(self._log)[-lines:]

    async def wait(self) -> Exit:
        """Return how it ended, as soon as it has; the last of its output may still be on its way."""
        code = await asyncio.shield(self._exited)
        return Exit(code=code, log=self.log_tail())

    async def wait_with_log(self) -> Exit:
        """Return how it ended, once its output has been read to the end (or `LOG_PATIENCE` seconds later)."""
        code = await asyncio.shield(self._exited)
        await asyncio.shield(self._log_ended)
        return Exit(code=code, log=self.log_tail())

    async def stop(self, grace: float) -> Exit:
        """End it and its group: SIGTERM, `grace` seconds, SIGKILL. Returns when it is gone; idempotent."""
        if self.alive:
            self._signal(signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._exited), grace)
        if self.alive:
            self._signal(signal.SIGKILL)
        return await self.wait_with_log()

    def kill(self) -> None:
        """Send SIGKILL to the group without waiting."""
        if self.alive:
            self._signal(signal.SIGKILL)

    def abandon(self) -> None:
        """Kill it and read no more of its output: for one that cannot be watched."""
        self.kill()
        if self._pipe is not None:
            self._pipe.close()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def watch(self) -> None:
        """Begin to read its output and to wait for its end."""
        assert self._child.stdout is not None  # noqa: S101 - opened as a pipe by the launcher
        self._pipe, _ = await self._loop.connect_read_pipe(lambda: self, self._child.stdout)
        if hasattr(os, "pidfd_open"):
            pidfd = os.pidfd_open(self.pid)
            self._loop.add_reader(pidfd, self._ended, pidfd)
        else:
            threading.Thread(target=self._wait_in_thread, name=f"wait-{self.pid}", daemon=True).start()

    def _wait_in_thread(self) -> None:
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
            self._loop.call_soon_threadsafe(self._ended, None)

    def _ended(self, pidfd: int | None) -> None:
        if pidfd is not None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
        # The zombie still holds the process id, so the group cannot be somebody else's yet.
        self._signal(signal.SIGKILL)
        self._forget(self.pid)
        code = self._child.wait()
        if not self._exited.done():
            self._exited.set_result(code)
        if self._pipe is not None and not self._log_ended.done():
            self._patience = self._loop.call_later(LOG_PATIENCE, self._pipe.close)

    def data_received(self, data: bytes) -> None:
        """Take a piece of its output (called by the transport)."""
        *lines, rest = (self._partial + data).split(b"\n")
        self._partial = rest[:LOG_LINE_LENGTH]
        for line in lines:
            self._keep(line)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of its output (called by the transport)."""
        del exc
        if self._patience is not None:
            self._patience.cancel()
        if self._partial:
            self._keep(self._partial)
        if not self._log_ended.done():
            self._log_ended.set_result(None)

    def _keep(self, raw: bytes) -> None:
        line = raw[:LOG_LINE_LENGTH].decode("utf-8", "replace").rstrip()
        if line:
            self._log.append(line)
            self._on_line(line)


class Launcher:
    """Starts local processes. One per gateway; `close` ends the guardian when every child is gone."""

    def __init__(self) -> None:
        self._spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")
        self._guardian: subprocess.Popen[bytes] | None = None
        self._guarded: set[int] = set()

    async def launch(self, spec: LaunchSpec, on_line: Callable[[str], None] = lambda _line: None) -> Process:
        """Start a process; `on_line` gets each line of its output.

        Raises `OSError` if the program cannot be run. Cancelled half-way, it leaves no process behind.
        """
        beginning = asyncio.ensure_future(self._begin(spec, on_line))
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            beginning.add_done_callback(_kill_unwanted)
            raise

    async def _begin(self, spec: LaunchSpec, on_line: Callable[[str], None]) -> Process:
        """Spawn and watch. Never cancelled in between: half-watched, a child could neither be reaped nor let go."""
        child = await asyncio.get_running_loop().run_in_executor(self._spawner, self._spawn, spec)
        process = Process(child, on_line, self._leave)
        try:
            await process.watch()
        except BaseException:
            process.abandon()
            self._leave(process.pid)
            self._spawner.submit(child.wait)
            raise
        return process

    def close(self) -> None:
        """Let the guardian go. Children that are still alive are killed by it."""
        self._spawner.shutdown()  # what is still to be told is told
        if self._guardian is not None and self._guardian.stdin is not None:
            with suppress(BrokenPipeError):
                self._guardian.stdin.close()
            self._guardian.wait()
            self._guardian = None

    def _spawn(self, spec: LaunchSpec) -> "subprocess.Popen[bytes]":
        argv = list(spec.argv)
        _require(argv[0], spec.environment)
        if (setpriv := _setpriv()) is not None:
            argv = [setpriv, "--pdeathsig", "KILL", "--", *argv]
        self._ensure_guardian()
        child = subprocess.Popen(
            argv,
            env=dict(spec.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._enter(child.pid)
        return child

    def _ensure_guardian(self) -> None:
        if self._guardian is not None and self._guardian.poll() is None:
            return
        if self._guardian is not None and self._guardian.stdin is not None:
            self._guardian.stdin.close()
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARDIAN)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={},
            start_new_session=True,
        )
        for group in self._guarded.copy():
            self._tell(f"+{group}\n")

    def _enter(self, group: int) -> None:
        self._guarded.add(group)
        self._tell(f"+{group}\n")

    def _leave(self, group: int) -> None:
        self._guarded.discard(group)
        with suppress(RuntimeError):  # closed already: the guardian is gone, too
            self._spawner.submit(self._tell, f"-{group}\n")

    def _tell(self, line: str) -> None:
        """Write one line to the guardian (in the spawner's thread)."""
        if self._guardian is not None and self._guardian.stdin is not None:
            with suppress(BrokenPipeError, ValueError):
                os.write(self._guardian.stdin.fileno(), line.encode())


@cache
def _setpriv() -> str | None:
    """Return util-linux's setpriv; busybox has one of that name that may not know the flag."""
    found = shutil.which("setpriv") if sys.platform == "linux" else None
    if found is None:
        return None
    shown = subprocess.run([found, "--help"], capture_output=True, text=True, check=False, timeout=10)
    return found if "--pdeathsig" in shown.stdout + shown.stderr else None


def _kill_unwanted(beginning: "asyncio.Future[Process]") -> None:
    """End a child whose launch was cancelled half-way; it is reaped and forgotten like any other."""
    if not beginning.cancelled() and beginning.exception() is None:
        beginning.result().kill()


def _require(program: str, environment: Mapping[str, str]) -> None:
    """Raise the `OSError` of a program that cannot be run. `setpriv` would tell of it by exit code 127 only."""
    if shutil.which(program, path=environment.get("PATH", os.defpath)) is None:
        there = os.path.dirname(program) and os.path.exists(program)  # noqa: PTH110, PTH120 - a name has no folder
        number = errno.EACCES if there else errno.ENOENT
        raise OSError(number, os.strerror(number), program)
