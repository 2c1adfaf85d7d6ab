"""Installs every peer: `python -m tests.peers`. One line each; exit status 1 if one cannot be had."""

import sys
from collections.abc import Callable

from tests.peers import cache, llama_cpp, models, node_openai


def _llama_server() -> str:
    program = llama_cpp.program()
    return f"{program} ({llama_cpp.version(program)})"


def _models() -> str:
    files = (models.tiny(1), models.tiny(2), models.big_tiny(), models.reranker())
    return f"{len(files)} in {cache.folder()}"


PEERS: dict[str, Callable[[], object]] = {
    "llama-server": _llama_server,
    "models": _models,
    "OpenAI for Node": node_openai.folder,
}


def main() -> int:
    """Install each peer that is not there; return the exit status."""
    missing = 0
    for name, install in PEERS.items():
        try:
            print(f"peers: {name}: {install()}", flush=True)
        except cache.PeerMissing as reason:
            print(f"peers: {name}: MISSING: {reason}", file=sys.stderr)
            missing += 1
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
