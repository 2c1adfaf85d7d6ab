"""Two models of one gateway: one that a test makes ill, and one that must not notice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.serving import Served, chat, serving
from tests.standin.model import Model
from tests.taken import Taken, take

CHAT = "/v1/chat/completions"
KINDS = ("llama-server", "command")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ward:
    """A gateway over the models `ill` and `well`."""

    served: Served
    ill: Model
    well: Model

    async def ask(self, *, stream: bool = False) -> Taken:
        """Return what the model that is ill answers."""
        return await take(self.served.url, CHAT, chat("ill", stream=stream))

    @asynccontextmanager
    async def undisturbed(self) -> AsyncIterator[None]:
        """Stream an answer of the other model during this block and one more after it; both must be whole."""
        begun = asyncio.Event()
        watched = asyncio.ensure_future(take(self.served.url, CHAT, chat("well", stream=True), on_piece=begun.set))
        await asyncio.wait({watched, asyncio.ensure_future(begun.wait())}, return_when=asyncio.FIRST_COMPLETED)
        yield
        for answer in (await watched, await take(self.served.url, CHAT, chat("well", stream=True))):
            assert (True, "", 20) == (answer.whole, answer.code, len(answer.text.split()))

    async def recovers(self) -> None:
        """Let the server of the model that is ill be good from its next launch on; it must be served again."""
        self.ill.behave()
        await self.served.post("/unload?model=ill", {})
        answer = await self.ask(stream=True)
        assert (200, True, "0 1 2 ") == (answer.status, answer.whole, answer.text), answer.body

    def nothing_left(self) -> None:
        """Check that no lease is held, no exchange open and no server running but the two that should."""
        pool = self.served.gateway.pool
        assert 0 == pool.held
        backends: list[Any] = [running.backend for running in pool._running.values()]
        assert [0] * len(backends) == [backend._up.upstream.active for backend in backends]
        servers = [self.ill.pids()[-1], self.well.pids()[-1]]
        launched = {*self.ill.pids(), *self.well.pids()}
        assert sorted(servers) == sorted(pid for pid in launched if psutil.pid_exists(pid))


Admit = Callable[..., AbstractAsyncContextManager[Ward]]


@pytest.fixture
def admit(tmp_path: Path, standin_program: Path, tiny_model: Path) -> Admit:
    """Open a ward: `admit(*switches of the ill one, kind=..., settings=..., **fields of the ill one)`."""

    @asynccontextmanager
    async def opened(
        *switches: str, kind: str = "llama-server", settings: dict[str, Any] | None = None, **fields: Any
    ) -> AsyncIterator[Ward]:
        ill = Model(tmp_path, "ill", *switches)
        well = Model(tmp_path, "well", "--chunks", "20", "--chunk-interval", "0.01")
        models = {
            "ill": ill.as_llama_server(tiny_model, **fields)
            if kind == "llama-server"
            else ill.as_command(standin_program, **fields),
            "well": well.as_llama_server(tiny_model, parallel=4),
        }
        async with serving(tmp_path, models, program=standin_program, settings=settings) as served:
            yield Ward(served=served, ill=ill, well=well)

    return opened
