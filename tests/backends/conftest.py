"""Every kind of backend, ready to be started: the contract suite runs over all of them."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from gateway.backends.kinds import Backends
from gateway.backends.llama_server import find_program
from gateway.backends.spawned import Spawned
from gateway.core.slot import Command, LlamaServer, SlotSpec
from gateway.system.process import Launcher
from gateway.system.upstream import Timeouts

KINDS = ("real", "embedded", "stand-in", "command")
Make = Callable[..., Spawned]


@pytest.fixture(params=KINDS)
async def make(
    request: pytest.FixtureRequest, llama_server_program: Path, standin_program: Path, tiny_model: Path
) -> AsyncIterator[Make]:
    """Return what makes a backend of one kind; `broken` makes one whose model cannot be loaded."""
    setting = {"real": str(llama_server_program), "embedded": "embedded"}.get(request.param, str(standin_program))
    launcher = Launcher()
    backends = Backends(launcher, await find_program(setting, None), os.environ, lambda: Timeouts(connect=5.0))

    def backend(*, broken: bool = False, start_timeout: float = 30.0) -> Spawned:
        model = "/nowhere/at-all.gguf" if broken else str(tiny_model)
        switch = ("--exit-during-start", "3") if broken else ("--chunks", "200", "--chunk-interval", "0.01")
        if request.param == "command":
            launch: Command | LlamaServer = Command(argv=(str(standin_program), "--port", "${PORT}", *switch))
        elif request.param == "stand-in":
            launch = LlamaServer(model=model, ctx_size=512, arguments=switch)
        else:
            launch = LlamaServer(model=model, ctx_size=16384, arguments=("--threads", "1"))
        return backends.make(SlotSpec(launch=launch, start_timeout=start_timeout))

    yield backend
    await asyncio.to_thread(launcher.close)


def children() -> set[int]:
    """Return the servers that run, the guardian left out."""
    return {child.pid for child in psutil.Process().children(recursive=True) if _serves(child)}


def _serves(child: psutil.Process) -> bool:
    try:
        return child.status() != psutil.STATUS_ZOMBIE and "guardian" not in " ".join(child.cmdline())
    except psutil.NoSuchProcess:  # it has just gone
        return False
