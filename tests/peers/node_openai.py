"""The official OpenAI client for Node, installed into the cache by npm."""

import shutil
import subprocess
from pathlib import Path

from tests.peers import cache
from tests.peers.cache import PeerMissing

PACKAGE = "openai@latest"
ENTRY = "node-openai-1"
NEEDED = "Debian, Ubuntu: apt install nodejs npm. macOS: brew install node."


def folder() -> Path:
    """Return a folder whose `node_modules` has `openai`; run `node` in it. Raises `PeerMissing`."""
    if shutil.which("node") is None:
        raise PeerMissing(f"node is not on PATH, and the tests drive the official OpenAI client for Node. {NEEDED}")
    return cache.entry(ENTRY, _build)


def _build(new: Path, _final: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise PeerMissing(f"npm is not on PATH: it installs the official OpenAI client for Node. {NEEDED}")
    (new / "package.json").write_text('{"private": true, "type": "module"}\n')
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress", PACKAGE]
    done = subprocess.run(command, cwd=new, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise PeerMissing(f"`npm install {PACKAGE}` failed: {done.stderr.strip()[-800:]}")
