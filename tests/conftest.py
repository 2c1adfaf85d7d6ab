"""What every test can count on: real peers by fixture, and guards that no test can forget.

The guards hold for every test without asking: no blocking call of the gateway's code on the event loop, no process
left behind, no task left running, nothing in asyncio's log. A peer that cannot be had fails the tests that need it,
with the reason; it never skips them.
"""

import asyncio
import gc
import inspect
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings

from tests.peers import cache, llama_cpp, models
from tests.peers import node_openai as openai_for_node

# Calls that may block on the event loop: (end of the file's path, function, why it does no harm).
MAY_BLOCK: tuple[tuple[str, str, str], ...] = ()
STANDIN = Path(__file__).parent / "standin"

pytest_plugins = ["pytester"]

# A property is true or not; how long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.load_profile("untimed")


def _peer(get: Callable[[], Path]) -> Path:
    try:
        return get()
    except cache.PeerMissing as reason:
        pytest.fail(str(reason), pytrace=False)


@pytest.fixture(scope="session")
def llama_server_program() -> Path:
    """A real llama-server."""
    return _peer(llama_cpp.program)


@pytest.fixture(scope="session")
def embedded_program() -> tuple[str, ...]:
    """The command line of the llama-server that comes with the gateway."""
    return (sys.executable, "-m", "gateway.embedded.llama_server")


@pytest.fixture(scope="session")
def standin_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for llama-server as one executable file, run by this Python; see `standin/program.py`."""
    file = tmp_path_factory.mktemp("standin") / "llama-server"
    source = (STANDIN / "llama-server").read_text(encoding="utf-8")
    source = source.replace("/usr/bin/env python3", f"{sys.executable} -IS").replace(
        "__file__", repr(str(STANDIN / "it"))
    )
    file.write_text(source, encoding="utf-8")
    file.chmod(0o755)
    return file


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """A chat model of 0.5 MB."""
    return _peer(lambda: models.tiny(1))


@pytest.fixture(scope="session")
def other_tiny_model() -> Path:
    """Another chat model of 0.5 MB."""
    return _peer(lambda: models.tiny(2))


@pytest.fixture(scope="session")
def big_tiny_model() -> Path:
    """A chat model of 100 MB."""
    return _peer(models.big_tiny)


@pytest.fixture(scope="session")
def reranker_model() -> Path:
    """A model that ranks documents."""
    return _peer(models.reranker)


@pytest.fixture(scope="session")
def node_openai() -> Path:
    """A folder in which `node` finds the official OpenAI client."""
    return _peer(openai_for_node.folder)


@pytest.fixture(scope="session", autouse=True)
def _blocking_calls_fail() -> Iterator[None]:
    """Make a blocking call fail where the gateway's code makes it on an event loop."""
    guard = BlockBuster(scanned_modules=["gateway"])
    for function in guard.functions.values():
        for file, name, _why in MAY_BLOCK:
            function.can_block_in(file, name)
    guard.activate()
    yield
    guard.deactivate()


@pytest.fixture(scope="session", autouse=True)
def _imports_are_not_garbage() -> None:
    """Take what was imported so far out of the collector's sight: it is asked to collect after every test."""
    gc.collect()
    gc.freeze()


class _Complaints(logging.Handler):
    """Keeps what asyncio logs: a task that nobody awaited, a transport that nobody closed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process, or something for asyncio to complain about."""
    complaints = _Complaints()
    log = logging.getLogger("asyncio")
    log.addHandler(complaints)
    before = set(_children())
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("_no_task_left_running")
    yield
    gc.collect()  # asyncio complains, and warnings come, when what was forgotten is collected
    log.removeHandler(complaints)
    left = _living([child for child in _children() if child not in before], patience=1.0)
    described = [f"process {child.pid}: {_command(child)}" for child in left]
    for child in left:
        child.kill()
    assert described == []
    assert complaints.lines == []


@pytest.fixture
async def _no_task_left_running() -> AsyncIterator[None]:
    """Fail a test at whose end a task still runs; a task on its way out has half a second."""
    yield
    running = asyncio.all_tasks() - {asyncio.current_task()}
    if running:
        _, running = await asyncio.wait(running, timeout=0.5)
    assert [repr(task) for task in running] == []


def _children() -> list[psutil.Process]:
    try:
        return psutil.Process().children(recursive=True)
    except psutil.NoSuchProcess:  # one ended while they were being listed
        return psutil.Process().children(recursive=True)


def _living(processes: list[psutil.Process], patience: float) -> list[psutil.Process]:
    """Return which of `processes` still live after at most `patience` seconds.

    Looks every 10 ms: waiting for their exit would take it away from whoever's child it is.
    """
    deadline = time.monotonic() + patience
    while (living := [process for process in processes if _lives(process)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return living


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return "(gone)"
