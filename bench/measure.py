"""The measuring instruments: CPU time and memory of processes, where they run, and the load that is put on them.

CPU time is what the scheduler accounts to all threads of a process, in the kernel as well, so it includes the sending
and receiving that a proxy consists of. Linux only.
"""

import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bench.build import CannotMeasure
from bench.scenarios import Scenario

LOAD_TIME = 60  # seconds that a run of the load may take beyond its own


@dataclass(frozen=True, slots=True)
class Places:
    """The processors that are measured on: one for the proxies, one for the peer and the load, if there are two."""

    proxy: int
    others: int

    @classmethod
    def of_this_machine(cls) -> Self:
        """Return the first two processors that this process may use."""
        if not hasattr(os, "sched_getaffinity"):
            raise CannotMeasure("CPU time of threads and pinning to processors are measured on Linux only.")
        allowed = sorted(os.sched_getaffinity(0))
        return cls(allowed[0], allowed[min(1, len(allowed) - 1)])


@contextmanager
def on_processor(processor: int) -> Iterator[None]:
    """Start processes inside this block to have them on `processor`: children inherit where their parent runs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time that all threads of `pids` have had so far."""
    total = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError):  # it ended just now
                total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the resident memory of `pids`; pages that they share count once for each."""
    return sum(
        int(line.split()[1]) * 1024
        for pid in pids
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS:")
    )


@dataclass(frozen=True, slots=True)
class Load:
    """The load: `program` is what `load.c` is built into, `processor` where it runs."""

    program: Path
    processor: int

    def run(self, scenario: Scenario, port: int, body: Path, seconds: float) -> dict[str, Any]:
        """Carry `scenario` out against `port`; return what `load.c` prints. Raises if an answer was not right."""
        limit = ["--each", "1"] if scenario.paced else ["--seconds", str(seconds)]
        with on_processor(self.processor):
            done = subprocess.run(
                [*self._argv(scenario, port, body), *limit],
                capture_output=True,
                text=True,
                timeout=seconds + LOAD_TIME,
                check=False,
            )
        if done.returncode != 0:
            raise CannotMeasure(f"The load failed: {done.stderr.strip()}")
        counts: dict[str, Any] = json.loads(done.stdout)
        if counts["broken"] or counts["disordered"] or not counts["requests"]:
            raise CannotMeasure(f"Answers were wrong in scenario {scenario.name}: {done.stdout.strip()}")
        return counts

    @contextmanager
    def held(self, scenario: Scenario, port: int, body: Path) -> Iterator[None]:
        """Have the streams of `scenario` open, each with its first event received, inside this block."""
        with on_processor(self.processor):
            process = subprocess.Popen(
                [*self._argv(scenario, port, body), "--each", "1", "--hold"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        with process:  # leaving it ends the load: its standard input is closed
            assert process.stdout is not None
            said = process.stdout.readline().decode()
            if said != "held\n":
                raise CannotMeasure(f"Not all of the {scenario.connections} streams were opened: {said.strip()}")
            yield

    def _argv(self, scenario: Scenario, port: int, body: Path) -> list[str]:
        return [
            str(self.program),
            *("--port", str(port)),
            *("--body", str(body)),
            *("--connections", str(scenario.connections)),
        ]
