"""The model files of the tests, in the cache: one entry per model, written by `tiny_gguf`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.peers import cache

VERSION = 1  # of what tiny_gguf writes; a change there that matters to the tests raises it


def tiny(seed: int = 1) -> Path:
    """Return a chat model of 0.5 MB that loads in about 30 ms; another seed is another model."""
    return _cached(f"tiny-{seed}", partial(_chat, seed=seed))


def big_tiny() -> Path:
    """Return a chat model of 100 MB: its weights are what its memory need is made of, and loading it takes longer."""
    return _cached("big-tiny", partial(_chat, layers=10, width=512, context=8192))


def reranker() -> Path:
    """Return a model for /v1/rerank."""
    return _cached("reranker", _reranker)


# numpy and gguf take a while to import, so only writing a file imports them: the cache is warm most of the time.


def _chat(path: Path, **shape: int) -> None:
    from tests.peers import tiny_gguf

    tiny_gguf.write(path, **shape)


def _reranker(path: Path) -> None:
    from tests.peers import tiny_gguf

    tiny_gguf.write_reranker(path)


def _cached(name: str, write: Callable[[Path], None]) -> Path:
    file = f"{name}.gguf"
    return cache.entry(f"model-{name}-{VERSION}", lambda new, _final: write(new / file)) / file
