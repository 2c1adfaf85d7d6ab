"""Gateways for the tests of this folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.serving import Served, serving

PROGRAMS = ("real", "embedded")


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest, llama_server_program: Path) -> str:
    """Each llama-server in turn: a real one, and the embedded one."""
    return str(llama_server_program) if request.param == "real" else "embedded"


@pytest.fixture
async def served(tmp_path: Path, program: str, tiny_model: Path, other_tiny_model: Path) -> AsyncIterator[Served]:
    """A gateway with `ms/a`, its alias `ms/a-hot`, and `ms/b`."""
    models = {
        "a": {"path": str(tiny_model), "ctx_size": 512, "parallel": 2, "sampler_args": "--temp 0.1 --min-p 0.07"},
        "a-hot": {"base_model": "a", "sampler_args": "--temp 1.5 --top-nsigma 1.5"},
        "b": {"path": str(other_tiny_model), "ctx_size": 512, "parallel": 2},
    }
    async with serving(tmp_path, models, program=program) as gateway:
        yield gateway
