"""A running stand-in and its journal, for the tests that use it."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Journal:
    """What stand-ins have noted in `path`; several may write to one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events `name` noted so far, in order; see `program` for what they carry."""
        with contextlib.suppress(FileNotFoundError):
            lines = self.path.read_text(encoding="utf-8").splitlines()
            return [event for event in map(json.loads, lines) if event["event"] == name]
        return []

    def wait_for(self, name: str, count: int = 1) -> dict[str, Any]:
        """Return the event `name` that is the `count`th of its kind, once it is noted; blocks.

        Looks every 5 ms, for 10 s at most, since another process writes the file. On an event loop:
        `await asyncio.to_thread(journal.wait_for, "gone")`.
        """
        deadline = time.monotonic() + 10
        while len(found := self.events(name)) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} `{name}` in {self.path}"
            time.sleep(0.005)
        return found[count - 1]


class StandIn:
    """One stand-in, started without the gateway, in a process group of its own."""

    def __init__(self, program: Path, journal: Path, switches: Sequence[str] = ()) -> None:
        self.journal = Journal(journal)
        command = [str(program), "--journal", str(journal), *switches]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)

    @property
    def port(self) -> int:
        """The port; waits until it is open."""
        return int(self.journal.wait_for("listening")["port"])

    def end(self) -> None:
        """Kill it and whatever it left in its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()
