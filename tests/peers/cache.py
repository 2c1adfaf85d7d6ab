"""The cache folder of the peers: each entry is built once, completely or not at all.

An entry is built in a temporary folder beside its place and renamed into it, under a lock file that other test runs
wait for. An entry's name carries a version of its recipe: change the recipe, change the name, and old caches do no
harm. Nothing is ever deleted but a build that failed; the whole folder may be removed at any time between runs.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs


class PeerMissing(Exception):
    """A peer cannot be had here: what was tried, and what to do about it."""


def folder() -> Path:
    """Return the cache folder: `$MODEL_GATEWAY_CACHE`, or `peers` in the platform's cache folder of the gateway."""
    named = os.environ.get("MODEL_GATEWAY_CACHE")
    chosen = Path(named).absolute() if named else platformdirs.user_cache_path("model-gateway") / "peers"
    chosen.mkdir(parents=True, exist_ok=True)
    return chosen


def entry(name: str, build: Callable[[Path, Path], None]) -> Path:
    """Return the folder `name` of the cache, made by `build(new, final)` if it is not there.

    `build` fills the empty folder `new`; what has to hold its own absolute path takes that of `final`. If it raises,
    nothing is left behind.
    """
    final = folder() / name
    if final.is_dir():
        return final
    with _locked(final):
        if not final.is_dir():  # another run may have built it while this one waited for the lock
            _build(final, build)
    return final


def _build(final: Path, build: Callable[[Path, Path], None]) -> None:
    new = Path(tempfile.mkdtemp(prefix=f".new-{final.name}-", dir=final.parent))
    try:
        build(new, final)
        new.rename(final)
    finally:
        shutil.rmtree(new, ignore_errors=True)


@contextmanager
def _locked(final: Path) -> Iterator[None]:
    with (final.parent / f".{final.name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # given back when the file closes, or when the process dies
        yield
