"""The official OpenAI client for Node against real servers; what it does is in `openai_node.mjs`."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Start
from tests.e2e.process import PATIENCE, own

SCRIPT = Path(__file__).with_name("openai_node.mjs")


@pytest.fixture
def said(start: Start, llama_server: Path | None, tiny_model: Path, node_openai: Path) -> dict[str, Any]:
    """What the client got from a gateway with the demo model and `e`, which makes embeddings."""
    models = {"e": own(tiny_model, embeddings=True, extra_args="--pooling mean --threads 1")}
    gateway = start(models, llama_server=llama_server)
    done = subprocess.run(
        [shutil.which("node") or "node", "--input-type=module", "-"],  # read so, it finds modules from where it runs
        input=SCRIPT.read_text(encoding="utf-8"),
        cwd=node_openai,
        env=os.environ | {"BASE_URL": gateway.url + "/v1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def test_the_client_for_node_gets_what_it_asks_for(said: dict[str, Any]) -> None:
    floats, unpacked = said.pop("floats"), said.pop("unpacked")
    assert 64 == len(floats)
    assert pytest.approx(floats, abs=1e-6) == unpacked
    expected = {
        "whole": ["demo", "Pong."],
        "streamed": "Pong.",
        "listed": ["ms/e", "demo"],
        "retrieved": "ms/e",
        "error": [True, 404, "model_not_found", "model"],
        "left": "demo",
    }
    assert expected == said | {"listed": sorted(said["listed"], reverse=True)}
