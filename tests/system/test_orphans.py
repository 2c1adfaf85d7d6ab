"""No child outlives the gateway, whatever ends the gateway."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import gateway
from gateway.system.process import GUARDIAN, Launcher
from tests.system.children import FAMILY, PATIENCE, Lines, ends, launching, shell

pytestmark = pytest.mark.every_loop

SOON = 2.0  # seconds within which all must be gone
PARENT = f"""
import asyncio, sys
from gateway.system import process
from gateway.system.process import Launcher, LaunchSpec

async def main():
    launcher = Launcher()
    if sys.argv[1] == "no setpriv":
        process._setpriv = lambda: None
    lines = asyncio.Queue()
    spec = LaunchSpec(argv=["/bin/sh", "-c", {FAMILY!r}], environment={{"PATH": "/usr/bin:/bin"}})
    child = await launcher.launch(spec, lines.put_nowait)
    print(child.pid, await lines.get(), launcher._guardian.pid, flush=True)
    if sys.argv[2] == "exits":
        return
    await asyncio.Event().wait()

asyncio.run(main())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A program that uses a launcher, and the process ids that it told us."""

    program: "subprocess.Popen[bytes]"
    child: int
    grandchild: int
    guardian: int


@asynccontextmanager
async def family(setpriv: str, end: str = "stays") -> AsyncIterator[Family]:
    with subprocess.Popen(  # noqa: ASYNC220 - asyncio would reap it, and see its end, in its own time
        [sys.executable, "-c", PARENT, setpriv, end],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(gateway.__file__).parents[1]), "PATH": os.defpath},
    ) as program:
        assert program.stdout is not None
        try:
            line = await asyncio.wait_for(asyncio.to_thread(program.stdout.readline), PATIENCE)
            child, grandchild, guardian = map(int, line.split())
            yield Family(program=program, child=child, grandchild=grandchild, guardian=guardian)
        finally:
            program.kill()


@pytest.mark.parametrize("setpriv", ["setpriv", "no setpriv"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
async def test_all_are_gone_soon_after_the_gateway_was_killed(setpriv: str, how: signal.Signals) -> None:
    async with family(setpriv) as them, ends(them.child, them.grandchild, them.guardian, within=SOON):
        them.program.send_signal(how)


async def test_the_kernel_alone_ends_the_child_of_a_killed_gateway() -> None:
    async with family("setpriv") as them:
        async with ends(them.guardian):
            os.kill(them.guardian, signal.SIGKILL)
        async with ends(them.grandchild):
            async with ends(them.child, within=SOON):
                them.program.kill()
            os.kill(them.grandchild, signal.SIGKILL)  # nobody was left who knows of it


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_the_guardian_stays_at_its_post(number: signal.Signals) -> None:
    """It is told of nothing by signals: those that end a whole process tree reach it too."""
    async with family("no setpriv") as them:
        await _until_it_ignores(them.guardian, number)
        async with ends(them.child, them.grandchild, them.guardian, within=SOON):
            os.kill(them.guardian, number)
            them.program.kill()


async def _until_it_ignores(pid: int, number: signal.Signals) -> None:
    """Wait until a process that has just been started ignores a signal; looks every 10 ms, for there is no event."""
    async with asyncio.timeout(PATIENCE):
        while True:
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")  # noqa: ASYNC240 - no disk behind it
            [mask] = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")]
            if int(mask, 16) >> (number - 1) & 1:
                return
            await asyncio.sleep(0.01)


async def test_closing_the_launcher_ends_all_that_is_left() -> None:
    lines = Lines()
    async with launching(setpriv=False) as launcher:
        process = await launcher.launch(shell(FAMILY), lines.put_nowait)
        guardian = launcher._guardian
        assert guardian is not None
        async with ends(await lines.number()):
            await asyncio.to_thread(launcher.close)
            assert (await asyncio.wait_for(process.wait_with_log(), PATIENCE)).code == -9
    assert guardian.returncode == 0


async def test_closing_twice_or_without_a_child_does_no_harm() -> None:
    launcher = Launcher()
    launcher.close()
    launcher.close()


async def test_a_guardian_that_was_killed_is_replaced_and_told_of_all() -> None:
    lines = Lines()
    async with launching(setpriv=False) as launcher:
        old = await launcher.launch(shell(FAMILY), lines.put_nowait)
        guardian = launcher._guardian
        assert guardian is not None
        async with ends(guardian.pid):
            guardian.kill()
        gone = await launcher.launch(shell("sleep 1000"))  # starts the new one, and is let go of before it ends
        await gone.stop(grace=1000)
        new = await launcher.launch(shell(FAMILY), lines.put_nowait)
        async with ends(await lines.number(), await lines.number()):
            await asyncio.to_thread(launcher.close)
            assert [(await asyncio.wait_for(each.wait(), PATIENCE)).code for each in (old, new)] == [-9, -9]


async def test_the_loss_of_the_guardian_does_not_disturb_a_child() -> None:
    async with launching() as launcher:
        process = await launcher.launch(shell("sleep 1000"))
        guardian = launcher._guardian
        assert guardian is not None
        async with ends(guardian.pid):
            guardian.kill()
        assert process.alive
        assert (await process.stop(grace=1000)).code == -15


def test_the_guardian_ends_the_groups_that_are_entered_and_no_others() -> None:
    """As a program of its own, told over its standard input."""
    children = [subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True) for _ in range(3)]
    entered, taken_out, other = children
    try:
        no_such_group = 2**22 + 1  # process ids end before it
        message = f"+{no_such_group}\n+{entered.pid}\n+{taken_out.pid}\n-{taken_out.pid}\n-77\n"
        guardian = subprocess.run([sys.executable, "-I", "-S", str(GUARDIAN)], input=message.encode(), check=False)
        assert guardian.returncode == 0
        assert entered.wait(PATIENCE) == -9
        assert [taken_out.poll(), other.poll()] == [None, None]
    finally:
        for child in children:
            child.kill()
            child.wait()
