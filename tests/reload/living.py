"""A gateway that reloads, and the folder with its files."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from gateway.config.command_line import CommandLine
from gateway.config.load import Loaded, Surroundings, load
from gateway.core.catalog import Catalog
from gateway.library.scan import scan
from gateway.main import running
from tests.serving import Served


def yaml_of(models: Mapping[str, Any]) -> str:
    """Return the text of a custom_models.yaml."""
    return yaml.safe_dump({"models": dict(models)})


@dataclass(frozen=True)
class Folder:
    """Where the configuration is; `port` 0 takes any."""

    path: Path

    @property
    def models_file(self) -> Path:
        """The file of the models."""
        return self.path / "custom_models.yaml"

    def models(self, models: Mapping[str, Any]) -> None:
        """Write custom_models.yaml in place."""
        self.models_file.write_text(yaml_of(models))

    def settings(self, program: str | Path, settings: Mapping[str, Any] | None = None) -> None:
        """Write config.yaml in place."""
        config: dict[str, Any] = {
            "server": {"drain": 2, "port": 0},
            "models": {"demo": False, "prefix": ""},
            "llama_server": {"program": str(program), "stop_grace": 2},
        }
        for section, values in (settings or {}).items():
            config[section] = config.get(section, {}) | values
        (self.path / "config.yaml").write_text(yaml.safe_dump(config))

    def load(self) -> Loaded:
        """Load what is there now."""
        around = Surroundings(environ={}, cwd=self.path, home=self.path, user_folder=self.path, discover=scan)
        return load(CommandLine(config=str(self.path)), around)


@dataclass(frozen=True)
class Living(Served):
    """A gateway that reloads."""

    folder: Folder

    @property
    def catalog(self) -> Catalog:
        """The catalog in force."""
        return self.gateway.registry.current

    async def reload(self) -> None:
        """Reload as SIGHUP does, and return when that is done."""
        before = self.gateway.reloader.loaded
        self.gateway.reloader.ask()
        async with asyncio.timeout(15):
            while True:
                if self.gateway.reloader.loaded is not before:
                    return
                await asyncio.sleep(0.001)


@asynccontextmanager
async def living(
    folder: Path, models: Mapping[str, Any], *, program: str | Path, settings: Mapping[str, Any] | None = None
) -> AsyncIterator[Living]:
    """Run a gateway that reloads from `folder` inside this block."""
    place = Folder(folder)
    place.models(models)
    place.settings(program, settings)
    loaded = await asyncio.to_thread(place.load)
    async with (
        running(loaded, dict(os.environ), place.load) as gateway,
        aiohttp.ClientSession(gateway.url) as http,
    ):
        yield Living(gateway, http, place)
