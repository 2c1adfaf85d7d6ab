"""A child's output, its end, and how it is ended; with real children."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.backend import Exit
from gateway.system.process import LOG_LINE_LENGTH, LOG_LINES, LOG_PATIENCE, Launcher, LaunchSpec
from tests.system.children import FAMILY, PATIENCE, Lines, descriptors, ends, launching, shell

pytestmark = pytest.mark.every_loop


@pytest.fixture(params=["setpriv", "plain"])
async def launcher(request: pytest.FixtureRequest) -> AsyncIterator[Launcher]:
    async with launching(setpriv=request.param == "setpriv") as made:
        yield made


# -- output --


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo out; echo err >&2", ("out", "err")),
        ("printf 'no newline'", ("no newline",)),
        ("printf 'a\\r\\nb\\n\\n\\nc  \\n'", ("a", "b", "c")),
        (r"printf '\377\303x\n\303'", ("\ufffd\ufffdx", "\ufffd")),
        ("printf '\\303'; printf '\\274\\n'", ("ü",)),
        (":", ()),
    ],
)
async def test_both_outputs_are_kept_as_lines_of_text(
    launcher: Launcher, script: str, expected: tuple[str, ...]
) -> None:
    process = await launcher.launch(shell(script))
    assert Exit(code=0, log=expected) == await process.wait_with_log()


async def test_the_log_keeps_the_last_lines_and_the_callback_gets_all(launcher: Launcher) -> None:
    lines: list[str] = []
    process = await launcher.launch(shell("seq 1 1000"), lines.append)
    end = await process.wait_with_log()
    assert [str(number) for number in range(1, 1001)] == lines
    assert tuple(lines[-20:]) == end.log
    assert tuple(lines[-LOG_LINES:]) == process.log_tail(10_000)
    assert tuple(lines[-3:]) == process.log_tail(3)


@pytest.mark.parametrize("newline", ["echo", ":"])
async def test_a_long_line_is_cut_and_not_kept_in_memory(launcher: Launcher, newline: str) -> None:
    process = await launcher.launch(shell(f"head -c 3000000 /dev/zero | tr '\\0' x; {newline}; printf after"))
    end = await process.wait_with_log()
    long = "x" * LOG_LINE_LENGTH
    assert ((long, "after") if newline == "echo" else (long,)) == end.log
    assert len(process._partial) <= LOG_LINE_LENGTH


async def test_waiting_does_not_depend_on_the_output_being_read_to_its_end(launcher: Launcher) -> None:
    """Something in a session of its own keeps the pipe."""
    before = descriptors()
    lines = Lines()
    process = await launcher.launch(shell("setsid sh -c 'echo $$; exec sleep 1000' & wait"), lines.put_nowait)
    stranger = await lines.number()
    loop = asyncio.get_running_loop()
    async with ends(stranger):
        began = loop.time()
        os.kill(process.pid, signal.SIGTERM)
        assert Exit(code=-15, log=(str(stranger),)) == await process.wait()
        assert Exit(code=-15, log=(str(stranger),)) == await asyncio.wait_for(process.wait_with_log(), PATIENCE)
        assert loop.time() - began >= LOG_PATIENCE - 0.01
        os.kill(stranger, signal.SIGKILL)
    assert before == descriptors()


# -- the end --


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("exit 0", 0, "exited with code 0"),
        ("exit 7", 7, "exited with code 7"),
        ("kill -TERM $$", -15, "was ended by signal 15"),
        ("kill -KILL $$", -9, "was ended by signal 9"),
        ("kill -ABRT $$", -6, "was ended by signal 6"),
    ],
)
async def test_the_end_tells_exit_code_or_signal(launcher: Launcher, script: str, code: int, words: str) -> None:
    process = await launcher.launch(shell(f"ulimit -c 0; {script}"))
    end = await process.wait()
    assert code == end.code
    assert words == str(end)
    assert not process.alive


async def test_the_end_is_seen_without_pidfd_too(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    process = await launcher.launch(shell("echo x; exit 7"))
    assert Exit(code=7, log=("x",)) == await asyncio.wait_for(process.wait_with_log(), PATIENCE)


async def test_many_children_end_each_with_its_own_code(launcher: Launcher) -> None:
    processes = await asyncio.gather(*(launcher.launch(shell(f"exit {code}")) for code in range(20)))
    assert list(range(20)) == [(await process.wait()).code for process in processes]


async def test_a_cancelled_wait_does_not_disturb_the_others(launcher: Launcher) -> None:
    process = await launcher.launch(shell("sleep 1000"))
    waiters = [asyncio.ensure_future(process.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    await asyncio.wait({waiters[0]})
    process.kill()
    assert [end.code for end in await asyncio.gather(*waiters[1:])] == [-9, -9]


# -- being ended --


async def test_stop_asks_first(launcher: Launcher) -> None:
    lines = Lines()
    script = "trap 'echo bye; exit 3' TERM; echo ready; sleep 1000 & wait"
    process = await launcher.launch(shell(script), lines.put_nowait)
    assert await lines.next() == "ready"
    assert process.alive
    assert Exit(code=3, log=("ready", "bye")) == await asyncio.wait_for(process.stop(grace=1000), PATIENCE)
    assert not process.alive


async def test_stop_kills_what_does_not_listen_after_the_grace(launcher: Launcher) -> None:
    lines = Lines()
    process = await launcher.launch(shell("trap '' TERM; echo ready; sleep 1000"), lines.put_nowait)
    assert await lines.next() == "ready"
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert Exit(code=-9, log=("ready",)) == await process.stop(grace=0.05)
    assert 0.04 <= loop.time() - began < PATIENCE


async def test_stop_without_grace_ends_it_at_once(launcher: Launcher) -> None:
    lines = Lines()
    process = await launcher.launch(shell("trap '' TERM; echo ready; sleep 1000"), lines.put_nowait)
    assert await lines.next() == "ready"
    assert (await asyncio.wait_for(process.stop(grace=0), PATIENCE)).code == -9


async def test_stop_is_the_same_however_often_it_is_called(launcher: Launcher) -> None:
    process = await launcher.launch(shell("sleep 1000"))
    both = await asyncio.gather(process.stop(grace=1000), process.stop(grace=1000))
    assert (both[0].code, both[1].code) == (-15, -15)
    assert both[0] == await process.stop(grace=0)
    process.kill()


async def test_stop_after_the_end_tells_how_it_ended(launcher: Launcher) -> None:
    process = await launcher.launch(shell("echo x; exit 4"))
    await process.wait()
    assert Exit(code=4, log=("x",)) == await process.stop(grace=1000)


@pytest.mark.parametrize("script", [FAMILY, "trap '' TERM; sleep 1000 & trap - TERM; echo $!; wait"])
async def test_stop_ends_what_the_child_has_started(launcher: Launcher, script: str) -> None:
    lines = Lines()
    process = await launcher.launch(shell(script), lines.put_nowait)
    async with ends(await lines.number()):
        assert (await process.stop(grace=1000)).code == -15


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_an_unexpected_end_takes_what_the_child_has_started_with_it(
    launcher: Launcher, how: signal.Signals
) -> None:
    lines = Lines()
    process = await launcher.launch(shell(FAMILY), lines.put_nowait)
    async with ends(await lines.number()):
        os.kill(process.pid, how)
        assert -how == (await process.wait()).code


# -- launching --


@pytest.mark.parametrize("environment", [{}, {"A": "1 2", "B": "ü\n", "PATH": "/nowhere"}])
async def test_the_environment_is_exactly_what_was_given(launcher: Launcher, environment: dict[str, str]) -> None:
    process = await launcher.launch(LaunchSpec(argv=["/usr/bin/env", "-0"], environment=environment))
    end = await process.wait_with_log()
    given = "".join(f"{name}={value}\0" for name, value in environment.items())
    assert sorted(given.split("\0")) == sorted("\n".join(end.log).split("\0"))


async def test_standard_input_is_empty(launcher: Launcher) -> None:
    process = await launcher.launch(shell("cat"))
    assert Exit(code=0) == await asyncio.wait_for(process.wait_with_log(), PATIENCE)


async def test_the_child_leads_a_group_and_a_session_of_its_own(launcher: Launcher) -> None:
    process = await launcher.launch(shell("sleep 1000"))
    assert process.pid == os.getpgid(process.pid) == os.getsid(process.pid)
    await process.stop(grace=1000)


async def test_a_program_is_looked_up_on_the_path_of_the_child(launcher: Launcher, tmp_path: Path) -> None:
    program = tmp_path / "some-program"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    process = await launcher.launch(LaunchSpec(argv=["some-program"], environment={"PATH": str(tmp_path)}))
    assert Exit(code=0, log=("found",)) == await process.wait_with_log()
    with pytest.raises(FileNotFoundError):
        await launcher.launch(LaunchSpec(argv=["some-program"], environment={"PATH": "/usr/bin"}))


async def test_a_program_without_a_path_in_the_environment_is_looked_up_where_the_system_does(
    launcher: Launcher,
) -> None:
    process = await launcher.launch(LaunchSpec(argv=["echo", "x"]))
    assert Exit(code=0, log=("x",)) == await process.wait_with_log()


async def test_what_cannot_be_run_is_an_error_of_the_launch(launcher: Launcher, tmp_path: Path) -> None:
    before = descriptors()
    (tmp_path / "text").write_text("no program")
    missing = [str(tmp_path / "missing"), "no-such-program-anywhere", ""]
    for program in missing:
        with pytest.raises(FileNotFoundError) as caught:
            await launcher.launch(LaunchSpec(argv=[program], environment={"PATH": os.defpath}))
        assert program == caught.value.filename
    for file in (tmp_path / "text", tmp_path):
        with pytest.raises(PermissionError):
            await launcher.launch(LaunchSpec(argv=[str(file)]))
    assert before == descriptors()


async def test_no_descriptor_is_left_of_a_child(launcher: Launcher) -> None:
    before = descriptors()
    for _ in range(3):
        await (await launcher.launch(shell("echo x"))).wait_with_log()
        await (await launcher.launch(shell("sleep 1000"))).stop(grace=1000)
        killed = await launcher.launch(shell(FAMILY))
        killed.kill()
        await killed.wait_with_log()
    assert before == descriptors()


async def test_a_child_that_cannot_be_watched_is_not_left(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def fail(pid: int) -> int:
        seen.append(pid)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", fail)
    with pytest.raises(OSError, match="Too many open files"):
        await launcher.launch(shell("sleep 1000"))
    await asyncio.get_running_loop().run_in_executor(launcher._spawner, int)  # behind the wait for its end
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)
    assert set() == launcher._guarded
