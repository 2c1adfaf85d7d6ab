"""Building what the measurements need from its sources: the peer, the load, the proxy in Go.

Each is built once and kept in the cache folder, under a name that its sources decide.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.peers import cache

HERE = Path(__file__).resolve().parent
BUILD_TIME = 600  # seconds; the first build of a Go program on a machine builds its standard library too


class CannotMeasure(Exception):
    """Something that the measurement needs is missing or does not work."""


def c_program(name: str) -> Path:
    """Return the program made of `name`.c. Raises `CannotMeasure` where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise CannotMeasure("There is no C compiler, which the peer and the load are built with. Install gcc or clang.")
    source = HERE / f"{name}.c"

    def build(new: Path) -> None:
        _run([compiler, "-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", str(new / name), str(source)], HERE)

    return _built(name, [source], build)


def go_proxy() -> Path | None:
    """Return the proxy in Go, `None` where there is no Go."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        return None
    folder = HERE / "proxy"

    def build(new: Path) -> None:
        _run([go, "build", "-o", str(new / "proxy"), "."], folder)

    return _built("proxy", sorted(folder.iterdir()), build)


def _built(name: str, sources: Sequence[Path], build: Callable[[Path], None]) -> Path:
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    return cache.entry(f"bench-{name}-{digest}", lambda new, _final: build(new)) / name


def _run(argv: Sequence[str], folder: Path) -> None:
    environment = os.environ | {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=BUILD_TIME, check=False
    )
    if done.returncode != 0:
        raise CannotMeasure(f"{' '.join(argv)} failed:\n{done.stderr[-2000:]}")
