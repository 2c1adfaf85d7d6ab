"""Gateways that run as processes of their own."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import GatewayProcess, configure, started

Start = Callable[..., GatewayProcess]


@pytest.fixture(params=["real", "embedded"])
def llama_server(request: pytest.FixtureRequest, llama_server_program: Path) -> Path | None:
    """What is on PATH: a real llama-server, or none, which makes the gateway take the embedded one."""
    return llama_server_program if request.param == "real" else None


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start gateways: `start(models, *arguments, llama_server=..., settings=...)`; all are ended with the test."""
    with ExitStack() as stack:

        def _start(
            models: Mapping[str, Any] | None = None,
            *arguments: str,
            llama_server: Path | None = None,
            settings: Mapping[str, Any] | None = None,
        ) -> GatewayProcess:
            if models is not None:
                configure(tmp_path, models, settings)
            return stack.enter_context(started(tmp_path, arguments, llama_server=llama_server))

        yield _start
