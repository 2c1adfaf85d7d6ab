"""The gateway in the test's own process: real files are loaded, a real port is served, real children are started."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from openai import AsyncOpenAI

from gateway.config.command_line import CommandLine
from gateway.config.load import Loaded, Surroundings, load
from gateway.main import Gateway, running

MESSAGES = [{"role": "user", "content": "hi"}]


@dataclass(frozen=True)
class Served:
    """A gateway that runs, and a plain HTTP client for it."""

    gateway: Gateway
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        """Its address."""
        return self.gateway.url

    def openai(self, **options: Any) -> AsyncOpenAI:
        """Return the official client for it."""
        return AsyncOpenAI(base_url=self.url + "/v1", api_key="unused", max_retries=0, **options)

    async def post(self, path: str, body: Any, **options: Any) -> tuple[int, Any]:
        """Return status and JSON of a POST."""
        async with self.http.post(path, json=body, **options) as response:
            return response.status, await response.json(content_type=None)

    async def get(self, path: str, **options: Any) -> tuple[int, Any]:
        """Return status and JSON of a GET."""
        async with self.http.get(path, **options) as response:
            return response.status, await response.json(content_type=None)

    async def chat(self, model: str, **fields: Any) -> tuple[int, Any]:
        """Return status and JSON of a short chat."""
        return await self.post("/v1/chat/completions", chat(model, **fields))

    async def running(self) -> dict[str, Any]:
        """Return what `/running` says, by model."""
        _, answer = await self.get("/running")
        return {row["model"]: row for row in answer["running"]}

    async def until(self, wanted: Any, *, within: float = 20.0) -> dict[str, Any]:
        """Return `/running` as soon as `wanted` says yes to it; fail after `within` seconds."""
        async with asyncio.timeout(within):
            while True:
                rows = await self.running()
                if wanted(rows):
                    return rows
                await asyncio.sleep(0.005)


def chat(model: str, **fields: Any) -> dict[str, Any]:
    """Return the body of a short chat."""
    return {"model": model, "messages": MESSAGES, "max_tokens": 8} | fields


def configure(
    folder: Path, models: Mapping[str, Any], *, program: str | Path, settings: Mapping[str, Any] | None = None
) -> Loaded:
    """Write configuration files as a person would, and load them."""
    config: dict[str, Any] = {
        "server": {"drain": 2},
        "models": {"demo": False},
        "llama_server": {"program": str(program), "stop_grace": 2},
    }
    for section, values in (settings or {}).items():
        config[section] = config.get(section, {}) | values
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "custom_models.yaml").write_text(yaml.safe_dump({"models": dict(models)}))
    around = Surroundings(environ={}, cwd=folder, home=folder, user_folder=folder)
    return load(CommandLine(config=str(folder), port=0), around)


@asynccontextmanager
async def serving(
    folder: Path,
    models: Mapping[str, Any],
    *,
    program: str | Path,
    settings: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Served]:
    """Run a gateway over `models` inside this block, on a free port."""
    loaded = await asyncio.to_thread(lambda: configure(folder, models, program=program, settings=settings))
    async with (
        running(loaded, dict(os.environ) | dict(environ or {})) as gateway,
        aiohttp.ClientSession(gateway.url) as http,
    ):
        yield Served(gateway, http)
