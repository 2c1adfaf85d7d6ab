"""The guards of `tests/conftest.py` are tried on tests that deserve to fail."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUARDS = """
from tests.conftest import (
    _blocking_calls_fail, _imports_are_not_garbage, _no_task_left_running, _nothing_left_behind,
)
"""
CULPRITS = """
import asyncio, subprocess, sys, time
import gateway

BLOCKING = compile("import time\\ndef block(): time.sleep(0.001)", gateway.__path__[0] + "/blocking.py", "exec")

async def test_blocks():
    names = {}
    exec(BLOCKING, names)
    names["block"]()

async def test_blocks_in_test_code():
    time.sleep(0.001)

async def test_leaves_a_task():
    test_leaves_a_task.kept = asyncio.ensure_future(asyncio.sleep(60))

async def test_forgets_a_failure():
    async def fail():
        raise ValueError("forgotten")
    asyncio.ensure_future(fail())
    await asyncio.sleep(0.01)

def test_leaves_a_process():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).returncode = 0

async def test_leaves_nothing():
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "pass")
    assert await process.wait() == 0
"""


def test_each_guard_catches_what_it_is_for(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makeconftest(GUARDS)
    pytester.makepyfile(CULPRITS)
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error"
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider")
    reported = (re.match(r"(FAILED|ERROR) \S+::(\w+)", line) for line in done.outlines)
    failures = {match[2] for match in reported if match}
    expected = {"test_blocks", "test_leaves_a_task", "test_forgets_a_failure", "test_leaves_a_process"}
    assert expected == failures
    done.stdout.fnmatch_lines(["*BlockingError: Blocking call to time.sleep*"])
